"""The limits that benchmarks report against, measured by the compiler and flags of the kernels."""

from cython.parallel cimport prange
from libc.string cimport memcpy

from fastcnn._kernels._types cimport LANES, load, real, store, vec

cdef enum:
    CHAINS = 12     # independent sums: more than latency times units of any CPU we know


cdef void multiply_add_loop(real* values, Py_ssize_t steps) noexcept nogil:
    cdef vec a = load(values), b = load(values + LANES)
    cdef vec c0 = a, c1 = a, c2 = a, c3 = a, c4 = a, c5 = a
    cdef vec c6 = b, c7 = b, c8 = b, c9 = b, c10 = b, c11 = b
    cdef Py_ssize_t i
    for i in range(steps):
        c0 = c0 * a + b; c1 = c1 * a + b; c2 = c2 * a + b; c3 = c3 * a + b
        c4 = c4 * a + b; c5 = c5 * a + b; c6 = c6 * a + b; c7 = c7 * a + b
        c8 = c8 * a + b; c9 = c9 * a + b; c10 = c10 * a + b; c11 = c11 * a + b
    store(values, ((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7)) + ((c8 + c9) + (c10 + c11)))


def multiply_add(real[:, ::1] values, Py_ssize_t steps, int threads):
    """Run chains of multiply-adds on every thread; return how many operations that was.

    values (threads, 2 * LANES or more) holds factors and takes the results. An operation is a
    multiplication or an addition of one number.
    """
    cdef Py_ssize_t t
    for t in prange(values.shape[0], nogil=True, num_threads=threads, schedule="static"):
        multiply_add_loop(&values[t, 0], steps)
    return 2 * CHAINS * LANES * steps * values.shape[0]


def copy(real[::1] to, const real[::1] source, int threads):
    """Copy source to `to`, of the same size, each thread its part."""
    cdef Py_ssize_t t, size = source.shape[0]
    for t in prange(threads, nogil=True, num_threads=threads, schedule="static"):
        memcpy(&to[0] + t * size // threads, &source[0] + t * size // threads,
               ((t + 1) * size // threads - t * size // threads) * sizeof(real))
