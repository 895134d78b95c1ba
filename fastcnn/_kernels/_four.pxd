# The four values of a 2x2 pool window, which are in registers: ReLU or another activation, then the
# largest.
from fastcnn._kernels._finish cimport Finish
from fastcnn._kernels._types cimport (
    LANES, beats, greater, load, mask, real, splat, store, vec, where,
)

cdef enum:
    ENDS = 2 * LANES            # numbers that `ends_of_four` writes


cdef inline vec largest_of_four(vec z0, vec z1, vec z2, vec z3, vec* place) noexcept nogil:
    """Return relu of the largest; `place` becomes where it was, 4 where ReLU made it zero."""
    cdef vec at = splat(0), zero = splat(0)
    cdef mask won = beats(z1, z0)
    z0 = where(won, z1, z0)
    at = where(won, splat(1), at)
    won = beats(z2, z0)
    z0 = where(won, z2, z0)
    at = where(won, splat(2), at)
    won = beats(z3, z0)
    z0 = where(won, z3, z0)
    at = where(won, splat(3), at)
    won = beats(z0, zero)
    place[0] = where(won, at, splat(4))
    return where(won, z0, zero)


# Any other activation falls and then rises, or only rises: the largest of a window is that of the
# largest number or that of the smallest. So two of four are computed.


cdef inline void ends_of_four(real* ends, vec z0, vec z1, vec z2, vec z3) noexcept nogil:
    """Write the largest, which is a NaN if there is one, and the smallest."""
    cdef vec largest = where(beats(z1, z0), z1, z0), smallest = where(greater(z0, z1), z1, z0)
    largest = where(beats(z2, largest), z2, largest)
    smallest = where(greater(smallest, z2), z2, smallest)
    store(ends, where(beats(z3, largest), z3, largest))
    store(ends + LANES, where(greater(smallest, z3), z3, smallest))


cdef inline vec larger_end(const real* ends) noexcept nogil:
    """Return the larger of such two, when the activation was applied to them."""
    cdef vec best = load(ends), other = load(ends + LANES)
    return where(beats(other, best), other, best)
