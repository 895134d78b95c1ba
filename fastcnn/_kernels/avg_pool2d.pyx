"""Average pooling, and the mean of whole images. For the letters see _windows.pxd.

Sums run in double: what float32 rounds is the result alone.

Longer than most: it holds the mean of whole images too, and windows that lie apart have a
backward pass of their own.
"""

from cython.parallel cimport prange

from fastcnn._kernels._stream cimport past_caches, put
from fastcnn._kernels._types cimport LANES, drain, load, real, real_out, splat, vec
from fastcnn._kernels._windows cimport (
    BLOCK, FEW_CHANNELS, Pool, apart, columns_from, end_window, first_window, only_window, tap
)


cdef inline double counted(
    Py_ssize_t first, Py_ssize_t kernel, Py_ssize_t size, Py_ssize_t after
) noexcept nogil:
    """Return how many places of a window count, along one axis; `first` is in image pixels.

    `after` is the padding at the end if pads count, else -1.
    """
    if after < 0:
        return min(first + kernel, size) - max(first, 0)
    return min(kernel, size + after - first)


# ---------------------------------------------------------------- forward
cdef inline void avg_2x2(
    real_out y, const real* x_0, const real* x_1, Py_ssize_t C
) noexcept nogil:
    """One whole window of 2x2, whose rows are x_0 and x_1."""
    cdef Py_ssize_t c
    cdef double total
    for c in range(C):
        total = (<double> x_0[c] + <double> x_0[C + c]) + (<double> x_1[c] + <double> x_1[C + c])
        y[c] = <real> (total * 0.25)


cdef inline void avg_block(
    real* y, const real* x_n, Pool* g, Py_ssize_t top, Py_ssize_t left, Py_ssize_t columns,
    Py_ssize_t channels, double divisor,
) noexcept nogil:
    """Outputs whose first window starts at (top, left); y and x_n start at its first channel."""
    cdef double[BLOCK] total
    cdef double share = 1 / divisor
    cdef real[BLOCK] gathered
    cdef Py_ssize_t r_0 = max(-top, 0), r_end = min(g.R, g.H - top)
    cdef Py_ssize_t s_0 = max(-left, 0), s_end = min(g.S, g.W - left)
    cdef Py_ssize_t count = columns * channels, r, s, i
    cdef const real* x
    for i in range(count):
        total[i] = 0
    for r in range(r_0, r_end):
        s = s_0
        x = x_n + ((top + r) * g.W + left + s) * g.C
        while s < s_end:
            if s + 1 < s_end and (columns == 1 or g.stride_w == 1):
                for i in range(count):      # two at once: half the loads and stores of total
                    total[i] += <double> x[i] + <double> x[g.C + i]
                s += 2
                x += 2 * g.C
            else:
                add(total, tap(gathered, x, columns, channels, g), count)
                s += 1
                x += g.C
    if sizeof(real) == 8:
        for i in range(count):
            y[i] = <real> (total[i] / divisor)
    else:                                   # in double: the sum may be beyond float32
        for i in range(count):
            y[i] = <real> (total[i] * share)


