"""Layer normalization of rows. R rows, D numbers in each.

A row stays in the caches while its mean, its variance and what is made of them are worked out. All
of it is in double: then there is no float32 number that is too large or too small for it, a large
mean costs no digits, and the op is bound by memory all the same. Backward makes mean and variance
once more, which is no more than another look at a row that it reads anyway.
"""

from cython.parallel cimport prange
from libc.math cimport sqrt

from fastcnn._kernels._rows cimport rows_in_block, sum_of
from fastcnn._kernels._types cimport real, real_out

cdef enum:
    MOST_PARTS = 16             # of all rows, whose gradients are added up apart
    FEWEST_ROWS = 4             # in a part


cdef double sum_of_squares(const real* x, double center, Py_ssize_t count) noexcept nogil:
    """Return the sum of (x - center)^2."""
    cdef double[32] strand
    cdef double d, total = 0
    cdef Py_ssize_t i = 0, j
    for j in range(32):
        strand[j] = 0
    while i + 32 <= count:
        for j in range(32):
            d = x[i + j] - center
            strand[j] += d * d
        i += 32
    for j in range(count - i):
        d = x[i + j] - center
        strand[j] += d * d
    for j in range(32):
        total += strand[j]
    return total


# ---------------------------------------------------------------- forward
cdef void layer_norm_row(
    real_out y, const real* x, const real* gamma, const real* beta, double epsilon, Py_ssize_t D
) noexcept nogil:
    cdef double mean = sum_of(x, D) / D
    cdef double scale = 1 / sqrt(sum_of_squares(x, mean, D) / D + epsilon)
    cdef Py_ssize_t j
    for j in range(D):
        y[j] = <real> ((x[j] - mean) * scale * gamma[j] + beta[j])


cdef void layer_norm_rows(
    real* y, const real* x, const real* gamma, const real* beta, double epsilon,
    Py_ssize_t rows, Py_ssize_t D,
) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(rows):
        layer_norm_row(y + r * D, x + r * D, gamma, beta, epsilon, D)


def layer_norm(
    real[:, ::1] y, const real[:, ::1] x, const real[::1] gamma, const real[::1] beta,
    double epsilon, int threads,
):
    cdef Py_ssize_t R = x.shape[0], D = x.shape[1], r
    cdef Py_ssize_t rows = rows_in_block(D)
    for r in prange(0, R, rows, nogil=True, num_threads=threads, schedule="static"):
        layer_norm_rows(&y[r, 0], &x[r, 0], &gamma[0], &beta[0], epsilon, min(rows, R - r), D)


# ---------------------------------------------------------------- backward
def layer_norm_parts(Py_ssize_t R):
    """Return in how many parts the rows are cut."""
    return max(1, min(<Py_ssize_t> MOST_PARTS, R // FEWEST_ROWS))


cdef void layer_norm_backward_row(
    real_out dx, double* dgamma, double* dbeta, const real* dy, const real* x, const real* gamma,
    double epsilon, Py_ssize_t D,
) noexcept nogil:
    """Write dx, and add to the other gradients."""
    cdef double mean = sum_of(x, D) / D
    cdef double scale = 1 / sqrt(sum_of_squares(x, mean, D) / D + epsilon)
    cdef double[16] sums, products
    cdef double g, normal, offset = 0, slope = 0
    cdef Py_ssize_t i = 0, j
    for j in range(16):
        sums[j], products[j] = 0, 0
    while i + 16 <= D:
        for j in range(16):
            g = <double> dy[i + j] * gamma[i + j]
            sums[j] += g
            products[j] += g * ((x[i + j] - mean) * scale)
        i += 16
    for j in range(D - i):
        g = <double> dy[i + j] * gamma[i + j]
        sums[j] += g
        products[j] += g * ((x[i + j] - mean) * scale)
    for j in range(16):
        offset += sums[j]
        slope += products[j]
    offset, slope = offset / D, slope / D
    for j in range(D):
        normal = (x[j] - mean) * scale
        dx[j] = <real> (scale * (<double> dy[j] * gamma[j] - offset - normal * slope))
    for j in range(D):
        dgamma[j] += dy[j] * ((x[j] - mean) * scale)
        dbeta[j] += dy[j]


cdef void layer_norm_backward_part(
    real* dx, double* dgamma, double* dbeta, const real* dy, const real* x, const real* gamma,
    double epsilon, Py_ssize_t rows, Py_ssize_t D,
) noexcept nogil:
    cdef Py_ssize_t r, j
    for j in range(D):
        dgamma[j], dbeta[j] = 0, 0
    for r in range(rows):
        layer_norm_backward_row(
            dx + r * D, dgamma, dbeta, dy + r * D, x + r * D, gamma, epsilon, D
        )


def layer_norm_backward(
    real[:, ::1] dx, real[::1] dgamma, real[::1] dbeta, const real[:, ::1] dy,
    const real[:, ::1] x, const real[::1] gamma, double epsilon, double[:, :, ::1] partial,
    int threads,
):
    """partial (parts, 2, D) is room to work in."""
    cdef Py_ssize_t R = x.shape[0], D = x.shape[1], parts = partial.shape[0], part, first, j
    for part in prange(parts, nogil=True, num_threads=threads, schedule="static"):
        first = part * R // parts
        layer_norm_backward_part(
            &dx[first, 0], &partial[part, 0, 0], &partial[part, 1, 0], &dy[first, 0], &x[first, 0],
            &gamma[0], epsilon, (part + 1) * R // parts - first, D,
        )
    for part in range(1, parts):
        for j in range(D):
            partial[0, 0, j] += partial[part, 0, j]
            partial[0, 1, j] += partial[part, 1, j]
    for j in range(D):
        dgamma[j], dbeta[j] = <real> partial[0, 0, j], <real> partial[0, 1, j]
