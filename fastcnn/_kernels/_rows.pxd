# What softmax and the losses do with a row of numbers. Sums run in double and, like the
# maximum, in eight or sixteen strands: one strand would wait for each addition in turn.
from libc.math cimport INFINITY, log

from fastcnn._kernels._exp cimport exp
from fastcnn._kernels._types cimport real


cdef inline real largest(const real* x, Py_ssize_t count) noexcept nogil:
    """Return the largest of the numbers that are not NaN, -infinity if there is none."""
    cdef real[16] strand
    cdef Py_ssize_t i = 0, j
    for j in range(16):
        strand[j] = -INFINITY
    while i + 16 <= count:
        for j in range(16):
            strand[j] = x[i + j] if x[i + j] > strand[j] else strand[j]
        i += 16
    while i < count:
        strand[0] = x[i] if x[i] > strand[0] else strand[0]
        i += 1
    for j in range(1, 16):
        strand[0] = strand[j] if strand[j] > strand[0] else strand[0]
    return strand[0]


cdef inline double in_order(double* strand) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(1, 8):
        strand[0] += strand[j]
    return strand[0]


cdef inline double sum_of(const real* x, Py_ssize_t count) noexcept nogil:
    """Return the sum of x."""
    cdef double[8] strand
    cdef Py_ssize_t i = 0, j
    for j in range(8):
        strand[j] = 0
    while i + 8 <= count:
        for j in range(8):
            strand[j] += x[i + j]
        i += 8
    while i < count:
        strand[0] += x[i]
        i += 1
    return in_order(strand)


cdef inline double sum_of_products(const real* a, const real* b, Py_ssize_t count) noexcept nogil:
    """Return the sum of a * b."""
    cdef double[8] strand
    cdef Py_ssize_t i = 0, j
    for j in range(8):
        strand[j] = 0
    while i + 8 <= count:
        for j in range(8):
            strand[j] += <double> a[i + j] * <double> b[i + j]
        i += 8
    while i < count:
        strand[0] += <double> a[i] * <double> b[i]
        i += 1
    return in_order(strand)


cdef inline double sum_of_squared_differences(
    const real* a, const real* b, Py_ssize_t count
) noexcept nogil:
    """Return the sum of (a - b)^2."""
    cdef double[8] strand
    cdef double d
    cdef Py_ssize_t i = 0, j
    for j in range(8):
        strand[j] = 0
    while i + 8 <= count:
        for j in range(8):
            d = <double> a[i + j] - <double> b[i + j]
            strand[j] += d * d
        i += 8
    while i < count:
        d = <double> a[i] - <double> b[i]
        strand[0] += d * d
        i += 1
    return in_order(strand)


cdef inline Py_ssize_t rows_in_block(Py_ssize_t C) noexcept nogil:
    """Return how many rows of C numbers one task takes: about 2048 numbers, by shape alone."""
    return max(1, 2048 // C)


cdef inline void softmax_rows(
    real* y, double* log_total, const real* x, Py_ssize_t rows, Py_ssize_t C
) noexcept nogil:
    """Write softmax of each row of x to y, and log(sum(exp(x - largest(x)))) unless NULL."""
    cdef Py_ssize_t n, c
    cdef real shift, total
    cdef real* y_n
    for n in range(rows):
        # Then the largest exponent is 0: nothing overflows and the sum is at least 1.
        shift = largest(x + n * C, C)
        y_n = y + n * C
        for c in range(C):
            y_n[c] = x[n * C + c] - shift
    for c in range(rows * C):       # in one run: short rows would leave most lanes idle
        y[c] = exp(y[c])
    for n in range(rows):
        y_n = y + n * C
        total = <real> sum_of(y_n, C)
        for c in range(C):
            y_n[c] = y_n[c] / total
        if log_total:
            log_total[n] = log(total)
