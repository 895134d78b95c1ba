"""1x1 convolution + batch normalization + ReLU, where the norm's statistics are known beforehand.

M pixels; C channels read; K filters, whole vectors of them. Forward is a product with the norm in
its weights. pointwise_moments.pyx has the formulas of backward: what the convolution gave is not
needed, so dy and y are read once, a block of pixels at a time. dy is kept where ReLU let it
through, in a copy that the second cache holds, and multiplied twice: with the weights for dx, with
x for dw. What dx lacks then depends on sums over all pixels, and is added in a second pass over x
and dx, which are small beside dy.

Behind it there may be a depthwise convolution, v with gradient dz of (N, P, Q, K): then a block is
whole rows of y, and its dy is made of dz in the copy, so that dy, the largest array of all, is
never written, and y is read once for all gradients.

Longer than most: both ways backward go through the same blocks.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport sqrt
from libc.string cimport memcpy, memset

from fastcnn._kernels._channelwise cimport WIDEST as MOST_LANES, mark_lanes
from fastcnn._kernels._correlate cimport backward_axis
from fastcnn._kernels._depthwise cimport Correlation, correlate_row
from fastcnn._kernels._depthwise_weights cimport DepthwiseGeometry, backward_weights_rows
from fastcnn._kernels._finish cimport nothing
from fastcnn._kernels._pixel_blocks cimport (
    MOST_PIXELS, WIDEST, Ahead, Blocks, add_products, ahead_of, blocks_of, multiply_pixels,
    pack_columns, part_start, times_of
)
from fastcnn._kernels._stream cimport past_caches, put
from fastcnn._kernels._tile cimport ROWS, copy_panel, first_vector, panels_of, tile, vectors_of
from fastcnn._kernels._types cimport LANES, beats, drain, load, real, splat, store, vec, where

cdef enum:
    MOST_CHANNELS = 128         # that are read: more have moments which take longer than they save


cdef struct Depthwise:
    DepthwiseGeometry g         # C: K
    Correlation phases[4]       # of the input gradient, one for each place within a stride
    const real* dz
    real* sums                  # of a part: gradients of v and of its bias
    real old_lanes[2 * MOST_LANES]


cdef struct Product:
    Blocks blocks
    Depthwise* behind           # or NULL
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


cdef Py_ssize_t first_of(const DepthwiseGeometry* g, Py_ssize_t row) noexcept nogil:
    """Return the first row of dz whose place in y is in row `row` of all images or behind it."""
    return row // g.H * g.P + min(g.P, (row % g.H + g.stride_h - 1) // g.stride_h)


cdef void through_depthwise(
    const Product* op, real* dy, Py_ssize_t row, Py_ssize_t end, Py_ssize_t part
) noexcept nogil:
    """Write some rows of dy, of all images', and add what rows of dz at their places give v."""
    cdef const DepthwiseGeometry* g = &op.behind.g
    cdef const Correlation* phase
    cdef Py_ssize_t size = g.R * g.S * g.C, above, i
    cdef real* sums = op.behind.sums + part * (size + g.C)
    backward_weights_rows(g, first_of(g, row), first_of(g, end), sums, sums + size, op.behind.dz,
                          op.y, op.behind.old_lanes)
    while row < end:
        for i in range(g.stride_h * g.stride_w):
            phase = &op.behind.phases[i]
            above = row % g.H - phase.h.out_start
            if above >= 0 and above % g.stride_h == 0:
                correlate_row(phase, row // g.H, above // g.stride_h, dy)
        dy, row = dy + g.W * g.C, row + 1


cdef void run_part(
    const Product* op, Py_ssize_t part, real* products, double* totals, real* scratch
) noexcept nogil:
    cdef Py_ssize_t m = part_start(&op.blocks, part), end = part_start(&op.blocks, part + 1), count
    cdef Py_ssize_t next
    cdef Ahead ahead
    cdef const real* dy
    cdef const real* fetched
    cdef real* pixels = scratch + op.blocks.block * op.K
    cdef real* sums = pixels + op.blocks.block * op.C
    memset(products, 0, op.C * op.K * sizeof(real))
    memset(totals, 0, op.K * sizeof(double))
    while m < end:
        count = min(op.blocks.block, end - m)
        next = (m + count) * op.K
        if op.behind is NULL:
            dy, fetched = op.dy + m * op.K, op.dy + next
        else:
            dy, fetched = scratch, op.y + next
            through_depthwise(op, scratch, m // op.behind.g.W, (m + count) // op.behind.g.W, part)
        keep_alive(scratch, totals, sums, dy, op.y + m * op.K, count, op.K)
        centered(pixels, op.x + m * op.C, op.center, count, op.C)
        ahead = ahead_of(
            fetched, op.y + next, min(op.blocks.block, end - m - count) * op.K,
            times_of(op.C, op.K, count) + (times_of(count, op.C, op.K) if op.dx != NULL else 0))
        add_products(products, pixels, scratch, count, op.C, op.K, &ahead)
        if op.dx is not NULL:
            multiply_pixels(
                op.dx + m * op.C, scratch, op.packed, op.zeros, count, op.K, op.C, &ahead)
        m += count


cdef Blocks row_blocks(Py_ssize_t M, Py_ssize_t K, Py_ssize_t W) noexcept nogil:
    """Cut pixels into blocks: of whole rows, if W is their length and not 0."""
    cdef Blocks blocks = blocks_of(M, K)
    if W > 0:
        blocks.block = max(1, blocks.block // W) * W
        blocks.count = (M + blocks.block - 1) // blocks.block
        blocks.parts = min(blocks.count, blocks.parts)
    return blocks


def sizes(Py_ssize_t M, Py_ssize_t C, Py_ssize_t K, int threads, Py_ssize_t W=0, Py_ssize_t taps=0):
    """Return how many parts there are, and numbers of workspace.

    W, taps: the length of a row, and the size of v, where a depthwise convolution follows.
    """
    cdef Blocks blocks = row_blocks(M, K, W)
    size = pitch(C) * (K + 1) + threads * (blocks.block * (C + K) + K)
    return blocks.parts, size + (blocks.parts * (taps + 1) * K if W else 0)


def pointwise_norm_backward(
    dx, real[:, :, ::1] products, double[:, ::1] totals, real[::1] center,
    const real[:, :, :, ::1] dy, const real[:, :, :, ::1] y, const real[:, :, :, ::1] x,
    const real[:, ::1] w, const real[::1] gamma, const real[::1] variance, double epsilon,
    const double[:, ::1] moments, double[::1] scale, real[::1] workspace, int threads,
    real[:, :, :, ::1] dv=None, real[::1] db=None, const real[:, :, :, ::1] v=None,
    Py_ssize_t stride=1, Py_ssize_t pad_top=0, Py_ssize_t pad_left=0,
):
    """Write the sums of dy * (x - center) (parts, C, K) and of dy (parts, K), and the center (C,).

    And dx (N, H, W, C), unless it is None, but for what pointwise_norm_rest adds. dy counts where y
    (N, H, W, K), the result, is above zero. moments: what pointwise_moments found. scale (K,) is
    room to work in, as is the workspace.

    With v (R, S, 1, K) dy is dz, the gradient (N, P, Q, K) of a depthwise convolution of y with v,
    its stride 1 or 2 and no more than R or S, (P - 1) * stride below H, as Q's below W. Then dv and
    db, the gradients of v and of its bias, are written, too.
    """
    cdef Product op
    cdef Depthwise behind
    cdef Py_ssize_t part, c, k, size, width = vectors_of(w.shape[0]) * LANES, taps
    cdef real[:, :, :, ::1] gradient
    cdef real* scratch
    op.C, op.K, op.behind = w.shape[0], w.shape[1], NULL
    op.blocks = row_blocks(
        y.shape[0] * y.shape[1] * y.shape[2], op.K, 0 if v is None else y.shape[2])
    op.dx, op.dy, op.y, op.x = NULL, &dy[0, 0, 0, 0], &y[0, 0, 0, 0], &x[0, 0, 0, 0]
    op.zeros, op.center = &workspace[0], &center[0]
    op.packed = op.zeros + width
    scratch, size = op.packed + width * op.K, op.blocks.block * (op.C + op.K) + op.K
    if v is not None:
        op.behind, taps = &behind, v.shape[0] * v.shape[1]
        behind.sums, scratch = scratch, scratch + op.blocks.parts * (taps + 1) * op.K
        set_depthwise(&behind, y, dy, v, stride, pad_top, pad_left)
        memset(behind.sums, 0, op.blocks.parts * (taps + 1) * op.K * sizeof(real))
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
    if v is not None:
        for part in range(1, op.blocks.parts):
            for k in range((taps + 1) * op.K):
                behind.sums[k] += behind.sums[part * (taps + 1) * op.K + k]
        memcpy(&dv[0, 0, 0, 0], behind.sums, taps * op.K * sizeof(real))
        memcpy(&db[0], behind.sums + taps * op.K, op.K * sizeof(real))


cdef void set_depthwise(
    Depthwise* behind, const real[:, :, :, ::1] y, const real[:, :, :, ::1] dz,
    const real[:, :, :, ::1] v, Py_ssize_t stride, Py_ssize_t pad_top, Py_ssize_t pad_left
) noexcept nogil:
    cdef Py_ssize_t r, s
    cdef Correlation* phase
    behind.dz = &dz[0, 0, 0, 0]
    behind.g = DepthwiseGeometry(
        y.shape[1], y.shape[2], y.shape[3], dz.shape[1], dz.shape[2], v.shape[0], v.shape[1],
        stride, stride, pad_top, pad_left, 1, 1)
    mark_lanes(behind.old_lanes)
    for r in range(stride):
        for s in range(stride):
            phase = &behind.phases[r * stride + s]
            phase.h = backward_axis(y.shape[1], v.shape[0], dz.shape[1], r, stride, pad_top, 1)
            phase.w = backward_axis(y.shape[2], v.shape[1], dz.shape[2], s, stride, pad_left, 1)
            phase.C, phase.P, phase.Q, phase.S = y.shape[3], y.shape[1], y.shape[2], v.shape[1]
            phase.streaming, phase.end, phase.y, phase.bias = False, nothing(), NULL, NULL
            phase.x, phase.weights = behind.dz, &v[0, 0, 0, 0]


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
