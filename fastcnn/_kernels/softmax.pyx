"""Softmax and its logarithm over rows. N rows, C columns."""

from cython.parallel cimport prange
from libc.math cimport fabs

from fastcnn._kernels._exp cimport exp_negative
from fastcnn._kernels._rows cimport (
    NUMBERS, rows_in_block, softmax_rows, sum_of, sum_of_products
)
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


# ---------------------------------------------------------------- its logarithm
cdef void log_softmax_task(real* y, const real* x, Py_ssize_t rows, Py_ssize_t C) noexcept nogil:
    cdef real[NUMBERS] shift
    cdef double[NUMBERS] log_total
    cdef Py_ssize_t n, c
    softmax_rows(y, shift, log_total, x, rows, C)
    for n in range(rows):
        for c in range(C):      # in double: the difference of two large numbers may be beyond real
            y[n * C + c] = <real> ((<double> x[n * C + c] - <double> shift[n]) - log_total[n])


def log_softmax(real[:, ::1] y, const real[:, ::1] x, int threads):
    cdef Py_ssize_t N = y.shape[0], C = y.shape[1]
    cdef Py_ssize_t rows = rows_in_block(C), n
    for n in prange(0, N, rows, nogil=True, num_threads=threads, schedule="static"):
        log_softmax_task(&y[n, 0], &x[n, 0], min(rows, N - n), C)


cdef void log_softmax_backward_row(
    real* dx, const real* dy, const real* y, Py_ssize_t C
) noexcept nogil:
    cdef double total = sum_of(dy, C)
    cdef Py_ssize_t c
    cdef real e
    for c in range(C):          # no logarithm of a probability is above 0, but any y has its e^y
        e = exp_negative(-<real> fabs(y[c]))
        dx[c] = <real> 1 / e if y[c] > 0 else e
    for c in range(C):
        dx[c] = <real> (<double> dy[c] - <double> dx[c] * total)


def log_softmax_backward(
    real[:, ::1] dx, const real[:, ::1] dy, const real[:, ::1] y, int threads
):
    cdef Py_ssize_t N = y.shape[0], C = y.shape[1], n
    for n in prange(N, nogil=True, num_threads=threads, schedule="static"):
        log_softmax_backward_row(&dx[n, 0], &dy[n, 0], &y[n, 0], C)
