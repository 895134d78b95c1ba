# What softmax and the losses do with a row of numbers. Sums run in double and, like the
# maximum, in several strands: one strand would wait for each addition in turn.
from libc.math cimport INFINITY, log

from fastcnn._kernels._exp cimport exp_negative
from fastcnn._kernels._types cimport LANES, greater, load, real, splat, store, vec, where

cdef enum:
    LANES_OF_ALL = 16           # a multiple of the lanes of every instruction set
    NUMBERS = 2048              # in the rows of a task, unless one row has more


cdef inline vec larger(vec v, vec best) noexcept nogil:
    """Return the larger, lane by lane; best where v is NaN."""
    return where(greater(v, best), v, best)


cdef inline real largest(const real* x, Py_ssize_t count) noexcept nogil:
    """Return the largest of the numbers that are not NaN, -infinity if there is none."""
    cdef real best = -INFINITY
    cdef real[LANES_OF_ALL] lanes
    cdef Py_ssize_t i = 0, j
    cdef vec a, b, c, d
    if count >= 4 * LANES:
        a = splat(best)
        b, c, d = a, a, a
        while i + 4 * LANES <= count:
            a = larger(load(x + i), a)
            b = larger(load(x + i + LANES), b)
            c = larger(load(x + i + 2 * LANES), c)
            d = larger(load(x + i + 3 * LANES), d)
            i += 4 * LANES
        a, c = larger(b, a), larger(d, c)
        store(lanes, larger(c, a))
        for j in range(LANES):
            best = lanes[j] if lanes[j] > best else best
    while i < count:
        best = x[i] if x[i] > best else best
        i += 1
    return best


cdef inline double in_order(double* strand) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(1, 8):
        strand[0] += strand[j]
    return strand[0]


cdef inline double sum_of(const real* x, Py_ssize_t count) noexcept nogil:
    """Return the sum of x."""
    cdef double[8] strand
    cdef double[32] wide
    cdef Py_ssize_t i = 0, j
    for j in range(8):
        strand[j] = 0
    if count >= 64:
        for j in range(32):
            wide[j] = x[j]
        i = 32
        while i + 32 <= count:
            for j in range(32):
                wide[j] += x[i + j]
            i += 32
        for j in range(8):
            strand[j] = (wide[j] + wide[8 + j]) + (wide[16 + j] + wide[24 + j])
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
    """Return how many rows of C numbers one task takes, by shape alone: NUMBERS at most."""
    return max(1, NUMBERS // C)


cdef inline void softmax_rows(
    real* y, real* shift, double* log_total, const real* x, Py_ssize_t rows, Py_ssize_t C
) noexcept nogil:
    """Write softmax of each row of x to y, and largest(x) to shift.

    Write log(sum(exp(x - shift))) to log_total, unless that is NULL.
    """
    cdef Py_ssize_t n, c
    cdef real total
    cdef real* y_n
    for n in range(rows):
        # Then the largest exponent is 0: nothing overflows and the sum is at least 1.
        shift[n] = largest(x + n * C, C)
        y_n = y + n * C
        for c in range(C):
            y_n[c] = x[n * C + c] - shift[n]
    for c in range(rows * C):       # in one run: short rows would leave most lanes idle
        y[c] = exp_negative(y[c])
    for n in range(rows):
        y_n = y + n * C
        total = <real> sum_of(y_n, C)
        for c in range(C):
            y_n[c] = y_n[c] / total
        if log_total:
            log_total[n] = log(total)
