# Winograd's convolution where all transformed weights stay in L2, and so, mostly, of few channels.
#
# Its products are so short that waiting for memory would take almost as long: what comes next is
# fetched between them. For the letters see winograd.pyx.
from fastcnn._kernels._tile cimport first_vector
from fastcnn._kernels._types cimport LANES, VECTORS, prefetch, prefetch_to_write, real
from fastcnn._kernels._winograd cimport POINTS
from fastcnn._kernels._winograd_plan cimport (
    OUT, Geometry, Place, end_with, first_with, weights_size,
)
from fastcnn._kernels._winograd_tile cimport FEW_ROWS, MANY_ROWS, TILE, products


cdef struct Strip:
    Py_ssize_t start, point, channel    # in u: where it begins, to the next point, channel
    Py_ssize_t lanes                    # of one vector or two


cdef inline Py_ssize_t strips_of(
    const Geometry* g, Py_ssize_t k, Py_ssize_t k_end, Strip* strips
) noexcept nogil:
    """Find the strips of weights for filters k to k_end, whole vectors; return how many."""
    cdef Py_ssize_t panel = 0, first, end, width, count = 0
    while k < k_end:
        while first_vector(g.K, panel + 1) * LANES <= k:
            panel += 1
        first, end = first_vector(g.K, panel) * LANES, first_vector(g.K, panel + 1) * LANES
        width = end - first
        strips[count].start = weights_size(first, panel, g.C) + k - first
        strips[count].point = g.C * width + LANES
        strips[count].channel = width
        strips[count].lanes = min(2 * LANES, min(end, k_end) - k)
        k += strips[count].lanes
        count += 1
    return count


cdef inline void multiply_few(
    const Geometry* g, Py_ssize_t e, const Strip* strips, Py_ssize_t count, Py_ssize_t first_tile,
    Py_ssize_t tiles, const real* u, const real* v, real* m,
) noexcept nogil:
    """Write the products of point e of some tiles to m, for the filters of some strips."""
    cdef Py_ssize_t t_start = max(0, first_with(g, e) - first_tile)
    cdef Py_ssize_t t_end = min(tiles, end_with(g, e) - first_tile)
    cdef Py_ssize_t t, row, rows, i
    cdef const Strip* strip
    if VECTORS < 4:     # no row twice: m may lie where v did
        t_start -= t_start % FEW_ROWS
    for i in range(count):
        strip = strips + i
        t = t_start
        while t < t_end:
            rows = MANY_ROWS if VECTORS >= 4 and t_end - t > FEW_ROWS else FEW_ROWS
            # The last rows may be again those of tiles before, or of some without this point.
            row = e * LANES + min(t, g.block - rows) * TILE
            products(rows, strip.lanes > LANES, m + row, g.vector_m, v + row, g.vector_v,
                     u + strip.start + e * strip.point, strip.channel, g.C)
            t += rows
        m += strip.lanes // LANES * g.vector_m


cdef inline void fetch(const Geometry* g, Py_ssize_t e, Py_ssize_t tiles, Py_ssize_t following,
                       const Place* place, const Place* next_, const real* x,
                       real* y) noexcept nogil:
    """Fetch rows of what the tiles of a block write, and of what those that follow them read.

    It is the part of them that comes with point e, so that memory is busy all the time.
    """
    cdef Py_ssize_t i, j, t, row
    for i in range(2 * OUT * tiles * e // POINTS, 2 * OUT * tiles * (e + 1) // POINTS):
        t, row, j = i // (2 * OUT), i % OUT, 0
        if i % (2 * OUT) < OUT and g.argmax is NULL:
            row = (place[t].n * g.P + place[t].p + row) * g.Q + place[t].q
            while j < OUT * g.K:
                prefetch_to_write(y + row * g.K + j)
                j += 64 // sizeof(real)
        elif i % (2 * OUT) >= OUT and t < following:
            # The pixels that no tile before it reads, beside it or above.
            row = (next_[t].n * g.H + next_[t].p + 2 - g.pad_top + row) * g.W
            row += next_[t].q + 2 - g.pad_left
            while j < OUT * g.C:
                prefetch(x + row * g.C + j)
                j += 64 // sizeof(real)
