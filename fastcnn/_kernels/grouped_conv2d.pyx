"""Convolution of many narrow groups, each of as many filters as channels; with both gradients.

N batch; H W input height and width; C channels and as many filters; D of them a group, a divisor
of LANES; P Q output height and width; R S kernel height and width. A vector holds the filters of
several groups. It is a sum over i below D: of x, a vector where channel i of each group stands in
all lanes of the group, times the weights of those filters for channel i, which lie together.
Where C is no multiple of LANES the last vector overlaps the one before. Both convolutions gather
through the taps that lie inside the image, four neighbouring outputs at a time.

Longer than most: forward and both gradients share how groups lie in vectors.
"""

from cython.parallel cimport prange
from libc.string cimport memset

from fastcnn._kernels._channelwise cimport (
    WIDEST, add, add_parts, mark_lanes, parts_of, threads_for,
)
from fastcnn._kernels._correlate cimport Axis, backward_axis, forward_axis, tap_range
from fastcnn._kernels._finish cimport (
    Finish, activate, add_residual, finished, finishing, nothing,
)
from fastcnn._kernels._types cimport (
    LANES, SHUFFLES, indices, load, mask, real, shuffle, splat, store, vec,
)

cdef struct Correlation:
    Axis h, w
    Py_ssize_t C, D, P, Q, S    # P Q: size of the whole output; S: kernel width
    Py_ssize_t size             # of the packed weights of a vector
    mask spread[WIDEST]         # i: which lane of a vector each lane takes for channel i
    Finish end
    real* y
    const real* x
    const real* packed          # for each vector and tap D vectors of weights
    const real* bias            # or NULL


def takes(Py_ssize_t channels, Py_ssize_t depth):
    """Return whether this kernel computes groups of `depth` channels, `channels` in all."""
    return SHUFFLES and 1 < depth < LANES and LANES % depth == 0 and channels >= LANES


def workspace_size(Py_ssize_t taps, Py_ssize_t D, Py_ssize_t C):
    """Return how many numbers the packed weights take."""
    return (C + LANES - 1) // LANES * taps * D * LANES


cdef void plan_lanes(mask* spread, Py_ssize_t D) noexcept nogil:
    cdef Py_ssize_t i, lane
    cdef real from_lane[WIDEST]
    for i in range(D):
        for lane in range(LANES):
            from_lane[lane] = lane // D * D + i
        spread[i] = indices(load(from_lane))


