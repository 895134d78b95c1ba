"""Direct 2-D convolution: forward and input gradient. The weight gradient has its own file.

N batch; H W input height and width; C input channels of a group; P Q output height and width;
K filters of a group; R S kernel height and width; G groups.

Both passes are one loop nest, `correlate`: every output pixel gathers, from the taps that lie
inside the image, inputs times packed weights. Nothing is padded and nothing is unrolled into
columns: the outputs are cut into regions whose pixels see the same taps (the interior, and the
rims where padding cuts the kernel), and the pixels of a region, whichever row or image they
belong to, fill the rows of the register tile.

The input gradient of a convolution with stride s is s*s convolutions of dy, one for each phase
of the input position modulo s, with the taps that reach that phase, in reverse.
"""

from cython.parallel cimport prange, threadid
from libc.stdlib cimport free, malloc

from fastcnn._kernels._tile cimport ROWS, first_vector, panels_of, tile, vectors_of
from fastcnn._kernels._types cimport LANES, real


cdef struct Axis:
    # Output o (of count) gathers, through tap j (of taps), the input o*step + origin + j*tap_step
    # if that lies in [0, size). The tap's weight is at kernel_start + j*kernel_step, the output
    # lands at out_start + o*out_step.
    Py_ssize_t size, count, step, origin, taps, tap_step
    Py_ssize_t kernel_start, kernel_step, out_start, out_step


cdef struct Correlation:
    Axis h, w
    Py_ssize_t images, groups
    Py_ssize_t inner, outer         # channels gathered from and written to, of one group
    Py_ssize_t P, Q                 # size of the whole output
    Py_ssize_t S                    # kernel width, then the strides of the weights:
    Py_ssize_t w_tap, w_inner, w_outer, w_group
    Py_ssize_t chunk_images, chunk_rows     # what one task takes
    real* y
    const real* x
    const real* w_data
    const real* bias                # or NULL
    real* packed


cdef Axis forward_axis(
    Py_ssize_t size, Py_ssize_t kernel, Py_ssize_t count,
    Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t dilation,
) noexcept nogil:
    cdef Axis axis
    axis.size, axis.count, axis.step, axis.origin = size, count, stride, -pad
    axis.taps, axis.tap_step = kernel, dilation
    axis.kernel_start, axis.kernel_step = 0, 1
    axis.out_start, axis.out_step = 0, 1
    return axis


cdef Axis backward_axis(
    Py_ssize_t size, Py_ssize_t kernel, Py_ssize_t count, Py_ssize_t phase,
    Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t dilation,
) noexcept nogil:
    # Input h = p*stride + r*dilation - pad. In a phase, h + pad = phase + stride*t, and the taps
    # r = r0 + i*cycle with r*dilation = phase (modulo stride) reach it, from output
    # p = t + (phase - r*dilation) / stride. `size` is that of the input, `count` of dy.
    cdef Axis axis
    cdef Py_ssize_t cycle = 1, r0 = 0, last, t0
    while cycle * dilation % stride != 0:
        cycle += 1
    while r0 < cycle and (r0 * dilation - phase) % stride != 0:
        r0 += 1
    axis.taps = 0 if r0 == cycle or r0 >= kernel else (kernel - 1 - r0) // cycle + 1
    last = r0 + (axis.taps - 1) * cycle if axis.taps else 0     # the tap with the smallest p
    t0 = (max(pad - phase, 0) + stride - 1) // stride
    axis.size, axis.step, axis.tap_step = count, 1, cycle * dilation // stride
    axis.origin = t0 + (phase - last * dilation) // stride if axis.taps else 0
    axis.kernel_start, axis.kernel_step = last, -cycle
    axis.out_start, axis.out_step = phase + stride * t0 - pad, stride
    axis.count = (size - axis.out_start + stride - 1) // stride if axis.out_start < size else 0
    return axis


