# The one-dimensional transforms of Winograd's F(4, 3), F(2, 3) and F(3, 4), on vectors.
#
# They come from the polynomials through the points 0, +-A, +-B and infinity, A = 5/8, B = 3/2
# (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). In exact arithmetic
# any points do. These keep the rounding small, 1.7 times the direct sum's in the mean where
# 0, +-1, +-2 give 3.7, and lie in pairs, which share half of each transform; A, B and their powers
# are exact in binary. F(2, 3) does without +-B.
from libc.string cimport memcpy, memset

from fastcnn._kernels._types cimport LANES, any_nonzero, load, real, splat, store, vec

cdef enum:
    SIDE = 6                    # points of a line
    POINTS = SIDE * SIDE        # of a tile


cdef inline void find_pixels(
    const real** at, Py_ssize_t side, const real* image, Py_ssize_t h, Py_ssize_t w,
    Py_ssize_t height, Py_ssize_t width, Py_ssize_t pixel, Py_ssize_t lanes, const real* end,
    const real* zeros, const real* copy_end,
) noexcept nogil:
    """Set where the side*side pixels from h, w on of an image lie; outside of it are zeros.

    What follows a pixel may be read with its last vector, and takes no part in what is kept. Only
    at the end of the array there is nothing to read: copy_end is the end of copy_of_end's.
    """
    cdef Py_ssize_t top = max(0, -h), bottom = min(side, height - h)
    cdef Py_ssize_t left = max(0, -w), right = min(side, width - w), i, j
    cdef const real* x = image + (h * width + w) * pixel
    if bottom - top == side and right - left == side:
        for i in range(side):
            for j in range(side):
                at[side * i + j] = x + (i * width + j) * pixel
    else:
        for i in range(side):
            for j in range(side):
                at[side * i + j] = zeros
                if top <= i < bottom and left <= j < right:
                    at[side * i + j] = x + (i * width + j) * pixel
    if x + ((bottom - 1) * width + right - 1) * pixel + lanes <= end:
        return
    for i in range(top, bottom):
        for j in range(left, right):
            if at[side * i + j] + lanes > end:
                at[side * i + j] = copy_end - (end - at[side * i + j])


cdef inline const real* copy_of_end(real* copy, Py_ssize_t lanes, const real* end,
                                    Py_ssize_t size) noexcept nogil:
    """Copy the last numbers of an array to where as many may be read behind them; return their end.

    copy has room for twice the lanes of a pixel.
    """
    size = min(size, lanes)
    memcpy(copy + lanes - size, end - size, size * sizeof(real))
    memset(copy + lanes, 0, lanes * sizeof(real))
    return copy + lanes


cdef inline bint is_blank(const real* pixel, Py_ssize_t channels) noexcept nogil:
    """Return whether a pixel is zero in all channels."""
    cdef Py_ssize_t c = 0
    while c + LANES <= channels:
        if any_nonzero(load(pixel + c)):
            return False
        c += LANES
    while c < channels:
        if pixel[c] != 0:
            return False
        c += 1
    return True


cdef inline unsigned short blank_outputs(const real** at, Py_ssize_t channels, bint tall,
                                         bint wide) noexcept nogil:
    """Return a bit for each of 4x4 outputs of 6x6 pixels: whether all that it sees is zero.

    A tile that is not tall or not wide is but two long.
    """
    cdef Py_ssize_t rows = 6 if tall else 4, columns = 6 if wide else 4, i, j
    cdef unsigned short blank = 0, pixels
    cdef unsigned short lines[SIDE]
    for i in range(2, rows - 2 + (not tall)):       # each output sees a pixel of the middle
        for j in range(2, columns - 2 + (not wide)):
            blank |= is_blank(at[SIDE * i + j], channels)
    if not blank:
        return 0
    blank = 0
    for i in range(rows):
        pixels = 0
        for j in range(columns):
            pixels |= is_blank(at[SIDE * i + j], channels) << j
        lines[i] = pixels & pixels >> 1 & pixels >> 2
        if i >= 2:
            blank |= (lines[i - 2] & lines[i - 1] & lines[i]) << 4 * (i - 2)
    return blank


