# The windows of an activation and a max-pool 2x2 in a tile of Winograd's convolution.
from libc.string cimport memcpy

from fastcnn._kernels._finish cimport activate
from fastcnn._kernels._four cimport ENDS, ends_of_four, larger_end
from fastcnn._kernels._types cimport (
    LANES, beats, load, real, splat, store, store_as_bytes, vec, where,
)
from fastcnn._kernels._winograd_plan cimport OUT, Geometry, Place


cdef inline void pool_window(real* y, unsigned char* argmax, const real* z, Py_ssize_t row,
                             Py_ssize_t pixel) noexcept nogil:
    """Write relu, max and argmax of a window of 2x2 outputs, for one vector of filters."""
    cdef vec best = load(z), zero = splat(0), place = zero, next_
    next_ = load(z + pixel)
    place = where(beats(next_, best), splat(1), place)
    best = where(beats(next_, best), next_, best)
    next_ = load(z + row)
    place = where(beats(next_, best), splat(2), place)
    best = where(beats(next_, best), next_, best)
    next_ = load(z + row + pixel)
    place = where(beats(next_, best), splat(3), place)
    best = where(beats(next_, best), next_, best)
    store(y, where(beats(best, zero), best, zero))
    store_as_bytes(argmax, where(beats(best, zero), place, splat(4)))


cdef inline void pool_outputs(const Geometry* g, const Place* place, Py_ssize_t k, real* y,
                              const real* z) noexcept nogil:
    """Pool the windows of one tile, for the vector of filters at k."""
    cdef Py_ssize_t lanes = min(LANES, g.K - k), i, j, at
    cdef real ragged[LANES]
    cdef unsigned char ragged_bytes[LANES]
    cdef real ends[4 * ENDS]
    cdef real* end = ends
    cdef const real* window
    if g.end.loop is not NULL:
        for i in range(2 if place.tall else 1):
            for j in range(2 if place.wide else 1):
                window = z + 2 * (i * OUT + j) * LANES
                ends_of_four(end, load(window), load(window + LANES),
                             load(window + OUT * LANES), load(window + (OUT + 1) * LANES))
                end += ENDS
        activate(&g.end, ends, end - ends)
        end = ends
    for i in range(2 if place.tall else 1):
        for j in range(2 if place.wide else 1):
            at = (place.n * g.P + place.p + 2 * i) // 2 * (g.Q // 2) + place.q // 2 + j
            at = at * g.K + k
            if g.end.loop is not NULL:
                store(ragged, larger_end(end))
                memcpy(y + at, ragged, lanes * sizeof(real))
                end += ENDS
            elif lanes == LANES:
                pool_window(y + at, g.argmax + at, z + 2 * j * LANES, OUT * LANES, LANES)
            else:
                pool_window(ragged, ragged_bytes, z + 2 * j * LANES, OUT * LANES, LANES)
                memcpy(y + at, ragged, lanes * sizeof(real))
                memcpy(g.argmax + at, ragged_bytes, lanes)
        z += 2 * OUT * LANES
