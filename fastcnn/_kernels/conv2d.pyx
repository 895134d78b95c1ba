"""Direct 2-D convolution: forward and input gradient. The weight gradient has its own file.

N batch; H W input height and width; C input channels of a group; P Q output height and width;
K filters of a group; R S kernel height and width; G groups.

Both passes are the loop nest of _correlate.pxd. The input gradient of a convolution with stride s
is s*s convolutions of dy, one for each phase of the input position modulo s, with the taps that
reach that phase, in reverse.
"""

from cython.parallel cimport prange, threadid
from libc.stdlib cimport free, malloc

from fastcnn._kernels._correlate cimport (
    Correlation, backward_axis, correlate_chunk, forward_axis, pack,
)
from fastcnn._kernels._cpu cimport l2_bytes
from fastcnn._kernels._finish cimport add_residual, finishing, nothing
from fastcnn._kernels._tile cimport ROWS, SERIAL_BELOW, panels_of, vectors_of
from fastcnn._kernels._types cimport LANES, real


cdef void correlate_task(
    const Correlation* op, Py_ssize_t task, Py_ssize_t* runs,
) noexcept nogil:
    cdef Py_ssize_t panels = panels_of(op.outer)
    cdef Py_ssize_t row_chunks = (op.h.count + op.chunk_rows - 1) // op.chunk_rows
    cdef Py_ssize_t panel = task % panels
    cdef Py_ssize_t group = task // panels % op.groups
    cdef Py_ssize_t row = task // panels // op.groups % row_chunks * op.chunk_rows
    cdef Py_ssize_t image = task // panels // op.groups // row_chunks * op.chunk_images
    correlate_chunk(op, group, panel, image, min(image + op.chunk_images, op.images),
                    row, min(row + op.chunk_rows, op.h.count), runs)


