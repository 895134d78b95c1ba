"""Max pooling. For the letters, and for what a block is, see _windows.pxd.

Longer than most: windows of 2x2, those that overlap and those that lie apart have loops of their
own, forward and backward.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t, uint8_t

from fastcnn._kernels._stream cimport past_caches, put
from fastcnn._kernels._types cimport (
    LANES, beats, drain, equal, load, load_bytes, mask, real, splat, store, store_as_bytes, vec,
    where,
)
from fastcnn._kernels._windows cimport (
    BLOCK, FEW_CHANNELS, Pool, apart, columns_from, end_window, first_window, only_window, tap,
    undilated,
)

ctypedef fused place_t:         # a place r*S + s in a window
    uint8_t
    int32_t


# ---------------------------------------------------------------- forward
# Windows are walked from their last pixel to their first: an equal value takes over, so the
# first maximum in row-major order wins, and so does the first NaN.
cdef inline bint takes_over(real v, real best) noexcept nogil:
    return (v >= best) | (v != v)


cdef inline void max_2x2_vector(
    real* y, uint8_t* argmax, const real* x_0, const real* x_1, Py_ssize_t C
) noexcept nogil:
    cdef vec best = load(x_0), place = splat(<real> 0), v = load(x_0 + C)
    cdef mask won = beats(v, best)
    best = where(won, v, best)
    place = where(won, splat(<real> 1), place)
    v = load(x_1)
    won = beats(v, best)
    best = where(won, v, best)
    place = where(won, splat(<real> 2), place)
    v = load(x_1 + C)
    won = beats(v, best)
    best = where(won, v, best)
    place = where(won, splat(<real> 3), place)
    store(y, best)
    store_as_bytes(argmax, place)


cdef inline void max_2x2(
    real* y, place_t* argmax, const real* x_0, const real* x_1, Py_ssize_t C
) noexcept nogil:
    """One whole window of 2x2, whose rows are x_0 and x_1."""
    cdef Py_ssize_t c = 0, whole = C // LANES * LANES
    cdef place_t place
    cdef real best, v
    while c < whole:        # places of four are bytes: place_t is uint8_t wherever this runs
        max_2x2_vector(y + c, <uint8_t*> argmax + c, x_0 + c, x_1 + c, C)
        c += LANES
    for c in range(whole, C):
        best, place = x_1[C + c], 3
        v = x_1[c]
        place = 2 if takes_over(v, best) else place
        best = v if takes_over(v, best) else best
        v = x_0[C + c]
        place = 1 if takes_over(v, best) else place
        best = v if takes_over(v, best) else best
        v = x_0[c]
        argmax[c] = 0 if takes_over(v, best) else place
        y[c] = v if takes_over(v, best) else best


# To divide takes as long as a small window: most lie within the image.
cdef inline Py_ssize_t inside_from(Py_ssize_t first, Py_ssize_t dilation) noexcept nogil:
    """Return the first place of a window that starts at `first` which is no padding before."""
    return 0 if first >= 0 else (dilation - 1 - first) // dilation


cdef inline Py_ssize_t inside_to(
    Py_ssize_t first, Py_ssize_t kernel, Py_ssize_t size, Py_ssize_t dilation
) noexcept nogil:
    """Return one past its last place which is no padding behind."""
    if first + (kernel - 1) * dilation < size:
        return kernel
    return (size - first + dilation - 1) // dilation


cdef inline void max_block(
    real* y, place_t* argmax, const real* x_n, Pool* g, Py_ssize_t p, Py_ssize_t q,
    Py_ssize_t columns, Py_ssize_t channels,
) noexcept nogil:
    """Outputs from q on; y, argmax and x_n start at the block's first channel."""
    cdef real[BLOCK] best
    cdef real[BLOCK] gathered
    cdef int32_t[BLOCK] places
    cdef Py_ssize_t top = p * g.stride_h - g.top, left = q * g.stride_w - g.left
    cdef Py_ssize_t r_0 = inside_from(top, g.dilation_h), s_0 = inside_from(left, g.dilation_w)
    cdef Py_ssize_t r_last = inside_to(top, g.R, g.H, g.dilation_h) - 1
    cdef Py_ssize_t s_last = inside_to(left, g.S, g.W, g.dilation_w) - 1
    cdef Py_ssize_t count = columns * channels, r, s, i
    cdef Py_ssize_t row = g.dilation_h * g.W * g.C, column = g.dilation_w * g.C
    cdef const real* first = x_n + (top * g.W + left) * g.C
    cdef const real* x
    cdef int32_t place
    for r in range(r_last, r_0 - 1, -1):
        for s in range(s_last, s_0 - 1, -1):
            x = tap(gathered, first + r * row + s * column, columns, channels, g)
            place = <int32_t> (r * g.S + s)
            if r == r_last and s == s_last:
                for i in range(count):
                    best[i] = x[i]
                    places[i] = place
            else:
                for i in range(count):
                    places[i] = place if takes_over(x[i], best[i]) else places[i]
                    best[i] = x[i] if takes_over(x[i], best[i]) else best[i]
    for i in range(count):
        y[i] = best[i]
    for i in range(count):
        argmax[i] = <place_t> places[i]


