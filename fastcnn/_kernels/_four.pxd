# ReLU and the largest of the four values of a 2x2 pool window, which are in registers.
from fastcnn._kernels._types cimport beats, mask, splat, vec, where


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