cdef inline void tap_range(
    const Axis* axis, Py_ssize_t o, Py_ssize_t* low, Py_ssize_t* high,
) noexcept nogil:
    """Set the range of taps through which output o sees the image."""
    cdef Py_ssize_t base = o * axis.step + axis.origin
    low[0] = (axis.tap_step - 1 - base) // axis.tap_step if base < 0 else 0
    high[0] = (axis.size - 1 - base) // axis.tap_step + 1 if base < axis.size else 0
    if high[0] > axis.taps:
        high[0] = axis.taps
    if high[0] <= low[0]:
        low[0] = 0
        high[0] = 0


cdef inline Py_ssize_t segment_end(
    const Axis* axis, Py_ssize_t o, Py_ssize_t end, Py_ssize_t* low, Py_ssize_t* high,
) noexcept nogil:
    """Return the end of the run of outputs from o that see the same taps, and set those."""
    cdef Py_ssize_t lo, hi, last
    tap_range(axis, o, low, high)
    last = end - 1          # both limits fall as o grows: where the ends agree, all do
    tap_range(axis, last, &lo, &hi)
    if lo == low[0] and hi == high[0] and hi > lo:
        return end
    last = o + 1
    while last < end:
        tap_range(axis, last, &lo, &hi)
        if lo != low[0] or hi != high[0]:
            break
        last += 1
    return last


cdef void pack(const Correlation* op, Py_ssize_t task) noexcept nogil:
    """Pack one group and panel: a row of biases, then weights [tap][inner][lane], zero-filled."""
    cdef Py_ssize_t panels = panels_of(op.outer), panel = task % panels, group = task // panels
    cdef Py_ssize_t first = first_vector(op.outer, panel) * LANES
    cdef Py_ssize_t width = first_vector(op.outer, panel + 1) * LANES - first
    cdef Py_ssize_t valid = min(width, op.outer - first)
    cdef Py_ssize_t i, j, c, lane
    cdef const real* source
    cdef real* to = panel_weights(op, group, first)
    for lane in range(width):
        if op.bias is not NULL and lane < valid:
            to[lane] = op.bias[group * op.outer + first + lane]
        else:
            to[lane] = 0
    for i in range(op.h.taps):
        for j in range(op.w.taps):
            source = op.w_data + group * op.w_group + first * op.w_outer + op.w_tap * (
                (op.h.kernel_start + i * op.h.kernel_step) * op.S
                + op.w.kernel_start + j * op.w.kernel_step
            )
            for c in range(op.inner):
                to += width
                if op.w_outer == 1:
                    for lane in range(valid):
                        to[lane] = source[c * op.w_inner + lane]
                else:
                    for lane in range(valid):
                        to[lane] = source[c * op.w_inner + lane * op.w_outer]
                for lane in range(valid, width):
                    to[lane] = 0


cdef inline real* panel_weights(
    const Correlation* op, Py_ssize_t group, Py_ssize_t first,
) noexcept nogil:
    """Return where the packed panel of a group starts whose first channel is given."""
    cdef Py_ssize_t rows = op.h.taps * op.w.taps * op.inner + 1
    return op.packed + (group * vectors_of(op.outer) * LANES + first) * rows