cdef int correlate(Correlation* op, int threads, bint packed) except -1 nogil:
    """Run every task of a correlation whose geometry and pointers are set."""
    cdef Py_ssize_t panels = panels_of(op.outer)
    cdef Py_ssize_t taps = op.h.taps * op.w.taps, packs = op.groups * panels, tasks, task
    cdef Py_ssize_t* runs
    cdef double work = 2.0 * op.images * op.h.count * op.w.count * taps * op.inner
    work *= op.groups * op.outer
    if work < SERIAL_BELOW:
        threads = 1
    choose_chunks(op)
    tasks = packs * ((op.images + op.chunk_images - 1) // op.chunk_images)
    tasks *= (op.h.count + op.chunk_rows - 1) // op.chunk_rows
    runs = <Py_ssize_t*> malloc((2 * threads * taps + 1) * sizeof(Py_ssize_t))
    if runs is NULL:
        with gil:
            raise MemoryError("conv2d: no memory for the table of taps")
    if not packed:
        for task in prange(packs, num_threads=threads, schedule="static"):
            pack(op, task)
    for task in prange(tasks, num_threads=threads, schedule="dynamic"):
        correlate_task(op, task, runs + 2 * threadid() * taps)
    free(runs)
    return 0


cdef enum:
    MIN_TASKS = 16              # enough to keep 8 threads busy to the end


cdef void choose_chunks(Correlation* op) noexcept nogil:
    """Choose how many images, or rows of one image, a task takes: no result depends on it."""
    cdef Py_ssize_t row_bytes = max(1, op.w.size * op.groups * op.inner * <Py_ssize_t> sizeof(real))
    # Of the input an eighth of L2: with its panel of weights it stays there.
    cdef Py_ssize_t fit = max(1, l2_bytes // 8 // row_bytes), per_task, unit, panels, chunks
    op.chunk_images = max(1, min(fit // op.h.size, op.images // MIN_TASKS))
    op.chunk_rows = op.h.count
    panels = op.groups * panels_of(op.outer)        # each is a task of its own
    per_task = (op.images * op.h.count * panels + MIN_TASKS - 1) // MIN_TASKS
    if op.chunk_images == 1 and (fit < op.h.size or op.images * panels < MIN_TASKS):
        op.chunk_rows = max(1, min(min(fit // op.h.step, per_task), op.h.count))
        unit = max(1, 2 * ROWS // op.w.count)   # rows that fill two tiles
        op.chunk_rows = (op.chunk_rows + unit - 1) // unit * unit
        chunks = (op.h.count + op.chunk_rows - 1) // op.chunk_rows
        op.chunk_rows = (op.h.count + chunks - 1) // chunks     # as even as can be


def workspace_size(Py_ssize_t groups, Py_ssize_t taps, Py_ssize_t inner, Py_ssize_t outer):
    """Return how many numbers the packed weights and biases of a correlation take."""
    return groups * vectors_of(outer) * LANES * (taps * inner + 1)


def pack_weights(real[::1] workspace, const real[:, :, :, ::1] w, b, Py_ssize_t groups):
    """Leave w (R, S, C, G*K) and the bias packed in a workspace of conv2d."""
    cdef Correlation op
    cdef const real[::1] bias
    cdef Py_ssize_t task
    op.bias = NULL
    if b is not None:
        bias = b
        op.bias = &bias[0]
    op.h, op.w = forward_axis(0, w.shape[0], 0, 1, 0, 1), forward_axis(0, w.shape[1], 0, 1, 0, 1)
    set_weights(&op, w, groups)
    op.packed = &workspace[0]
    for task in range(groups * panels_of(op.outer)):
        pack(&op, task)


cdef void set_weights(Correlation* op, const real[:, :, :, ::1] w, Py_ssize_t groups) noexcept:
    op.groups, op.inner, op.outer, op.S = groups, w.shape[2], w.shape[3] // groups, w.shape[1]
    op.w_tap, op.w_inner, op.w_outer = w.shape[2] * w.shape[3], w.shape[3], 1
    op.w_group, op.w_data = op.outer, &w[0, 0, 0, 0]


cpdef conv2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w,
    const real[::1] b, real[::1] workspace, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_top, Py_ssize_t pad_left, Py_ssize_t dilation_h, Py_ssize_t dilation_w,
    Py_ssize_t groups, int threads, bint packed=False,
    activation=None, const real[:, :, :, ::1] residual=None,
):
    """Write the convolution of x (N, H, W, G*C) with w (R, S, C, G*K) to y (N, P, Q, G*K).

    packed: workspace holds what an earlier call with these weights left there. residual, shaped
    as y, is added to it; then comes the activation.
    """
    cdef Correlation op
    op.bias, op.end = NULL, finishing(activation)
    if b is not None:
        op.bias = &b[0]
    if residual is not None:
        add_residual(&op.end, &residual[0, 0, 0, 0])
    op.h = forward_axis(x.shape[1], w.shape[0], y.shape[1], stride_h, pad_top, dilation_h)
    op.w = forward_axis(x.shape[2], w.shape[1], y.shape[2], stride_w, pad_left, dilation_w)
    set_weights(&op, w, groups)
    op.images, op.P, op.Q = x.shape[0], y.shape[1], y.shape[2]
    op.y, op.x, op.packed = &y[0, 0, 0, 0], &x[0, 0, 0, 0], &workspace[0]
    with nogil:
        correlate(&op, threads, packed)


def bound_conv2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w,
    const real[::1] b, real[::1] workspace, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_top, Py_ssize_t pad_left, Py_ssize_t dilation_h, Py_ssize_t dilation_w,
    Py_ssize_t groups, int threads, bint packed=False,
    activation=None, const real[:, :, :, ::1] residual=None,
):
    """Return a function of nothing that is this call of conv2d, its arrays looked at once."""
    return lambda: conv2d(
        y, x, w, b, workspace, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w,
        groups, threads, packed, activation, residual,
    )


def conv2d_backward_input(
    real[:, :, :, ::1] dx, const real[:, :, :, ::1] dy, const real[:, :, :, ::1] w,
    real[::1] workspace, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_top, Py_ssize_t pad_left, Py_ssize_t dilation_h, Py_ssize_t dilation_w,
    Py_ssize_t groups, int threads,
):
    """Write the gradient of conv2d with respect to x to dx (N, H, W, G*C), zero where unset."""
    cdef Correlation op
    cdef Py_ssize_t r, s
    op.bias, op.end = NULL, nothing()
    op.images, op.groups = dx.shape[0], groups
    op.inner, op.outer = w.shape[3] // groups, w.shape[2]
    op.P, op.Q, op.S = dx.shape[1], dx.shape[2], w.shape[1]
    op.w_tap, op.w_inner, op.w_outer = w.shape[2] * w.shape[3], 1, w.shape[3]
    op.w_group = op.inner
    op.y, op.x, op.w_data = &dx[0, 0, 0, 0], &dy[0, 0, 0, 0], &w[0, 0, 0, 0]
    op.packed = &workspace[0]
    for r in range(w.shape[0]):
        if r > 0 and r * dilation_h % stride_h == 0:
            break               # the phases repeat from here
        op.h = backward_axis(dx.shape[1], w.shape[0], dy.shape[1],
                             r * dilation_h % stride_h, stride_h, pad_top, dilation_h)
        for s in range(w.shape[1]):
            if s > 0 and s * dilation_w % stride_w == 0:
                break
            op.w = backward_axis(dx.shape[2], w.shape[1], dy.shape[2],
                                 s * dilation_w % stride_w, stride_w, pad_left, dilation_w)
            if op.h.count > 0 and op.w.count > 0:
                with nogil:
                    correlate(&op, threads, False)
