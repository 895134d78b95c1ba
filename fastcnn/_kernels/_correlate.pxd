# The loop nest under convolution forward and its input gradient: every output pixel gathers, from
# the taps that lie inside the image, inputs times packed weights.
#
# Nothing is padded and nothing is unrolled into columns: the outputs are cut into regions whose
# pixels see the same taps (the interior, and the rims where padding cuts the kernel), and the
# pixels of a region, whichever row or image they belong to, fill the rows of the register tile.
from fastcnn._kernels._finish cimport Finish, finish
from fastcnn._kernels._pack cimport pack_panel
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
    Finish end
    real* packed


cdef inline Axis forward_axis(
    Py_ssize_t size, Py_ssize_t kernel, Py_ssize_t count,
    Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t dilation,
) noexcept nogil:
    cdef Axis axis
    axis.size, axis.count, axis.step, axis.origin = size, count, stride, -pad
    axis.taps, axis.tap_step = kernel, dilation
    axis.kernel_start, axis.kernel_step = 0, 1
    axis.out_start, axis.out_step = 0, 1
    return axis


cdef inline Axis backward_axis(
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


cdef inline void pack(const Correlation* op, Py_ssize_t task) noexcept nogil:
    """Pack one group and panel: a row of biases, then weights [tap][inner][lane], zero-filled."""
    cdef Py_ssize_t panels = panels_of(op.outer), panel = task % panels, group = task // panels
    cdef Py_ssize_t first = first_vector(op.outer, panel) * LANES
    cdef Py_ssize_t width = first_vector(op.outer, panel + 1) * LANES - first
    cdef Py_ssize_t valid = min(width, op.outer - first)
    cdef Py_ssize_t i, j, lane
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
            pack_panel(to + width, source, op.inner, op.w_inner, op.w_outer, valid, width)
            to += op.inner * width


cdef inline real* panel_weights(
    const Correlation* op, Py_ssize_t group, Py_ssize_t first,
) noexcept nogil:
    """Return where the packed panel of a group starts whose first channel is given."""
    cdef Py_ssize_t rows = op.h.taps * op.w.taps * op.inner + 1
    return op.packed + (group * vectors_of(op.outer) * LANES + first) * rows


cdef inline void correlate_chunk(
    const Correlation* op, Py_ssize_t group, Py_ssize_t panel, Py_ssize_t image,
    Py_ssize_t image_end, Py_ssize_t row, Py_ssize_t row_end, Py_ssize_t* runs,
) noexcept nogil:
    """Compute one panel of one group for a chunk of images and output rows."""
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
    cdef Py_ssize_t n = image, h = h_start, w = w_start, done, i, j, lane, count = 0, length, rows
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
        rows = min(ROWS, pixels - done)
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
            if op.end.any:
                for i in range(rows):
                    finish(&op.end, y[i], y[i] - op.y, valid)
        else:
            tile(width // LANES, c, init, a, a_run, 1,
                 weights + width, b_run, width, count, length)
            for i in range(rows):
                if op.end.any:
                    finish(&op.end, c[i], y[i] - op.y, valid)
                for lane in range(valid):
                    y[i][lane] = c[i][lane]