cdef void correlate_task(
    const Correlation* op, Py_ssize_t task, Py_ssize_t* runs,
) noexcept nogil:
    """Compute one panel of one group for a chunk of images and output rows."""
    cdef Py_ssize_t panels = panels_of(op.outer)
    cdef Py_ssize_t row_chunks = (op.h.count + op.chunk_rows - 1) // op.chunk_rows
    cdef Py_ssize_t panel = task % panels
    cdef Py_ssize_t group = task // panels % op.groups
    cdef Py_ssize_t row = task // panels // op.groups % row_chunks * op.chunk_rows
    cdef Py_ssize_t image = task // panels // op.groups // row_chunks * op.chunk_images
    cdef Py_ssize_t image_end = min(image + op.chunk_images, op.images)
    cdef Py_ssize_t row_end = min(row + op.chunk_rows, op.h.count)
    cdef Py_ssize_t first = first_vector(op.outer, panel) * LANES
    cdef Py_ssize_t width = first_vector(op.outer, panel + 1) * LANES - first
    cdef const real* weights = panel_weights(op, group, first)
    cdef Py_ssize_t h, h_end, w, w_end, top, bottom, left, right
    h = row
    while h < row_end:
        h_end = segment_end(&op.h, h, row_end, &top, &bottom)
        w = 0
        while w < op.w.count:
            w_end = segment_end(&op.w, w, op.w.count, &left, &right)
            correlate_region(
                op, weights, width, group, first, image, image_end,
                h, h_end, top, bottom, w, w_end, left, right, runs,
            )
            w = w_end
        h = h_end


cdef inline void correlate_region(
    const Correlation* op, const real* weights, Py_ssize_t width,
    Py_ssize_t group, Py_ssize_t first, Py_ssize_t image, Py_ssize_t image_end,
    Py_ssize_t h_start, Py_ssize_t h_end, Py_ssize_t top, Py_ssize_t bottom,
    Py_ssize_t w_start, Py_ssize_t w_end, Py_ssize_t left, Py_ssize_t right,
    Py_ssize_t* runs,
) noexcept nogil:
    """Compute the outputs of a region: all see the taps top to bottom, left to right."""
    cdef Py_ssize_t x_pixel = op.groups * op.inner, y_pixel = op.groups * op.outer
    cdef Py_ssize_t pixels = (image_end - image) * (h_end - h_start) * (w_end - w_start)
    cdef Py_ssize_t n = image, h = h_start, w = w_start, done, i, j, lane, count = 0, length
    cdef Py_ssize_t valid = min(width, op.outer - first)
    cdef Py_ssize_t* a_run = runs
    cdef Py_ssize_t* b_run = runs + op.h.taps * op.w.taps
    cdef const real* a[ROWS]
    cdef const real* init[ROWS]
    cdef real* c[ROWS]
    cdef real* y[ROWS]
    cdef real ragged[ROWS * 64]     # 64: the most lanes that a panel has

    # Neighbouring taps of one row are one run where their inputs are neighbours in memory.
    cdef Py_ssize_t joined = 1
    if op.w.tap_step == 1 and op.groups == 1:
        joined = max(right - left, 1)
    length = joined * op.inner
    for i in range(top, bottom):
        j = left
        while j < right:
            a_run[count] = ((i - top) * op.h.tap_step * op.w.size
                            + (j - left) * op.w.tap_step) * x_pixel
            b_run[count] = (i * op.w.taps + j) * op.inner * width
            count += 1
            j += joined

    for i in range(ROWS):
        init[i] = weights
        c[i] = ragged + i * width
    done = 0
    while done < pixels:
        for i in range(ROWS):       # a short last tile repeats its last pixel
            a[i] = op.x + group * op.inner + x_pixel * (
                (n * op.h.size + h * op.h.step + op.h.origin + top * op.h.tap_step) * op.w.size
                + w * op.w.step + op.w.origin + left * op.w.tap_step
            )
            y[i] = op.y + group * op.outer + first + y_pixel * (
                (n * op.P + op.h.out_start + h * op.h.out_step) * op.Q
                + op.w.out_start + w * op.w.out_step
            )
            done += 1
            if done < pixels:
                w += 1
                if w == w_end:
                    w = w_start
                    h += 1
                    if h == h_end:
                        h = h_start
                        n += 1
        if valid == width:
            tile(width // LANES, y, init, a, a_run, 1,
                 weights + width, b_run, width, count, length)
        else:
            tile(width // LANES, c, init, a, a_run, 1,
                 weights + width, b_run, width, count, length)
            for i in range(ROWS):
                for lane in range(valid):
                    y[i][lane] = c[i][lane]


