# Interpolation between two and four pixels; drain() after the last if streaming.
from fastcnn._kernels._stream cimport put
from fastcnn._kernels._types cimport LANES, load, real, splat, vec


cdef inline void blend_two(
    real* y, const real* a, const real* b, real a_weight, real b_weight, Py_ssize_t count,
    bint streaming,
) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef vec wa = splat(a_weight), wb = splat(b_weight)
    while i + LANES <= count:
        put(y + i, load(a + i) * wa + load(b + i) * wb, streaming)
        i += LANES
    while i < count:
        y[i] = a[i] * a_weight + b[i] * b_weight
        i += 1


cdef inline void blend_four(
    real* y, const real* a, const real* b, const real* c, const real* d, real a_weight,
    real b_weight, real c_weight, real d_weight, Py_ssize_t count, bint streaming,
) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef vec wa = splat(a_weight), wb = splat(b_weight), wc = splat(c_weight), wd = splat(d_weight)
    while i + LANES <= count:
        put(
            y + i,
            (load(a + i) * wa + load(b + i) * wb) + (load(c + i) * wc + load(d + i) * wd),
            streaming,
        )
        i += LANES
    while i < count:
        y[i] = (a[i] * a_weight + b[i] * b_weight) + (c[i] * c_weight + d[i] * d_weight)
        i += 1