cdef inline void transform_line(real* to, Py_ssize_t step, vec x0, vec x1, vec x2, vec x3,
                                vec x4, vec x5) noexcept nogil:
    """Write B^T x: six inputs to six points."""
    cdef real a = 0.625, b = 1.5, a2 = 0.390625, b2 = 2.25
    cdef vec even_a = x4 - b2 * x2, odd_a = a * (x3 - b2 * x1)
    cdef vec even_b = x4 - a2 * x2, odd_b = b * (x3 - a2 * x1)
    cdef real both = a2 * b2, neither = a2 + b2
    store(to, both * x0 - neither * x2 + x4)
    store(to + step, even_a + odd_a)
    store(to + 2 * step, even_a - odd_a)
    store(to + 3 * step, even_b + odd_b)
    store(to + 4 * step, even_b - odd_b)
    store(to + 5 * step, both * x1 - neither * x3 + x5)


cdef inline void transform_short_line(real* to, Py_ssize_t step, vec x0, vec x1, vec x2,
                                      vec x3) noexcept nogil:
    """Write B^T x of F(2, 3) at the points 0, +-A and infinity, to their places among the six.

    A factor makes up for what the taps' transform divides by for the sake of +-B.
    """
    cdef real a = 0.625, a2 = 0.390625, b2 = 2.25, both = a2 * b2, scale = a2 - b2
    cdef vec even = scale * x2, odd = (scale * a) * x1
    store(to, both * x0 - b2 * x2)
    store(to + step, even + odd)
    store(to + 2 * step, even - odd)
    store(to + 5 * step, x3 - a2 * x1)


cdef inline void transform_taps(real* to, Py_ssize_t step, vec w0, vec w1, vec w2) noexcept nogil:
    """Write G w: three taps to six points."""
    cdef real a = 0.625, b = 1.5, a2 = 0.390625, b2 = 2.25
    cdef real at_0 = 1 / (a2 * b2), at_a = 1 / (2 * a2 * (a2 - b2)), at_b = 1 / (2 * b2 * (b2 - a2))
    cdef vec even_a = at_a * (w0 + a2 * w2), odd_a = (at_a * a) * w1
    cdef vec even_b = at_b * (w0 + b2 * w2), odd_b = (at_b * b) * w1
    store(to, at_0 * w0)
    store(to + step, even_a + odd_a)
    store(to + 2 * step, even_a - odd_a)
    store(to + 3 * step, even_b + odd_b)
    store(to + 4 * step, even_b - odd_b)
    store(to + 5 * step, w2)


cdef inline void four_outputs(real* to, Py_ssize_t step, vec m0, vec m1, vec m2, vec m3, vec m4,
                              vec m5, vec bias) noexcept nogil:
    """Write A^T m + bias: six points to four outputs."""
    cdef real a = 0.625, b = 1.5, a2 = 0.390625, b2 = 2.25, a3 = a * a2, b3 = b * b2
    cdef vec even_a = m1 + m2, odd_a = m1 - m2, even_b = m3 + m4, odd_b = m3 - m4
    store(to, m0 + even_a + even_b + bias)
    store(to + step, a * odd_a + b * odd_b + bias)
    store(to + 2 * step, a2 * even_a + b2 * even_b + bias)
    store(to + 3 * step, a3 * odd_a + b3 * odd_b + m5 + bias)


cdef inline void two_outputs(real* to, Py_ssize_t step, vec m0, vec m1, vec m2, vec m5,
                             vec bias) noexcept nogil:
    """Write A^T m + bias: the four points of F(2, 3) to two outputs."""
    cdef real a = 0.625
    store(to, m0 + (m1 + m2) + bias)
    store(to + step, a * (m1 - m2) + m5 + bias)


