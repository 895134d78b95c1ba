"""Convolution of one channel with few filters + bias + ReLU + max-pool 2x2, as LeNet-5 begins.

N batch; H W input height and width; P Q height and width of the pooled output; K filters; R S
kernel height and width.

Filters that fill half a vector waste the other half of every multiplication. Here the lanes are
neighbouring pool windows, and a number of the weights goes to all of them: the four outputs of
the windows are four sums, pooled in registers. Windows next to each other see inputs `step`
apart, so rows are copied with every step-th column side by side, and with their padding.
"""

from cython.parallel cimport prange, threadid
from libc.string cimport memset

from fastcnn._kernels._four cimport largest_of_four
from fastcnn._kernels._tile cimport SERIAL_BELOW, vectors_of
from fastcnn._kernels._types cimport LANES, equal, load, real, splat, store, vec, where

cdef enum:
    MOST_COLUMNS = 64           # of the input under a row of a pool window
    STRIP = 16                  # pooled rows that a task does
    LARGEST = 16                # LANES at most


cdef struct Block:
    Py_ssize_t H, W, P, Q, K, R, S, stride_h, stride_w, top, left
    Py_ssize_t pool_stride_h
    Py_ssize_t step             # columns of the input from one window to the next
    Py_ssize_t width            # numbers of every step-th column in a copied row, with its ends
    Py_ssize_t row              # numbers in a copied row
    Py_ssize_t size             # numbers in a copied strip
    Py_ssize_t[MOST_COLUMNS] columns    # where a column under the first window is in a copied row
    bint careful                # whether a weight is infinite: what lies outside is not multiplied


