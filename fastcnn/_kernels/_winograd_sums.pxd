# The products of one point of Winograd's weight gradient: rows are channels, each of one or two
# vectors of filters, and the sum runs over tiles.
#
#     m[row] = m[row] + sum over tiles t of v[t][row] * u[t]
#
# Channels are most often multiples of eight, which the six rows of _tile.pxd do not divide. Eight
# rows of two vectors take 16 registers, or four at a time 8 of AVX2's 16. Of one vector sixteen
# rows do: eight sums would wait for each other where two additions start a cycle. The points of two
# lines of a tile lie together, for one vector of channels or filters; one more vector follows them,
# or one point of all tiles would fall into a quarter of the first cache.
from fastcnn._kernels._types cimport LANES, VECTORS, load, real, splat, store, vec

cdef enum:
    SUM_ROWS = 8

cdef extern from *:
    """
    enum { TILE_LINES = 13 * LANES };
    """
    const int TILE_LINES        # from a tile to the next


cdef inline real channel(const real* v, Py_ssize_t i, Py_ssize_t v_step) noexcept nogil:
    """Return channel i of a tile, whose vectors are v_step apart."""
    return v[i // LANES * v_step + i % LANES]


cdef inline void sums_8x2(
    real* m, real* m_1, bint fresh, const real* v, Py_ssize_t v_step,
    const real* u, const real* u_1, Py_ssize_t tiles,
) noexcept nogil:
    cdef vec c0_0 = splat(0), c0_1 = splat(0), c1_0 = splat(0), c1_1 = splat(0)
    cdef vec c2_0 = splat(0), c2_1 = splat(0), c3_0 = splat(0), c3_1 = splat(0)
    cdef vec c4_0 = splat(0), c4_1 = splat(0), c5_0 = splat(0), c5_1 = splat(0)
    cdef vec c6_0 = splat(0), c6_1 = splat(0), c7_0 = splat(0), c7_1 = splat(0)
    cdef vec b0, b1
    cdef Py_ssize_t _
    if not fresh:
        c0_0 = load(m); c0_1 = load(m_1)
        c1_0 = load(m + LANES); c1_1 = load(m_1 + LANES)
        c2_0 = load(m + 2 * LANES); c2_1 = load(m_1 + 2 * LANES)
        c3_0 = load(m + 3 * LANES); c3_1 = load(m_1 + 3 * LANES)
        c4_0 = load(m + 4 * LANES); c4_1 = load(m_1 + 4 * LANES)
        c5_0 = load(m + 5 * LANES); c5_1 = load(m_1 + 5 * LANES)
        c6_0 = load(m + 6 * LANES); c6_1 = load(m_1 + 6 * LANES)
        c7_0 = load(m + 7 * LANES); c7_1 = load(m_1 + 7 * LANES)
    for _ in range(tiles):
        b0 = load(u)
        b1 = load(u_1)
        c0_0 = c0_0 + v[0] * b0; c0_1 = c0_1 + v[0] * b1
        c1_0 = c1_0 + channel(v, 1, v_step) * b0; c1_1 = c1_1 + channel(v, 1, v_step) * b1
        c2_0 = c2_0 + channel(v, 2, v_step) * b0; c2_1 = c2_1 + channel(v, 2, v_step) * b1
        c3_0 = c3_0 + channel(v, 3, v_step) * b0; c3_1 = c3_1 + channel(v, 3, v_step) * b1
        c4_0 = c4_0 + channel(v, 4, v_step) * b0; c4_1 = c4_1 + channel(v, 4, v_step) * b1
        c5_0 = c5_0 + channel(v, 5, v_step) * b0; c5_1 = c5_1 + channel(v, 5, v_step) * b1
        c6_0 = c6_0 + channel(v, 6, v_step) * b0; c6_1 = c6_1 + channel(v, 6, v_step) * b1
        c7_0 = c7_0 + channel(v, 7, v_step) * b0; c7_1 = c7_1 + channel(v, 7, v_step) * b1
        v = v + TILE_LINES
        u = u + TILE_LINES
        u_1 = u_1 + TILE_LINES
    store(m, c0_0); store(m_1, c0_1)
    store(m + LANES, c1_0); store(m_1 + LANES, c1_1)
    store(m + 2 * LANES, c2_0); store(m_1 + 2 * LANES, c2_1)
    store(m + 3 * LANES, c3_0); store(m_1 + 3 * LANES, c3_1)
    store(m + 4 * LANES, c4_0); store(m_1 + 4 * LANES, c4_1)
    store(m + 5 * LANES, c5_0); store(m_1 + 5 * LANES, c5_1)
    store(m + 6 * LANES, c6_0); store(m_1 + 6 * LANES, c6_1)
    store(m + 7 * LANES, c7_0); store(m_1 + 7 * LANES, c7_1)


cdef inline void sums_4x2(
    real* m, real* m_1, bint fresh, const real* v, Py_ssize_t v_step,
    const real* u, const real* u_1, Py_ssize_t tiles,
) noexcept nogil:
    cdef vec c0_0 = splat(0), c0_1 = splat(0), c1_0 = splat(0), c1_1 = splat(0)
    cdef vec c2_0 = splat(0), c2_1 = splat(0), c3_0 = splat(0), c3_1 = splat(0)
    cdef vec b0, b1
    cdef Py_ssize_t _
    if not fresh:
        c0_0 = load(m); c0_1 = load(m_1)
        c1_0 = load(m + LANES); c1_1 = load(m_1 + LANES)
        c2_0 = load(m + 2 * LANES); c2_1 = load(m_1 + 2 * LANES)
        c3_0 = load(m + 3 * LANES); c3_1 = load(m_1 + 3 * LANES)
    for _ in range(tiles):
        b0 = load(u)
        b1 = load(u_1)
        c0_0 = c0_0 + v[0] * b0; c0_1 = c0_1 + v[0] * b1
        c1_0 = c1_0 + channel(v, 1, v_step) * b0; c1_1 = c1_1 + channel(v, 1, v_step) * b1
        c2_0 = c2_0 + channel(v, 2, v_step) * b0; c2_1 = c2_1 + channel(v, 2, v_step) * b1
        c3_0 = c3_0 + channel(v, 3, v_step) * b0; c3_1 = c3_1 + channel(v, 3, v_step) * b1
        v = v + TILE_LINES
        u = u + TILE_LINES
        u_1 = u_1 + TILE_LINES
    store(m, c0_0); store(m_1, c0_1)
    store(m + LANES, c1_0); store(m_1 + LANES, c1_1)
    store(m + 2 * LANES, c2_0); store(m_1 + 2 * LANES, c2_1)
    store(m + 3 * LANES, c3_0); store(m_1 + 3 * LANES, c3_1)


cdef inline void sums_8x1(
    real* m, bint fresh, const real* v, Py_ssize_t v_step,
    const real* u, Py_ssize_t tiles,
) noexcept nogil:
    cdef vec c0 = splat(0), c1 = splat(0), c2 = splat(0), c3 = splat(0)
    cdef vec c4 = splat(0), c5 = splat(0), c6 = splat(0), c7 = splat(0)
    cdef vec b
    cdef Py_ssize_t _
    if not fresh:
        c0 = load(m); c1 = load(m + LANES)
        c2 = load(m + 2 * LANES); c3 = load(m + 3 * LANES)
        c4 = load(m + 4 * LANES); c5 = load(m + 5 * LANES)
        c6 = load(m + 6 * LANES); c7 = load(m + 7 * LANES)
    for _ in range(tiles):
        b = load(u)
        c0 = c0 + v[0] * b
        c1 = c1 + channel(v, 1, v_step) * b
        c2 = c2 + channel(v, 2, v_step) * b
        c3 = c3 + channel(v, 3, v_step) * b
        c4 = c4 + channel(v, 4, v_step) * b
        c5 = c5 + channel(v, 5, v_step) * b
        c6 = c6 + channel(v, 6, v_step) * b
        c7 = c7 + channel(v, 7, v_step) * b
        v = v + TILE_LINES
        u = u + TILE_LINES
    store(m, c0); store(m + LANES, c1)
    store(m + 2 * LANES, c2); store(m + 3 * LANES, c3)
    store(m + 4 * LANES, c4); store(m + 5 * LANES, c5)
    store(m + 6 * LANES, c6); store(m + 7 * LANES, c7)


cdef inline void sums_16x1(
    real* m, bint fresh, const real* v, Py_ssize_t v_step,
    const real* u, Py_ssize_t tiles,
) noexcept nogil:
    cdef vec c0 = splat(0), c1 = splat(0), c2 = splat(0), c3 = splat(0)
    cdef vec c4 = splat(0), c5 = splat(0), c6 = splat(0), c7 = splat(0)
    cdef vec c8 = splat(0), c9 = splat(0), c10 = splat(0), c11 = splat(0)
    cdef vec c12 = splat(0), c13 = splat(0), c14 = splat(0), c15 = splat(0)
    cdef vec b
    cdef Py_ssize_t _
    if not fresh:
        c0 = load(m); c1 = load(m + LANES)
        c2 = load(m + 2 * LANES); c3 = load(m + 3 * LANES)
        c4 = load(m + 4 * LANES); c5 = load(m + 5 * LANES)
        c6 = load(m + 6 * LANES); c7 = load(m + 7 * LANES)
        c8 = load(m + 8 * LANES); c9 = load(m + 9 * LANES)
        c10 = load(m + 10 * LANES); c11 = load(m + 11 * LANES)
        c12 = load(m + 12 * LANES); c13 = load(m + 13 * LANES)
        c14 = load(m + 14 * LANES); c15 = load(m + 15 * LANES)
    for _ in range(tiles):
        b = load(u)
        c0 = c0 + v[0] * b
        c1 = c1 + channel(v, 1, v_step) * b
        c2 = c2 + channel(v, 2, v_step) * b
        c3 = c3 + channel(v, 3, v_step) * b
        c4 = c4 + channel(v, 4, v_step) * b
        c5 = c5 + channel(v, 5, v_step) * b
        c6 = c6 + channel(v, 6, v_step) * b
        c7 = c7 + channel(v, 7, v_step) * b
        c8 = c8 + channel(v, 8, v_step) * b
        c9 = c9 + channel(v, 9, v_step) * b
        c10 = c10 + channel(v, 10, v_step) * b
        c11 = c11 + channel(v, 11, v_step) * b
        c12 = c12 + channel(v, 12, v_step) * b
        c13 = c13 + channel(v, 13, v_step) * b
        c14 = c14 + channel(v, 14, v_step) * b
        c15 = c15 + channel(v, 15, v_step) * b
        v = v + TILE_LINES
        u = u + TILE_LINES
    store(m, c0); store(m + LANES, c1)
    store(m + 2 * LANES, c2); store(m + 3 * LANES, c3)
    store(m + 4 * LANES, c4); store(m + 5 * LANES, c5)
    store(m + 6 * LANES, c6); store(m + 7 * LANES, c7)
    store(m + 8 * LANES, c8); store(m + 9 * LANES, c9)
    store(m + 10 * LANES, c10); store(m + 11 * LANES, c11)
    store(m + 12 * LANES, c12); store(m + 13 * LANES, c13)
    store(m + 14 * LANES, c14); store(m + 15 * LANES, c15)


cdef inline void sums(
    bint two, real* m, Py_ssize_t m_step, bint fresh, const real* v, Py_ssize_t v_step,
    const real* u, Py_ssize_t u_step, Py_ssize_t tiles,
) noexcept nogil:
    """Add the products of SUM_ROWS channels with one or two vectors of filters; fresh sums are 0.

    The steps lead from a vector of channels or filters to the next.
    """
    if two and VECTORS >= 4:
        sums_8x2(m, m + m_step, fresh, v, v_step, u, u + u_step, tiles)
    elif two:
        sums_4x2(m, m + m_step, fresh, v, v_step, u, u + u_step, tiles)
        m, v = m + 4 * LANES, v + 4 // LANES * v_step + 4 % LANES
        sums_4x2(m, m + m_step, fresh, v, v_step, u, u + u_step, tiles)
    else:
        sums_8x1(m, fresh, v, v_step, u, tiles)
