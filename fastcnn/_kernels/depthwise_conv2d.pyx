"""Depthwise 2-D convolution: every channel has one filter of its own; with both gradients.

N batch; H W input height and width; C channels, at least LANES; P Q output height and width; R S
kernel height and width. Vectors hold channels; where C is no multiple of LANES the last vector
overlaps the one before. Both convolutions gather through the taps that lie inside the image: away
from the rims four neighbouring outputs at a time, so that a weight is read once for four.
"""

from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from fastcnn._kernels._correlate cimport Axis, backward_axis, forward_axis, tap_range
from fastcnn._kernels._finish cimport Finish, finished, finishing, nothing
from fastcnn._kernels._stream cimport past_caches, put
from fastcnn._kernels._types cimport (
    LANES, drain, equal, load, prefetch, real, splat, store, vec, where,
)

cdef enum:
    SERIAL_BELOW = 500000       # multiply-adds: waking a second thread costs more than it saves
    MOST_PARTS = 16             # of the weight gradient; a part is a range of rows of dy


LEAST_CHANNELS = LANES


cdef struct Correlation:
    Axis h, w
    Py_ssize_t C, P, Q, S       # P Q: size of the whole output; S: kernel width
    bint streaming
    Finish end
    real* y
    const real* x
    const real* weights
    const real* bias            # or NULL


