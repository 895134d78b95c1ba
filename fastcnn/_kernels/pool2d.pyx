"""Pooling over windows: maximum, mean, and the mean of a whole image.

N batch; H W input height and width; C channels; P Q output height and width; R S window height
and width. A window is cut to the pixels inside the image. Forward passes gather, and so do the
backward ones: a pixel adds up, in order, what the windows over it give. So rows of y and of dx
are independent of each other and go to the threads as they are.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t, uint8_t

from fastcnn._kernels._types cimport real

cdef enum:
    BLOCK = 128                 # channels whose running results lie on the stack

ctypedef fused place_t:         # a place r*S + s in a window
    uint8_t
    int32_t


cdef struct Pool:
    Py_ssize_t N, H, W, C, P, Q, R, S
    Py_ssize_t stride_h, stride_w, top, left    # top, left: padding


cdef inline Py_ssize_t first_window(
    Py_ssize_t i, Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t kernel
) noexcept nogil:
    """Return the first output whose window holds pixel i, along one axis."""
    return 0 if i + pad < kernel else (i + pad - kernel) // stride + 1


cdef inline Py_ssize_t end_window(
    Py_ssize_t i, Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t count
) noexcept nogil:
    """Return one past the last output whose window holds pixel i, along one axis."""
    return min((i + pad) // stride + 1, count)


# ---------------------------------------------------------------- maximum
# Windows are walked from their last pixel to their first: an equal value takes over, so the
# first maximum in row-major order wins, and so does the first NaN.
cdef inline bint takes_over(real v, real best) noexcept nogil:
    return (v >= best) | (v != v)


cdef inline void max_2x2(
    real* y, place_t* argmax, const real* x_0, const real* x_1, Py_ssize_t C
) noexcept nogil:
    """One whole window of 2x2: x_0 and x_1 are its rows."""
    cdef Py_ssize_t c
    cdef place_t place
    cdef real best, v
    for c in range(C):
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


cdef inline void max_window(
    real* y, place_t* argmax, const real* x_n, Pool* g, Py_ssize_t p, Py_ssize_t q
) noexcept nogil:
    """Any window, the channels of a block at a time."""
    cdef real[BLOCK] best
    cdef int32_t[BLOCK] places
    cdef Py_ssize_t top = p * g.stride_h - g.top, left = q * g.stride_w - g.left
    cdef Py_ssize_t h_0 = max(top, 0), h_last = min(top + g.R, g.H) - 1
    cdef Py_ssize_t w_0 = max(left, 0), w_last = min(left + g.S, g.W) - 1
    cdef Py_ssize_t block = 0, count, c, h, w
    cdef const real* x
    cdef int32_t place
    while block < g.C:
        count = min(<Py_ssize_t> BLOCK, g.C - block)
        for h in range(h_last, h_0 - 1, -1):
            for w in range(w_last, w_0 - 1, -1):
                x = x_n + (h * g.W + w) * g.C + block
                place = <int32_t> ((h - top) * g.S + w - left)
                if h == h_last and w == w_last:
                    for c in range(count):
                        best[c] = x[c]
                        places[c] = place
                else:
                    for c in range(count):
                        places[c] = place if takes_over(x[c], best[c]) else places[c]
                        best[c] = x[c] if takes_over(x[c], best[c]) else best[c]
        for c in range(count):
            y[block + c] = best[c]
        for c in range(count):
            argmax[block + c] = <place_t> places[c]
        block += BLOCK


cdef void max_row(
    real* y, place_t* argmax, const real* x_n, Pool* g, Py_ssize_t p
) noexcept nogil:
    cdef Py_ssize_t q, h = p * g.stride_h - g.top, w
    cdef bint rows_of_2x2 = g.R == 2 and g.S == 2 and h >= 0 and h + 2 <= g.H
    cdef const real* x
    for q in range(g.Q):
        w = q * g.stride_w - g.left
        if rows_of_2x2 and w >= 0 and w + 2 <= g.W:
            x = x_n + (h * g.W + w) * g.C
            max_2x2(y + q * g.C, argmax + q * g.C, x, x + g.W * g.C, g.C)
        else:
            max_window(y + q * g.C, argmax + q * g.C, x_n, g, p, q)


cdef void max_rows(
    real* y, place_t* argmax, const real* x, Pool* g, int threads
) noexcept nogil:
    cdef Py_ssize_t row
    for row in prange(g.N * g.P, num_threads=threads, schedule="static"):
        max_row(
            y + row * g.Q * g.C, argmax + row * g.Q * g.C, x + row // g.P * g.H * g.W * g.C,
            g, row % g.P,
        )


def max_pool2d(
    real[:, :, :, ::1] y, argmax, const real[:, :, :, ::1] x, Py_ssize_t R, Py_ssize_t S,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left, int threads,
):
    """argmax holds uint8 or int32."""
    cdef Pool g = Pool(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2], R, S,
        stride_h, stride_w, top, left,
    )
    cdef uint8_t[:, :, :, ::1] small
    cdef int32_t[:, :, :, ::1] large
    if argmax.dtype.itemsize == 1:
        small = argmax
        with nogil:
            max_rows(&y[0, 0, 0, 0], &small[0, 0, 0, 0], &x[0, 0, 0, 0], &g, threads)
    else:
        large = argmax
        with nogil:
            max_rows(&y[0, 0, 0, 0], &large[0, 0, 0, 0], &x[0, 0, 0, 0], &g, threads)


cdef inline bint is_place(
    Py_ssize_t place, Pool* g, Py_ssize_t top, Py_ssize_t left
) noexcept nogil:
    """Return whether a place lies in the window that starts at (top, left) and in the image."""
    cdef Py_ssize_t h = top + place // g.S, w = left + place % g.S
    return 0 <= place < g.R * g.S and 0 <= h < g.H and 0 <= w < g.W


cdef Py_ssize_t wrong_places(const place_t* argmax, Pool* g, Py_ssize_t p) noexcept nogil:
    """Return how many of a row of output are no place of their window."""
    cdef Py_ssize_t top = p * g.stride_h - g.top, left, q, c, wrong = 0
    cdef Py_ssize_t places = g.R * g.S
    for q in range(g.Q):
        left = q * g.stride_w - g.left
        if top >= 0 and left >= 0 and top + g.R <= g.H and left + g.S <= g.W:
            for c in range(q * g.C, (q + 1) * g.C):
                wrong += argmax[c] < 0 or argmax[c] >= places
        else:
            for c in range(q * g.C, (q + 1) * g.C):
                wrong += not is_place(argmax[c], g, top, left)
    return wrong


cdef void max_backward_row(
    real* dx, const real* dy_n, const place_t* argmax_n, Pool* g, Py_ssize_t h
) noexcept nogil:
    cdef Py_ssize_t p_0 = first_window(h, g.stride_h, g.top, g.R)
    cdef Py_ssize_t p_end = end_window(h, g.stride_h, g.top, g.P)
    cdef Py_ssize_t q_0 = 0, q_end = 0, p, q, w, c
    cdef const real* dy
    cdef const place_t* argmax
    cdef place_t place
    for w in range(g.W):
        while q_0 * g.stride_w + g.S <= w + g.left:
            q_0 += 1
        while q_end < g.Q and q_end * g.stride_w <= w + g.left:
            q_end += 1
        if p_0 >= p_end or q_0 >= q_end:
            for c in range(g.C):
                dx[c] = 0
        for p in range(p_0, p_end):
            for q in range(q_0, q_end):
                dy = dy_n + (p * g.Q + q) * g.C
                argmax = argmax_n + (p * g.Q + q) * g.C
                place = <place_t> (
                    (h - p * g.stride_h + g.top) * g.S + w - q * g.stride_w + g.left
                )
                if p == p_0 and q == q_0:
                    for c in range(g.C):
                        dx[c] = dy[c] if argmax[c] == place else 0
                else:
                    for c in range(g.C):
                        dx[c] += dy[c] if argmax[c] == place else 0
        dx += g.C


cdef Py_ssize_t max_backward_rows(
    real* dx, const real* dy, const place_t* argmax, Pool* g, int threads
) noexcept nogil:
    """Return how many places are wrong; only where none is, dx is written."""
    cdef Py_ssize_t row, wrong = 0, y_n = g.P * g.Q * g.C
    for row in prange(g.N * g.P, num_threads=threads, schedule="static"):
        wrong += wrong_places(argmax + row * g.Q * g.C, g, row % g.P)
    if wrong:
        return wrong
    for row in prange(g.N * g.H, num_threads=threads, schedule="static"):
        max_backward_row(
            dx + row * g.W * g.C, dy + row // g.H * y_n, argmax + row // g.H * y_n, g, row % g.H
        )
    return 0


def max_pool2d_backward(
    real[:, :, :, ::1] dx, const real[:, :, :, ::1] dy, argmax, Py_ssize_t R, Py_ssize_t S,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left, int threads,
):
    """Return how many entries of argmax are no place of their window: dx counts if none is."""
    cdef Pool g = Pool(
        dx.shape[0], dx.shape[1], dx.shape[2], dx.shape[3], dy.shape[1], dy.shape[2], R, S,
        stride_h, stride_w, top, left,
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


# ---------------------------------------------------------------- mean
cdef inline double counted(
    Py_ssize_t first, Py_ssize_t kernel, Py_ssize_t size, Py_ssize_t after
) noexcept nogil:
    """Return how many places of a window count, along one axis; `first` is in image pixels.

    `after` is the padding there if pads count, else -1.
    """
    if after < 0:
        return min(first + kernel, size) - max(first, 0)
    return min(kernel, size + after - first)


cdef void avg_window(
    real* y, const real* x_n, Pool* g, Py_ssize_t top, Py_ssize_t left, real count
) noexcept nogil:
    cdef double[BLOCK] total
    cdef Py_ssize_t h_0 = max(top, 0), h_end = min(top + g.R, g.H)
    cdef Py_ssize_t w_0 = max(left, 0), w_end = min(left + g.S, g.W)
    cdef Py_ssize_t block = 0, channels, c, h, _
    cdef const real* x
    while block < g.C:
        channels = min(<Py_ssize_t> BLOCK, g.C - block)
        for c in range(channels):
            total[c] = 0
        for h in range(h_0, h_end):
            x = x_n + (h * g.W + w_0) * g.C + block
            for _ in range((w_end - w_0) // 2):         # in pairs: half the loads of `total`
                for c in range(channels):
                    total[c] += <double> x[c] + <double> x[g.C + c]
                x += 2 * g.C
            if (w_end - w_0) % 2:
                for c in range(channels):
                    total[c] += x[c]
        for c in range(channels):
            y[block + c] = <real> total[c] / count
        block += BLOCK


cdef void avg_row(
    real* y, const real* x_n, Pool* g, Py_ssize_t p, Py_ssize_t bottom, Py_ssize_t right
) noexcept nogil:
    cdef Py_ssize_t q, left, top = p * g.stride_h - g.top
    cdef double rows = counted(top, g.R, g.H, bottom)
    for q in range(g.Q):
        left = q * g.stride_w - g.left
        avg_window(
            y + q * g.C, x_n, g, top, left, <real> (rows * counted(left, g.S, g.W, right))
        )


def avg_pool2d(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, Py_ssize_t R, Py_ssize_t S,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t bottom, Py_ssize_t right, int threads,
):
    """Pads count if bottom and right, those after the image, are not -1."""
    cdef Pool g = Pool(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2], R, S,
        stride_h, stride_w, top, left,
    )
    cdef Py_ssize_t row
    for row in prange(g.N * g.P, nogil=True, num_threads=threads, schedule="static"):
        avg_row(
            &y[0, 0, 0, 0] + row * g.Q * g.C, &x[row // g.P, 0, 0, 0], &g, row % g.P,
            bottom, right,
        )


cdef inline void add_share(
    double* total, const real* dy, double count, Py_ssize_t channels
) noexcept nogil:
    cdef Py_ssize_t c
    cdef double inverse = 1 / count
    if sizeof(real) == 8:
        for c in range(channels):
            total[c] += dy[c] / count
    else:                               # what the product loses is lost in rounding to float
        for c in range(channels):
            total[c] += dy[c] * inverse


cdef void avg_backward_row(
    real* dx, const real* dy_n, Pool* g, Py_ssize_t h, Py_ssize_t bottom, Py_ssize_t right
) noexcept nogil:
    cdef double[BLOCK] total
    cdef Py_ssize_t p_0 = first_window(h, g.stride_h, g.top, g.R)
    cdef Py_ssize_t p_end = end_window(h, g.stride_h, g.top, g.P)
    cdef Py_ssize_t q_0 = 0, q_end = 0, p, q, w, c, block, channels
    cdef double rows
    for w in range(g.W):
        while q_0 * g.stride_w + g.S <= w + g.left:
            q_0 += 1
        while q_end < g.Q and q_end * g.stride_w <= w + g.left:
            q_end += 1
        block = 0
        while block < g.C:
            channels = min(<Py_ssize_t> BLOCK, g.C - block)
            for c in range(channels):
                total[c] = 0
            for p in range(p_0, p_end):
                rows = counted(p * g.stride_h - g.top, g.R, g.H, bottom)
                for q in range(q_0, q_end):
                    add_share(
                        total, dy_n + (p * g.Q + q) * g.C + block,
                        rows * counted(q * g.stride_w - g.left, g.S, g.W, right), channels,
                    )
            for c in range(channels):
                dx[block + c] = <real> total[c]
            block += BLOCK
        dx += g.C


def avg_pool2d_backward(
    real[:, :, :, ::1] dx, const real[:, :, :, ::1] dy, Py_ssize_t R, Py_ssize_t S,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t bottom, Py_ssize_t right, int threads,
):
    cdef Pool g = Pool(
        dx.shape[0], dx.shape[1], dx.shape[2], dx.shape[3], dy.shape[1], dy.shape[2], R, S,
        stride_h, stride_w, top, left,
    )
    cdef Py_ssize_t row
    for row in prange(g.N * g.H, nogil=True, num_threads=threads, schedule="static"):
        avg_backward_row(
            &dx[0, 0, 0, 0] + row * g.W * g.C, &dy[row // g.H, 0, 0, 0], &g, row % g.H,
            bottom, right,
        )


# ---------------------------------------------------------------- mean of an image
cdef inline Py_ssize_t pixels_in_part(Py_ssize_t C) noexcept nogil:
    return max(1, 65536 // C)


def number_of_parts(Py_ssize_t pixels, Py_ssize_t C):
    """Return into how many parts global_avg_pool2d cuts an image, by its shape alone."""
    return (pixels + pixels_in_part(C) - 1) // pixels_in_part(C)


cdef void sum_of_pixels(
    double* total, const real* x, Py_ssize_t pixels, Py_ssize_t C
) noexcept nogil:
    cdef Py_ssize_t c, _
    for c in range(C):
        total[c] = 0
    for _ in range(pixels // 4):
        for c in range(C):
            total[c] += (
                (<double> x[c] + <double> x[C + c])
                + (<double> x[2 * C + c] + <double> x[3 * C + c])
            )
        x += 4 * C
    for _ in range(pixels % 4):
        for c in range(C):
            total[c] += x[c]
        x += C


def global_avg_pool2d(
    real[:, ::1] y, double[:, :, ::1] partial, const real[:, :, ::1] x, int threads
):
    """partial (N, number_of_parts, C) is room for sums; x is (N, H * W, C)."""
    cdef Py_ssize_t N = x.shape[0], pixels = x.shape[1], C = x.shape[2]
    cdef Py_ssize_t parts = partial.shape[1], length = pixels_in_part(C), i, n, c
    cdef double total
    for i in prange(N * parts, nogil=True, num_threads=threads, schedule="static"):
        sum_of_pixels(
            &partial[i // parts, i % parts, 0], &x[i // parts, i % parts * length, 0],
            min(length, pixels - i % parts * length), C,
        )
    for n in range(N):
        for c in range(C):
            total = 0
            for i in range(parts):
                total += partial[n, i, c]
            y[n, c] = <real> (total / pixels)


cdef void share_among_pixels(
    real* dx, const real* dy, real count, Py_ssize_t pixels, Py_ssize_t C
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(C):
        dx[i] = dy[i] / count
    for i in range(C, pixels * C):
        dx[i] = dx[i - C]


def global_avg_pool2d_backward(real[:, :, :, ::1] dx, const real[:, ::1] dy, int threads):
    cdef Py_ssize_t H = dx.shape[1], W = dx.shape[2], row
    cdef real count = <real> H * <real> W
    for row in prange(dx.shape[0] * H, nogil=True, num_threads=threads, schedule="static"):
        share_among_pixels(
            &dx[row // H, row % H, 0, 0], &dy[row // H, 0], count, W, dx.shape[3]
        )