cdef int correlate(Correlation* op, int threads) except -1 nogil:
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
    for task in prange(packs, num_threads=threads, schedule="static"):
        pack(op, task)
    for task in prange(tasks, num_threads=threads, schedule="dynamic"):
        correlate_task(op, task, runs + 2 * threadid() * taps)
    free(runs)
    return 0


cdef enum:
    SERIAL_BELOW = 1000000      # flop: waking a second thread costs more than it saves
    CHUNK_BYTES = 131072        # of input a task: with its panel of weights it stays in L2
    MIN_TASKS = 16              # enough to keep 8 threads busy to the end


cdef void choose_chunks(Correlation* op) noexcept nogil:
    """Choose how many images, or rows of one image, a task takes: no result depends on it."""
    cdef Py_ssize_t row_bytes = max(1, op.w.size * op.groups * op.inner * <Py_ssize_t> sizeof(real))
    cdef Py_ssize_t fit = max(1, CHUNK_BYTES // row_bytes), per_task, unit
    op.chunk_images = max(1, min(fit // op.h.size, op.images // MIN_TASKS))
    op.chunk_rows = op.h.count
    per_task = op.images * op.h.count // MIN_TASKS
    if op.chunk_images == 1 and (fit < op.h.size or op.images < MIN_TASKS):
        op.chunk_rows = max(1, min(fit // op.h.step, per_task))
        unit = max(1, 2 * ROWS // op.w.count)   # rows that fill two tiles
        op.chunk_rows = (op.chunk_rows + unit - 1) // unit * unit


def workspace_size(Py_ssize_t groups, Py_ssize_t taps, Py_ssize_t inner, Py_ssize_t outer):
    """Return how many numbers the packed weights and biases of a correlation take."""
    return groups * vectors_of(outer) * LANES * (taps * inner + 1)


def conv2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] w, b,
    real[::1] workspace, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_top, Py_ssize_t pad_left, Py_ssize_t dilation_h, Py_ssize_t dilation_w,
    Py_ssize_t groups, int threads,
):
    """Write the convolution of x (N, H, W, G*C) with w (R, S, C, G*K) to y (N, P, Q, G*K)."""
    cdef Correlation op
    cdef const real[::1] bias
    op.bias = NULL
    if b is not None:
        bias = b
        op.bias = &bias[0]
    op.h = forward_axis(x.shape[1], w.shape[0], y.shape[1], stride_h, pad_top, dilation_h)
    op.w = forward_axis(x.shape[2], w.shape[1], y.shape[2], stride_w, pad_left, dilation_w)
    op.images, op.groups = x.shape[0], groups
    op.inner, op.outer = w.shape[2], w.shape[3] // groups
    op.P, op.Q, op.S = y.shape[1], y.shape[2], w.shape[1]
    op.w_tap, op.w_inner, op.w_outer = w.shape[2] * w.shape[3], w.shape[3], 1
    op.w_group = op.outer
    op.y, op.x, op.w_data = &y[0, 0, 0, 0], &x[0, 0, 0, 0], &w[0, 0, 0, 0]
    op.packed = &workspace[0]
    with nogil:
        correlate(&op, threads)


def conv2d_backward_input(
    real[:, :, :, ::1] dx, const real[:, :, :, ::1] dy, const real[:, :, :, ::1] w,
    real[::1] workspace, Py_ssize_t stride_h, Py_ssize_t stride_w,
    Py_ssize_t pad_top, Py_ssize_t pad_left, Py_ssize_t dilation_h, Py_ssize_t dilation_w,
    Py_ssize_t groups, int threads,
):
    """Write the gradient of conv2d with respect to x to dx (N, H, W, G*C), zero where unset."""
    cdef Correlation op
    cdef Py_ssize_t r, s
    op.bias = NULL
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
                    correlate(&op, threads)