cdef void pack(real* to, const real* w, Py_ssize_t taps, Py_ssize_t D, Py_ssize_t C,
               bint transposed) noexcept nogil:
    """Pack w (taps, D, C); transposed swaps channels and filters within each group."""
    cdef Py_ssize_t vector, tap, i, lane, k
    for vector in range((C + LANES - 1) // LANES):
        for tap in range(taps):
            for i in range(D):
                for lane in range(LANES):
                    k = min(vector * LANES, C - LANES) + lane
                    if transposed:
                        to[lane] = w[(tap * D + k % D) * C + k // D * D + i]
                    else:
                        to[lane] = w[(tap * D + i) * C + k]
                to += LANES


cdef void plan(Correlation* op, Py_ssize_t taps) noexcept nogil:
    plan_lanes(op.spread, op.D)
    op.size = taps * op.D * LANES


cdef void correlate_row(const Correlation* op, Py_ssize_t row) noexcept nogil:
    """Compute an output row, row = image*h.count + o."""
    cdef Py_ssize_t n = row // op.h.count, o = row % op.h.count, first, end
    cdef Py_ssize_t top, bottom, left = 0, right = op.w.taps, q
    cdef const real* x
    cdef const real* weights
    cdef real* y = op.y + op.C * (
        (n * op.P + op.h.out_start + o * op.h.out_step) * op.Q + op.w.out_start)
    tap_range(&op.h, o, &top, &bottom)
    x = op.x + op.C * (op.w.origin + op.w.size * (
        n * op.h.size + o * op.h.step + op.h.origin + top * op.h.tap_step))
    weights = op.packed + op.D * LANES * (op.w.kernel_start + op.S * (
        op.h.kernel_start + top * op.h.kernel_step))
    # Outputs from first to end see all taps of a row.
    first = 0 if op.w.origin >= 0 else (op.w.step - 1 - op.w.origin) // op.w.step
    first = min(first, op.w.count)
    end = op.w.size - 1 - op.w.origin - (op.w.taps - 1) * op.w.tap_step
    end = max(first, min(op.w.count, end // op.w.step + 1 if end >= 0 else 0))
    for q in range(first):
        tap_range(&op.w, q, &left, &right)
        columns(op, y, x, weights, q, 1, bottom - top, left, right)
    q = first
    while q + 4 <= end and op.w.taps == 3 and op.w.tap_step == op.w.step:
        three_taps(op, y, x, weights, q, bottom - top)
        q += 4
    while q < end:
        columns(op, y, x, weights, q, min(4, end - q), bottom - top, 0, op.w.taps)
        q += 4
    for q in range(end, op.w.count):
        tap_range(&op.w, q, &left, &right)
        columns(op, y, x, weights, q, 1, bottom - top, left, right)


cdef inline void leave(const Correlation* op, real* y, vec sums) noexcept nogil:
    if op.end.any:
        sums = finished(&op.end, sums, y - op.y)
    store(y, sums)


cdef void columns(
    const Correlation* op, real* y, const real* x, const real* weights, Py_ssize_t q,
    Py_ssize_t count, Py_ssize_t rows, Py_ssize_t left, Py_ssize_t right,
) noexcept nogil:
    """Compute `count` outputs, at most 4, of a row from q on, which see taps left to right."""
    cdef Py_ssize_t x_tap = op.w.tap_step * op.C, w_tap = op.w.kernel_step * op.D * LANES
    cdef Py_ssize_t x_row = op.h.tap_step * op.w.size * op.C
    cdef Py_ssize_t w_row = op.h.kernel_step * op.S * op.D * LANES
    cdef Py_ssize_t x_step = op.w.step * op.C, y_step = op.w.out_step * op.C, c = 0, r, i, _
    # Fewer than 4 repeat the last one.
    cdef Py_ssize_t i1 = min(1, count - 1), i2 = min(2, count - 1), i3 = count - 1
    cdef Py_ssize_t x1 = i1 * x_step, x2 = i2 * x_step, x3 = i3 * x_step
    cdef const real* x_r
    cdef const real* w_r
    cdef vec y0, y1, y2, y3, v0, v1, v2, v3, w
    cdef mask lanes
    y += q * y_step
    x += q * x_step + left * x_tap
    weights += left * w_tap
    while True:
        y0 = splat(0)
        if op.bias is not NULL:
            y0 = load(op.bias + c)
        y1 = y0
        y2 = y0
        y3 = y0
        for r in range(rows):
            x_r = x + r * x_row + c
            w_r = weights + r * w_row
            for _ in range(right - left):
                v0 = load(x_r)
                v1 = load(x_r + x1)
                v2 = load(x_r + x2)
                v3 = load(x_r + x3)
                for i in range(op.D):
                    w = load(w_r + i * LANES)
                    lanes = op.spread[i]
                    y0 = y0 + shuffle(v0, lanes) * w
                    y1 = y1 + shuffle(v1, lanes) * w
                    y2 = y2 + shuffle(v2, lanes) * w
                    y3 = y3 + shuffle(v3, lanes) * w
                x_r += x_tap
                w_r += w_tap
        leave(op, y + i3 * y_step + c, y3)
        leave(op, y + i2 * y_step + c, y2)
        leave(op, y + i1 * y_step + c, y1)
        leave(op, y + c, y0)
        c += LANES
        if c == op.C:
            break
        c = min(c, op.C - LANES)
        weights += op.size


cdef void three_taps(
    const Correlation* op, real* y, const real* x, const real* weights, Py_ssize_t q,
    Py_ssize_t rows,
) noexcept nogil:
    """Compute 4 outputs of a row from q on, whose three taps step as they do: they share x."""
    cdef Py_ssize_t w_tap = op.w.kernel_step * op.D * LANES, step = op.w.step * op.C
    cdef Py_ssize_t x_row = op.h.tap_step * op.w.size * op.C
    cdef Py_ssize_t w_row = op.h.kernel_step * op.S * op.D * LANES
    cdef Py_ssize_t y_step = op.w.out_step * op.C, c = 0, r, i
    cdef const real* x_r
    cdef const real* w_r
    cdef vec y0, y1, y2, y3, v0, v1, v2, v3, v4, v5, w
    cdef mask lanes
    y += q * y_step
    x += q * step
    while True:
        y0 = splat(0)
        if op.bias is not NULL:
            y0 = load(op.bias + c)
        y1 = y0
        y2 = y0
        y3 = y0
        for r in range(rows):
            x_r = x + r * x_row + c
            w_r = weights + r * w_row
            for i in range(op.D):
                lanes = op.spread[i]
                v0 = shuffle(load(x_r), lanes)
                v1 = shuffle(load(x_r + step), lanes)
                v2 = shuffle(load(x_r + 2 * step), lanes)
                v3 = shuffle(load(x_r + 3 * step), lanes)
                v4 = shuffle(load(x_r + 4 * step), lanes)
                v5 = shuffle(load(x_r + 5 * step), lanes)
                w = load(w_r)
                y0 = y0 + v0 * w; y1 = y1 + v1 * w; y2 = y2 + v2 * w; y3 = y3 + v3 * w
                w = load(w_r + w_tap)
                y0 = y0 + v1 * w; y1 = y1 + v2 * w; y2 = y2 + v3 * w; y3 = y3 + v4 * w
                w = load(w_r + 2 * w_tap)
                y0 = y0 + v2 * w; y1 = y1 + v3 * w; y2 = y2 + v4 * w; y3 = y3 + v5 * w
                w_r += LANES
        leave(op, y + c, y0)
        leave(op, y + y_step + c, y1)
        leave(op, y + 2 * y_step + c, y2)
        leave(op, y + 3 * y_step + c, y3)
        c += LANES
        if c == op.C:
            break
        c = min(c, op.C - LANES)
        weights += op.size


def pack_weights(real[::1] workspace, const real[:, :, :, ::1] w):
    """Pack weights (R, S, D, C) into a workspace."""
    pack(&workspace[0], &w[0, 0, 0, 0], w.shape[0] * w.shape[1], w.shape[2], w.shape[3], False)


cpdef grouped_conv2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w, const real[::1] b,
    real[::1] workspace, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_top, Py_ssize_t pad_left, Py_ssize_t dilation_h, Py_ssize_t dilation_w,
    int threads, bint packed=False, activation=None, const real[:, :, :, ::1] residual=None,
):
    """Write the convolution of x (N, H, W, C) with w (R, S, D, C) to y (N, P, Q, C).

    packed: workspace holds what pack_weights left there. residual, shaped as y, is added to it;
    then comes the activation.
    """
    cdef Correlation op
    cdef Py_ssize_t row, rows = y.shape[0] * y.shape[1]
    op.bias, op.end = NULL, finishing(activation)
    if b is not None:
        op.bias = &b[0]
    if residual is not None:
        add_residual(&op.end, &residual[0, 0, 0, 0])
    op.h = forward_axis(x.shape[1], w.shape[0], y.shape[1], stride_h, pad_top, dilation_h)
    op.w = forward_axis(x.shape[2], w.shape[1], y.shape[2], stride_w, pad_left, dilation_w)
    op.C, op.D, op.P, op.Q, op.S = x.shape[3], w.shape[2], y.shape[1], y.shape[2], w.shape[1]
    op.y, op.x, op.packed = &y[0, 0, 0, 0], &x[0, 0, 0, 0], &workspace[0]
    if not packed:
        pack_weights(workspace, w)
    plan(&op, w.shape[0] * w.shape[1])
    threads = threads_for(1.0 * rows * op.Q * op.C * w.shape[0] * w.shape[1] * op.D, threads)
    for row in prange(rows, nogil=True, num_threads=threads, schedule="static"):
        correlate_row(&op, row)
        activate(&op.end, op.y + row * op.Q * op.C, op.Q * op.C)


def bound_grouped_conv2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w, const real[::1] b,
    real[::1] workspace, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_top, Py_ssize_t pad_left, Py_ssize_t dilation_h, Py_ssize_t dilation_w,
    int threads, bint packed=False, activation=None, const real[:, :, :, ::1] residual=None,
):
    """Return a function of nothing that is this call of grouped_conv2d."""
    return lambda: grouped_conv2d(y, x, w, b, workspace, stride_h, stride_w, pad_top, pad_left,
                                  dilation_h, dilation_w, threads, packed, activation, residual)


def grouped_conv2d_backward_input(
    real[:, :, :, ::1] dx, const real[:, :, :, ::1] dy, const real[:, :, :, ::1] w,
    real[::1] workspace, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_top, Py_ssize_t pad_left, Py_ssize_t dilation_h, Py_ssize_t dilation_w,
    int threads,
):
    """Write the gradient with respect to x to dx (N, H, W, C), zero where unset."""
    cdef Correlation op
    cdef Py_ssize_t r, s, row, taps = w.shape[0] * w.shape[1]
    op.bias, op.end = NULL, nothing()
    op.C, op.D, op.P, op.Q, op.S = dx.shape[3], w.shape[2], dx.shape[1], dx.shape[2], w.shape[1]
    op.y, op.x, op.packed = &dx[0, 0, 0, 0], &dy[0, 0, 0, 0], &workspace[0]
    pack(&workspace[0], &w[0, 0, 0, 0], taps, op.D, op.C, True)
    plan(&op, taps)
    threads = threads_for(
        1.0 * dx.shape[0] * dy.shape[1] * dy.shape[2] * op.C * taps * op.D, threads)
    for r in range(w.shape[0]):
        if r > 0 and r * dilation_h % stride_h == 0:
            break               # the phases of the input position repeat from here
        op.h = backward_axis(dx.shape[1], w.shape[0], dy.shape[1],
                             r * dilation_h % stride_h, stride_h, pad_top, dilation_h)
        for s in range(w.shape[1]):
            if s > 0 and s * dilation_w % stride_w == 0:
                break
            op.w = backward_axis(dx.shape[2], w.shape[1], dy.shape[2],
                                 s * dilation_w % stride_w, stride_w, pad_left, dilation_w)
            for row in prange(dx.shape[0] * op.h.count, nogil=True, num_threads=threads,
                              schedule="static"):
                correlate_row(&op, row)


cdef struct Geometry:
    Py_ssize_t H, W, C, D, P, Q, R, S
    Py_ssize_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w
    mask spread[WIDEST]


cdef void add_tap(
    const Geometry* g, real* dw, const real* dy, const real* x, Py_ssize_t count,
    const real* old_lanes, Py_ssize_t covered,
) noexcept nogil:
    """Add to D rows of dw, C apart, what `count` neighbouring outputs give: 4 rows at a time."""
    cdef Py_ssize_t i = 0, _, rows, pixel = g.stride_w * g.C
    cdef const real* x_q
    cdef const real* dy_q
    cdef mask lanes0, lanes1, lanes2, lanes3
    cdef vec t0, t1, t2, t3, v, d
    while i < g.D:
        rows = min(4, g.D - i)      # fewer repeat the last
        lanes0, lanes1 = g.spread[i], g.spread[i + min(1, rows - 1)]
        lanes2, lanes3 = g.spread[i + min(2, rows - 1)], g.spread[i + rows - 1]
        t0 = splat(0)
        t1 = t0
        t2 = t0
        t3 = t0
        x_q = x
        dy_q = dy
        for _ in range(count):
            v = load(x_q)
            d = load(dy_q)
            t0 = t0 + shuffle(v, lanes0) * d
            t1 = t1 + shuffle(v, lanes1) * d
            t2 = t2 + shuffle(v, lanes2) * d
            t3 = t3 + shuffle(v, lanes3) * d
            x_q += pixel
            dy_q += g.C
        add(dw + i * g.C, t0, old_lanes, covered)
        add(dw + (i + 1) * g.C, t1, old_lanes, covered)
        if rows > 2:
            add(dw + (i + 2) * g.C, t2, old_lanes, covered)
            add(dw + (i + 3) * g.C, t3, old_lanes, covered)
        i += 4


cdef void backward_weights_row(
    const Geometry* g, Py_ssize_t row, real* dw, real* db, const real* dy, const real* x,
    const real* old_lanes,
) noexcept nogil:
    """Add what output row p of image n gives, row = n*P + p."""
    cdef Py_ssize_t n = row // g.P, p = row % g.P, r, s, q, h, w, c = 0, covered, first, end
    cdef const real* x_r
    cdef vec total
    dy += row * g.Q * g.C
    while c < g.C:
        covered = max(0, c + LANES - g.C)
        c -= covered
        for r in range(g.R):
            h = p * g.stride_h - g.pad_top + r * g.dilation_h
            if h < 0 or h >= g.H:
                continue
            x_r = x + (n * g.H + h) * g.W * g.C + c
            for s in range(g.S):
                w = s * g.dilation_w - g.pad_left       # what output 0 sees
                first = 0 if w >= 0 else (g.stride_w - 1 - w) // g.stride_w
                end = 0 if w >= g.W else min(g.Q, (g.W - 1 - w) // g.stride_w + 1)
                if first < end:
                    add_tap(g, dw + (r * g.S + s) * g.D * g.C + c, dy + first * g.C + c,
                            x_r + (w + first * g.stride_w) * g.C, end - first, old_lanes, covered)
        total = splat(0)
        for q in range(g.Q):
            total = total + load(dy + q * g.C + c)
        add(db + c, total, old_lanes, covered)
        c += LANES


def parts_size(Py_ssize_t rows, Py_ssize_t taps, Py_ssize_t D, Py_ssize_t C):
    """Return how many numbers of workspace the weight gradient over rows of dy takes."""
    return parts_of(rows) * (taps * D + 1) * C


def grouped_conv2d_backward_weights(
    real[:, :, :, ::1] dw, real[::1] db,
    const real[:, :, :, ::1] dy, const real[:, :, :, ::1] x, real[::1] workspace,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
):
    """Write the gradients of w (R, S, D, C) and b (C,); N is at least 1."""
    cdef Geometry g
    cdef Py_ssize_t rows = dy.shape[0] * dy.shape[1], parts = parts_of(rows)
    cdef Py_ssize_t size = dw.shape[0] * dw.shape[1] * dw.shape[2] * dw.shape[3], part, row
    cdef real* dw_parts = &workspace[0]
    cdef real* db_parts = dw_parts + parts * size
    cdef real old_lanes[2 * WIDEST]
    g.H, g.W, g.C, g.D = x.shape[1], x.shape[2], x.shape[3], dw.shape[2]
    g.P, g.Q, g.R, g.S = dy.shape[1], dy.shape[2], dw.shape[0], dw.shape[1]
    g.stride_h, g.stride_w, g.pad_top, g.pad_left = stride_h, stride_w, pad_top, pad_left
    g.dilation_h, g.dilation_w = dilation_h, dilation_w
    plan_lanes(g.spread, g.D)
    mark_lanes(old_lanes)
    threads = threads_for(1.0 * rows * g.Q * size, threads)
    # The parts depend on the shape alone.
    for part in prange(parts, nogil=True, num_threads=threads, schedule="static"):
        memset(dw_parts + part * size, 0, size * sizeof(real))
        memset(db_parts + part * g.C, 0, g.C * sizeof(real))
        for row in range(part * rows // parts, (part + 1) * rows // parts):
            backward_weights_row(&g, row, dw_parts + part * size, db_parts + part * g.C,
                                 &dy[0, 0, 0, 0], &x[0, 0, 0, 0], old_lanes)
    add_parts(&dw[0, 0, 0, 0], dw_parts, size, parts)
    add_parts(&db[0], db_parts, g.C, parts)