cdef void max_row(
    real* y, place_t* argmax, const real* x_n, Pool* g, Py_ssize_t p
) noexcept nogil:
    cdef Py_ssize_t h = p * g.stride_h - g.top, q = 0, w, c, columns
    cdef bint rows_of_2x2 = (
        g.R == 2 and g.S == 2 and h >= 0 and h + 2 <= g.H and g.C >= FEW_CHANNELS and undilated(g)
    )
    cdef const real* x
    while q < g.Q:
        w = q * g.stride_w - g.left
        if rows_of_2x2 and w >= 0 and w + 2 <= g.W:
            x = x_n + (h * g.W + w) * g.C
            max_2x2(y + q * g.C, argmax + q * g.C, x, x + g.W * g.C, g.C)
            q += 1
            continue
        columns = columns_from(g, q)
        c = 0
        while c < g.C:
            max_block(
                y + q * g.C + c, argmax + q * g.C + c, x_n + c, g, p, q, columns,
                min(<Py_ssize_t> BLOCK, g.C - c),
            )
            c += BLOCK
        q += columns


cdef void max_rows(
    real* y, place_t* argmax, const real* x, Pool* g, int threads
) noexcept nogil:
    cdef Py_ssize_t row
    for row in prange(g.N * g.P, num_threads=threads, schedule="static"):
        max_row(
            y + row * g.Q * g.C, argmax + row * g.Q * g.C, x + row // g.P * g.H * g.W * g.C,
            g, row % g.P,
        )


# Where nobody asks which pixel was the largest. In row-major order the first maximum wins here
# too, and so does the first NaN.
cdef inline vec max_of_window(
    const real* x, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t row, Py_ssize_t column
) noexcept nogil:
    cdef vec best = load(x), v
    cdef Py_ssize_t r, s
    for r in range(rows):
        for s in range(columns):
            v = load(x + r * row + s * column)
            best = where(beats(v, best), v, best)
    return best


