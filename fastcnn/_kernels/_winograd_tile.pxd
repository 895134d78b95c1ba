# The products of one point of Winograd's tiles with one or two vectors of filters: six rows, or
# twelve where there are registers for them, each of a tile.
#
#     m[row] = sum over channels c of v[row][c] * u[c]
#
# All points of a tile lie together, for one vector of channels or of filters, so the addresses of
# all rows are one register and constants: where channels are few, a sum is so short that pointers
# to its rows, as _tile.pxd takes them, cost as much as a tenth of it. Twelve rows read the weights
# half as often, which come from the second cache.
from fastcnn._kernels._types cimport LANES, VECTORS, load, real, splat, store, vec

cdef enum:
    FEW_ROWS = 6
    MANY_ROWS = 12

cdef extern from *:
    """
    enum { TILE = 36 * LANES };
    """
    const int TILE              # from a tile to the next: its points, for one vector


cdef inline void products_12x2(
    real* m, real* m_1, const real* v, Py_ssize_t v_step, const real* u, Py_ssize_t u_step,
    Py_ssize_t channels,
) noexcept nogil:
    cdef vec c0_0 = splat(0), c0_1 = splat(0), c1_0 = splat(0), c1_1 = splat(0)
    cdef vec c2_0 = splat(0), c2_1 = splat(0), c3_0 = splat(0), c3_1 = splat(0)
    cdef vec c4_0 = splat(0), c4_1 = splat(0), c5_0 = splat(0), c5_1 = splat(0)
    cdef vec c6_0 = splat(0), c6_1 = splat(0), c7_0 = splat(0), c7_1 = splat(0)
    cdef vec c8_0 = splat(0), c8_1 = splat(0), c9_0 = splat(0), c9_1 = splat(0)
    cdef vec c10_0 = splat(0), c10_1 = splat(0), c11_0 = splat(0), c11_1 = splat(0)
    cdef vec b0, b1
    cdef Py_ssize_t lanes, at
    while channels > 0:
        lanes = min(channels, LANES)
        for at in range(lanes):
            b0 = load(u)
            b1 = load(u + LANES)
            c0_0 = c0_0 + v[at] * b0; c0_1 = c0_1 + v[at] * b1
            c1_0 = c1_0 + v[TILE + at] * b0; c1_1 = c1_1 + v[TILE + at] * b1
            c2_0 = c2_0 + v[2 * TILE + at] * b0; c2_1 = c2_1 + v[2 * TILE + at] * b1
            c3_0 = c3_0 + v[3 * TILE + at] * b0; c3_1 = c3_1 + v[3 * TILE + at] * b1
            c4_0 = c4_0 + v[4 * TILE + at] * b0; c4_1 = c4_1 + v[4 * TILE + at] * b1
            c5_0 = c5_0 + v[5 * TILE + at] * b0; c5_1 = c5_1 + v[5 * TILE + at] * b1
            c6_0 = c6_0 + v[6 * TILE + at] * b0; c6_1 = c6_1 + v[6 * TILE + at] * b1
            c7_0 = c7_0 + v[7 * TILE + at] * b0; c7_1 = c7_1 + v[7 * TILE + at] * b1
            c8_0 = c8_0 + v[8 * TILE + at] * b0; c8_1 = c8_1 + v[8 * TILE + at] * b1
            c9_0 = c9_0 + v[9 * TILE + at] * b0; c9_1 = c9_1 + v[9 * TILE + at] * b1
            c10_0 = c10_0 + v[10 * TILE + at] * b0; c10_1 = c10_1 + v[10 * TILE + at] * b1
            c11_0 = c11_0 + v[11 * TILE + at] * b0; c11_1 = c11_1 + v[11 * TILE + at] * b1
            u = u + u_step
        v = v + v_step
        channels = channels - lanes
    store(m, c0_0); store(m_1, c0_1)
    store(m + TILE, c1_0); store(m_1 + TILE, c1_1)
    store(m + 2 * TILE, c2_0); store(m_1 + 2 * TILE, c2_1)
    store(m + 3 * TILE, c3_0); store(m_1 + 3 * TILE, c3_1)
    store(m + 4 * TILE, c4_0); store(m_1 + 4 * TILE, c4_1)
    store(m + 5 * TILE, c5_0); store(m_1 + 5 * TILE, c5_1)
    store(m + 6 * TILE, c6_0); store(m_1 + 6 * TILE, c6_1)
    store(m + 7 * TILE, c7_0); store(m_1 + 7 * TILE, c7_1)
    store(m + 8 * TILE, c8_0); store(m_1 + 8 * TILE, c8_1)
    store(m + 9 * TILE, c9_0); store(m_1 + 9 * TILE, c9_1)
    store(m + 10 * TILE, c10_0); store(m_1 + 10 * TILE, c10_1)
    store(m + 11 * TILE, c11_0); store(m_1 + 11 * TILE, c11_1)


