"""Backward of convolution + bias + ReLU + max-pool to the weights, where windows are small.

N batch; H W input height and width; C input channels; P Q height and width of the pooled
output; K filters, a whole number of vectors; R S kernel height and width; J = R*S*C numbers of
a window, few as in a network's first layer.

Lists of winners, as in conv_block_backward.pyx, do not pay where a window's row fills no vector.
Here the lanes are filters: of a pooled pixel's gradients, those whose winner sits at one place of
the pool window are masked out, and nine rows of the weight gradient, kept in registers, add the
input at that place times them.

Images are cut into parts, as many as the shape asks for (never the threads), each with a weight
gradient of its own; the parts are added in order. So the bits do not depend on the threads.
"""

from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

from fastcnn._kernels._types cimport LANES, equal, load, load_bytes, real, splat, store, vec, where

cdef enum:
    MOST_PARTS = 16             # enough to keep 8 threads busy to the end
    GROUP = 9                   # rows of the gradient in registers: a 3x3 window of one channel


cdef struct Geometry:
    Py_ssize_t N, H, W, C, P, Q, K, R, S
    Py_ssize_t stride_h, stride_w, pad_top, pad_left
    Py_ssize_t pool_h, pool_w, pool_stride_h, pool_stride_w
    bint copied                 # whether an image is worked on in a padded copy,
    Py_ssize_t rows, columns    # of this size
    Py_ssize_t J, parts, copy   # copy: its numbers


cdef void plan(Geometry* g) noexcept nogil:
    """Set what follows from the sizes."""
    cdef Py_ssize_t span_h = ((g.P - 1) * g.pool_stride_h + g.pool_h - 1) * g.stride_h + g.R
    cdef Py_ssize_t span_w = ((g.Q - 1) * g.pool_stride_w + g.pool_w - 1) * g.stride_w + g.S
    g.copied = g.pad_top > 0 or g.pad_left > 0 or span_h > g.H or span_w > g.W
    g.rows, g.columns, g.copy = g.H, g.W, 0
    if g.copied:
        g.rows = max(span_h, g.H + g.pad_top)
        g.columns = max(span_w, g.W + g.pad_left)
        g.copy = g.rows * g.columns * g.C
    g.J = g.R * g.S * g.C
    g.parts = min(g.N, MOST_PARTS)


cdef void add_group(
    const Geometry* g, real** target, real* db, const real* x, const Py_ssize_t* at,
    const real* dy, const unsigned char* argmax,
) noexcept nogil:
    """Add an image's gradient to nine rows, `at` in the window, of one vector of filters."""
    cdef vec t0 = load(target[0]), t1 = load(target[1]), t2 = load(target[2])
    cdef vec t3 = load(target[3]), t4 = load(target[4]), t5 = load(target[5])
    cdef vec t6 = load(target[6]), t7 = load(target[7]), t8 = load(target[8])
    cdef vec total = load(db), gradient, places, here, zero = splat(0)
    cdef Py_ssize_t a0 = at[0], a1 = at[1], a2 = at[2], a3 = at[3], a4 = at[4], a5 = at[5]
    cdef Py_ssize_t a6 = at[6], a7 = at[7], a8 = at[8]
    cdef Py_ssize_t p, q, i, j
    cdef const real* w
    for p in range(g.P):
        for q in range(g.Q):
            gradient = load(dy)
            places = load_bytes(argmax)
            for i in range(g.pool_h):
                w = x + (((p * g.pool_stride_h + i) * g.stride_h) * g.columns
                         + q * g.pool_stride_w * g.stride_w) * g.C
                for j in range(g.pool_w):
                    here = where(equal(places, splat(i * g.pool_w + j)), gradient, zero)
                    total = total + here
                    t0 = t0 + w[a0] * here
                    t1 = t1 + w[a1] * here
                    t2 = t2 + w[a2] * here
                    t3 = t3 + w[a3] * here
                    t4 = t4 + w[a4] * here
                    t5 = t5 + w[a5] * here
                    t6 = t6 + w[a6] * here
                    t7 = t7 + w[a7] * here
                    t8 = t8 + w[a8] * here
                    w += g.stride_w * g.C
            dy += g.K
            argmax += g.K
    store(target[0], t0); store(target[1], t1); store(target[2], t2)
    store(target[3], t3); store(target[4], t4); store(target[5], t5)
    store(target[6], t6); store(target[7], t7); store(target[8], t8)
    store(db, total)