cdef inline void transform_pair(real* v, Py_ssize_t point, const real** x, Py_ssize_t c, real at,
                                real other2) noexcept nogil:
    """Write the two lines of B^T x B that belong to the points +-at, for the vector at c.

    x are 6x6 pixels, given one by one; other2 is the square of the other pair.
    """
    cdef vec even_0 = load(x[24] + c) - other2 * load(x[12] + c)
    cdef vec even_1 = load(x[25] + c) - other2 * load(x[13] + c)
    cdef vec even_2 = load(x[26] + c) - other2 * load(x[14] + c)
    cdef vec even_3 = load(x[27] + c) - other2 * load(x[15] + c)
    cdef vec even_4 = load(x[28] + c) - other2 * load(x[16] + c)
    cdef vec even_5 = load(x[29] + c) - other2 * load(x[17] + c)
    cdef vec odd_0 = at * (load(x[18] + c) - other2 * load(x[6] + c))
    cdef vec odd_1 = at * (load(x[19] + c) - other2 * load(x[7] + c))
    cdef vec odd_2 = at * (load(x[20] + c) - other2 * load(x[8] + c))
    cdef vec odd_3 = at * (load(x[21] + c) - other2 * load(x[9] + c))
    cdef vec odd_4 = at * (load(x[22] + c) - other2 * load(x[10] + c))
    cdef vec odd_5 = at * (load(x[23] + c) - other2 * load(x[11] + c))
    transform_line(v, point, even_0 + odd_0, even_1 + odd_1, even_2 + odd_2,
                   even_3 + odd_3, even_4 + odd_4, even_5 + odd_5)
    transform_line(v + 6 * point, point, even_0 - odd_0, even_1 - odd_1, even_2 - odd_2,
                   even_3 - odd_3, even_4 - odd_4, even_5 - odd_5)


cdef inline void transform_end(real* v, Py_ssize_t point, const real** x,
                               Py_ssize_t c) noexcept nogil:
    """Write the line of B^T x B that belongs to 0, or to infinity if x begins a row later."""
    cdef real a2 = 0.390625, b2 = 2.25, both = a2 * b2, neither = a2 + b2
    transform_line(v, point,
                   both * load(x[0] + c) - neither * load(x[12] + c) + load(x[24] + c),
                   both * load(x[1] + c) - neither * load(x[13] + c) + load(x[25] + c),
                   both * load(x[2] + c) - neither * load(x[14] + c) + load(x[26] + c),
                   both * load(x[3] + c) - neither * load(x[15] + c) + load(x[27] + c),
                   both * load(x[4] + c) - neither * load(x[16] + c) + load(x[28] + c),
                   both * load(x[5] + c) - neither * load(x[17] + c) + load(x[29] + c))


cdef inline void transform_patch(real* v, Py_ssize_t point, const real** x,
                                 Py_ssize_t c) noexcept nogil:
    """Write B^T x B of 6x6 pixels, given one by one, for the vector at c.

    Two lines at a time stay in registers; reading the pixels again costs less than a buffer.
    """
    transform_pair(v + 6 * point, point, x, c, 0.625, 2.25)
    transform_pair(v + 18 * point, point, x, c, 1.5, 0.390625)
    transform_end(v, point, x, c)
    transform_end(v + 30 * point, point, x + 6, c)


