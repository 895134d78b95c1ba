"""1x1 convolution + batch normalization + ReLU + depthwise convolution: y between them is no array.

For the letters see pointwise_norm.pyx and depthwise_conv2d.pyx: x (N, H, W, C), w (C, K) with the
norm in it, y (N, H, W, K), v (R, S, 1, K), z (N, P, Q, K). y is far larger than the others. It is
made of x a block of rows at a time, in a window that the second cache holds: the rows that the
outputs beside the block see, of which those that the next block sees, too, stay in it. Backward
makes y again, and all gradients of a block with it: dz gives that of v, and dy of the block, which
goes through ReLU as in pointwise_norm.pyx.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport sqrt
from libc.string cimport memcpy, memmove, memset

from fastcnn._kernels._channelwise cimport WIDEST, mark_lanes
from fastcnn._kernels._correlate cimport backward_axis, forward_axis
from fastcnn._kernels._depthwise cimport Correlation, correlate_row
from fastcnn._kernels._depthwise_weights cimport DepthwiseGeometry, backward_weights_rows
from fastcnn._kernels._finish cimport nothing
from fastcnn._kernels._pixel_blocks cimport (
    Ahead, Blocks, add_products, ahead_of, blocks_of, multiply_pixels, pack_columns, part_start,
    times_of
)
from fastcnn._kernels._pointwise_norm cimport centered, keep_alive
from fastcnn._kernels._stream cimport past_caches
from fastcnn._kernels._tile cimport vectors_of
from fastcnn._kernels._types cimport LANES, beats, load, real, splat, store, vec, where


cdef enum:
    BLOCKS_SEEN = 3             # that fit in a window: rows move to its front that much seldomer


cdef struct Layers:
    Blocks blocks               # of rows of y, of all images
    DepthwiseGeometry g         # C: K
    Py_ssize_t C, K, row        # row: numbers of a row of y
    Py_ssize_t above, below     # rows of y that outputs see beyond those beside them
    Correlation phases[4]       # of z; of dy, one for each place within a stride
    const real* x
    const real* packed          # w
    const real* shift
    # backward
    real* dx                    # or NULL
    real* turned                # weights for dx
    real* zeros                 # its bias
    real* sums                  # of a part: gradients of v and of its bias
    const real* dz
    const real* center
    real old_lanes[2 * WIDEST]


cdef struct Window:
    real* y                     # rows from `first` on
    Py_ssize_t first, end, room     # room: for so many rows


cdef Blocks row_blocks(Py_ssize_t rows, Py_ssize_t W, Py_ssize_t K) noexcept nogil:
    """Cut rows into blocks and these into parts."""
    cdef Blocks blocks = blocks_of(rows * W, K)
    blocks.pixels, blocks.block = rows, max(1, blocks.block // W)
    blocks.count = (rows + blocks.block - 1) // blocks.block
    blocks.parts = min(blocks.count, blocks.parts)
    return blocks


cdef Layers layers_of(
    const real[:, :, :, ::1] x, const real[:, ::1] table, const real[:, :, :, ::1] v,
    const real[:, :, :, ::1] z, Py_ssize_t stride, Py_ssize_t pad_top, Py_ssize_t pad_left,
) noexcept nogil:
    """Return what forward and backward share."""
    cdef Layers op
    op.C, op.K = x.shape[3], v.shape[3]
    op.g = DepthwiseGeometry(
        x.shape[1], x.shape[2], op.K, z.shape[1], z.shape[2], v.shape[0], v.shape[1],
        stride, stride, pad_top, pad_left, 1, 1)
    op.blocks = row_blocks(x.shape[0] * op.g.H, op.g.W, op.K)
    op.row = op.g.W * op.K
    op.above, op.below = pad_top, max(0, op.g.R - 1 - pad_top)
    op.x, op.shift = &x[0, 0, 0, 0], &table[op.C, 0]
    return op


cdef Correlation correlation_of(const Layers* op, const real[:, :, :, ::1] v) noexcept nogil:
    """Return what gives z, or dy, but for its axes and arrays."""
    cdef Correlation found
    found.C, found.S, found.weights = op.K, op.g.S, &v[0, 0, 0, 0]
    found.streaming, found.end, found.bias = False, nothing(), NULL
    return found


cdef Py_ssize_t first_of(const DepthwiseGeometry* g, Py_ssize_t row) noexcept nogil:
    """Return the first row of z that lies beside row `row` of y, of all images, or behind it."""
    return row // g.H * g.P + min(g.P, (row % g.H + g.stride_h - 1) // g.stride_h)


cdef void see(
    const Layers* op, Window* window, Py_ssize_t row, Py_ssize_t row_end
) noexcept nogil:
    """Move the window to what outputs beside some rows see: make the rows that are not in it."""
    cdef Py_ssize_t first = max(0, row - op.above), i = 0, count
    cdef Py_ssize_t end = min(op.blocks.pixels, row_end + op.below)
    cdef vec a, zero = splat(0)
    cdef real* y
    cdef Ahead ahead = ahead_of(op.x, op.x, 0, 1)
    if end - window.first > window.room:
        if window.end > first:
            memmove(window.y, window.y + (first - window.first) * op.row,
                    (window.end - first) * op.row * sizeof(real))
        window.first = first
    window.end = max(window.end, first)
    y = window.y + (window.end - window.first) * op.row
    count = (end - window.end) * op.g.W
    multiply_pixels(y, op.x + window.end * op.g.W * op.C, op.packed, op.shift, count, op.C, op.K,
                    &ahead)
    while i < count * op.K:
        a = load(y + i)
        store(y + i, where(beats(a, zero), a, zero))
        i += LANES
    window.end = end


cdef Window window_of(const Layers* op, real* room, Py_ssize_t row) noexcept nogil:
    """Return an empty window, for rows from `row` on."""
    cdef Window window
    window.y, window.room = room, BLOCKS_SEEN * op.blocks.block + op.g.R - 1
    window.first = max(0, row - op.above)
    window.end = window.first
    return window


cdef Py_ssize_t window_size(const Blocks* blocks, Py_ssize_t W, Py_ssize_t K, Py_ssize_t R):
    return (BLOCKS_SEEN * blocks.block + R - 1) * W * K


# ---------------------------------------------------------------- forward
cdef void run_forward(const Layers* op, Py_ssize_t part, real* z, real* scratch) noexcept nogil:
    cdef Py_ssize_t row = part_start(&op.blocks, part), end = part_start(&op.blocks, part + 1)
    cdef Py_ssize_t next, at
    cdef Correlation seen = op.phases[0]
    cdef Window window = window_of(op, scratch, row)
    while row < end:
        next = min(end, row + op.blocks.block)
        see(op, &window, row, next)
        seen.x = window.y - window.first * op.row
        for at in range(first_of(&op.g, row), first_of(&op.g, next)):
            correlate_row(&seen, at // op.g.P, at % op.g.P, z + at * op.g.Q * op.K)
        row = next


def workspace_size(
    Py_ssize_t N, Py_ssize_t H, Py_ssize_t W, Py_ssize_t C, Py_ssize_t K, Py_ssize_t R, int threads
):
    """Return how many numbers of workspace pointwise_norm_depthwise takes."""
    cdef Blocks blocks = row_blocks(N * H, W, K)
    return K * C + threads * window_size(&blocks, W, K, R)


def pointwise_norm_depthwise(
    real[:, :, :, ::1] z, const real[:, :, :, ::1] x, const real[:, ::1] table,
    const real[:, :, :, ::1] v, b, real[::1] workspace, Py_ssize_t stride, Py_ssize_t pad_top,
    Py_ssize_t pad_left, int threads,
):
    """Write the depthwise convolution of y = ReLU(x . w + shift) with v, plus b, to z.

    table (1 + C, K) is w, the norm being in it, and the shift.
    """
    cdef Layers op = layers_of(x, table, v, z, stride, pad_top, pad_left)
    cdef Py_ssize_t part, size = window_size(&op.blocks, op.g.W, op.K, op.g.R)
    cdef const real[::1] bias
    cdef Correlation* to = op.phases
    cdef real* scratch = &workspace[0] + op.K * op.C
    op.packed = &workspace[0]
    to[0] = correlation_of(&op, v)
    to.h = forward_axis(op.g.H, op.g.R, op.g.P, stride, pad_top, 1)
    to.w = forward_axis(op.g.W, op.g.S, op.g.Q, stride, pad_left, 1)
    to.P, to.Q, to.y = op.g.P, op.g.Q, &z[0, 0, 0, 0]
    if b is not None:
        bias = b
        to.bias = &bias[0]
    to.streaming = past_caches(to.y, z.shape[0] * op.g.P * op.g.Q * op.K, op.K)
    pack_columns(&workspace[0], &table[0, 0], op.C, op.K, op.K, 1, NULL)
    for part in prange(op.blocks.parts, nogil=True, num_threads=threads, schedule="dynamic"):
        run_forward(&op, part, to.y, scratch + threadid() * size)


# ---------------------------------------------------------------- backward
cdef void spread(const Layers* op, real* dy, Py_ssize_t row, Py_ssize_t end) noexcept nogil:
    """Write some rows of dy."""
    cdef const Correlation* phase
    cdef Py_ssize_t above, i
    while row < end:
        for i in range(op.g.stride_h * op.g.stride_w):
            phase = &op.phases[i]
            above = row % op.g.H - phase.h.out_start
            if above >= 0 and above % op.g.stride_h == 0:
                correlate_row(phase, row // op.g.H, above // op.g.stride_h, dy)
        dy, row = dy + op.row, row + 1


cdef void run_part(
    const Layers* op, Py_ssize_t part, real* products, double* totals, real* scratch
) noexcept nogil:
    cdef Py_ssize_t row = part_start(&op.blocks, part), end = part_start(&op.blocks, part + 1)
    cdef Py_ssize_t taps = op.g.R * op.g.S * op.K, next, count, pixel, first, times
    cdef Ahead ahead
    cdef real* sums = op.sums + part * (taps + op.K)
    cdef real* dy = scratch
    cdef real* pixels = dy + op.blocks.block * op.row
    cdef real* room = pixels + op.blocks.block * op.g.W * op.C
    cdef Window window = window_of(op, room + op.K, row)
    memset(products, 0, op.C * op.K * sizeof(real))
    memset(totals, 0, op.K * sizeof(double))
    memset(sums, 0, (taps + op.K) * sizeof(real))
    while row < end:
        next = min(end, row + op.blocks.block)
        count, pixel = (next - row) * op.g.W, row * op.g.W
        see(op, &window, row, next)
        backward_weights_rows(
            &op.g, first_of(&op.g, row), first_of(&op.g, next), sums, sums + taps, op.dz,
            window.y - window.first * op.row, op.old_lanes)
        spread(op, dy, row, next)
        keep_alive(dy, totals, room, dy, window.y + (row - window.first) * op.row, count, op.K)
        centered(pixels, op.x + pixel * op.C, op.center, count, op.C)
        first = first_of(&op.g, next)
        times = times_of(op.C, op.K, count) + (times_of(count, op.C, op.K) if op.dx != NULL else 0)
        ahead = ahead_of(
            op.dz + first * op.g.Q * op.K, op.dz + first * op.g.Q * op.K,
            (first_of(&op.g, min(end, next + op.blocks.block)) - first) * op.g.Q * op.K, times)
        add_products(products, pixels, dy, count, op.C, op.K, &ahead)
        if op.dx is not NULL:
            multiply_pixels(
                op.dx + pixel * op.C, dy, op.turned, op.zeros, count, op.K, op.C, &ahead)
        row = next


def sizes(
    Py_ssize_t N, Py_ssize_t H, Py_ssize_t W, Py_ssize_t C, Py_ssize_t K, Py_ssize_t R,
    Py_ssize_t S, int threads
):
    """Return how many parts there are, and numbers of workspace for the gradients."""
    cdef Blocks blocks = row_blocks(N * H, W, K)
    cdef Py_ssize_t width = vectors_of(C) * LANES
    size = blocks.block * W * (C + K) + K + window_size(&blocks, W, K, R)
    shared = width * (K + 1) + K * C + blocks.parts * (R * S + 1) * K
    return blocks.parts, shared + threads * size


def pointwise_norm_depthwise_backward(
    dx, real[:, :, ::1] products, double[:, ::1] totals, real[::1] center,
    real[:, :, :, ::1] dv, real[::1] db, const real[:, :, :, ::1] dz, const real[:, :, :, ::1] x,
    const real[:, ::1] table, const real[:, :, :, ::1] v, const real[:, ::1] w,
    const real[::1] gamma, const real[::1] variance, double epsilon, const double[:, ::1] moments,
    double[::1] scale, real[::1] workspace, Py_ssize_t stride, Py_ssize_t pad_top,
    Py_ssize_t pad_left, int threads,
):
    """Write what pointwise_norm_backward does, and the gradients of v and of its bias.

    dz is the gradient of z. The stride is 1, or 2 and no more than R or S, P or Q.
    """
    cdef Layers op = layers_of(x, table, v, dz, stride, pad_top, pad_left)
    cdef Py_ssize_t part, c, k, r, s, size, width = vectors_of(op.C) * LANES
    cdef Py_ssize_t taps = op.g.R * op.g.S
    cdef real[:, :, :, ::1] gradient
    cdef Correlation* phase
    cdef real* packed
    cdef real* scratch
    op.dx, op.dz, op.center = NULL, &dz[0, 0, 0, 0], &center[0]
    op.zeros = &workspace[0]
    op.turned = op.zeros + width
    packed = op.turned + width * op.K
    op.packed, op.sums = packed, packed + op.K * op.C
    scratch = op.sums + op.blocks.parts * (taps + 1) * op.K
    size = op.blocks.block * op.g.W * (op.C + op.K) + op.K
    size += window_size(&op.blocks, op.g.W, op.K, op.g.R)
    mark_lanes(op.old_lanes)
    for r in range(stride):
        for s in range(stride):
            phase = &op.phases[r * stride + s]
            phase[0] = correlation_of(&op, v)
            phase.h = backward_axis(op.g.H, op.g.R, op.g.P, r, stride, pad_top, 1)
            phase.w = backward_axis(op.g.W, op.g.S, op.g.Q, s, stride, pad_left, 1)
            phase.P, phase.Q, phase.y, phase.x = op.g.H, op.g.W, NULL, op.dz
    for c in range(op.C):
        center[c] = <real> (moments[0, c] / (op.blocks.pixels * op.g.W))
    pack_columns(packed, &table[0, 0], op.C, op.K, op.K, 1, NULL)
    if dx is not None:
        gradient = dx
        op.dx = &gradient[0, 0, 0, 0]
        for k in range(op.K):
            scale[k] = gamma[k] / sqrt(variance[k] + epsilon)
        memset(op.zeros, 0, width * sizeof(real))
        pack_columns(op.turned, &w[0, 0], op.K, op.C, 1, op.K, &scale[0])
    for part in prange(op.blocks.parts, nogil=True, num_threads=threads, schedule="dynamic"):
        run_part(&op, part, &products[part, 0, 0], &totals[part, 0], scratch + threadid() * size)
    for part in range(1, op.blocks.parts):
        for k in range((taps + 1) * op.K):
            op.sums[k] += op.sums[part * (taps + 1) * op.K + k]
    memcpy(&dv[0, 0, 0, 0], op.sums, taps * op.K * sizeof(real))
    memcpy(&db[0], op.sums + taps * op.K, op.K * sizeof(real))
