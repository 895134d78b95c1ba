"""Weight gradient of depthwise 2-D convolution: every channel has one filter of its own.

N batch; H W input height and width; C channels, at least LANES; P Q output height and width; R S
kernel height and width. Vectors hold channels; where C is no multiple of LANES the last vector
overlaps the one before. Kernels three columns wide, of at most three rows, slide along rows of x
with their sums in registers.
"""

from cython.parallel cimport prange
from libc.string cimport memset

from fastcnn._kernels._channelwise cimport WIDEST, add_parts, mark_lanes, parts_of, threads_for
from fastcnn._kernels._depthwise_weights cimport DepthwiseGeometry, backward_weights_rows
from fastcnn._kernels._types cimport real


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
    cdef DepthwiseGeometry g = DepthwiseGeometry(
        x.shape[1], x.shape[2], x.shape[3], dy.shape[1], dy.shape[2], dw.shape[0],
        dw.shape[1], stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w)
    cdef Py_ssize_t rows = dy.shape[0] * g.P, parts = parts_of(rows), size = g.R * g.S * g.C
    cdef Py_ssize_t part
    cdef real* dw_parts = &workspace[0]
    cdef real* db_parts = dw_parts + parts * size
    cdef real old_lanes[2 * WIDEST]
    mark_lanes(old_lanes)
    threads = threads_for(1.0 * rows * g.Q * size, threads)
    # The parts depend on the shape alone.
    for part in prange(parts, nogil=True, num_threads=threads, schedule="static"):
        memset(dw_parts + part * size, 0, size * sizeof(real))
        memset(db_parts + part * g.C, 0, g.C * sizeof(real))
        backward_weights_rows(
            &g, part * rows // parts, (part + 1) * rows // parts, dw_parts + part * size,
            db_parts + part * g.C, &dy[0, 0, 0, 0], &x[0, 0, 0, 0], old_lanes)
    add_parts(&dw[0, 0, 0, 0], dw_parts, size, parts)
    add_parts(&db[0], db_parts, g.C, parts)
