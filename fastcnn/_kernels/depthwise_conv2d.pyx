"""Depthwise 2-D convolution: every channel has one filter of its own; with input gradient.

N batch; H W input height and width; C channels, at least LANES; P Q output height and width; R S
kernel height and width. Vectors hold channels; where C is no multiple of LANES the last vector
overlaps the one before. Kernels three columns wide, of at most three rows, slide along a row of x
with their weights in registers. Others gather through the taps that lie inside the image: away
from the rims four neighbouring outputs at a time, so that a weight is read once for four.
"""

from cython.parallel cimport prange

from fastcnn._kernels._channelwise cimport threads_for
from fastcnn._kernels._correlate cimport backward_axis, forward_axis
from fastcnn._kernels._depthwise cimport Correlation, correlate_row, row_of
from fastcnn._kernels._finish cimport activate, add_residual, finishing, nothing
from fastcnn._kernels._stream cimport past_caches
from fastcnn._kernels._types cimport LANES, real

LEAST_CHANNELS = LANES


cdef void compute_row(const Correlation* op, Py_ssize_t row) noexcept nogil:
    """Compute an output row, row = image*h.count + o."""
    cdef Py_ssize_t n = row // op.h.count, o = row % op.h.count
    correlate_row(op, n, o, row_of(op, n, o))


cpdef depthwise_conv2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w, const real[::1] b,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
    activation=None, const real[:, :, :, ::1] residual=None,
):
    """Write the convolution of x (N, H, W, C) with w (R, S, 1, C) to y (N, P, Q, C).

    residual, shaped as y, is added to it; then comes the activation.
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
    op.C, op.P, op.Q, op.S = x.shape[3], y.shape[1], y.shape[2], w.shape[1]
    op.y, op.x, op.weights = &y[0, 0, 0, 0], &x[0, 0, 0, 0], &w[0, 0, 0, 0]
    # A row that waits for its activation stays in the cache.
    op.streaming = op.end.loop is NULL and past_caches(
        op.y, (x.shape[0] * x.shape[1] * x.shape[2] + rows * op.Q) * op.C, op.C)
    threads = threads_for(1.0 * rows * op.Q * op.C * w.shape[0] * w.shape[1], threads)
    for row in prange(rows, nogil=True, num_threads=threads, schedule="static"):
        compute_row(&op, row)
        activate(&op.end, op.y + row * op.Q * op.C, op.Q * op.C)


def bound_depthwise_conv2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w, const real[::1] b,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
    activation=None, const real[:, :, :, ::1] residual=None,
):
    """Return a function of nothing that is this call of depthwise_conv2d."""
    return lambda: depthwise_conv2d(y, x, w, b, stride_h, stride_w, pad_top, pad_left, dilation_h,
                                    dilation_w, threads, activation, residual)


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
                    compute_row(&op, row)
