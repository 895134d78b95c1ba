# What rows of dy add to the weight gradient of a depthwise convolution.
#
# For the letters see depthwise_conv2d_backward_weights.pyx.
from fastcnn._kernels._channelwise cimport add
from fastcnn._kernels._correlate cimport Axis, forward_axis, segment_end
from fastcnn._kernels._types cimport LANES, load, prefetch, real, splat, vec

cdef enum:
    NEAR = 1 << 16              # bytes of x that sliding passes over at a time


cdef struct DepthwiseGeometry:
    Py_ssize_t H, W, C, P, Q, R, S
    Py_ssize_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w


cdef inline Py_ssize_t first_inside(const DepthwiseGeometry* g, Py_ssize_t s) noexcept nogil:
    """Return the first output of a row whose tap s lies inside the image, or Q."""
    cdef Py_ssize_t base = s * g.dilation_w - g.pad_left
    return 0 if base >= 0 else min(g.Q, (g.stride_w - 1 - base) // g.stride_w)


cdef inline Py_ssize_t end_inside(const DepthwiseGeometry* g, Py_ssize_t s) noexcept nogil:
    """Return one past the last such output, or 0."""
    cdef Py_ssize_t base = s * g.dilation_w - g.pad_left
    return 0 if base >= g.W else min(g.Q, (g.W - 1 - base) // g.stride_w + 1)


cdef inline vec add_tap(
    vec total, const DepthwiseGeometry* g, const real* dy, const real* x, Py_ssize_t q,
    Py_ssize_t end,
) noexcept nogil:
    """Add one tap's products of the outputs q to end of a row."""
    while q < end:
        total = total + load(dy + q * g.C) * load(x + q * g.stride_w * g.C)
        q += 1
    return total


cdef inline void backward_weights_row(
    const DepthwiseGeometry* g, Py_ssize_t row, real* dw, real* db, const real* dy, const real* x,
    const real* old_lanes,
) noexcept nogil:
    """Add what output row p of image n gives, row = n*P + p: three taps of a kernel row at once."""
    cdef Py_ssize_t n = row // g.P, p = row % g.P, q, r, _, s = 0, c, h, covered, taps, skipped
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
                skipped = x1 if r > 0 and g.stride_w > 1 else 0     # the column beside it
                for _ in range(first, end):
                    prefetch(ahead)
                    prefetch(ahead + skipped)
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
        t1 = t0
        t2 = t0
        q = 0
        while q + 3 <= g.Q:     # sums of their own: an addition need not wait for the one before
            dy_q = dy + q * g.C + c
            t0 = t0 + load(dy_q)
            t1 = t1 + load(dy_q + g.C)
            t2 = t2 + load(dy_q + 2 * g.C)
            q += 3
        while q < g.Q:
            t0 = t0 + load(dy + q * g.C + c)
            q += 1
        add(db + c, t0 + t1 + t2, old_lanes, covered)
        c += LANES


cdef inline bint slides(const DepthwiseGeometry* g) noexcept nogil:
    """Return whether each input meets three neighbouring outputs, and each output an input."""
    return (
        g.S == 3 and g.stride_w == 1 and g.dilation_w == 1 and g.pad_left <= min(2, g.Q)
        and g.Q <= g.W + g.pad_left
    )


cdef inline void slide_rows(
    const DepthwiseGeometry* g, Py_ssize_t count, Py_ssize_t taps, real* dw, real* db,
    const real* dy, const real* x, const real* old_lanes,
) noexcept nogil:
    """Add what output rows give that see 1 to 3 rows: every column of x meets three outputs."""
    cdef Py_ssize_t row = g.dilation_h * g.W * g.C, dw_row = 3 * g.C, c = 0, covered, q, i
    cdef Py_ssize_t end = g.pad_left + g.W
    cdef const real* x_c
    cdef const real* dy_c
    cdef real* to
    # t01: row 0, tap 1. d0, d1, d2: of the outputs that see a column through taps 0, 1 and 2.
    cdef vec t00, t01, t02, t10, t11, t12, t20, t21, t22, total, v, d0, d1, d2
    while c < g.C:
        covered = max(0, c + LANES - g.C)
        c -= covered
        t00 = splat(0)
        t01 = t00; t02 = t00; t10 = t00; t11 = t00; t12 = t00; t20 = t00; t21 = t00; t22 = t00
        total = t00
        d0 = t00
        d1 = t00
        d2 = t00
        for i in range(count):
            x_c = x + i * g.stride_h * g.W * g.C + c
            dy_c = dy + i * g.Q * g.C + c
            if g.pad_left > 1:
                d2 = load(dy_c)
                total = total + d2
                dy_c += g.C
            if g.pad_left > 0:
                d1 = load(dy_c)
                total = total + d1
                dy_c += g.C
            for q in range(g.pad_left, end):
                if q < g.Q:
                    d0 = load(dy_c)
                    total = total + d0
                    v = load(x_c)
                    t00 = t00 + v * d0
                    if taps > 1:
                        v = load(x_c + row)
                        t10 = t10 + v * d0
                    if taps > 2:
                        v = load(x_c + 2 * row)
                        t20 = t20 + v * d0
                if 0 < q <= g.Q:
                    v = load(x_c)
                    t01 = t01 + v * d1
                    if taps > 1:
                        v = load(x_c + row)
                        t11 = t11 + v * d1
                    if taps > 2:
                        v = load(x_c + 2 * row)
                        t21 = t21 + v * d1
                if 1 < q < g.Q + 2:
                    v = load(x_c)
                    t02 = t02 + v * d2
                    if taps > 1:
                        v = load(x_c + row)
                        t12 = t12 + v * d2
                    if taps > 2:
                        v = load(x_c + 2 * row)
                        t22 = t22 + v * d2
                prefetch(x_c + taps * row)
                prefetch(dy_c + g.Q * g.C)
                d2 = d1
                d1 = d0
                x_c += g.C
                dy_c += g.C
        to = dw + c
        add(to, t00, old_lanes, covered)
        add(to + g.C, t01, old_lanes, covered)
        add(to + 2 * g.C, t02, old_lanes, covered)
        if taps > 1:
            to += dw_row
            add(to, t10, old_lanes, covered)
            add(to + g.C, t11, old_lanes, covered)
            add(to + 2 * g.C, t12, old_lanes, covered)
        if taps > 2:
            to += dw_row
            add(to, t20, old_lanes, covered)
            add(to + g.C, t21, old_lanes, covered)
            add(to + 2 * g.C, t22, old_lanes, covered)
        add(db + c, total, old_lanes, covered)
        c += LANES


cdef inline void backward_weights_rows(
    const DepthwiseGeometry* g, Py_ssize_t row, Py_ssize_t end, real* dw, real* db,
    const real* dy, const real* x, const real* old_lanes,
) noexcept nogil:
    """Add what output rows from `row` to `end` give: runs that see the same taps."""
    cdef Axis axis = forward_axis(g.H, g.R, g.P, g.stride_h, g.pad_top, g.dilation_h)
    cdef Py_ssize_t top, bottom, n, p, count, most
    cdef const real* seen
    cdef const real* dy_row
    cdef real* to
    # So many rows of x and dy stay in the caches while vector after vector of channels is read.
    most = max(1, NEAR // (g.W * g.C * <Py_ssize_t> sizeof(real)))
    while row < end:
        n, p = row // g.P, row % g.P
        count = segment_end(&axis, p, min(g.P, p + min(most, end - row)), &top, &bottom) - p
        if not slides(g) or bottom - top < 1 or bottom - top > 3:
            backward_weights_row(g, row, dw, db, dy, x, old_lanes)
            row += 1
            continue
        to, dy_row = dw + top * g.S * g.C, dy + row * g.Q * g.C
        seen = x + (n * g.H + p * g.stride_h - g.pad_top + top * g.dilation_h) * g.W * g.C
        if bottom - top == 3:
            slide_rows(g, count, 3, to, db, dy_row, seen, old_lanes)
        elif bottom - top == 2:
            slide_rows(g, count, 2, to, db, dy_row, seen, old_lanes)
        else:
            slide_rows(g, count, 1, to, db, dy_row, seen, old_lanes)
        row += count
