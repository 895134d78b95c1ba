"""The limits that benchmarks report against, measured by the compiler and flags of the kernels."""

from cython.parallel cimport prange
from libc.string cimport memcpy

from fastcnn._kernels._types cimport LANES, load, real, store, vec

cdef enum:
    CHAINS = 12     # independent sums: more than latency times units of any CPU we know


cdef void multiply_add_loop(real* values, Py_ssize_t steps) noexcept nogil:
    # Every chain has a start of its own: equal ones the compiler would run once.
    cdef vec a = load(values), b = load(values + LANES)
    cdef vec c0 = load(values + 2 * LANES), c1 = load(values + 3 * LANES)
    cdef vec c2 = load(values + 4 * LANES), c3 = load(values + 5 * LANES)
    cdef vec c4 = load(values + 6 * LANES), c5 = load(values + 7 * LANES)
    cdef vec c6 = load(values + 8 * LANES), c7 = load(values + 9 * LANES)
    cdef vec c8 = load(values + 10 * LANES), c9 = load(values + 11 * LANES)
    cdef vec c10 = load(values + 12 * LANES), c11 = load(values + 13 * LANES)
    cdef Py_ssize_t _
    for _ in range(steps):
        c0 = c0 * a + b; c1 = c1 * a + b; c2 = c2 * a + b; c3 = c3 * a + b
        c4 = c4 * a + b; c5 = c5 * a + b; c6 = c6 * a + b; c7 = c7 * a + b
        c8 = c8 * a + b; c9 = c9 * a + b; c10 = c10 * a + b; c11 = c11 * a + b
    store(values, ((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7)) + ((c8 + c9) + (c10 + c11)))


def multiply_add(real[:, ::1] values, Py_ssize_t steps, int threads):
    """Run chains of multiply-adds on every thread; return how many operations that was.

    values (threads, 14 * LANES or more), below one, holds factors and starts and takes the
    results. An operation is a multiplication or an addition of one number.
    """
    cdef Py_ssize_t t
    if values.shape[1] < (CHAINS + 2) * LANES:
        raise ValueError(f"values: expected at least {(CHAINS + 2) * LANES} numbers a thread")
    for t in prange(values.shape[0], nogil=True, num_threads=threads, schedule="static"):
        multiply_add_loop(&values[t, 0], steps)
    return 2 * CHAINS * LANES * steps * values.shape[0]


def copy(real[::1] to, const real[::1] source, int threads):
    """Copy source to `to`, of the same size, each thread its part."""
    cdef Py_ssize_t t, size = source.shape[0]
    for t in prange(threads, nogil=True, num_threads=threads, schedule="static"):
        memcpy(&to[0] + t * size // threads, &source[0] + t * size // threads,
               ((t + 1) * size // threads - t * size // threads) * sizeof(real))