cdef void add_3x3(
    const Geometry* g, real** target, real* db, const real* x, const real* dy,
    const unsigned char* argmax,
) noexcept nogil:
    """Do the same for a 3x3 kernel over one channel and pool windows of 2x2, with less ado."""
    cdef vec t0 = load(target[0]), t1 = load(target[1]), t2 = load(target[2])
    cdef vec t3 = load(target[3]), t4 = load(target[4]), t5 = load(target[5])
    cdef vec t6 = load(target[6]), t7 = load(target[7]), t8 = load(target[8])
    cdef vec total = load(db), gradient, places, g0, g1, g2, g3, zero = splat(0)
    cdef vec one = splat(1), two = splat(2), three = splat(3)
    cdef const real* x0
    cdef const real* x1
    cdef const real* x2
    cdef const real* x3
    cdef Py_ssize_t p
    for p in range(g.P):
        x0 = x + p * g.pool_stride_h * g.columns
        x1 = x0 + g.columns
        x2 = x1 + g.columns
        x3 = x2 + g.columns
        for _ in range(g.Q):
            gradient = load(dy)
            places = load_bytes(argmax)
            g0 = where(equal(places, zero), gradient, zero)
            g1 = where(equal(places, one), gradient, zero)
            g2 = where(equal(places, two), gradient, zero)
            g3 = where(equal(places, three), gradient, zero)
            total = total + ((g0 + g1) + (g2 + g3))
            t0 = t0 + x0[0] * g0 + x0[1] * g1 + x1[0] * g2 + x1[1] * g3
            t1 = t1 + x0[1] * g0 + x0[2] * g1 + x1[1] * g2 + x1[2] * g3
            t2 = t2 + x0[2] * g0 + x0[3] * g1 + x1[2] * g2 + x1[3] * g3
            t3 = t3 + x1[0] * g0 + x1[1] * g1 + x2[0] * g2 + x2[1] * g3
            t4 = t4 + x1[1] * g0 + x1[2] * g1 + x2[1] * g2 + x2[2] * g3
            t5 = t5 + x1[2] * g0 + x1[3] * g1 + x2[2] * g2 + x2[3] * g3
            t6 = t6 + x2[0] * g0 + x2[1] * g1 + x3[0] * g2 + x3[1] * g3
            t7 = t7 + x2[1] * g0 + x2[2] * g1 + x3[1] * g2 + x3[2] * g3
            t8 = t8 + x2[2] * g0 + x2[3] * g1 + x3[2] * g2 + x3[3] * g3
            x0 += g.pool_stride_w
            x1 += g.pool_stride_w
            x2 += g.pool_stride_w
            x3 += g.pool_stride_w
            dy += g.K
            argmax += g.K
    store(target[0], t0); store(target[1], t1); store(target[2], t2)
    store(target[3], t3); store(target[4], t4); store(target[5], t5)
    store(target[6], t6); store(target[7], t7); store(target[8], t8)
    store(db, total)