cdef inline void transform_products(real* y, Py_ssize_t row, Py_ssize_t pixel, const real* m,
                                    Py_ssize_t point, vec bias) noexcept nogil:
    """Write A^T m A + bias: 36 points to 4x4 outputs, two lines at a time."""
    cdef real a = 0.625, b = 1.5, a2 = 0.390625, b2 = 2.25, a3 = a * a2, b3 = b * b2
    cdef const real* m1 = m + 6 * point
    cdef const real* m2 = m + 12 * point
    cdef const real* m3 = m + 18 * point
    cdef const real* m4 = m + 24 * point
    cdef const real* m5 = m + 30 * point
    cdef vec a_0, a_1, a_2, a_3, a_4, a_5, b_0, b_1, b_2, b_3, b_4, b_5
    a_0 = load(m1) + load(m2)
    b_0 = load(m3) + load(m4)
    a_1 = load(m1 + point) + load(m2 + point)
    b_1 = load(m3 + point) + load(m4 + point)
    a_2 = load(m1 + 2 * point) + load(m2 + 2 * point)
    b_2 = load(m3 + 2 * point) + load(m4 + 2 * point)
    a_3 = load(m1 + 3 * point) + load(m2 + 3 * point)
    b_3 = load(m3 + 3 * point) + load(m4 + 3 * point)
    a_4 = load(m1 + 4 * point) + load(m2 + 4 * point)
    b_4 = load(m3 + 4 * point) + load(m4 + 4 * point)
    a_5 = load(m1 + 5 * point) + load(m2 + 5 * point)
    b_5 = load(m3 + 5 * point) + load(m4 + 5 * point)
    four_outputs(y, pixel, load(m) + a_0 + b_0, load(m + point) + a_1 + b_1,
                 load(m + 2 * point) + a_2 + b_2, load(m + 3 * point) + a_3 + b_3,
                 load(m + 4 * point) + a_4 + b_4, load(m + 5 * point) + a_5 + b_5, bias)
    four_outputs(y + 2 * row, pixel, a2 * a_0 + b2 * b_0, a2 * a_1 + b2 * b_1,
                 a2 * a_2 + b2 * b_2, a2 * a_3 + b2 * b_3,
                 a2 * a_4 + b2 * b_4, a2 * a_5 + b2 * b_5, bias)
    a_0 = load(m1) - load(m2)
    b_0 = load(m3) - load(m4)
    a_1 = load(m1 + point) - load(m2 + point)
    b_1 = load(m3 + point) - load(m4 + point)
    a_2 = load(m1 + 2 * point) - load(m2 + 2 * point)
    b_2 = load(m3 + 2 * point) - load(m4 + 2 * point)
    a_3 = load(m1 + 3 * point) - load(m2 + 3 * point)
    b_3 = load(m3 + 3 * point) - load(m4 + 3 * point)
    a_4 = load(m1 + 4 * point) - load(m2 + 4 * point)
    b_4 = load(m3 + 4 * point) - load(m4 + 4 * point)
    a_5 = load(m1 + 5 * point) - load(m2 + 5 * point)
    b_5 = load(m3 + 5 * point) - load(m4 + 5 * point)
    four_outputs(y + row, pixel, a * a_0 + b * b_0, a * a_1 + b * b_1,
                 a * a_2 + b * b_2, a * a_3 + b * b_3,
                 a * a_4 + b * b_4, a * a_5 + b * b_5, bias)
    four_outputs(y + 3 * row, pixel, a3 * a_0 + b3 * b_0 + load(m5),
                 a3 * a_1 + b3 * b_1 + load(m5 + point),
                 a3 * a_2 + b3 * b_2 + load(m5 + 2 * point),
                 a3 * a_3 + b3 * b_3 + load(m5 + 3 * point),
                 a3 * a_4 + b3 * b_4 + load(m5 + 4 * point),
                 a3 * a_5 + b3 * b_5 + load(m5 + 5 * point), bias)


# Tiles that are two long down or across are few. Their columns are transformed into t, then the
# lines of t.


cdef inline void transform_short_patch(real* v, Py_ssize_t point, const real** x, Py_ssize_t c,
                                       bint tall, bint wide, real* t) noexcept nogil:
    """Write B^T x B of 6x4, 4x6 or 4x4 pixels, given one by one, for the vector at c."""
    cdef Py_ssize_t i, line = SIDE * LANES
    for i in range(6 if wide else 4):
        if tall:
            transform_line(t + i * LANES, line, load(x[i] + c), load(x[6 + i] + c),
                           load(x[12 + i] + c), load(x[18 + i] + c), load(x[24 + i] + c),
                           load(x[30 + i] + c))
        else:
            transform_short_line(t + i * LANES, line, load(x[i] + c), load(x[6 + i] + c),
                                 load(x[12 + i] + c), load(x[18 + i] + c))
    for i in range(SIDE):
        if wide and (tall or i < 3 or i > 4):
            transform_line(v + 6 * i * point, point, load(t), load(t + LANES),
                           load(t + 2 * LANES), load(t + 3 * LANES), load(t + 4 * LANES),
                           load(t + 5 * LANES))
        elif tall or i < 3 or i > 4:
            transform_short_line(v + 6 * i * point, point, load(t), load(t + LANES),
                                 load(t + 2 * LANES), load(t + 3 * LANES))
        t += line