cdef inline int threads_for(double work, int threads) noexcept nogil:
    return threads if work >= SERIAL_BELOW else 1


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
    weights = op.weights + op.C * (op.w.kernel_start + op.S * (
        op.h.kernel_start + top * op.h.kernel_step))
    if slides(&op.w) and 0 < bottom - top <= 3:
        if bottom - top == 3:
            slide(op, y, x, weights, 3)
        elif bottom - top == 2:
            slide(op, y, x, weights, 2)
        else:
            slide(op, y, x, weights, 1)
        if op.streaming:
            drain()
        return
    # Outputs from first to end see all taps of a row.
    first = 0 if op.w.origin >= 0 else (op.w.step - 1 - op.w.origin) // op.w.step
    first = min(first, op.w.count)
    end = op.w.size - 1 - op.w.origin - (op.w.taps - 1) * op.w.tap_step
    end = max(first, min(op.w.count, end // op.w.step + 1 if end >= 0 else 0))
    for q in range(first):
        tap_range(&op.w, q, &left, &right)
        columns(op, y, x, weights, q, 1, bottom - top, left, right)
    q = first
    while q < end:
        columns(op, y, x, weights, q, min(4, end - q), bottom - top, 0, op.w.taps)
        q += 4
    for q in range(end, op.w.count):
        tap_range(&op.w, q, &left, &right)
        columns(op, y, x, weights, q, 1, bottom - top, left, right)
    if op.streaming:
        drain()


cdef inline bint slides(const Axis* axis) noexcept nogil:
    """Return whether each input meets three neighbouring outputs, and each output an input."""
    return (
        axis.taps == 3 and axis.tap_step == 1 and axis.step == 1 and axis.out_step == 1
        and -2 <= axis.origin <= 0 and axis.count <= axis.size - axis.origin
    )


cdef inline void leave(const Correlation* op, real* y, vec sums) noexcept nogil:
    if op.end.any:
        sums = finished(&op.end, sums, y - op.y)
    put(y, sums, op.streaming)


cdef inline void slide(
    const Correlation* op, real* y, const real* x, const real* weights, Py_ssize_t rows,
) noexcept nogil:
    """Compute an output row that sees 1 to 3 rows: every column of x adds to three sums.

    The weights stay in registers. Rims need no care: at the left a sum begins with fewer columns,
    at the right it ends with fewer.
    """
    cdef Py_ssize_t tap = op.w.kernel_step * op.C, row = op.h.tap_step * op.w.size * op.C, c = 0, q
    cdef Py_ssize_t w_row = op.h.kernel_step * op.S * op.C, before = -op.w.origin - 2
    cdef Py_ssize_t end = min(op.w.count, op.w.size + before)
    cdef const real* x_c
    cdef const real* w
    cdef real* y_c
    # w01: row 0, tap 1. Sums of the output that this column ends, of the next and of the next.
    cdef vec w00, w01, w02, w10, w11, w12, w20, w21, w22, v, y0, y1, y2, bias = splat(0)
    x -= op.w.origin * op.C
    while True:
        w = weights + c
        w00, w01, w02 = load(w), load(w + tap), load(w + 2 * tap)
        if rows > 1:
            w += w_row
            w10, w11, w12 = load(w), load(w + tap), load(w + 2 * tap)
        if rows > 2:
            w += w_row
            w20, w21, w22 = load(w), load(w + tap), load(w + 2 * tap)
        if op.bias is not NULL:
            bias = load(op.bias + c)
        y0 = bias
        y1 = bias
        x_c = x + c
        y_c = y + before * op.C + c
        for q in range(before, end):
            v = load(x_c)
            y0 = y0 + v * w02
            y1 = y1 + v * w01
            y2 = bias + v * w00
            if rows > 1:
                v = load(x_c + row)
                y0 = y0 + v * w12
                y1 = y1 + v * w11
                y2 = y2 + v * w10
            if rows > 2:
                v = load(x_c + 2 * row)
                y0 = y0 + v * w22
                y1 = y1 + v * w21
                y2 = y2 + v * w20
            prefetch(x_c + rows * row)
            if q >= 0:
                leave(op, y_c, y0)
            y0 = y1
            y1 = y2
            x_c += op.C
            y_c += op.C
        if 0 <= end < op.w.count:
            leave(op, y_c, y0)
        if end + 1 < op.w.count:
            leave(op, y_c + op.C, y1)
        c += LANES
        if c == op.C:
            break
        c = min(c, op.C - LANES)


cdef inline void columns(
    const Correlation* op, real* y, const real* x, const real* weights, Py_ssize_t q,
    Py_ssize_t count, Py_ssize_t rows, Py_ssize_t left, Py_ssize_t right,
) noexcept nogil:
    """Compute `count` outputs, at most 4, of a row from q on, which see taps left to right."""
    cdef Py_ssize_t x_tap = op.w.tap_step * op.C, w_tap = op.w.kernel_step * op.C
    cdef Py_ssize_t x_row = op.h.tap_step * op.w.size * op.C
    cdef Py_ssize_t w_row = op.h.kernel_step * op.S * op.C
    cdef Py_ssize_t x_step = op.w.step * op.C, y_step = op.w.out_step * op.C, c = 0, r, _
    # Fewer than 4 repeat the last one.
    cdef Py_ssize_t i1 = min(1, count - 1), i2 = min(2, count - 1), i3 = count - 1
    cdef Py_ssize_t x1 = i1 * x_step, x2 = i2 * x_step, x3 = i3 * x_step
    cdef const real* x_r
    cdef const real* w_r
    cdef vec y0, y1, y2, y3, w
    cdef Py_ssize_t at = y - op.y + q * y_step
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
        if count > 1:
            for r in range(rows):
                x_r = x + r * x_row + c
                w_r = weights + r * w_row + c
                for _ in range(right - left):
                    w = load(w_r)
                    y0 = y0 + load(x_r) * w
                    y1 = y1 + load(x_r + x1) * w
                    y2 = y2 + load(x_r + x2) * w
                    y3 = y3 + load(x_r + x3) * w
                    x_r += x_tap
                    w_r += w_tap
            if op.end.any:
                y1 = finished(&op.end, y1, at + i1 * y_step + c)
                y2 = finished(&op.end, y2, at + i2 * y_step + c)
                y3 = finished(&op.end, y3, at + i3 * y_step + c)
            put(y + i1 * y_step + c, y1, op.streaming)
            put(y + i2 * y_step + c, y2, op.streaming)
            put(y + i3 * y_step + c, y3, op.streaming)
        else:
            for r in range(rows):
                x_r = x + r * x_row + c
                w_r = weights + r * w_row + c
                for _ in range(right - left):
                    w = load(w_r)
                    y0 = y0 + load(x_r) * w
                    x_r += x_tap
                    w_r += w_tap
        if op.end.any:
            y0 = finished(&op.end, y0, at + c)
        put(y + c, y0, op.streaming)
        c += LANES
        if c == op.C:
            break
        c = min(c, op.C - LANES)


cpdef depthwise_conv2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w, b,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
    bint relu=False, const real[:, :, :, ::1] residual=None,
):
    """Write the convolution of x (N, H, W, C) with w (R, S, 1, C) to y (N, P, Q, C).

    residual, shaped as y, is added to it; then comes ReLU if asked for.
    """
    cdef Correlation op
    cdef Py_ssize_t row, rows = y.shape[0] * y.shape[1]
    cdef const real[::1] bias
    op.bias, op.end = NULL, finishing(NULL, relu)
    if b is not None:
        bias = b
        op.bias = &bias[0]
    if residual is not None:
        op.end = finishing(&residual[0, 0, 0, 0], relu)
    op.h = forward_axis(x.shape[1], w.shape[0], y.shape[1], stride_h, pad_top, dilation_h)
    op.w = forward_axis(x.shape[2], w.shape[1], y.shape[2], stride_w, pad_left, dilation_w)
    op.C, op.P, op.Q, op.S = x.shape[3], y.shape[1], y.shape[2], w.shape[1]
    op.y, op.x, op.weights = &y[0, 0, 0, 0], &x[0, 0, 0, 0], &w[0, 0, 0, 0]
    op.streaming = past_caches(op.y, rows * op.Q * op.C, op.C)
    threads = threads_for(1.0 * rows * op.Q * op.C * w.shape[0] * w.shape[1], threads)
    for row in prange(rows, nogil=True, num_threads=threads, schedule="static"):
        correlate_row(&op, row)


def bound(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w, b,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
    bint relu, const real[:, :, :, ::1] residual,
):
    """Return a function of nothing that is this call of depthwise_conv2d."""
    return lambda: depthwise_conv2d(y, x, w, b, stride_h, stride_w, pad_top, pad_left, dilation_h,
                                    dilation_w, threads, relu, residual)


def depthwise_conv2d_backward_input(
    real[:, :, :, ::1] dx, const real[:, :, :, ::1] dy, const real[:, :, :, ::1] w,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
):
    """Write the gradient with respect to x to dx (N, H, W, C), zero where unset."""
    cdef Correlation op
    cdef Py_ssize_t r, s, row
    op.bias, op.end = NULL, nothing()
    op.C, op.P, op.Q, op.S = dx.shape[3], dx.shape[1], dx.shape[2], w.shape[1]
    op.y, op.x, op.weights = &dx[0, 0, 0, 0], &dy[0, 0, 0, 0], &w[0, 0, 0, 0]
    op.streaming = past_caches(op.y, dx.shape[0] * op.P * op.Q * op.C, op.C)
    threads = threads_for(
        1.0 * dx.shape[0] * dy.shape[1] * dy.shape[2] * op.C * w.shape[0] * w.shape[1], threads)
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
            if op.w.count > 0:
                for row in prange(dx.shape[0] * op.h.count, nogil=True, num_threads=threads,
                                  schedule="static"):
                    correlate_row(&op, row)


cdef struct Geometry:
    Py_ssize_t H, W, C, P, Q, R, S
    Py_ssize_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w


cdef inline Py_ssize_t first_inside(const Geometry* g, Py_ssize_t s) noexcept nogil:
    """Return the first output of a row whose tap s lies inside the image, or Q."""
    cdef Py_ssize_t base = s * g.dilation_w - g.pad_left
    return 0 if base >= 0 else min(g.Q, (g.stride_w - 1 - base) // g.stride_w)


cdef inline Py_ssize_t end_inside(const Geometry* g, Py_ssize_t s) noexcept nogil:
    """Return one past the last such output, or 0."""
    cdef Py_ssize_t base = s * g.dilation_w - g.pad_left
    return 0 if base >= g.W else min(g.Q, (g.W - 1 - base) // g.stride_w + 1)


cdef inline vec add_tap(
    vec total, const Geometry* g, const real* dy, const real* x, Py_ssize_t q, Py_ssize_t end,
) noexcept nogil:
    """Add one tap's products of the outputs q to end of a row."""
    while q < end:
        total = total + load(dy + q * g.C) * load(x + q * g.stride_w * g.C)
        q += 1
    return total


cdef inline void add(real* to, vec more, const real* old_lanes, Py_ssize_t covered) noexcept nogil:
    """Add a vector; lanes that the vector before has covered keep what they have."""
    cdef vec old = load(to), one = splat(1), total = old + more
    if covered > 0:
        total = where(equal(load(old_lanes + LANES - covered), one), old, total)
    store(to, total)


cdef void backward_weights_row(
    const Geometry* g, Py_ssize_t row, real* dw, real* db, const real* dy, const real* x,
    const real* old_lanes,
) noexcept nogil:
    """Add what output row p of image n gives, row = n*P + p: three taps of a kernel row at once."""
    cdef Py_ssize_t n = row // g.P, p = row % g.P, q, r, _, s = 0, c, h, covered, taps
    cdef Py_ssize_t pixel = g.stride_w * g.C, x1, x2, first, end, first1, first2, end0, end1, end2
    cdef const real* x_r
    cdef const real* x_q
    cdef const real* dy_q
    cdef const real* ahead
    cdef real* dw_c
    cdef vec t0, t1, t2, d
    dy += row * g.Q * g.C
    while s < g.S:
        taps = min(3, g.S - s)      # fewer repeat the last
        x1, x2 = min(1, taps - 1) * g.dilation_w * g.C, (taps - 1) * g.dilation_w * g.C
        # Outputs from first to end see all of them, others below and above only some.
        first, first1 = first_inside(g, s), first_inside(g, s + min(1, taps - 1))
        first2 = first_inside(g, s + taps - 1)
        end0, end1 = end_inside(g, s), end_inside(g, s + min(1, taps - 1))
        end2 = end_inside(g, s + taps - 1)
        end = max(first, end2)
        for r in range(g.R):
            h = p * g.stride_h - g.pad_top + r * g.dilation_h
            if h < 0 or h >= g.H:
                continue
            x_r = x + ((n * g.H + h) * g.W - g.pad_left + s * g.dilation_w) * g.C
            c = 0
            while c < g.C:
                covered = max(0, c + LANES - g.C)
                c -= covered
                t0 = add_tap(splat(0), g, dy + c, x_r + c, end, end0)
                t1 = add_tap(splat(0), g, dy + c, x_r + x1 + c, first1, min(first, end1))
                t1 = add_tap(t1, g, dy + c, x_r + x1 + c, end, end1)
                t2 = add_tap(splat(0), g, dy + c, x_r + x2 + c, first2, min(first, end2))
                x_q = x_r + first * pixel + c
                dy_q = dy + first * g.C + c
                # No hardware fetches steps of C in advance: the next rows of dy and of x.
                ahead = dy_q + g.Q * g.C if r == 0 else x_q + g.stride_h * g.W * g.C
                for _ in range(first, end):
                    prefetch(ahead)
                    d = load(dy_q)
                    t0 = t0 + d * load(x_q)
                    t1 = t1 + d * load(x_q + x1)
                    t2 = t2 + d * load(x_q + x2)
                    x_q += pixel
                    dy_q += g.C
                    ahead += pixel
                dw_c = dw + (r * g.S + s) * g.C + c
                add(dw_c, t0, old_lanes, covered)
                if taps > 1:
                    add(dw_c + g.C, t1, old_lanes, covered)
                if taps > 2:
                    add(dw_c + 2 * g.C, t2, old_lanes, covered)
                c += LANES
        s += 3
    c = 0
    while c < g.C:
        covered = max(0, c + LANES - g.C)
        c -= covered
        t0 = splat(0)
        for q in range(g.Q):
            t0 = t0 + load(dy + q * g.C + c)
        add(db + c, t0, old_lanes, covered)
        c += LANES


cdef inline Py_ssize_t parts_of(Py_ssize_t rows) noexcept nogil:
    return min(rows, MOST_PARTS)


def workspace_size(Py_ssize_t rows, Py_ssize_t taps, Py_ssize_t C):
    """Return how many numbers of workspace the weight gradient over rows of dy takes."""
    return parts_of(rows) * (taps + 1) * C


def depthwise_conv2d_backward_weights(
    real[:, :, :, ::1] dw, real[::1] db,
    const real[:, :, :, ::1] dy, const real[:, :, :, ::1] x, real[::1] workspace,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
):
    """Write the gradients of w (R, S, 1, C) and b (C,); N is at least 1."""
    cdef Geometry g = Geometry(
        x.shape[1], x.shape[2], x.shape[3], dy.shape[1], dy.shape[2], dw.shape[0],
        dw.shape[1], stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w)
    cdef Py_ssize_t rows = dy.shape[0] * g.P, parts = parts_of(rows), size = g.R * g.S * g.C
    cdef Py_ssize_t part, row, i
    cdef real* dw_parts = &workspace[0]
    cdef real* db_parts = dw_parts + parts * size
    cdef real old_lanes[128]        # from LANES - n on: n times 1, then 0
    for i in range(128):
        old_lanes[i] = 1 if i < LANES else 0
    threads = threads_for(1.0 * rows * g.Q * size, threads)
    # The parts depend on the shape alone and are added in order: the same bits on any threads.
    for part in prange(parts, nogil=True, num_threads=threads, schedule="static", chunksize=1):
        memset(dw_parts + part * size, 0, size * sizeof(real))
        memset(db_parts + part * g.C, 0, g.C * sizeof(real))
        for row in range(part * rows // parts, (part + 1) * rows // parts):
            backward_weights_row(&g, row, dw_parts + part * size, db_parts + part * g.C,
                                 &dy[0, 0, 0, 0], &x[0, 0, 0, 0], old_lanes)
    memcpy(&dw[0, 0, 0, 0], dw_parts, size * sizeof(real))
    memcpy(&db[0], db_parts, g.C * sizeof(real))
    for part in range(1, parts):
        for i in range(size):
            (&dw[0, 0, 0, 0])[i] += dw_parts[part * size + i]
        for i in range(g.C):
            db[i] += db_parts[part * g.C + i]
