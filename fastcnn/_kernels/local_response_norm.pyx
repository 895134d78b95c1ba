"""Local response normalization: each number by the squares of its neighbours. R rows, C channels.

What is divided by, (k + alpha / size * squares)^beta, is worked out in double.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport pow, sqrt

from fastcnn._kernels._rows cimport rows_in_block
from fastcnn._kernels._types cimport real, real_out


cdef void bases(
    double* base, const real* x, Py_ssize_t size, double factor, double k, Py_ssize_t C
) noexcept nogil:
    """Write k + factor * the squares of the channels from c - (size - 1) // 2 to c + size // 2."""
    cdef Py_ssize_t first = max(-((size - 1) // 2), 1 - C), last = min(size // 2, C - 1), away, c
    for c in range(C):
        base[c] = 0
    for away in range(first, last + 1):
        for c in range(max(0, -away), min(C, C - away)):
            base[c] += <double> x[c + away] * x[c + away]
    for c in range(C):
        base[c] = k + factor * base[c]


cdef void powers(double* power, const double* base, double beta, Py_ssize_t C) noexcept nogil:
    """Write base**-beta; roots are many times faster than pow, and the betas in use are of them."""
    cdef Py_ssize_t c
    if beta == 0.75:
        for c in range(C):
            power[c] = 1 / (sqrt(base[c]) * sqrt(sqrt(base[c])))
    elif beta == 0.5:
        for c in range(C):
            power[c] = 1 / sqrt(base[c])
    else:
        for c in range(C):
            power[c] = pow(base[c], -beta)


# ---------------------------------------------------------------- forward
cdef void response_rows(
    real_out y, double* room, const real* x, Py_ssize_t size, double factor, double beta, double k,
    Py_ssize_t rows, Py_ssize_t C,
) noexcept nogil:
    cdef Py_ssize_t c, _
    for _ in range(rows):
        bases(room, x, size, factor, k, C)
        powers(room + C, room, beta, C)
        for c in range(C):
            y[c] = <real> (x[c] * room[C + c])
        y, x = y + C, x + C


def local_response_norm(
    real[:, ::1] y, const real[:, ::1] x, Py_ssize_t size, double alpha, double beta, double k,
    double[:, ::1] room, int threads,
):
    """room is (threads, 2 * C)."""
    cdef Py_ssize_t R = x.shape[0], C = x.shape[1], r
    cdef Py_ssize_t rows = rows_in_block(C)
    for r in prange(0, R, rows, nogil=True, num_threads=threads, schedule="static"):
        response_rows(
            &y[r, 0], &room[threadid(), 0], &x[r, 0], size, alpha / size, beta, k,
            min(rows, R - r), C,
        )


# ---------------------------------------------------------------- backward
cdef void response_backward_rows(
    real_out dx, double* room, const real* dy, const real* x, Py_ssize_t size, double factor,
    double beta, double k, Py_ssize_t rows, Py_ssize_t C,
) noexcept nogil:
    """dx = dy * power - 2 * beta * x * the sum of dy * x * power * factor / base.

    The sum is over the channels whose windows hold this one.
    """
    cdef Py_ssize_t first = max(-(size // 2), 1 - C), last = min((size - 1) // 2, C - 1), away, c, _
    cdef double* power = room
    cdef double* slope = power + C
    cdef double* total = slope + C
    for _ in range(rows):
        bases(total, x, size, factor, k, C)
        powers(power, total, beta, C)
        for c in range(C):
            slope[c] = <double> dy[c] * x[c] * power[c] * (factor / total[c])
            total[c] = 0
        for away in range(first, last + 1):
            for c in range(max(0, -away), min(C, C - away)):
                total[c] += slope[c + away]
        for c in range(C):
            dx[c] = <real> (dy[c] * power[c] - 2 * beta * x[c] * total[c])
        dx, dy, x = dx + C, dy + C, x + C


def local_response_norm_backward(
    real[:, ::1] dx, const real[:, ::1] dy, const real[:, ::1] x, Py_ssize_t size, double alpha,
    double beta, double k, double[:, ::1] room, int threads,
):
    """room is (threads, 3 * C)."""
    cdef Py_ssize_t R = x.shape[0], C = x.shape[1], r
    cdef Py_ssize_t rows = rows_in_block(C)
    for r in prange(0, R, rows, nogil=True, num_threads=threads, schedule="static"):
        response_backward_rows(
            &dx[r, 0], &room[threadid(), 0], &dy[r, 0], &x[r, 0], size, alpha / size, beta, k,
            min(rows, R - r), C,
        )