cdef inline void transform_short_products(
    real* y, Py_ssize_t row, Py_ssize_t pixel, const real* m, Py_ssize_t point, bint tall,
    bint wide, vec bias, real* t,
) noexcept nogil:
    """Write A^T m A + bias: the points of such a tile to 4x2, 2x4 or 2x2 outputs."""
    cdef Py_ssize_t i, line = SIDE * LANES, down = 6 * point
    cdef vec none = splat(0)
    for i in range(SIDE):
        if tall and (wide or i < 3 or i > 4):
            four_outputs(t + i * LANES, line, load(m), load(m + down), load(m + 2 * down),
                         load(m + 3 * down), load(m + 4 * down), load(m + 5 * down), none)
        elif wide or i < 3 or i > 4:
            two_outputs(t + i * LANES, line, load(m), load(m + down), load(m + 2 * down),
                        load(m + 5 * down), none)
        m += point
    for i in range(4 if tall else 2):
        if wide:
            four_outputs(y + i * row, pixel, load(t), load(t + LANES), load(t + 2 * LANES),
                         load(t + 3 * LANES), load(t + 4 * LANES), load(t + 5 * LANES), bias)
        else:
            two_outputs(y + i * row, pixel, load(t), load(t + LANES), load(t + 2 * LANES),
                        load(t + 5 * LANES), bias)
        t += line


# Of F(3, 4), whose taps are four gradients and whose outputs are three gradients of weights, G has
# no factors: they wait in A, where they are applied once a sum and not once a tile.


cdef inline void gradient_line(real* to, Py_ssize_t step, vec d0, vec d1, vec d2,
                               vec d3) noexcept nogil:
    """Write G d: four gradients to six points."""
    cdef real a = 0.625, b = 1.5, a2 = 0.390625, b2 = 2.25
    cdef vec even_a = d0 + a2 * d2, odd_a = a * (d1 + a2 * d3)
    cdef vec even_b = d0 + b2 * d2, odd_b = b * (d1 + b2 * d3)
    store(to, d0)
    store(to + step, even_a + odd_a)
    store(to + 2 * step, even_a - odd_a)
    store(to + 3 * step, even_b + odd_b)
    store(to + 4 * step, even_b - odd_b)
    store(to + 5 * step, d3)


cdef inline void gradient_pair(real* u, Py_ssize_t point, const real** d, Py_ssize_t k, real at,
                               real at2) noexcept nogil:
    """Write the two lines of G d G^T that belong to the points +-at, for the vector at k.

    d are 4x4 pixels, given one by one.
    """
    cdef vec even_0 = load(d[0] + k) + at2 * load(d[8] + k)
    cdef vec even_1 = load(d[1] + k) + at2 * load(d[9] + k)
    cdef vec even_2 = load(d[2] + k) + at2 * load(d[10] + k)
    cdef vec even_3 = load(d[3] + k) + at2 * load(d[11] + k)
    cdef vec odd_0 = at * (load(d[4] + k) + at2 * load(d[12] + k))
    cdef vec odd_1 = at * (load(d[5] + k) + at2 * load(d[13] + k))
    cdef vec odd_2 = at * (load(d[6] + k) + at2 * load(d[14] + k))
    cdef vec odd_3 = at * (load(d[7] + k) + at2 * load(d[15] + k))
    gradient_line(u, point, even_0 + odd_0, even_1 + odd_1, even_2 + odd_2, even_3 + odd_3)
    gradient_line(u + 6 * point, point, even_0 - odd_0, even_1 - odd_1, even_2 - odd_2,
                  even_3 - odd_3)


cdef inline void gradient_end(real* u, Py_ssize_t point, const real** d,
                              Py_ssize_t k) noexcept nogil:
    """Write the line of G d G^T that belongs to 0, or to infinity if d begins at the last row."""
    gradient_line(u, point, load(d[0] + k), load(d[1] + k), load(d[2] + k), load(d[3] + k))


cdef inline void three_outputs(real* to, Py_ssize_t step, vec m0, vec m1, vec m2, vec m3, vec m4,
                               vec m5) noexcept nogil:
    """Write A^T m: six points to three gradients of weights."""
    cdef real a = 0.625, b = 1.5, a2 = 0.390625, b2 = 2.25
    cdef real at_0 = 1 / (a2 * b2), at_a = 1 / (2 * a2 * (a2 - b2)), at_b = 1 / (2 * b2 * (b2 - a2))
    cdef vec even_a = at_a * (m1 + m2), odd_a = at_a * (m1 - m2)
    cdef vec even_b = at_b * (m3 + m4), odd_b = at_b * (m3 - m4)
    store(to, at_0 * m0 + even_a + even_b)
    store(to + step, a * odd_a + b * odd_b)
    store(to + 2 * step, a2 * even_a + b2 * even_b + m5)