cdef inline void products_12x1(
    real* m, const real* v, Py_ssize_t v_step, const real* u, Py_ssize_t u_step,
    Py_ssize_t channels,
) noexcept nogil:
    cdef vec c0 = splat(0), c1 = splat(0), c2 = splat(0)
    cdef vec c3 = splat(0), c4 = splat(0), c5 = splat(0)
    cdef vec c6 = splat(0), c7 = splat(0), c8 = splat(0)
    cdef vec c9 = splat(0), c10 = splat(0), c11 = splat(0)
    cdef vec b
    cdef Py_ssize_t lanes, at
    while channels > 0:
        lanes = min(channels, LANES)
        for at in range(lanes):
            b = load(u)
            c0 = c0 + v[at] * b; c1 = c1 + v[TILE + at] * b
            c2 = c2 + v[2 * TILE + at] * b; c3 = c3 + v[3 * TILE + at] * b
            c4 = c4 + v[4 * TILE + at] * b; c5 = c5 + v[5 * TILE + at] * b
            c6 = c6 + v[6 * TILE + at] * b; c7 = c7 + v[7 * TILE + at] * b
            c8 = c8 + v[8 * TILE + at] * b; c9 = c9 + v[9 * TILE + at] * b
            c10 = c10 + v[10 * TILE + at] * b; c11 = c11 + v[11 * TILE + at] * b
            u = u + u_step
        v = v + v_step
        channels = channels - lanes
    store(m, c0); store(m + TILE, c1)
    store(m + 2 * TILE, c2); store(m + 3 * TILE, c3)
    store(m + 4 * TILE, c4); store(m + 5 * TILE, c5)
    store(m + 6 * TILE, c6); store(m + 7 * TILE, c7)
    store(m + 8 * TILE, c8); store(m + 9 * TILE, c9)
    store(m + 10 * TILE, c10); store(m + 11 * TILE, c11)


cdef inline void products_6x2(
    real* m, real* m_1, const real* v, Py_ssize_t v_step, const real* u, Py_ssize_t u_step,
    Py_ssize_t channels,
) noexcept nogil:
    cdef vec c0_0 = splat(0), c0_1 = splat(0), c1_0 = splat(0), c1_1 = splat(0)
    cdef vec c2_0 = splat(0), c2_1 = splat(0), c3_0 = splat(0), c3_1 = splat(0)
    cdef vec c4_0 = splat(0), c4_1 = splat(0), c5_0 = splat(0), c5_1 = splat(0)
    cdef vec b0, b1
    cdef Py_ssize_t lanes, at
    while channels > 0:
        lanes = min(channels, LANES)
        for at in range(lanes):
            b0 = load(u)
            b1 = load(u + LANES)
            c0_0 = c0_0 + v[at] * b0; c0_1 = c0_1 + v[at] * b1
            c1_0 = c1_0 + v[TILE + at] * b0; c1_1 = c1_1 + v[TILE + at] * b1
            c2_0 = c2_0 + v[2 * TILE + at] * b0; c2_1 = c2_1 + v[2 * TILE + at] * b1
            c3_0 = c3_0 + v[3 * TILE + at] * b0; c3_1 = c3_1 + v[3 * TILE + at] * b1
            c4_0 = c4_0 + v[4 * TILE + at] * b0; c4_1 = c4_1 + v[4 * TILE + at] * b1
            c5_0 = c5_0 + v[5 * TILE + at] * b0; c5_1 = c5_1 + v[5 * TILE + at] * b1
            u = u + u_step
        v = v + v_step
        channels = channels - lanes
    store(m, c0_0); store(m_1, c0_1)
    store(m + TILE, c1_0); store(m_1 + TILE, c1_1)
    store(m + 2 * TILE, c2_0); store(m_1 + 2 * TILE, c2_1)
    store(m + 3 * TILE, c3_0); store(m_1 + 3 * TILE, c3_1)
    store(m + 4 * TILE, c4_0); store(m_1 + 4 * TILE, c4_1)
    store(m + 5 * TILE, c5_0); store(m_1 + 5 * TILE, c5_1)


cdef inline void products_6x1(
    real* m, const real* v, Py_ssize_t v_step, const real* u, Py_ssize_t u_step,
    Py_ssize_t channels,
) noexcept nogil:
    cdef vec c0 = splat(0), c1 = splat(0), c2 = splat(0)
    cdef vec c3 = splat(0), c4 = splat(0), c5 = splat(0)
    cdef vec b
    cdef Py_ssize_t lanes, at
    while channels > 0:
        lanes = min(channels, LANES)
        for at in range(lanes):
            b = load(u)
            c0 = c0 + v[at] * b; c1 = c1 + v[TILE + at] * b
            c2 = c2 + v[2 * TILE + at] * b; c3 = c3 + v[3 * TILE + at] * b
            c4 = c4 + v[4 * TILE + at] * b; c5 = c5 + v[5 * TILE + at] * b
            u = u + u_step
        v = v + v_step
        channels = channels - lanes
    store(m, c0); store(m + TILE, c1)
    store(m + 2 * TILE, c2); store(m + 3 * TILE, c3)
    store(m + 4 * TILE, c4); store(m + 5 * TILE, c5)


cdef inline void products(
    Py_ssize_t rows, bint two, real* m, Py_ssize_t m_step, const real* v, Py_ssize_t v_step,
    const real* u, Py_ssize_t u_step, Py_ssize_t channels,
) noexcept nogil:
    """Write the products of one or two vectors of filters, which are m_step apart.

    The vectors of channels are v_step apart, the weights of the channels u_step.
    """
    if VECTORS >= 4 and rows == MANY_ROWS and two:
        products_12x2(m, m + m_step, v, v_step, u, u_step, channels)
    elif VECTORS >= 4 and rows == MANY_ROWS:
        products_12x1(m, v, v_step, u, u_step, channels)
    elif two:
        products_6x2(m, m + m_step, v, v_step, u, u_step, channels)
    else:
        products_6x1(m, v, v_step, u, u_step, channels)
