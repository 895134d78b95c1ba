"""Softmax over rows. N rows, C columns."""

from cython.parallel cimport prange

from fastcnn._kernels._rows cimport NUMBERS, rows_in_block, softmax_rows, sum_of_products
from fastcnn._kernels._types cimport real


cdef void softmax_task(real* y, const real* x, Py_ssize_t rows, Py_ssize_t C) noexcept nogil:
    cdef real[NUMBERS] shift
    softmax_rows(y, shift, NULL, x, rows, C)


def softmax(real[:, ::1] y, const real[:, ::1] x, int threads):
    cdef Py_ssize_t N = y.shape[0], C = y.shape[1]
    cdef Py_ssize_t rows = rows_in_block(C), n
    for n in prange(0, N, rows, nogil=True, num_threads=threads, schedule="static"):
        softmax_task(&y[n, 0], &x[n, 0], min(rows, N - n), C)


cdef void softmax_backward_row(
    real* dx, const real* dy, const real* y, Py_ssize_t C
) noexcept nogil:
    cdef double mean = sum_of_products(dy, y, C)
    cdef Py_ssize_t c
    for c in range(C):          # in double: the difference of two large numbers may be beyond real
        dx[c] = <real> (<double> y[c] * (<double> dy[c] - mean))


def softmax_backward(real[:, ::1] dx, const real[:, ::1] dy, const real[:, ::1] y, int threads):
    cdef Py_ssize_t N = y.shape[0], C = y.shape[1], n
    for n in prange(N, nogil=True, num_threads=threads, schedule="static"):
        softmax_backward_row(&dx[n, 0], &dy[n, 0], &y[n, 0], C)
