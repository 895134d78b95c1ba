# The input gradient of a 3x3 convolution of stride 1 in front of a 2x2 pool.
#
# The four windows that a pooled pixel may have won lie in one patch of 4x4 pixels. A vector of its
# channels, 16 registers, gathers what the winners of all four places give.
from libc.stdint cimport int32_t, uint64_t

from fastcnn._kernels._types cimport LANES, load, lowest_bit, real, store, vec
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


cdef inline void add_filters_to_patch(
    real* dx, Py_ssize_t row, Py_ssize_t pixel, const real* filters, const real* value,
    const uint64_t* winners, Py_ssize_t words,
) noexcept nogil:
    """Add to a vector of channels of the patch at dx; filters is [k][nine vectors]."""
    cdef real* dx_1 = dx + row
    cdef real* dx_2 = dx_1 + row
    cdef real* dx_3 = dx_2 + row
    cdef Py_ssize_t word, size = 9 * LANES
    cdef vec a0 = load(dx), a1 = load(dx + pixel)
    cdef vec a2 = load(dx + 2 * pixel), a3 = load(dx + 3 * pixel)
    cdef vec b0 = load(dx_1), b1 = load(dx_1 + pixel)
    cdef vec b2 = load(dx_1 + 2 * pixel), b3 = load(dx_1 + 3 * pixel)
    cdef vec c0 = load(dx_2), c1 = load(dx_2 + pixel)
    cdef vec c2 = load(dx_2 + 2 * pixel), c3 = load(dx_2 + 3 * pixel)
    cdef vec d0 = load(dx_3), d1 = load(dx_3 + pixel)
    cdef vec d2 = load(dx_3 + 2 * pixel), d3 = load(dx_3 + 3 * pixel)
    for word in range(words):
        gather(&a0, &a1, &a2, &b0, &b1, &b2, &c0, &c1, &c2, filters, value,
               winners[word], size)
        gather(&a1, &a2, &a3, &b1, &b2, &b3, &c1, &c2, &c3, filters, value,
               winners[words + word], size)
        gather(&b0, &b1, &b2, &c0, &c1, &c2, &d0, &d1, &d2, filters, value,
               winners[2 * words + word], size)
        gather(&b1, &b2, &b3, &c1, &c2, &c3, &d1, &d2, &d3, filters, value,
               winners[3 * words + word], size)
        filters += WORD * size
        value += WORD
    store(dx, a0); store(dx + pixel, a1); store(dx + 2 * pixel, a2); store(dx + 3 * pixel, a3)
    store(dx_1, b0); store(dx_1 + pixel, b1)
    store(dx_1 + 2 * pixel, b2); store(dx_1 + 3 * pixel, b3)
    store(dx_2, c0); store(dx_2 + pixel, c1)
    store(dx_2 + 2 * pixel, c2); store(dx_2 + 3 * pixel, c3)
    store(dx_3, d0); store(dx_3 + pixel, d1)
    store(dx_3 + 2 * pixel, d2); store(dx_3 + 3 * pixel, d3)


cdef inline void backward_patches(
    const Geometry* g, real* dx, const real* dy, const real* filters, const int32_t* windows,
    const uint64_t* winners,
) noexcept nogil:
    """Add an image's gradient to dx, a vector of the channels of a patch at a time."""
    cdef Py_ssize_t c = 0, pixel, row = g.columns * g.C
    while c < g.C:
        for pixel in range(g.P * g.Q):
            add_filters_to_patch(
                dx + windows[5 * pixel] + c, row, g.C, filters + c * 9 * g.K, dy + pixel * g.K,
                winners + 4 * pixel * g.words, g.words)
        c += LANES