cdef void backward_image(
    const Geometry* g, real* dw, real* db, const real* dy, const unsigned char* argmax,
    const real* x, real* copy, real* spare,
) noexcept nogil:
    """Add one image's gradient to dw [j][k] and db; `spare` holds two vectors."""
    cdef Py_ssize_t row = g.columns * g.C, first, i, j, k
    cdef bint small = (g.R == 3 and g.S == 3 and g.C == 1 and g.pool_h == 2 and g.pool_w == 2
                       and g.stride_h == 1 and g.stride_w == 1)
    cdef Py_ssize_t at[GROUP]
    cdef real* target[GROUP]
    if g.copied:
        memset(copy, 0, g.copy * sizeof(real))
        for i in range(g.H):
            memcpy(copy + (i + g.pad_top) * row + g.pad_left * g.C, x + i * g.W * g.C,
                   g.W * g.C * sizeof(real))
        x = copy
    memset(spare, 0, 2 * LANES * sizeof(real))
    k = 0
    while k < g.K:
        first = 0
        while first < g.J:
            for i in range(GROUP):      # a short last group repeats its last row, to a spare one
                j = min(first + i, g.J - 1)
                at[i] = (j // (g.S * g.C)) * row + j % (g.S * g.C)
                target[i] = dw + j * g.K + k if first + i < g.J else spare
            if small:
                add_3x3(g, target, db + k, x, dy + k, argmax + k)
            else:
                add_group(g, target, db + k if first == 0 else spare + LANES, x, at,
                          dy + k, argmax + k)
            first += GROUP
        k += LANES


def workspace_size(
    Py_ssize_t N, Py_ssize_t H, Py_ssize_t W, Py_ssize_t C, Py_ssize_t P, Py_ssize_t Q,
    Py_ssize_t K, Py_ssize_t R, Py_ssize_t S, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_top, Py_ssize_t pad_left, Py_ssize_t pool_h, Py_ssize_t pool_w,
    Py_ssize_t pool_stride_h, Py_ssize_t pool_stride_w, int threads,
):
    """Return how many numbers of workspace the gradient takes."""
    cdef Geometry g = Geometry(
        N, H, W, C, P, Q, K, R, S, stride_h, stride_w, pad_top, pad_left, pool_h, pool_w,
        pool_stride_h, pool_stride_w, False, 0, 0, 0, 0, 0)
    plan(&g)
    return g.parts * (g.J + 1) * g.K + threads * (g.copy + 2 * LANES)


def conv_block_backward_few(
    real[:, :, :, ::1] dw, real[::1] db, const real[:, :, :, ::1] dy,
    const unsigned char[:, :, :, ::1] argmax, const real[:, :, :, ::1] x, real[::1] workspace,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t pool_h, Py_ssize_t pool_w, Py_ssize_t pool_stride_h, Py_ssize_t pool_stride_w,
    int threads,
):
    """Write dw (R, S, C, K) and db (K,) for x (N, H, W, C), N at least 1."""
    cdef Geometry g = Geometry(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], dy.shape[1], dy.shape[2], dw.shape[3],
        dw.shape[0], dw.shape[1], stride_h, stride_w, pad_top, pad_left, pool_h, pool_w,
        pool_stride_h, pool_stride_w, False, 0, 0, 0, 0, 0)
    cdef Py_ssize_t part, n, i, size, image, pooled
    cdef real* parts = &workspace[0]
    cdef real* scratch
    cdef real* mine
    plan(&g)
    size, image, pooled = (g.J + 1) * g.K, g.H * g.W * g.C, g.P * g.Q * g.K
    scratch = parts + g.parts * size
    for part in prange(g.parts, nogil=True, num_threads=threads, schedule="dynamic"):
        memset(parts + part * size, 0, size * sizeof(real))
        mine = scratch + threadid() * (g.copy + 2 * LANES)
        for n in range(part * g.N // g.parts, (part + 1) * g.N // g.parts):
            backward_image(
                &g, parts + part * size, parts + part * size + g.J * g.K,
                &dy[0, 0, 0, 0] + n * pooled, &argmax[0, 0, 0, 0] + n * pooled,
                &x[0, 0, 0, 0] + n * image, mine + 2 * LANES, mine)
    for part in range(1, g.parts):
        for i in range(size):
            parts[i] += parts[part * size + i]
    memcpy(&dw[0, 0, 0, 0], parts, g.J * g.K * sizeof(real))
    memcpy(&db[0], parts + g.J * g.K, g.K * sizeof(real))
