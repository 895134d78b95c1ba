"""Batch normalization + ReLU + max-pool: what follows the statistics, in one pass over x.

N batch; H W height and width; C channels, whole vectors of them; P Q pooled height and width.

The normalized values go nowhere but into the pool. Backward passes over x twice: for the sums,
which the winners' gradients alone make up, and for dx. A window of one place is ReLU alone, and
argmax its mask.
"""

from cython.parallel cimport prange
from libc.math cimport sqrt

from fastcnn._kernels._narrow cimport too_narrow_for_gradients
from fastcnn._kernels._stream cimport past_caches, put
from fastcnn._kernels._types cimport (
    LANES, beats, drain, equal, load, load_bytes, mask, real, splat, store, store_as_bytes, vec,
    where,
)

cdef enum:
    TERMS = 256                 # of a sum in `real`, unless a row of windows has more


cdef struct Windows:
    Py_ssize_t N, H, W, C, P, Q, h, w, stride_h, stride_w


cdef inline void block_row(
    const Windows* g, Py_ssize_t h, Py_ssize_t w, Py_ssize_t row, real* y, unsigned char* argmax,
    const real* x, const real* mean, const real* scale, const real* shift,
) noexcept nogil:
    """Write one row of windows, h by w each."""
    cdef Py_ssize_t n = row // g.P, p = row % g.P, q, c, i, j, line = g.W * g.C
    cdef const real* x_q
    cdef vec m, s, t, v, best, place, zero = splat(0)
    cdef mask won
    for q in range(g.Q):
        x_q = x + ((n * g.H + p * g.stride_h) * g.W + q * g.stride_w) * g.C
        c = 0
        while c < g.C:
            m = load(mean + c)
            s = load(scale + c)
            t = load(shift + c)
            best = (load(x_q + c) - m) * s + t
            place = zero
            for i in range(h):
                for j in range(w):
                    v = (load(x_q + i * line + j * g.C + c) - m) * s + t
                    won = beats(v, best)
                    best = where(won, v, best)
                    place = where(won, splat(<real> (i * w + j)), place)
            won = beats(best, zero)
            store(y + (row * g.Q + q) * g.C + c, where(won, best, zero))
            store_as_bytes(
                argmax + (row * g.Q + q) * g.C + c, where(won, place, splat(<real> (h * w)))
            )
            c += LANES


def lanes():
    """Return of what C must be a multiple."""
    return LANES


def batch_norm_block(
    real[:, :, :, ::1] y, unsigned char[:, :, :, ::1] argmax, const real[:, :, :, ::1] x,
    const real[:, ::1] table, Py_ssize_t h, Py_ssize_t w, Py_ssize_t stride_h,
    Py_ssize_t stride_w, int threads, const double[:, ::1] sums, wide,
):
    """Write y and argmax (N, P, Q, C). table: rows of mean, scale and shift, C numbers or more.

    table and sums are those of batch_norm_statistics. Where `real` was too narrow for these, `wide`
    does the channels again for which it was.
    """
    cdef Windows g = Windows(x.shape[0], x.shape[1], x.shape[2], x.shape[3], y.shape[1],
                             y.shape[2], h, w, stride_h, stride_w)
    cdef Py_ssize_t row
    cdef real* y_0 = &y[0, 0, 0, 0]
    cdef unsigned char* argmax_0 = &argmax[0, 0, 0, 0]
    cdef const real* x_0 = &x[0, 0, 0, 0]
    cdef const real* mean = &table[0, 0]
    cdef const real* scale = &table[1, 0]
    cdef const real* shift = &table[2, 0]
    for row in prange(g.N * g.P, nogil=True, num_threads=threads, schedule="static"):
        if h == 2 and w == 2:       # constants: the loops over a window unroll
            block_row(&g, 2, 2, row, y_0, argmax_0, x_0, mean, scale, shift)
        elif h == 1 and w == 1:
            block_row(&g, 1, 1, row, y_0, argmax_0, x_0, mean, scale, shift)
        else:
            block_row(&g, h, w, row, y_0, argmax_0, x_0, mean, scale, shift)
    if sums[2, 0]:
        wide(y, argmax, x, (h, w, stride_h, stride_w))


