"""1x1 convolution + batch normalization + ReLU, backward, where the norm's statistics are known.

M pixels; C channels read; K filters, whole vectors of them. pointwise_moments.pyx has the formulas:
what the convolution gave is not needed, so dy and y are read once, a block of pixels at a time. dy
is kept where ReLU let it through, in a copy that the second cache holds, and multiplied twice: with
the weights for dx, with x for dw. What dx lacks then depends on sums over all pixels, and is added
in a second pass over x and dx, which are small beside dy.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport sqrt
from libc.string cimport memset

from fastcnn._kernels._tile cimport (
    ROWS, copy_panel, first_vector, panels_of, tile, vectors_of
)
from fastcnn._kernels._types cimport LANES, beats, load, real, splat, store, vec, where

cdef enum:
    BLOCK_NUMBERS = 32768       # of dy: it stays in L2 with what it is multiplied with
    MOST_PIXELS = 384           # of a block
    MOST_PARTS = 16             # of all blocks
    WIDEST = 64                 # lanes of a panel, at most
    MOST_CHANNELS = 128         # that are read: more have moments which take longer than they save


cdef struct Product:
    Py_ssize_t M, C, K, block, blocks, parts
    real* dx                    # or NULL
    real* packed                # panels of weights for dx: rows of K
    const real* dy
    const real* y
    const real* x
    const real* center


cdef void plan(Product* op) noexcept nogil:
    """Choose blocks and parts: by shape alone, for the bits depend on them."""
    op.block = max(ROWS, min(<Py_ssize_t> MOST_PIXELS, BLOCK_NUMBERS // op.K) // ROWS * ROWS)
    op.blocks = (op.M + op.block - 1) // op.block
    op.parts = min(op.blocks, <Py_ssize_t> MOST_PARTS)


cdef void keep_alive(
    real* to, double* totals, real* sums, const real* dy, const real* y, Py_ssize_t count,
    Py_ssize_t K
) noexcept nogil:
    """Write dy where y is above zero, and add it up; sums is room for K numbers."""
    cdef Py_ssize_t m = 0, k
    cdef vec v0, v1, zero = splat(0)
    memset(sums, 0, K * sizeof(real))
    while m + 2 <= count:
        k = 0
        while k < K:
            v0 = where(beats(load(y + k), zero), load(dy + k), zero)
            v1 = where(beats(load(y + K + k), zero), load(dy + K + k), zero)
            store(to + k, v0)
            store(to + K + k, v1)
            v0 = v0 + v1
            v0 = v0 + load(sums + k)
            store(sums + k, v0)
            k += LANES
        to, dy, y, m = to + 2 * K, dy + 2 * K, y + 2 * K, m + 2
    if m < count:
        k = 0
        while k < K:
            v0 = where(beats(load(y + k), zero), load(dy + k), zero)
            store(to + k, v0)
            v0 = v0 + load(sums + k)
            store(sums + k, v0)
            k += LANES
    for k in range(K):
        totals[k] += sums[k]


cdef void centered(
    real* to, const real* x, const real* center, Py_ssize_t count, Py_ssize_t C
) noexcept nogil:
    cdef Py_ssize_t m, c
    for m in range(count):
        for c in range(C):
            to[m * C + c] = x[m * C + c] - center[c]


cdef void add_products(
    const Product* op, real* products, const real* alive, const real* pixels, Py_ssize_t count
) noexcept nogil:
    """Add what a block gives to the sums (C, K) of dy * (x - center)."""
    cdef Py_ssize_t panel, first, width, row, i, run = 0
    cdef const real* a[ROWS]
    cdef const real* init[ROWS]
    cdef real* to[ROWS]
    cdef real spare[WIDEST]
    memset(spare, 0, sizeof(spare))
    for panel in range(panels_of(op.K)):
        first = first_vector(op.K, panel) * LANES
        width = first_vector(op.K, panel + 1) * LANES - first
        row = 0
        while row < op.C:
            for i in range(ROWS):       # a short last tile repeats its last row, to a spare one
                a[i] = pixels + min(row + i, op.C - 1)
                to[i] = products + (row + i) * op.K + first
                if row + i >= op.C:
                    to[i] = spare
                init[i] = to[i]
            tile(width // LANES, to, init, a, &run, op.C, alive + first, &run, op.K, 1, count)
            row += ROWS


cdef void write_gradient(
    const Product* op, const real* alive, Py_ssize_t m, Py_ssize_t count
) noexcept nogil:
    """Write what a block of dy times the weights gives to dx."""
    cdef Py_ssize_t panel, first, width, valid, row = 0, i, run = 0
    cdef const real* a[ROWS]
    cdef const real* init[ROWS]
    cdef real* to[ROWS]
    cdef real* dx
    cdef real zeros[WIDEST]
    cdef real aside[ROWS * WIDEST]
    memset(zeros, 0, sizeof(zeros))
    while row < count:
        for panel in range(panels_of(op.C)):
            first = first_vector(op.C, panel) * LANES
            width = first_vector(op.C, panel + 1) * LANES - first
            valid = min(width, op.C - first)
            dx = op.dx + (m + row) * op.C + first
            for i in range(ROWS):
                a[i] = alive + min(row + i, count - 1) * op.K
                init[i] = zeros
                to[i] = aside + i * WIDEST
                if valid == width and row + i < count:
                    to[i] = dx + i * op.C
            tile(width // LANES, to, init, a, &run, 1,
                 op.packed + first * op.K, &run, width, 1, op.K)
            if valid < width:
                for i in range(min(ROWS, count - row)):
                    copy_panel(dx + i * op.C, to[i], valid)
        row += ROWS


cdef void run_part(
    const Product* op, Py_ssize_t part, real* products, double* totals, real* scratch
) noexcept nogil:
    cdef Py_ssize_t m = part * op.blocks // op.parts * op.block, count
    cdef Py_ssize_t end = min(op.M, (part + 1) * op.blocks // op.parts * op.block)
    cdef real* pixels = scratch + op.block * op.K
    cdef real* sums = pixels + op.block * op.C
    memset(products, 0, op.C * op.K * sizeof(real))
    memset(totals, 0, op.K * sizeof(double))
    while m < end:
        count = min(op.block, end - m)
        keep_alive(scratch, totals, sums, op.dy + m * op.K, op.y + m * op.K, count, op.K)
        centered(pixels, op.x + m * op.C, op.center, count, op.C)
        add_products(op, products, scratch, pixels, count)
        if op.dx is not NULL:
            write_gradient(op, scratch, m, count)
        m += op.block


def sizes(Py_ssize_t M, Py_ssize_t C, Py_ssize_t K, int threads):
    """Return how many parts there are, and numbers of workspace."""
    cdef Product op
    op.M, op.C, op.K = M, C, K
    plan(&op)
    return op.parts, vectors_of(C) * LANES * K + threads * (op.block * (C + K) + K)


def pointwise_norm_backward(
    dx, real[:, :, ::1] products, double[:, ::1] totals, real[::1] center,
    const real[:, :, :, ::1] dy, const real[:, :, :, ::1] y, const real[:, :, :, ::1] x,
    const real[:, ::1] w, const real[::1] gamma, const real[::1] variance, double epsilon,
    const double[:, ::1] moments, real[::1] workspace, int threads,
):
    """Write the sums of dy * (x - center) (parts, C, K) and of dy (parts, K), and the center (C,).

    And dx (N, H, W, C), unless it is None, but for what pointwise_norm_rest adds. dy counts where y
    (N, H, W, K), the result, is above zero. moments: what pointwise_moments found.
    """
    cdef Product op
    cdef Py_ssize_t part, panel, first, width, c, k, size
    cdef real[:, :, :, ::1] gradient
    cdef real* scratch
    cdef double scale
    op.M, op.C, op.K = y.shape[0] * y.shape[1] * y.shape[2], w.shape[0], w.shape[1]
    plan(&op)
    op.dx, op.dy, op.y, op.x = NULL, &dy[0, 0, 0, 0], &y[0, 0, 0, 0], &x[0, 0, 0, 0]
    op.packed, op.center = &workspace[0], &center[0]
    scratch, size = &workspace[vectors_of(op.C) * LANES * op.K], op.block * (op.C + op.K) + op.K
    for c in range(op.C):
        center[c] = <real> (moments[0, c] / op.M)
    if dx is not None:
        gradient = dx
        op.dx = &gradient[0, 0, 0, 0]
        for panel in range(panels_of(op.C)):
            first = first_vector(op.C, panel) * LANES
            width = first_vector(op.C, panel + 1) * LANES - first
            for k in range(op.K):
                scale = gamma[k] / sqrt(variance[k] + epsilon)
                for c in range(width):
                    op.packed[first * op.K + k * width + c] = (
                        <real> (w[first + c, k] * scale) if first + c < op.C else 0)
    for part in prange(op.parts, nogil=True, num_threads=threads, schedule="dynamic"):
        run_part(&op, part, &products[part, 0, 0], &totals[part, 0],
                 scratch + threadid() * size)


# ---------------------------------------------------------------- what dx lacks
def pitch(Py_ssize_t C):
    """Return C, filled to whole vectors."""
    return vectors_of(C) * LANES


cdef void add_rest(
    real* dx, const real* x, Py_ssize_t count, Py_ssize_t C, const real* center,
    const real* away, const real* offset
) noexcept nogil:
    """Add (x - center) . away + offset to some pixels of dx; rows of both are whole vectors."""
    cdef Py_ssize_t pitch = vectors_of(C) * LANES, panel, first, width, valid, row = 0, i, c
    cdef Py_ssize_t rows, run = 0
    cdef const real* a[ROWS]
    cdef const real* init[ROWS]
    cdef real* to[ROWS]
    cdef real pixels[ROWS * MOST_CHANNELS]
    cdef real aside[ROWS * WIDEST]
    while row < count:
        rows = min(ROWS, count - row)
        centered(pixels, x + row * C, center, rows, C)
        for panel in range(panels_of(C)):
            first = first_vector(C, panel) * LANES
            width = first_vector(C, panel + 1) * LANES - first
            valid = min(width, C - first)
            for i in range(ROWS):
                a[i] = pixels + min(i, rows - 1) * C
                to[i] = aside + i * WIDEST
                init[i] = to[i]
                for c in range(valid):
                    to[i][c] = dx[(row + min(i, rows - 1)) * C + first + c] + offset[first + c]
            tile(width // LANES, to, init, a, &run, 1, away + first, &run, pitch, 1, C)
            for i in range(rows):
                copy_panel(dx + (row + i) * C + first, to[i], valid)
        row += ROWS


def pointwise_norm_rest(
    real[:, :, :, ::1] dx, const real[:, :, :, ::1] x, const real[::1] center,
    const real[:, ::1] away, const real[::1] offset, real[:, ::1] workspace, int threads,
):
    """Add (x - center) . away + offset to dx. workspace: (C, C filled to vectors)."""
    cdef Py_ssize_t C = x.shape[3], M = x.shape[0] * x.shape[1] * x.shape[2], i, c, m
    cdef real* dx_0 = &dx[0, 0, 0, 0]
    cdef const real* x_0 = &x[0, 0, 0, 0]
    for i in range(C):
        for c in range(workspace.shape[1]):
            workspace[i, c] = away[i, c] if c < C else 0
    for m in prange(0, M, MOST_PIXELS, nogil=True, num_threads=threads, schedule="static"):
        add_rest(dx_0 + m * C, x_0 + m * C, min(<Py_ssize_t> MOST_PIXELS, M - m), C, &center[0],
                 &workspace[0, 0], &offset[0])