cdef inline void add(double* total, const real* x, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        total[i] += x[i]


cdef void avg_row(
    real* y, const real* x_n, Pool* g, Py_ssize_t p, Py_ssize_t bottom, Py_ssize_t right
) noexcept nogil:
    cdef Py_ssize_t q = 0, c, columns, left, top = p * g.stride_h - g.top
    cdef double divisor, rows = counted(top, g.R, g.H, bottom)
    cdef bint rows_of_2x2 = (
        g.R == 2 and g.S == 2 and top >= 0 and top + 2 <= g.H and g.C >= FEW_CHANNELS
    )
    cdef const real* x
    while q < g.Q:
        left = q * g.stride_w - g.left
        if rows_of_2x2 and left >= 0 and left + 2 <= g.W:
            x = x_n + (top * g.W + left) * g.C
            avg_2x2(y + q * g.C, x, x + g.W * g.C, g.C)
            q += 1
            continue
        columns = columns_from(g, q)
        divisor = rows * counted(left, g.S, g.W, right)     # one for all columns of a block
        c = 0
        while c < g.C:
            avg_block(
                y + q * g.C + c, x_n + c, g, top, left, columns,
                min(<Py_ssize_t> BLOCK, g.C - c), divisor,
            )
            c += BLOCK
        q += columns


def avg_pool2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, Py_ssize_t R, Py_ssize_t S,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t bottom, Py_ssize_t right, int threads,
):
    """Pads count if bottom and right, those at the end, are not -1."""
    cdef Pool g = Pool(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2], R, S,
        stride_h, stride_w, top, left, 1, 1,
    )
    cdef Py_ssize_t row
    for row in prange(g.N * g.P, nogil=True, num_threads=threads, schedule="static"):
        avg_row(
            &y[row // g.P, row % g.P, 0, 0], &x[row // g.P, 0, 0, 0], &g, row % g.P,
            bottom, right,
        )


# ---------------------------------------------------------------- backward
cdef inline void avg_backward_windows(
    double* total, const real* dy, Pool* g, double rows, Py_ssize_t right, Py_ssize_t w,
    Py_ssize_t columns, Py_ssize_t channels,
) noexcept nogil:
    """Add what a row of outputs gives to the pixels from w on."""
    cdef Py_ssize_t q, left, i, c, to
    cdef double divisor
    for q in range(
        first_window(w, g.stride_w, g.left, g.S),
        end_window(w + columns - 1, g.stride_w, g.left, g.Q),
    ):
        left = q * g.stride_w - g.left
        divisor = rows * counted(left, g.S, g.W, right)
        for i in range(max(left, w), min(left + g.S, w + columns)):
            to = (i - w) * channels
            for c in range(channels):
                total[to + c] += dy[q * g.C + c] / divisor


cdef void avg_backward_block(
    real* dx, const real* dy_n, Pool* g, Py_ssize_t h, Py_ssize_t w, Py_ssize_t columns,
    Py_ssize_t channels, Py_ssize_t bottom, Py_ssize_t right,
) noexcept nogil:
    """Pixels from w on; dx and dy_n start at the block's first channel."""
    cdef double[BLOCK] total
    cdef Py_ssize_t p, i
    for i in range(columns * channels):
        total[i] = 0
    for p in range(
        first_window(h, g.stride_h, g.top, g.R), end_window(h, g.stride_h, g.top, g.P)
    ):
        avg_backward_windows(
            total, dy_n + p * g.Q * g.C, g, counted(p * g.stride_h - g.top, g.R, g.H, bottom),
            right, w, columns, channels,
        )
    for i in range(columns * channels):
        dx[i] = <real> total[i]


cdef void avg_backward_row(
    real* dx, const real* dy_n, Pool* g, Py_ssize_t h, Py_ssize_t bottom, Py_ssize_t right
) noexcept nogil:
    cdef Py_ssize_t columns = max(1, BLOCK // g.C), w = 0, c
    while w < g.W:
        c = 0
        while c < g.C:
            avg_backward_block(
                dx + w * g.C + c, dy_n + c, g, h, w, min(columns, g.W - w),
                min(<Py_ssize_t> BLOCK, g.C - c), bottom, right,
            )
            c += BLOCK
        w += columns


cdef inline void shares(
    real* dx, const real* dy, real divisor, Py_ssize_t C, bint streaming
) noexcept nogil:
    """Write the gradient of a pixel from its only window, of so many places; 0: it is in none."""
    cdef Py_ssize_t c = 0
    cdef Py_ssize_t places = <Py_ssize_t> divisor
    cdef vec zero = splat(<real> 0), by = splat(divisor)
    if divisor == 0:
        while c + LANES <= C:
            put(dx + c, zero, streaming)
            c += LANES
    elif places & (places - 1) == 0:            # by a power of two it is the same number, sooner
        by = splat(<real> 1 / divisor)
        while c + LANES <= C:
            put(dx + c, load(dy + c) * by, streaming)
            c += LANES
    else:
        while c + LANES <= C:
            put(dx + c, load(dy + c) / by, streaming)
            c += LANES
    while c < C:
        dx[c] = dy[c] / divisor if divisor != 0 else 0
        c += 1


cdef void avg_backward_row_apart(
    real* dx, const real* dy_n, Pool* g, Py_ssize_t h, Py_ssize_t bottom, Py_ssize_t right,
    bint streaming,
) noexcept nogil:
    cdef Py_ssize_t p = only_window(h, g.stride_h, g.top, g.R, g.P), at, w
    cdef Py_ssize_t q = g.left // g.stride_w, s = g.left % g.stride_w       # w's window and place
    cdef double rows = counted(p * g.stride_h - g.top, g.R, g.H, bottom), divisor
    for w in range(g.W):
        at, divisor = 0, 0
        if p >= 0 and q < g.Q and s < g.S:
            at = (p * g.Q + q) * g.C
            divisor = rows * counted(q * g.stride_w - g.left, g.S, g.W, right)
        shares(dx + w * g.C, dy_n + at, <real> divisor, g.C, streaming)
        s += 1
        if s == g.stride_w:
            q, s = q + 1, 0
    if streaming:
        drain()


def avg_pool2d_backward(
    real[:, :, :, ::1] dx, const real[:, :, :, ::1] dy, Py_ssize_t R, Py_ssize_t S,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t bottom, Py_ssize_t right, int threads,
):
    cdef Pool g = Pool(
        dx.shape[0], dx.shape[1], dx.shape[2], dx.shape[3], dy.shape[1], dy.shape[2], R, S,
        stride_h, stride_w, top, left, 1, 1,
    )
    cdef Py_ssize_t row
    cdef bint streaming = past_caches(&dx[0, 0, 0, 0], g.N * g.H * g.W * g.C, g.C)
    for row in prange(g.N * g.H, nogil=True, num_threads=threads, schedule="static"):
        if apart(&g) and g.C >= LANES:
            avg_backward_row_apart(
                &dx[row // g.H, row % g.H, 0, 0], &dy[row // g.H, 0, 0, 0], &g, row % g.H,
                bottom, right, streaming,
            )
        else:
            avg_backward_row(
                &dx[row // g.H, row % g.H, 0, 0], &dy[row // g.H, 0, 0, 0], &g, row % g.H,
                bottom, right,
            )


# ---------------------------------------------------------------- mean of an image
cdef enum:
    PART = 65536                # numbers in a part of an image, about


cdef inline Py_ssize_t width_of(Py_ssize_t C) noexcept nogil:
    """Return W: some pixels' channels make a row of about 128 numbers, to fill vectors."""
    return C * max(1, 128 // C)


def sizes(Py_ssize_t pixels, Py_ssize_t C):
    """Return (parts, W): the shape of an image's partial sums, by the image's shape alone."""
    cdef Py_ssize_t W = width_of(C), part = W * max(1, PART // W)
    return (pixels * C + part - 1) // part, W


cdef void sum_rows(double* total, const real* x, Py_ssize_t count, Py_ssize_t W) noexcept nogil:
    cdef Py_ssize_t i = 0, j
    for j in range(W):
        total[j] = 0
    while i < count:
        for j in range(min(W, count - i)):
            total[j] += x[i + j]
        i += W


def global_avg_pool2d(
    real[:, ::1] y, double[:, :, ::1] partial, const real[:, ::1] x, int threads
):
    """partial (N, parts, W) is room for sums; x is (N, H * W * C)."""
    cdef Py_ssize_t N = x.shape[0], C = y.shape[1], W = partial.shape[2], count = x.shape[1]
    cdef Py_ssize_t parts = partial.shape[1], part = W * max(1, PART // W), i, n, c, j
    cdef double total
    for i in prange(N * parts, nogil=True, num_threads=threads, schedule="static"):
        sum_rows(
            &partial[i // parts, i % parts, 0], &x[i // parts, i % parts * part],
            min(part, count - i % parts * part), W,
        )
    for n in range(N):
        for c in range(C):
            total = 0
            for i in range(parts):
                for j in range(W // C):
                    total += partial[n, i, j * C + c]
            y[n, c] = <real> (total / (count // C))


cdef void share_among_pixels(
    real* dx, const real* dy, real count, Py_ssize_t pixels, Py_ssize_t C
) noexcept nogil:
    cdef Py_ssize_t row = min(width_of(C), pixels * C), i
    for i in range(row):
        dx[i] = dy[i % C] / count
    for i in range(row, pixels * C):
        dx[i] = dx[i - row]


def global_avg_pool2d_backward(real[:, :, :, ::1] dx, const real[:, ::1] dy, int threads):
    cdef Py_ssize_t H = dx.shape[1], W = dx.shape[2], row
    cdef real count = <real> H * <real> W
    for row in prange(dx.shape[0] * H, nogil=True, num_threads=threads, schedule="static"):
        share_among_pixels(
            &dx[row // H, row % H, 0, 0], &dy[row // H, 0], count, W, dx.shape[3]
        )
