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
    """Write the largest and the smallest; a NaN is one of the two, if there is one."""
    cdef mask won = greater(z1, z0)         # a NaN of z1 is low then, of z0 high
    cdef vec high = where(won, z1, z0), low = where(won, z0, z1), high2, low2
    won = beats(z3, z2)                     # a NaN is high
    high2 = where(won, z3, z2)
    low2 = where(won, z2, z3)
    store(ends, where(beats(high2, high), high2, high))
    store(ends + LANES, where(greater(low, low2), low2, low))


cdef inline vec larger_end(const real* ends) noexcept nogil:
    """Return the larger of such two, when the activation was applied to them."""
    cdef vec best = load(ends), other = load(ends + LANES)
    return where(beats(other, best), other, best)
