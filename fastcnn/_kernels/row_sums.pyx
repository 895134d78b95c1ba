"""Sums of rows. N rows, C columns: by C alone in which order, in double."""

from cython.parallel cimport prange

from fastcnn._kernels._rows cimport rows_in_block, sum_of
from fastcnn._kernels._types cimport real


cdef void row_sums_task(
    real* y, const real* x, Py_ssize_t rows, Py_ssize_t C, double divisor
) noexcept nogil:
    cdef Py_ssize_t n
    for n in range(rows):
        y[n] = <real> (sum_of(x + n * C, C) / divisor)


def row_sums(real[::1] y, const real[:, ::1] x, double divisor, int threads):
    cdef Py_ssize_t N = y.shape[0], C = x.shape[1]
    cdef Py_ssize_t rows = rows_in_block(C), n
    for n in prange(0, N, rows, nogil=True, num_threads=threads, schedule="static"):
        row_sums_task(&y[n], &x[n, 0], min(rows, N - n), C, divisor)
