"""Depthwise 2-D convolution: every channel has one filter of its own; with both gradients.

N batch; H W input height and width; C channels; P Q output height and width; R S kernel height
and width. All loops run over contiguous channels, which the compiler turns into vectors.
"""

from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from fastcnn._kernels._types cimport real

cdef enum:
    SERIAL_BELOW = 500000       # multiply-adds: waking a second thread costs more than it saves
    MOST_PARTS = 16             # of the weight gradient; a part is a range of rows of dy


cdef struct Geometry:
    Py_ssize_t N, H, W, C, P, Q, R, S
    Py_ssize_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w


cdef inline int threads_for(const Geometry* g, int threads) noexcept nogil:
    return threads if 1.0 * g.N * g.P * g.Q * g.C * g.R * g.S >= SERIAL_BELOW else 1


cdef inline void taps_inside(
    Py_ssize_t base, Py_ssize_t dilation, Py_ssize_t size, Py_ssize_t kernel,
    Py_ssize_t* low, Py_ssize_t* high,
) noexcept nogil:
    """Set the range of taps r for which base + r*dilation lies in [0, size)."""
    low[0] = (dilation - 1 - base) // dilation if base < 0 else 0
    high[0] = min(kernel, (size - 1 - base) // dilation + 1) if base < size else 0


cdef inline void multiply_add(
    real* y, const real* x, const real* w, Py_ssize_t C,
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(C):
        y[c] = y[c] + x[c] * w[c]


cdef void forward_row(const Geometry* g, Py_ssize_t row, real* y, const real* x,
                      const real* w, const real* b) noexcept nogil:
    """Compute output row p of image n, row = n*P + p."""
    cdef Py_ssize_t n = row // g.P, p = row % g.P, q, r, s, top, bottom, left, right
    cdef Py_ssize_t h = p * g.stride_h - g.pad_top, v
    cdef real* y_q = y + row * g.Q * g.C
    taps_inside(h, g.dilation_h, g.H, g.R, &top, &bottom)
    for q in range(g.Q):
        v = q * g.stride_w - g.pad_left
        taps_inside(v, g.dilation_w, g.W, g.S, &left, &right)
        if b is NULL:
            memset(y_q, 0, g.C * sizeof(real))
        else:
            memcpy(y_q, b, g.C * sizeof(real))
        for r in range(top, bottom):
            for s in range(left, right):
                multiply_add(
                    y_q, x + ((n * g.H + h + r * g.dilation_h) * g.W + v + s * g.dilation_w) * g.C,
                    w + (r * g.S + s) * g.C, g.C)
        y_q += g.C


def depthwise_conv2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w, b,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
):
    """Write the convolution of x (N, H, W, C) with w (R, S, 1, C) to y (N, P, Q, C)."""
    cdef Geometry g = Geometry(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2], w.shape[0],
        w.shape[1], stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w)
    cdef Py_ssize_t row
    cdef const real[::1] bias
    cdef const real* b_data = NULL
    if b is not None:
        bias = b
        b_data = &bias[0]
    threads = threads_for(&g, threads)
    for row in prange(g.N * g.P, nogil=True, num_threads=threads, schedule="static"):
        forward_row(&g, row, &y[0, 0, 0, 0], &x[0, 0, 0, 0], &w[0, 0, 0, 0], b_data)


cdef void backward_input_row(const Geometry* g, Py_ssize_t row, real* dx, const real* dy,
                             const real* w) noexcept nogil:
    """Compute input row h of image n, row = n*H + h: gather from the outputs that saw it."""
    cdef Py_ssize_t n = row // g.H, h = row % g.H, v, r, s, p, q
    cdef real* dx_v = dx + row * g.W * g.C
    memset(dx_v, 0, g.W * g.C * sizeof(real))
    for r in range(g.R):
        p = h + g.pad_top - r * g.dilation_h
        if p < 0 or p % g.stride_h != 0 or p // g.stride_h >= g.P:
            continue
        p = p // g.stride_h
        for v in range(g.W):
            for s in range(g.S):
                q = v + g.pad_left - s * g.dilation_w
                if q < 0 or q % g.stride_w != 0 or q // g.stride_w >= g.Q:
                    continue
                q = q // g.stride_w
                multiply_add(dx_v + v * g.C, dy + ((n * g.P + p) * g.Q + q) * g.C,
                             w + (r * g.S + s) * g.C, g.C)


def depthwise_conv2d_backward_input(
    real[:, :, :, ::1] dx, const real[:, :, :, ::1] dy, const real[:, :, :, ::1] w,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
):
    """Write the gradient of depthwise_conv2d with respect to x to dx (N, H, W, C)."""
    cdef Geometry g = Geometry(
        dx.shape[0], dx.shape[1], dx.shape[2], dx.shape[3], dy.shape[1], dy.shape[2], w.shape[0],
        w.shape[1], stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w)
    cdef Py_ssize_t row
    threads = threads_for(&g, threads)
    for row in prange(g.N * g.H, nogil=True, num_threads=threads, schedule="static"):
        backward_input_row(&g, row, &dx[0, 0, 0, 0], &dy[0, 0, 0, 0], &w[0, 0, 0, 0])


cdef void backward_weights_row(const Geometry* g, Py_ssize_t row, real* dw, real* db,
                               const real* dy, const real* x) noexcept nogil:
    """Add what output row p of image n gives, row = n*P + p."""
    cdef Py_ssize_t n = row // g.P, p = row % g.P, q, r, s, c, top, bottom, left, right
    cdef Py_ssize_t h = p * g.stride_h - g.pad_top, v
    cdef const real* dy_q = dy + row * g.Q * g.C
    taps_inside(h, g.dilation_h, g.H, g.R, &top, &bottom)
    for q in range(g.Q):
        v = q * g.stride_w - g.pad_left
        taps_inside(v, g.dilation_w, g.W, g.S, &left, &right)
        for c in range(g.C):
            db[c] = db[c] + dy_q[c]
        for r in range(top, bottom):
            for s in range(left, right):
                multiply_add(
                    dw + (r * g.S + s) * g.C, dy_q,
                    x + ((n * g.H + h + r * g.dilation_h) * g.W + v + s * g.dilation_w) * g.C,
                    g.C)
        dy_q += g.C


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
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], dy.shape[1], dy.shape[2], dw.shape[0],
        dw.shape[1], stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w)
    cdef Py_ssize_t rows = g.N * g.P, parts = parts_of(rows), size = g.R * g.S * g.C, part, row, i
    cdef real* dw_parts = &workspace[0]
    cdef real* db_parts = dw_parts + parts * size
    threads = threads_for(&g, threads)
    # The parts depend on the shape alone and are added in order: the same bits on any threads.
    for part in prange(parts, nogil=True, num_threads=threads, schedule="static", chunksize=1):
        memset(dw_parts + part * size, 0, size * sizeof(real))
        memset(db_parts + part * g.C, 0, g.C * sizeof(real))
        for row in range(part * rows // parts, (part + 1) * rows // parts):
            backward_weights_row(&g, row, dw_parts + part * size, db_parts + part * g.C,
                                 &dy[0, 0, 0, 0], &x[0, 0, 0, 0])
    memcpy(&dw[0, 0, 0, 0], dw_parts, size * sizeof(real))
    memcpy(&db[0], db_parts, g.C * sizeof(real))
    for part in range(1, parts):
        for i in range(size):
            (&dw[0, 0, 0, 0])[i] += dw_parts[part * size + i]
        for i in range(g.C):
            db[i] += db_parts[part * g.C + i]