cdef void values_row(real* y, const real* x_n, Pool* g, Py_ssize_t p) noexcept nogil:
    """A row of outputs; the last two vectors of channels may overlap."""
    cdef Py_ssize_t top = p * g.stride_h - g.top, left, r_0, s_0, rows, columns, q, c
    cdef Py_ssize_t row = g.dilation_h * g.W * g.C, column = g.dilation_w * g.C, i
    cdef Py_ssize_t d = g.dilation_w, C = g.C, wide = (g.S - 1) * d + 1, W = g.W, S = g.S
    cdef const real* x
    cdef real v
    r_0 = inside_from(top, g.dilation_h)
    rows = inside_to(top, g.R, g.H, g.dilation_h) - r_0
    x_n += top * W * C + r_0 * row
    for q in range(g.Q):
        left = q * g.stride_w - g.left
        columns = S
        x = x_n + left * C
        if left < 0 or left + wide > W:
            s_0 = inside_from(left, d)
            columns = inside_to(left, S, W, d) - s_0
            x += s_0 * column
        c = 0
        while c < C and C >= LANES:
            c = min(c, C - LANES)
            if rows == 3 and columns == 3:      # constants: the loops are unrolled
                store(y + c, max_of_window(x + c, 3, 3, row, column))
            elif rows == 2 and columns == 2:
                store(y + c, max_of_window(x + c, 2, 2, row, column))
            else:
                store(y + c, max_of_window(x + c, rows, columns, row, column))
            c += LANES
        for c in range(c, C):
            y[c] = x[c]
            for i in range(1, rows * columns):
                v = x[i // columns * row + i % columns * column + c]
                y[c] = y[c] if v <= y[c] or y[c] != y[c] else v
        y += C


def max_pool2d(
    real[:, :, :, ::1] y, argmax, const real[:, :, :, ::1] x, Py_ssize_t R, Py_ssize_t S,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
):
    """argmax holds uint8 or int32, or is None: then it is not computed."""
    cdef Pool g = Pool(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2], R, S,
        stride_h, stride_w, top, left, dilation_h, dilation_w,
    )
    cdef uint8_t[:, :, :, ::1] small
    cdef int32_t[:, :, :, ::1] large
    cdef Py_ssize_t i
    if argmax is None:
        for i in prange(g.N * g.P, nogil=True, num_threads=threads, schedule="static"):
            values_row(&y[i // g.P, i % g.P, 0, 0], &x[i // g.P, 0, 0, 0], &g, i % g.P)
    elif argmax.dtype.itemsize == 1:
        small = argmax
        with nogil:
            max_rows(&y[0, 0, 0, 0], &small[0, 0, 0, 0], &x[0, 0, 0, 0], &g, threads)
    else:
        large = argmax
        with nogil:
            max_rows(&y[0, 0, 0, 0], &large[0, 0, 0, 0], &x[0, 0, 0, 0], &g, threads)


# ---------------------------------------------------------------- backward
cdef inline bint is_place(
    Py_ssize_t place, Pool* g, Py_ssize_t top, Py_ssize_t left
) noexcept nogil:
    """Return whether a place lies in the window that starts at (top, left) and in the image."""
    cdef Py_ssize_t h = top + place // g.S * g.dilation_h, w = left + place % g.S * g.dilation_w
    return 0 <= place < g.R * g.S and 0 <= h < g.H and 0 <= w < g.W


cdef Py_ssize_t wrong_places(const place_t* argmax, Pool* g, Py_ssize_t p) noexcept nogil:
    """Return how many of a row of outputs hold no place of their window."""
    cdef Py_ssize_t top = p * g.stride_h - g.top, left, q, c, wrong = 0
    cdef Py_ssize_t tall = (g.R - 1) * g.dilation_h + 1, wide = (g.S - 1) * g.dilation_w + 1
    cdef place_t highest = <place_t> (g.R * g.S - 1), beyond
    for q in range(g.Q):
        left = q * g.stride_w - g.left
        if top >= 0 and left >= 0 and top + tall <= g.H and left + wide <= g.W:
            beyond = 0          # as wide as a place, so that vectors of places are compared
            for c in range(q * g.C, (q + 1) * g.C):
                beyond |= (argmax[c] < 0) | (argmax[c] > highest)
            if not beyond:
                continue
            for c in range(q * g.C, (q + 1) * g.C):
                wrong += argmax[c] < 0 or argmax[c] > highest
        else:
            for c in range(q * g.C, (q + 1) * g.C):
                wrong += not is_place(argmax[c], g, top, left)
    return wrong


cdef inline void max_backward_windows(
    real* total, const real* dy, const place_t* argmax, Pool* g, Py_ssize_t r, Py_ssize_t w,
    Py_ssize_t columns, Py_ssize_t channels,
) noexcept nogil:
    """Add what a row of outputs gives to the pixels from w on, window by window.

    Unlike `max_backward_runs` this is never slow where windows are gigantic.
    """
    cdef Py_ssize_t q, left, i, c, s, wide = (g.S - 1) * g.dilation_w + 1
    cdef place_t place
    for q in range(
        first_window(w, g.stride_w, g.left, wide),
        end_window(w + columns - 1, g.stride_w, g.left, g.Q),
    ):
        left = q * g.stride_w - g.left
        for i in range(max(left, w), min(left + wide, w + columns)):
            s = i - left
            if g.dilation_w > 1:
                if s % g.dilation_w:
                    continue
                s //= g.dilation_w
            place = <place_t> (r * g.S + s)
            for c in range(channels):
                total[(i - w) * channels + c] += (
                    dy[q * g.C + c] if argmax[q * g.C + c] == place else 0
                )


cdef inline void max_backward_runs(
    real* total, const real* dy, const place_t* argmax, Pool* g, Py_ssize_t r, Py_ssize_t w,
    Py_ssize_t columns,
) noexcept nogil:
    """Do the same, but take all outputs that see the pixels through one place at once."""
    cdef real[BLOCK] won
    cdef Py_ssize_t s, q, q_0, q_end, i, to, d = g.dilation_w
    cdef Py_ssize_t s_0 = max(w + g.left - (g.Q - 1) * g.stride_w, 0)
    cdef Py_ssize_t s_last = w + g.left + columns - 1
    cdef place_t place
    if d > 1:
        s_0 = (s_0 + d - 1) // d
        s_last //= d
    s_last = min(s_last, g.S - 1)
    for s in range(s_last, s_0 - 1, -1):        # so that a pixel's windows come in order
        q_0 = first_window(w - s * d, g.stride_w, g.left, 1)
        q_end = end_window(w - s * d + columns - 1, g.stride_w, g.left, g.Q)
        place = <place_t> (r * g.S + s)
        for i in range((q_end - q_0) * g.C):
            won[i] = dy[q_0 * g.C + i] if argmax[q_0 * g.C + i] == place else 0
        for q in range(q_0, q_end):
            to = (q * g.stride_w + s * d - g.left - w) * g.C
            for i in range(g.C):
                total[to + i] += won[(q - q_0) * g.C + i]


cdef inline void max_backward_block(
    real* dx, const real* dy_n, const place_t* argmax_n, Pool* g, Py_ssize_t h, Py_ssize_t w,
    Py_ssize_t columns, Py_ssize_t channels,
) noexcept nogil:
    """Pixels from w on; dx, dy_n and argmax_n start at the block's first channel."""
    cdef real[BLOCK] total
    cdef Py_ssize_t p, r, i, tall = (g.R - 1) * g.dilation_h + 1
    for i in range(columns * channels):
        total[i] = 0
    for p in range(
        first_window(h, g.stride_h, g.top, tall), end_window(h, g.stride_h, g.top, g.P)
    ):
        r = h - p * g.stride_h + g.top
        if g.dilation_h > 1:
            if r % g.dilation_h:
                continue
            r //= g.dilation_h
        i = p * g.Q * g.C
        if g.stride_w < columns:
            max_backward_runs(total, dy_n + i, argmax_n + i, g, r, w, columns)
        else:
            max_backward_windows(total, dy_n + i, argmax_n + i, g, r, w, columns, channels)
    for i in range(columns * channels):
        dx[i] = total[i]


cdef void max_backward_row(
    real* dx, const real* dy_n, const place_t* argmax_n, Pool* g, Py_ssize_t h
) noexcept nogil:
    cdef Py_ssize_t columns = max(1, BLOCK // g.C), w = 0, c
    while w < g.W:
        c = 0
        while c < g.C:
            max_backward_block(
                dx + w * g.C + c, dy_n + c, argmax_n + c, g, h, w, min(columns, g.W - w),
                min(<Py_ssize_t> BLOCK, g.C - c),
            )
            c += BLOCK
        w += columns


cdef inline void winners(
    real* dx, const real* dy, const uint8_t* argmax, int place, Py_ssize_t C, bint streaming
) noexcept nogil:
    """Write the gradient of a pixel which is at that place of its only window, or in none: -1."""
    cdef Py_ssize_t c = 0
    cdef vec zero = splat(<real> 0), it = splat(<real> place)
    if place < 0:
        while c + LANES <= C:
            put(dx + c, zero, streaming)
            c += LANES
    else:
        while c + LANES <= C:
            put(dx + c, where(equal(load_bytes(argmax + c), it), load(dy + c), zero), streaming)
            c += LANES
    while c < C:
        dx[c] = dy[c] if place >= 0 and argmax[c] == place else 0
        c += 1


cdef void max_backward_row_apart(
    real* dx, const real* dy_n, const uint8_t* argmax_n, Pool* g, Py_ssize_t h, bint streaming
) noexcept nogil:
    cdef Py_ssize_t w, p = only_window(h, g.stride_h, g.top, g.R, g.P), q, at, place
    for w in range(g.W):
        q = only_window(w, g.stride_w, g.left, g.S, g.Q)
        at, place = 0, -1
        if p >= 0 and q >= 0:
            at = (p * g.Q + q) * g.C
            place = (h + g.top - p * g.stride_h) * g.S + w + g.left - q * g.stride_w
        winners(dx + w * g.C, dy_n + at, argmax_n + at, <int> place, g.C, streaming)
    if streaming:
        drain()


cdef Py_ssize_t max_backward_rows(
    real* dx, const real* dy, const place_t* argmax, Pool* g, int threads
) noexcept nogil:
    """Return how many places are wrong; only where none is, dx is written."""
    cdef Py_ssize_t row, wrong = 0, y_n = g.P * g.Q * g.C
    cdef bint streaming = past_caches(dx, g.N * g.H * g.W * g.C, g.C)
    for row in prange(g.N * g.P, num_threads=threads, schedule="static"):
        wrong += wrong_places(argmax + row * g.Q * g.C, g, row % g.P)
    if wrong:
        return wrong
    for row in prange(g.N * g.H, num_threads=threads, schedule="static"):
        if place_t is uint8_t and apart(g) and g.C >= LANES:
            max_backward_row_apart(
                dx + row * g.W * g.C, dy + row // g.H * y_n,
                <const uint8_t*> (argmax + row // g.H * y_n), g, row % g.H, streaming,
            )
        else:
            max_backward_row(
                dx + row * g.W * g.C, dy + row // g.H * y_n, argmax + row // g.H * y_n, g,
                row % g.H,
            )
    return 0


def max_pool2d_backward(
    real[:, :, :, ::1] dx, const real[:, :, :, ::1] dy, argmax, Py_ssize_t R, Py_ssize_t S,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
):
    """Return how many entries of argmax are no place of their window: dx counts if none is."""
    cdef Pool g = Pool(
        dx.shape[0], dx.shape[1], dx.shape[2], dx.shape[3], dy.shape[1], dy.shape[2], R, S,
        stride_h, stride_w, top, left, dilation_h, dilation_w,
    )
    cdef const uint8_t[:, :, :, ::1] small
    cdef const int32_t[:, :, :, ::1] large
    cdef Py_ssize_t wrong
    if argmax.dtype.itemsize == 1:
        small = argmax
        with nogil:
            wrong = max_backward_rows(
                &dx[0, 0, 0, 0], &dy[0, 0, 0, 0], &small[0, 0, 0, 0], &g, threads
            )
    else:
        large = argmax
        with nogil:
            wrong = max_backward_rows(
                &dx[0, 0, 0, 0], &dy[0, 0, 0, 0], &large[0, 0, 0, 0], &g, threads
            )
    return wrong
