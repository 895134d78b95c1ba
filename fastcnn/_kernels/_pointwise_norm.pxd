# What a 1x1 convolution + batch normalization + ReLU multiplies backward: see pointwise_norm.pyx.
from libc.string cimport memset

from fastcnn._kernels._types cimport LANES, beats, load, real, splat, store, vec, where


cdef inline void keep_alive(
    real* to, double* totals, real* sums, const real* dy, const real* y, Py_ssize_t count,
    Py_ssize_t K
) noexcept nogil:
    """Write dy where y is above zero, and add it up; sums is room for K numbers."""
    cdef Py_ssize_t m = 0, k
    cdef vec v0, v1, zero = splat(0)
    memset(sums, 0, K * sizeof(real))
    while m + 2 <= count:
        k = 0
        while k < K:
            v0 = where(beats(load(y + k), zero), load(dy + k), zero)
            v1 = where(beats(load(y + K + k), zero), load(dy + K + k), zero)
            store(to + k, v0)
            store(to + K + k, v1)
            v0 = v0 + v1
            v0 = v0 + load(sums + k)
            store(sums + k, v0)
            k += LANES
        to, dy, y, m = to + 2 * K, dy + 2 * K, y + 2 * K, m + 2
    if m < count:
        k = 0
        while k < K:
            v0 = where(beats(load(y + k), zero), load(dy + k), zero)
            store(to + k, v0)
            v0 = v0 + load(sums + k)
            store(sums + k, v0)
            k += LANES
    for k in range(K):
        totals[k] += sums[k]


cdef inline void centered(
    real* to, const real* x, const real* center, Py_ssize_t count, Py_ssize_t C
) noexcept nogil:
    cdef Py_ssize_t m, c
    for m in range(count):
        for c in range(C):
            to[m * C + c] = x[m * C + c] - center[c]
