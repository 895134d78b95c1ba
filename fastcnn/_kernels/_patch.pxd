# The input gradient of a 3x3 convolution of stride 1 in front of a 2x2 pool.
#
# The four windows that a pooled pixel may have won lie in one patch of 4x4 pixels. A vector of its
# channels, 16 registers, gathers what the winners of all four places give; where there are fewer
# registers, three rows of it what those of the upper two give, or of the lower. Where windows are
# two apart the patch slides along the row, so that only two columns are new with each pixel.
from libc.stdint cimport uint64_t
from libc.string cimport memset

from fastcnn._kernels._types cimport LANES, VECTORS, load, lowest_bit, real, splat, store, vec
from fastcnn._kernels._winners cimport WORD, Geometry


cdef inline void gather(
    vec* t0, vec* t1, vec* t2, vec* t3, vec* t4, vec* t5, vec* t6, vec* t7, vec* t8,
    const real* filters, const real* value, uint64_t winners, Py_ssize_t size,
) noexcept nogil:
    """Add value[k] * filter k, nine vectors, to a window for each winner k."""
    cdef Py_ssize_t k
    cdef const real* f
    while winners:
        k = lowest_bit(winners)
        winners &= winners - 1
        f = filters + k * size
        t0[0] = t0[0] + value[k] * load(f)
        t1[0] = t1[0] + value[k] * load(f + LANES)
        t2[0] = t2[0] + value[k] * load(f + 2 * LANES)
        t3[0] = t3[0] + value[k] * load(f + 3 * LANES)
        t4[0] = t4[0] + value[k] * load(f + 4 * LANES)
        t5[0] = t5[0] + value[k] * load(f + 5 * LANES)
        t6[0] = t6[0] + value[k] * load(f + 6 * LANES)
        t7[0] = t7[0] + value[k] * load(f + 7 * LANES)
        t8[0] = t8[0] + value[k] * load(f + 8 * LANES)


cdef inline void add_to_patches(
    real* dx, Py_ssize_t row, Py_ssize_t pixel, const real* filters, const real* value,
    Py_ssize_t K, const uint64_t* winners, Py_ssize_t words, Py_ssize_t count,
    bint top_new, bint bottom_new,
) noexcept nogil:
    """Add to a vector of channels of patches from dx on, each two pixels from the last.

    filters is [k][nine vectors]. The upper or the lower two rows may be new, with nothing in them.
    """
    cdef real* dx_1 = dx + row
    cdef real* dx_2 = dx_1 + row
    cdef real* dx_3 = dx_2 + row
    cdef const real* f
    cdef const real* v
    cdef Py_ssize_t word, size = 9 * LANES
    cdef vec zero = splat(0)
    cdef vec a0 = zero, a1 = zero, a2, a3, b0 = zero, b1 = zero, b2, b3
    cdef vec c0 = zero, c1 = zero, c2, c3, d0 = zero, d1 = zero, d2, d3
    if not top_new:
        a0, a1, b0, b1 = load(dx), load(dx + pixel), load(dx_1), load(dx_1 + pixel)
    if not bottom_new:
        c0, c1, d0, d1 = load(dx_2), load(dx_2 + pixel), load(dx_3), load(dx_3 + pixel)
    for _ in range(count):
        a2, a3, b2, b3, c2, c3, d2, d3 = zero, zero, zero, zero, zero, zero, zero, zero
        if not top_new:
            a2, a3 = load(dx + 2 * pixel), load(dx + 3 * pixel)
            b2, b3 = load(dx_1 + 2 * pixel), load(dx_1 + 3 * pixel)
        if not bottom_new:
            c2, c3 = load(dx_2 + 2 * pixel), load(dx_2 + 3 * pixel)
            d2, d3 = load(dx_3 + 2 * pixel), load(dx_3 + 3 * pixel)
        f, v = filters, value
        for word in range(words):
            gather(&a0, &a1, &a2, &b0, &b1, &b2, &c0, &c1, &c2, f, v, winners[word], size)
            gather(&a1, &a2, &a3, &b1, &b2, &b3, &c1, &c2, &c3, f, v,
                   winners[words + word], size)
            gather(&b0, &b1, &b2, &c0, &c1, &c2, &d0, &d1, &d2, f, v,
                   winners[2 * words + word], size)
            gather(&b1, &b2, &b3, &c1, &c2, &c3, &d1, &d2, &d3, f, v,
                   winners[3 * words + word], size)
            f += WORD * size
            v += WORD
        store(dx, a0); store(dx + pixel, a1); store(dx_1, b0); store(dx_1 + pixel, b1)
        store(dx_2, c0); store(dx_2 + pixel, c1); store(dx_3, d0); store(dx_3 + pixel, d1)
        a0, a1, b0, b1, c0, c1, d0, d1 = a2, a3, b2, b3, c2, c3, d2, d3
        dx += 2 * pixel; dx_1 += 2 * pixel; dx_2 += 2 * pixel; dx_3 += 2 * pixel
        value += K
        winners += 4 * words
    store(dx, a0); store(dx + pixel, a1); store(dx_1, b0); store(dx_1 + pixel, b1)
    store(dx_2, c0); store(dx_2 + pixel, c1); store(dx_3, d0); store(dx_3 + pixel, d1)