cdef void plan(
    Block* g, Py_ssize_t pool_stride_h, Py_ssize_t pool_stride_w
) noexcept nogil:
    """Set what follows from the sizes."""
    cdef Py_ssize_t o, under = g.S + g.stride_w
    g.pool_stride_h, g.step = pool_stride_h, pool_stride_w * g.stride_w
    g.width = (vectors_of(g.Q) + vectors_of((under - 1) // g.step)) * LANES
    g.row = g.step * g.width
    g.size = (((min(<Py_ssize_t> STRIP, g.P) - 1) * pool_stride_h + 1) * g.stride_h + g.R) * g.row
    for o in range(min(under, <Py_ssize_t> MOST_COLUMNS)):
        g.columns[o] = o % g.step * g.width + o // g.step


cdef void copy_strip(
    real* copy, const real* x, const Block* g, Py_ssize_t first, Py_ssize_t rows
) noexcept nogil:
    """Copy rows from `first` on, of the padded image; where x is NULL, write ones.

    Columns outside are zero already, and stay so.
    """
    cdef Py_ssize_t i, h, f, j, w, end
    for i in range(rows):
        h = first + i - g.top
        if h < 0 or h >= g.H:
            memset(copy + i * g.row, 0, g.row * sizeof(real))
            continue
        for f in range(g.step):
            # Column w of the image is number (w + left) // step of its run, which is cut.
            j = (g.left - f + g.step - 1) // g.step if g.left > f else 0
            w = j * g.step + f - g.left
            end = min(g.width, j + (g.W - w + g.step - 1) // g.step) if w < g.W else 0
            if x is NULL:
                for j in range(j, end):
                    copy[i * g.row + f * g.width + j] = 1
            else:
                gather(copy + i * g.row + f * g.width + j, x + h * g.W + w, end - j, g.step)


cdef inline void gather(
    real* to, const real* x, Py_ssize_t count, Py_ssize_t step
) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(count):
        to[j] = x[j * step]


cdef inline vec times(vec x, real w, const real* inside, bint careful) noexcept nogil:
    cdef vec product = x * w
    if careful:
        product = where(equal(load(inside), splat(1)), product, splat(0))
    return product


cdef inline void windows(
    real* y, unsigned char* argmax, const real* x, const real* w, const real* b, const Block* g,
    Py_ssize_t k, Py_ssize_t count, bint careful,
) noexcept nogil:
    """Write `count` windows side by side, of three filters from k on, the last one repeated."""
    cdef Py_ssize_t k_1 = min(k + 1, g.K - 1), k_2 = min(k + 2, g.K - 1), _, s, q
    cdef Py_ssize_t down = g.stride_h * g.row, inside = g.size
    cdef vec a0 = splat(0 if b is NULL else b[k]), b0 = splat(0 if b is NULL else b[k_1])
    cdef vec c0 = splat(0 if b is NULL else b[k_2]), v0, v1, place
    cdef vec a1 = a0, a2 = a0, a3 = a0, b1 = b0, b2 = b0, b3 = b0, c1 = c0, c2 = c0, c3 = c0
    cdef const real* at
    cdef real[3 * LARGEST] values
    cdef real[3 * LARGEST] places
    for _ in range(g.R):
        for s in range(g.S):
            at = x + g.columns[s]
            v0 = load(at)
            v1 = load(at + down)
            a0 = a0 + times(v0, w[k], at + inside, careful)
            a2 = a2 + times(v1, w[k], at + down + inside, careful)
            b0 = b0 + times(v0, w[k_1], at + inside, careful)
            b2 = b2 + times(v1, w[k_1], at + down + inside, careful)
            c0 = c0 + times(v0, w[k_2], at + inside, careful)
            c2 = c2 + times(v1, w[k_2], at + down + inside, careful)
            at = x + g.columns[s + g.stride_w]
            v0 = load(at)
            v1 = load(at + down)
            a1 = a1 + times(v0, w[k], at + inside, careful)
            a3 = a3 + times(v1, w[k], at + down + inside, careful)
            b1 = b1 + times(v0, w[k_1], at + inside, careful)
            b3 = b3 + times(v1, w[k_1], at + down + inside, careful)
            c1 = c1 + times(v0, w[k_2], at + inside, careful)
            c3 = c3 + times(v1, w[k_2], at + down + inside, careful)
            w += g.K
        x += g.row
    v0 = largest_of_four(a0, a1, a2, a3, &place)
    store(values, v0)
    store(places, place)
    v0 = largest_of_four(b0, b1, b2, b3, &place)
    store(values + LARGEST, v0)
    store(places + LARGEST, place)
    v0 = largest_of_four(c0, c1, c2, c3, &place)
    store(values + 2 * LARGEST, v0)
    store(places + 2 * LARGEST, place)
    for q in range(count):
        y[k] = values[q]
        y[k_1] = values[LARGEST + q]
        y[k_2] = values[2 * LARGEST + q]
        y += g.K
    for q in range(count):
        argmax[k] = <unsigned char> <int> places[q]
        argmax[k_1] = <unsigned char> <int> places[LARGEST + q]
        argmax[k_2] = <unsigned char> <int> places[2 * LARGEST + q]
        argmax += g.K


cdef void strip(
    real* y, unsigned char* argmax, const real* x, const real* w, const real* b, const Block* g,
    real* copy, Py_ssize_t p,
) noexcept nogil:
    """Do pooled rows from p on; y, argmax and x are those of an image."""
    cdef Py_ssize_t rows = min(<Py_ssize_t> STRIP, g.P - p), i, q, k, at, down
    cdef Py_ssize_t first = p * g.pool_stride_h * g.stride_h
    down = ((rows - 1) * g.pool_stride_h + 1) * g.stride_h + g.R
    copy_strip(copy, x, g, first, down)
    if g.careful:
        copy_strip(copy + g.size, NULL, g, first, down)
    for i in range(rows):
        q = 0
        while q < g.Q:
            at = ((p + i) * g.Q + q) * g.K
            down = i * g.pool_stride_h * g.stride_h * g.row + q
            k = 0
            while k < g.K:
                if g.careful:
                    windows(y + at, argmax + at, copy + down, w, b, g, k,
                            min(<Py_ssize_t> LANES, g.Q - q), True)
                else:
                    windows(y + at, argmax + at, copy + down, w, b, g, k,
                            min(<Py_ssize_t> LANES, g.Q - q), False)
                k += 3
            q += LANES


def workspace_size(
    Py_ssize_t P, Py_ssize_t Q, Py_ssize_t R, Py_ssize_t S, Py_ssize_t stride_h,
    Py_ssize_t stride_w, Py_ssize_t pool_stride_h, Py_ssize_t pool_stride_w, int threads,
):
    """Return how many numbers of workspace the block takes."""
    cdef Block g
    g.P, g.Q, g.R, g.S, g.stride_h, g.stride_w = P, Q, R, S, stride_h, stride_w
    plan(&g, pool_stride_h, pool_stride_w)
    return 2 * threads * g.size


cpdef conv_block(
    real[:, :, :, ::1] y, unsigned char[:, :, :, ::1] argmax, const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] w, const real[::1] b, real[::1] workspace, Py_ssize_t stride_h,
    Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left, Py_ssize_t pool_stride_h,
    Py_ssize_t pool_stride_w, int threads,
):
    """Write y and argmax (N, P, Q, K) for x (N, H, W, 1) and w (R, S, 1, K), S + stride_w <= 64."""
    cdef Block g
    cdef Py_ssize_t strips, i, size = w.shape[0] * w.shape[1] * w.shape[3]
    cdef const real* weights = &w[0, 0, 0, 0]
    cdef const real* biases = NULL
    if b is not None:
        biases = &b[0]
    g.H, g.W, g.P, g.Q, g.K = x.shape[1], x.shape[2], y.shape[1], y.shape[2], y.shape[3]
    g.R, g.S, g.stride_h, g.stride_w = w.shape[0], w.shape[1], stride_h, stride_w
    g.top, g.left, g.careful = pad_top, pad_left, False
    plan(&g, pool_stride_h, pool_stride_w)
    strips = (g.P + STRIP - 1) // STRIP
    for i in range(size):
        g.careful |= weights[i] - weights[i] != 0
    if 8.0 * y.shape[0] * g.P * g.Q * size < SERIAL_BELOW:
        threads = 1
    memset(&workspace[0], 0, 2 * threads * g.size * sizeof(real))
    for i in prange(y.shape[0] * strips, nogil=True, num_threads=threads, schedule="static"):
        strip(
            &y[i // strips, 0, 0, 0], &argmax[i // strips, 0, 0, 0], &x[i // strips, 0, 0, 0],
            weights, biases, &g, &workspace[2 * g.size * threadid()], i % strips * STRIP,
        )


def bound_conv_block(
    real[:, :, :, ::1] y, unsigned char[:, :, :, ::1] argmax, const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] w, const real[::1] b, real[::1] workspace, Py_ssize_t stride_h,
    Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left, Py_ssize_t pool_stride_h,
    Py_ssize_t pool_stride_w, int threads,
):
    """Return a function of nothing that is this call of conv_block, its arrays looked at once."""
    return lambda: conv_block(
        y, argmax, x, w, b, workspace, stride_h, stride_w, pad_top, pad_left, pool_stride_h,
        pool_stride_w, threads,
    )