# ---------------------------------------------------------------- backward
cdef inline Py_ssize_t rows_of(Py_ssize_t rows, Py_ssize_t Q) noexcept nogil:
    """Return the rows of windows in a part: its sums are of TERMS at most, parts 16 or more."""
    return max(1, min(TERMS // Q, rows // 16))


def parts(Py_ssize_t rows, Py_ssize_t Q):
    """Return how many parts the sums over so many rows of Q windows have."""
    return (rows + rows_of(rows, Q) - 1) // rows_of(rows, Q)


cdef inline void sum_rows(
    const Windows* g, Py_ssize_t h, Py_ssize_t w, Py_ssize_t row, Py_ssize_t end, real* sums,
    const real* dy, const unsigned char* argmax, const real* x, const real* mean,
) noexcept nogil:
    """Write the sums of dy and of dy * (x - mean) over the winners: two rows of C numbers."""
    cdef Py_ssize_t q, c, i, j, at, line = g.W * g.C
    cdef real* products = sums + g.C
    cdef const real* x_q
    cdef vec place, gradient, winner, zero = splat(0)
    for c in range(2 * g.C):
        sums[c] = 0
    while row < end:
        for q in range(g.Q):
            at = (row * g.Q + q) * g.C
            x_q = x + ((row // g.P * g.H + row % g.P * h) * g.W + q * w) * g.C
            c = 0
            while c < g.C:
                place = load_bytes(argmax + at + c)
                gradient = load(dy + at + c)
                gradient = where(equal(place, splat(<real> (h * w))), zero, gradient)
                winner = load(x_q + c)
                for i in range(h):
                    for j in range(w):
                        winner = where(equal(place, splat(<real> (i * w + j))),
                                       load(x_q + i * line + j * g.C + c), winner)
                winner = (winner - load(mean + c)) * gradient
                gradient = gradient + load(sums + c)
                winner = winner + load(products + c)
                store(sums + c, gradient)
                store(products + c, winner)
                c += LANES
        row += 1


cdef inline void rest(
    real* dx, const real* x, Py_ssize_t pixels, Py_ssize_t C, const real* mean,
    const real* dy_mean, const real* scale, const real* slope, bint streaming,
) noexcept nogil:
    """Write dx where no window reads x."""
    cdef Py_ssize_t pixel, c
    cdef vec v, zero = splat(0)
    for pixel in range(pixels):
        c = 0
        while c < C:
            v = (zero - load(dy_mean + c)) * load(scale + c)
            v = v - (load(x + pixel * C + c) - load(mean + c)) * load(slope + c)
            put(dx + pixel * C + c, v, streaming)
            c += LANES


cdef inline void backward_row(
    const Windows* g, Py_ssize_t h, Py_ssize_t w, Py_ssize_t row, real* dx, const real* dy,
    const unsigned char* argmax, const real* x, const real* mean, const real* dy_mean,
    const real* scale, const real* slope, bint streaming,
) noexcept nogil:
    """Write the rows of dx under one row of windows; under the last, all that are left."""
    cdef Py_ssize_t n = row // g.P, p = row % g.P, q, c, i, j, at, line = g.W * g.C
    cdef Py_ssize_t first = (n * g.H + p * h) * line
    cdef real* dx_q
    cdef const real* x_q
    cdef vec place, gradient, m, d, s, k, v, zero = splat(0)
    for q in range(g.Q):
        at = (row * g.Q + q) * g.C
        dx_q, x_q = dx + first + q * w * g.C, x + first + q * w * g.C
        c = 0
        while c < g.C:
            place = load_bytes(argmax + at + c)
            gradient = load(dy + at + c)
            m = load(mean + c)
            d = load(dy_mean + c)
            s = load(scale + c)
            k = load(slope + c)
            for i in range(h):
                for j in range(w):
                    v = where(equal(place, splat(<real> (i * w + j))), gradient, zero)
                    v = (v - d) * s - (load(x_q + i * line + j * g.C + c) - m) * k
                    put(dx_q + i * line + j * g.C + c, v, streaming)
            c += LANES
    if g.Q * w < g.W:
        for i in range(h):
            at = first + i * line + g.Q * w * g.C
            rest(dx + at, x + at, g.W - g.Q * w, g.C, mean, dy_mean, scale, slope, streaming)
    if p == g.P - 1 and g.P * h < g.H:
        at = first + h * line
        rest(dx + at, x + at, (g.H - g.P * h) * g.W, g.C, mean, dy_mean, scale, slope, streaming)


def batch_norm_block_backward(
    real[:, :, :, ::1] dx, real[::1] dgamma, real[::1] dbeta, const real[:, :, :, ::1] dy,
    const unsigned char[:, :, :, ::1] argmax, const real[:, :, :, ::1] x, const real[::1] gamma,
    const real[::1] mean, const real[::1] variance, double epsilon, Py_ssize_t h, Py_ssize_t w,
    real[:, :, ::1] partial, real[:, ::1] table, int threads, wide,
):
    """Windows h by w lie side by side. The formula is that of batch_norm_backward.

    partial (parts, 2, C) and table (3, C) are room to work in.
    """
    cdef Windows g = Windows(x.shape[0], x.shape[1], x.shape[2], x.shape[3], dy.shape[1],
                             dy.shape[2], h, w, h, w)
    cdef Py_ssize_t part, row, c, M = g.N * g.H * g.W, rows = rows_of(g.N * g.P, g.Q)
    cdef Py_ssize_t all_rows = g.N * g.P
    cdef double s, dy_sum, product_sum
    cdef bint narrow = False
    cdef real* dx_0 = &dx[0, 0, 0, 0]
    cdef const real* dy_0 = &dy[0, 0, 0, 0]
    cdef const unsigned char* argmax_0 = &argmax[0, 0, 0, 0]
    cdef const real* x_0 = &x[0, 0, 0, 0]
    cdef bint streaming = past_caches(dx_0, 2 * M * g.C, g.C)
    for part in prange(partial.shape[0], nogil=True, num_threads=threads, schedule="static"):
        if h == 2 and w == 2:
            sum_rows(&g, 2, 2, part * rows, min((part + 1) * rows, all_rows),
                     &partial[part, 0, 0], dy_0, argmax_0, x_0, &mean[0])
        elif h == 1 and w == 1:
            sum_rows(&g, 1, 1, part * rows, min((part + 1) * rows, all_rows),
                     &partial[part, 0, 0], dy_0, argmax_0, x_0, &mean[0])
        else:
            sum_rows(&g, h, w, part * rows, min((part + 1) * rows, all_rows),
                     &partial[part, 0, 0], dy_0, argmax_0, x_0, &mean[0])
    for c in range(g.C):
        dy_sum, product_sum = 0, 0
        for part in range(partial.shape[0]):
            dy_sum += partial[part, 0, c]
            product_sum += partial[part, 1, c]
        s = sqrt(variance[c] + epsilon)
        narrow = narrow or too_narrow_for_gradients(s * s, gamma[c], product_sum / s, dy_sum, M)
        dgamma[c], dbeta[c] = <real> (product_sum / s), <real> dy_sum
        table[0, c] = <real> (dy_sum / M)
        table[1, c] = <real> (gamma[c] / s)
        table[2, c] = <real> (gamma[c] / s / s * (product_sum / s) / M)
    for row in prange(all_rows, nogil=True, num_threads=threads, schedule="static"):
        if h == 2 and w == 2:
            backward_row(&g, 2, 2, row, dx_0, dy_0, argmax_0, x_0, &mean[0], &table[0, 0],
                         &table[1, 0], &table[2, 0], streaming)
        elif h == 1 and w == 1:
            backward_row(&g, 1, 1, row, dx_0, dy_0, argmax_0, x_0, &mean[0], &table[0, 0],
                         &table[1, 0], &table[2, 0], streaming)
        else:
            backward_row(&g, h, w, row, dx_0, dy_0, argmax_0, x_0, &mean[0], &table[0, 0],
                         &table[1, 0], &table[2, 0], streaming)
        if streaming:
            drain()
    if narrow:
        wide(dx, dgamma, dbeta, dy, argmax, x, (h, w), gamma, mean, variance, epsilon)
