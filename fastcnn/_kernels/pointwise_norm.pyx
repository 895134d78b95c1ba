"""1x1 convolution + batch normalization + ReLU, where the norm's statistics are known beforehand.

M pixels; C channels read; K filters, whole vectors of them. Forward is a product with the norm in
its weights. pointwise_moments.pyx has the formulas of backward: what the convolution gave is not
needed, so dy and y are read once, a block of pixels at a time. dy is kept where ReLU let it
through, in a copy that the second cache holds, and multiplied twice: with the weights for dx, with
x for dw. What dx lacks then depends on sums over all pixels, and is added in a second pass over x
and dx, which are small beside dy.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport sqrt
from libc.string cimport memset

from fastcnn._kernels._pixel_blocks cimport (
    MOST_PIXELS, WIDEST, Ahead, Blocks, add_products, ahead_of, blocks_of, multiply_pixels,
    pack_columns, part_start, times_of
)
from fastcnn._kernels._pointwise_norm cimport centered, keep_alive
from fastcnn._kernels._stream cimport past_caches, put
from fastcnn._kernels._tile cimport ROWS, copy_panel, first_vector, panels_of, tile, vectors_of
from fastcnn._kernels._types cimport LANES, beats, drain, load, real, splat, vec, where

cdef enum:
    MOST_CHANNELS = 128         # that are read: more have moments which take longer than they save


cdef struct Product:
    Blocks blocks
    Py_ssize_t C, K
    real* dx                    # or NULL
    real* packed                # weights for dx
    real* zeros                 # its bias
    const real* dy
    const real* y
    const real* x
    const real* center


def pitch(Py_ssize_t C):
    """Return C, filled to whole vectors."""
    return vectors_of(C) * LANES


# ---------------------------------------------------------------- forward
cdef void run_block(
    const Blocks* blocks, Py_ssize_t block, Py_ssize_t C, Py_ssize_t K, real* y, const real* x,
    const real* packed, const real* bias, real* scratch, bint streaming
) noexcept nogil:
    cdef Py_ssize_t m = block * blocks.block, count = min(blocks.block, blocks.pixels - m), i = 0
    cdef vec v, zero = splat(0)
    cdef Ahead ahead = ahead_of(x, x, 0, 1)
    multiply_pixels(scratch, x + m * C, packed, bias, count, C, K, &ahead)
    y += m * K
    while i < count * K:
        v = load(scratch + i)
        put(y + i, where(beats(v, zero), v, zero), streaming)
        i += LANES
    if streaming:
        drain()


def workspace_size(Py_ssize_t M, Py_ssize_t C, Py_ssize_t K, int threads):
    """Return how many numbers of workspace pointwise_norm takes."""
    return K * C + threads * blocks_of(M, K).block * K


def pointwise_norm(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, ::1] w, const real[::1] b,
    real[::1] workspace, int threads,
):
    """Write ReLU of x . w + b, the norm being in w and b, to y (N, H, W, K)."""
    cdef Py_ssize_t C = w.shape[0], K = w.shape[1], block
    cdef Blocks blocks = blocks_of(x.shape[0] * x.shape[1] * x.shape[2], K)
    cdef real* packed = &workspace[0]
    cdef real* scratch = packed + K * C
    cdef bint streaming = past_caches(&y[0, 0, 0, 0], blocks.pixels * (C + K), K)
    pack_columns(packed, &w[0, 0], C, K, K, 1, NULL)
    for block in prange(blocks.count, nogil=True, num_threads=threads, schedule="static"):
        run_block(&blocks, block, C, K, &y[0, 0, 0, 0], &x[0, 0, 0, 0], packed, &b[0],
                  scratch + threadid() * blocks.block * K, streaming)


# ---------------------------------------------------------------- backward
cdef void run_part(
    const Product* op, Py_ssize_t part, real* products, double* totals, real* scratch
) noexcept nogil:
    cdef Py_ssize_t m = part_start(&op.blocks, part), end = part_start(&op.blocks, part + 1), count
    cdef Py_ssize_t next
    cdef Ahead ahead
    cdef real* pixels = scratch + op.blocks.block * op.K
    cdef real* sums = pixels + op.blocks.block * op.C
    memset(products, 0, op.C * op.K * sizeof(real))
    memset(totals, 0, op.K * sizeof(double))
    while m < end:
        count = min(op.blocks.block, end - m)
        keep_alive(scratch, totals, sums, op.dy + m * op.K, op.y + m * op.K, count, op.K)
        centered(pixels, op.x + m * op.C, op.center, count, op.C)
        next = (m + count) * op.K
        ahead = ahead_of(
            op.dy + next, op.y + next, min(op.blocks.block, end - m - count) * op.K,
            times_of(op.C, op.K, count) + (times_of(count, op.C, op.K) if op.dx != NULL else 0))
        add_products(products, pixels, scratch, count, op.C, op.K, &ahead)
        if op.dx is not NULL:
            multiply_pixels(
                op.dx + m * op.C, scratch, op.packed, op.zeros, count, op.K, op.C, &ahead)
        m += count


def sizes(Py_ssize_t M, Py_ssize_t C, Py_ssize_t K, int threads):
    """Return how many parts there are, and numbers of workspace."""
    cdef Blocks blocks = blocks_of(M, K)
    return blocks.parts, pitch(C) * (K + 1) + threads * (blocks.block * (C + K) + K)


def pointwise_norm_backward(
    dx, real[:, :, ::1] products, double[:, ::1] totals, real[::1] center,
    const real[:, :, :, ::1] dy, const real[:, :, :, ::1] y, const real[:, :, :, ::1] x,
    const real[:, ::1] w, const real[::1] gamma, const real[::1] variance, double epsilon,
    const double[:, ::1] moments, double[::1] scale, real[::1] workspace, int threads,
):
    """Write the sums of dy * (x - center) (parts, C, K) and of dy (parts, K), and the center (C,).

    And dx (N, H, W, C), unless it is None, but for what pointwise_norm_rest adds. dy counts where y
    (N, H, W, K), the result, is above zero. moments: what pointwise_moments found. scale (K,) is
    room to work in, as is the workspace.
    """
    cdef Product op
    cdef Py_ssize_t part, c, k, size, width = vectors_of(w.shape[0]) * LANES
    cdef real[:, :, :, ::1] gradient
    cdef real* scratch
    op.C, op.K = w.shape[0], w.shape[1]
    op.blocks = blocks_of(y.shape[0] * y.shape[1] * y.shape[2], op.K)
    op.dx, op.dy, op.y, op.x = NULL, &dy[0, 0, 0, 0], &y[0, 0, 0, 0], &x[0, 0, 0, 0]
    op.zeros, op.center = &workspace[0], &center[0]
    op.packed = op.zeros + width
    scratch, size = op.packed + width * op.K, op.blocks.block * (op.C + op.K) + op.K
    for c in range(op.C):
        center[c] = <real> (moments[0, c] / op.blocks.pixels)
    if dx is not None:
        gradient = dx
        op.dx = &gradient[0, 0, 0, 0]
        for k in range(op.K):
            scale[k] = gamma[k] / sqrt(variance[k] + epsilon)
        memset(op.zeros, 0, width * sizeof(real))
        pack_columns(op.packed, &w[0, 0], op.K, op.C, 1, op.K, &scale[0])
    for part in prange(op.blocks.parts, nogil=True, num_threads=threads, schedule="dynamic"):
        run_part(&op, part, &products[part, 0, 0], &totals[part, 0], scratch + threadid() * size)


# ---------------------------------------------------------------- what dx lacks
cdef void add_rest(
    real* dx, const real* x, Py_ssize_t count, Py_ssize_t C, const real* center,
    const real* away, const real* offset
) noexcept nogil:
    """Add (x - center) . away + offset to some pixels of dx; rows of away are whole vectors."""
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