cdef inline void add_to_half_patches(
    real* dx, Py_ssize_t row, Py_ssize_t pixel, const real* filters, const real* value,
    Py_ssize_t K, const uint64_t* winners, Py_ssize_t words, Py_ssize_t count,
    bint top_new, bint bottom_new,
) noexcept nogil:
    """Do the same with three rows of each patch, for the winners of two places, side by side.

    The upper two rows may be new, or the third.
    """
    cdef real* dx_1 = dx + row
    cdef real* dx_2 = dx_1 + row
    cdef const real* f
    cdef const real* v
    cdef Py_ssize_t word, size = 9 * LANES
    cdef vec zero = splat(0)
    cdef vec a0 = zero, a1 = zero, a2, a3, b0 = zero, b1 = zero, b2, b3
    cdef vec c0 = zero, c1 = zero, c2, c3
    if not top_new:
        a0, a1, b0, b1 = load(dx), load(dx + pixel), load(dx_1), load(dx_1 + pixel)
    if not bottom_new:
        c0, c1 = load(dx_2), load(dx_2 + pixel)
    for _ in range(count):
        a2, a3, b2, b3, c2, c3 = zero, zero, zero, zero, zero, zero
        if not top_new:
            a2, a3 = load(dx + 2 * pixel), load(dx + 3 * pixel)
            b2, b3 = load(dx_1 + 2 * pixel), load(dx_1 + 3 * pixel)
        if not bottom_new:
            c2, c3 = load(dx_2 + 2 * pixel), load(dx_2 + 3 * pixel)
        f, v = filters, value
        for word in range(words):
            gather(&a0, &a1, &a2, &b0, &b1, &b2, &c0, &c1, &c2, f, v, winners[word], size)
            gather(&a1, &a2, &a3, &b1, &b2, &b3, &c1, &c2, &c3, f, v,
                   winners[words + word], size)
            f += WORD * size
            v += WORD
        store(dx, a0); store(dx + pixel, a1); store(dx_1, b0); store(dx_1 + pixel, b1)
        store(dx_2, c0); store(dx_2 + pixel, c1)
        a0, a1, b0, b1, c0, c1 = a2, a3, b2, b3, c2, c3
        dx += 2 * pixel; dx_1 += 2 * pixel; dx_2 += 2 * pixel
        value += K
        winners += 4 * words
    store(dx, a0); store(dx + pixel, a1); store(dx_1, b0); store(dx_1 + pixel, b1)
    store(dx_2, c0); store(dx_2 + pixel, c1)


cdef inline void clear_unseen(const Geometry* g, real* dx) noexcept nogil:
    """Set to zero what patches two apart leave out: the pixels right of them and below."""
    cdef Py_ssize_t h, seen_h = 2 * g.P + 2, seen_w = 2 * g.Q + 2, row = g.columns * g.C
    for h in range(seen_h):
        memset(dx + h * row + seen_w * g.C, 0, (g.columns - seen_w) * g.C * sizeof(real))
    memset(dx + seen_h * row, 0, (g.rows - seen_h) * row * sizeof(real))


cdef inline void backward_patches(
    const Geometry* g, real* dx, const real* dy, const real* filters, const uint64_t* winners,
) noexcept nogil:
    """Write an image's dx, a vector of the channels of a row of patches at a time."""
    cdef bint near = g.pool_stride_h == 2 and g.pool_stride_w == 2
    cdef Py_ssize_t count = g.Q if near else 1      # of patches that slide
    cdef Py_ssize_t c = 0, pixel, row = g.columns * g.C, half = 2 * g.words
    cdef real* to
    cdef const real* f
    cdef const real* value
    cdef const uint64_t* won
    if near:
        clear_unseen(g, dx)
    else:
        memset(dx, 0, g.rows * row * sizeof(real))
    while c < g.C:
        f = filters + c * 9 * g.K
        pixel = 0
        while pixel < g.P * g.Q:
            to = dx + (pixel // g.Q * g.pool_stride_h * g.columns
                       + pixel % g.Q * g.pool_stride_w) * g.C + c
            value, won = dy + pixel * g.K, winners + 2 * pixel * half
            if VECTORS == 4:
                add_to_patches(to, row, g.C, f, value, g.K, won, g.words, count,
                               near and pixel == 0, near)
            else:
                add_to_half_patches(to, row, g.C, f, value, g.K, won, g.words, count,
                                    near and pixel == 0, near)
                add_to_half_patches(to + row, row, g.C, f, value, g.K, won + half, g.words, count,
                                    False, near)
            pixel += count
        c += LANES
