# The types of vector.h as Cython sees them. To Cython both are float; the C compiler knows
# better. So: whole-vector expressions only, never a subscript into a vec.
cdef extern from "vector.h" nogil:
    ctypedef float real
    ctypedef float vec
    const int LANES
    const int VECTORS
    vec load(const real* p)
    void store(real* p, vec v)
