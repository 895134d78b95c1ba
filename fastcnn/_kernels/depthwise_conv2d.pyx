"""Depthwise 2-D convolution: every channel has one filter of its own; with input gradient.

N batch; H W input height and width; C channels, at least LANES; P Q output height and width; R S
kernel height and width. Vectors hold channels; where C is no multiple of LANES the last vector
overlaps the one before. Kernels three columns wide, of at most three rows, slide along a row of x
with their weights in registers. Others gather through the taps that lie inside the image: away
from the rims four neighbouring outputs at a time, so that a weight is read once for four.
"""

from cython.parallel cimport prange

from fastcnn._kernels._channelwise cimport threads_for
from fastcnn._kernels._correlate cimport Axis, backward_axis, forward_axis, tap_range
from fastcnn._kernels._finish cimport (
    Finish, activate, add_residual, finished, finishing, nothing,
)
from fastcnn._kernels._stream cimport past_caches, put
from fastcnn._kernels._types cimport LANES, drain, load, prefetch, real, splat, vec

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
    # No hardware fetches such steps in advance: the rows that the next row of outputs sees first.
    cdef Py_ssize_t ahead = count * x_step if op.w.step > 1 and op.h.step > 1 else 0, at
    cdef const real* x_r
    cdef const real* w_r
    cdef vec y0, y1, y2, y3, w
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
            at = rows * x_row + c
            while at < rows * x_row + ahead:
                prefetch(x + at)
                prefetch(x + at + x_row)
                at += op.C
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
            leave(op, y + i1 * y_step + c, y1)
            leave(op, y + i2 * y_step + c, y2)
            leave(op, y + i3 * y_step + c, y3)
        else:
            for r in range(rows):
                x_r = x + r * x_row + c
                w_r = weights + r * w_row + c
                for _ in range(right - left):
                    w = load(w_r)
                    y0 = y0 + load(x_r) * w
                    x_r += x_tap
                    w_r += w_tap
        leave(op, y + c, y0)
        c += LANES
        if c == op.C:
            break
        c = min(c, op.C - LANES)


cpdef depthwise_conv2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w, const real[::1] b,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
    activation=None, double parameter=0, const real[:, :, :, ::1] residual=None,
):
    """Write the convolution of x (N, H, W, C) with w (R, S, 1, C) to y (N, P, Q, C).

    residual, shaped as y, is added to it; then comes the activation.
    """
    cdef Correlation op
    cdef Py_ssize_t row, rows = y.shape[0] * y.shape[1]
    op.bias, op.end = NULL, finishing(activation, parameter)
    if b is not None:
        op.bias = &b[0]
    if residual is not None:
        add_residual(&op.end, &residual[0, 0, 0, 0])
    op.h = forward_axis(x.shape[1], w.shape[0], y.shape[1], stride_h, pad_top, dilation_h)
    op.w = forward_axis(x.shape[2], w.shape[1], y.shape[2], stride_w, pad_left, dilation_w)
    op.C, op.P, op.Q, op.S = x.shape[3], y.shape[1], y.shape[2], w.shape[1]
    op.y, op.x, op.weights = &y[0, 0, 0, 0], &x[0, 0, 0, 0], &w[0, 0, 0, 0]
    # A row that waits for its activation stays in the cache.
    op.streaming = op.end.loop is NULL and past_caches(
        op.y, (x.shape[0] * x.shape[1] * x.shape[2] + rows * op.Q) * op.C, op.C)
    threads = threads_for(1.0 * rows * op.Q * op.C * w.shape[0] * w.shape[1], threads)
    for row in prange(rows, nogil=True, num_threads=threads, schedule="static"):
        correlate_row(&op, row)
        activate(&op.end, op.y + row * op.Q * op.C, op.Q * op.C)


def bound_depthwise_conv2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w, const real[::1] b,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
    activation=None, double parameter=0, const real[:, :, :, ::1] residual=None,
):
    """Return a function of nothing that is this call of depthwise_conv2d."""
    return lambda: depthwise_conv2d(y, x, w, b, stride_h, stride_w, pad_top, pad_left, dilation_h,
                                    dilation_w, threads, activation, parameter, residual)


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
    op.streaming = past_caches(
        op.y, dx.shape[0] * (op.P * op.Q + dy.shape[1] * dy.shape[2]) * op.C, op.C)
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
