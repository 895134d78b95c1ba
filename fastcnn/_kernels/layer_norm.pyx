"""Layer normalization of rows. R rows, D numbers in each.

A row stays in the caches while its mean, its variance and what is made of them are worked out.
Backward makes mean and variance once more, another look at a row that it reads anyway.

They are sums of distances from a center. Rows in which float32 would overflow, or lose what is next
to nothing, run through the formulas in double.
"""

from cython.parallel cimport prange
from libc.math cimport fabs, sqrt

from fastcnn._kernels._rows cimport rows_in_block, sum_of, sum_of_products
from fastcnn._kernels._types cimport LANES, load, real, real_out, splat, store, vec

cdef enum:
    MOST_LANES = 16             # of every instruction set
    SUMMED = 1024               # numbers that are added up in `real`, at most
    MOST_PARTS = 16             # of all rows, whose gradients are added up apart
    FEWEST_ROWS = 4             # in a part
    ADDED_ROWS = 64             # whose gradients are added up in `real`, at most


cdef inline double across(vec v) noexcept nogil:
    """Return the sum of the lanes."""
    cdef real[MOST_LANES] lane
    cdef Py_ssize_t half = LANES // 2, j
    store(lane, v)
    while half > 0:
        for j in range(half):
            lane[j] += lane[j + half]
        half //= 2
    return lane[0]


cdef inline void look(
    double* away, double* variance, const real* x, real center, Py_ssize_t D
) noexcept nogil:
    """Write how far the mean is from the center, and the variance."""
    cdef Py_ssize_t i = 0, end
    cdef double total = 0, squares = 0
    cdef vec c = splat(center), sums, products, d
    cdef real d_i
    while i + LANES <= D:
        end = i + min((D - i) // LANES * LANES, <Py_ssize_t> SUMMED)
        sums = splat(0)
        products = sums
        while i < end:
            d = load(x + i) - c
            sums, products = sums + d, products + d * d
            i += LANES
        total += across(sums)
        squares += across(products)
    while i < D:
        d_i = x[i] - center
        total += d_i
        squares += d_i * d_i
        i += 1
    away[0] = total / D
    variance[0] = squares / D - away[0] * away[0]


cdef inline bint far_off(double away, double variance) noexcept nogil:
    """Return whether more than three bits of the variance canceled.

    A row's first number is the center; where it lies so far off, the mean is, in a second look.
    """
    return away * away > 8 * variance


cdef double sum_of_squares(const real* x, double center, Py_ssize_t D) noexcept nogil:
    """Return the sum of (x - center)^2 in double."""
    cdef double[32] strand
    cdef double d, total = 0
    cdef Py_ssize_t i = 0, j
    for j in range(32):
        strand[j] = 0
    while i < D:
        for j in range(min(<Py_ssize_t> 32, D - i)):
            d = x[i + j] - center
            strand[j] += d * d
        i += 32
    for j in range(32):
        total += strand[j]
    return total


cdef bint factors_fit(const real* gamma, const real* beta, Py_ssize_t D) noexcept nogil:
    """Return whether products with gamma stay in float32, by far; beta may be NULL."""
    cdef bint fits = True
    cdef Py_ssize_t j
    if sizeof(real) == 4:
        for j in range(D):
            fits &= gamma[j] == 0 or 1e-9 < fabs(gamma[j]) < 1e9
            fits &= beta == NULL or fabs(beta[j]) < 1e30
    return fits


cdef inline bint row_fits(double mean, double spread) noexcept nogil:
    """Return whether the same is true of numbers; spread: variance + epsilon."""
    return sizeof(real) == 8 or (1e-14 < spread < 1e16 and fabs(mean) < 1e30)


# ---------------------------------------------------------------- forward
cdef void write_row(
    real_out y, const real* x, const real* gamma, const real* beta, real center, real away,
    real scale, Py_ssize_t D,
) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(D):
        y[j] = ((x[j] - center) - away) * (scale * gamma[j]) + beta[j]


cdef void write_row_in_double(
    real_out y, const real* x, const real* gamma, const real* beta, double epsilon, Py_ssize_t D
) noexcept nogil:
    cdef double mean = sum_of(x, D) / D
    cdef double scale = 1 / sqrt(sum_of_squares(x, mean, D) / D + epsilon)
    cdef Py_ssize_t j
    for j in range(D):
        y[j] = <real> ((x[j] - mean) * scale * gamma[j] + beta[j])


cdef void layer_norm_rows(
    real* y, const real* x, const real* gamma, const real* beta, double epsilon, bint fits,
    Py_ssize_t rows, Py_ssize_t D,
) noexcept nogil:
    cdef double away, variance
    cdef real center
    cdef Py_ssize_t _
    for _ in range(rows):
        center = x[0]
        look(&away, &variance, x, center, D)
        if far_off(away, variance):
            center = <real> (center + away)
            look(&away, &variance, x, center, D)
        variance = 0 if variance < 0 else variance
        if fits and row_fits(center, variance + epsilon):
            write_row(
                y, x, gamma, beta, center, <real> away, <real> (1 / sqrt(variance + epsilon)), D
            )
        else:
            write_row_in_double(y, x, gamma, beta, epsilon, D)
        y, x = y + D, x + D


def layer_norm(
    real[:, ::1] y, const real[:, ::1] x, const real[::1] gamma, const real[::1] beta,
    double epsilon, int threads,
):
    cdef Py_ssize_t R = x.shape[0], D = x.shape[1], r
    cdef Py_ssize_t rows = rows_in_block(D)
    cdef bint fits = factors_fit(&gamma[0], &beta[0], D)
    for r in prange(0, R, rows, nogil=True, num_threads=threads, schedule="static"):
        layer_norm_rows(
            &y[r, 0], &x[r, 0], &gamma[0], &beta[0], epsilon, fits, min(rows, R - r), D
        )


# ---------------------------------------------------------------- backward
def layer_norm_parts(Py_ssize_t R):
    """Return in how many parts the rows are cut."""
    return max(1, min(<Py_ssize_t> MOST_PARTS, R // FEWEST_ROWS))


cdef inline void look_at_all(
    double* away, double* variance, double* offset, double* slope, double* squares,
    const real* dy, const real* x, const real* gamma, real center, Py_ssize_t D,
) noexcept nogil:
    """Write what look does, the means of g = dy * gamma and of g * (x - mean), the sum of dy^2."""
    cdef Py_ssize_t i = 0, end
    cdef vec c = splat(center), zero = splat(0), v0, v1, v2, v3, v4, d, e, g
    cdef real d_i, g_i
    away[0], variance[0], offset[0], slope[0], squares[0] = 0, 0, 0, 0, 0
    while i + LANES <= D:
        end = i + min((D - i) // LANES * LANES, <Py_ssize_t> SUMMED)
        v0, v1, v2, v3, v4 = zero, zero, zero, zero, zero
        while i < end:
            d, e = load(x + i) - c, load(dy + i)
            g = e * load(gamma + i)
            v0, v1, v2, v3, v4 = v0 + d, v1 + d * d, v2 + g, v3 + g * d, v4 + e * e
            i += LANES
        away[0] += across(v0)
        variance[0] += across(v1)
        offset[0] += across(v2)
        slope[0] += across(v3)
        squares[0] += across(v4)
    while i < D:
        d_i, g_i = x[i] - center, dy[i] * gamma[i]
        away[0] += d_i
        variance[0] += d_i * d_i
        offset[0] += g_i
        slope[0] += g_i * d_i
        squares[0] += dy[i] * dy[i]
        i += 1
    away[0], offset[0] = away[0] / D, offset[0] / D
    variance[0] = variance[0] / D - away[0] * away[0]
    slope[0] = slope[0] / D - away[0] * offset[0]


cdef void write_gradients(
    real_out dx, real_out dgamma, real_out dbeta, const real* dy, const real* x,
    const real* gamma, real center, real scale, real shift, real offset, real slope, Py_ssize_t D,
) noexcept nogil:
    """Write dx = dy * gamma * scale - x_hat * slope - offset, and add to the other gradients."""
    cdef Py_ssize_t j
    cdef real normal
    for j in range(D):
        normal = (x[j] - center) * scale - shift
        dx[j] = dy[j] * gamma[j] * scale - (normal * slope + offset)
        dgamma[j] += dy[j] * normal
        dbeta[j] += dy[j]


cdef void write_gradients_in_double(
    real_out dx, double* dgamma, double* dbeta, const real* dy, const real* x, const real* gamma,
    double epsilon, Py_ssize_t D,
) noexcept nogil:
    cdef double mean = sum_of(x, D) / D
    cdef double scale = 1 / sqrt(sum_of_squares(x, mean, D) / D + epsilon)
    cdef double offset = sum_of_products(dy, gamma, D) / D, slope = 0
    cdef Py_ssize_t j
    for j in range(D):
        slope += <double> dy[j] * gamma[j] * ((x[j] - mean) * scale)
        dgamma[j] += dy[j] * ((x[j] - mean) * scale)
        dbeta[j] += dy[j]
    slope /= D
    for j in range(D):
        dx[j] = <real> (
            scale * (<double> dy[j] * gamma[j] - offset - (x[j] - mean) * scale * slope)
        )


cdef void add_to(double* sums, real_out block, Py_ssize_t D) noexcept nogil:
    """Add a block to the sums, and begin it anew."""
    cdef Py_ssize_t j
    for j in range(D):
        sums[j] += block[j]
        block[j] = 0


cdef void layer_norm_backward_part(
    real* dx, double* sums, real* block, const real* dy, const real* x, const real* gamma,
    double epsilon, bint fits, Py_ssize_t rows, Py_ssize_t D,
) noexcept nogil:
    """Write dx, and to sums (2, D) the other gradients."""
    cdef double away, variance, offset, slope, squares, scale
    cdef Py_ssize_t r, j
    cdef real center
    for j in range(2 * D):
        sums[j], block[j] = 0, 0
    for r in range(rows):
        center = x[0]
        look_at_all(&away, &variance, &offset, &slope, &squares, dy, x, gamma, center, D)
        if far_off(away, variance):
            center = <real> (center + away)
            look_at_all(&away, &variance, &offset, &slope, &squares, dy, x, gamma, center, D)
        variance = 0 if variance < 0 else variance
        scale = 1 / sqrt(variance + epsilon)
        # Where all of x is next to the mean, or dy next to nothing, products of them vanish.
        if sizeof(real) == 8 or (
            fits and row_fits(center, variance + epsilon) and variance > 1e-24
            and 1e-24 < squares < 1e24
        ):
            write_gradients(
                dx, block, block + D, dy, x, gamma, center, <real> scale, <real> (away * scale),
                <real> (scale * offset), <real> (scale * scale * slope), D,
            )
        else:
            write_gradients_in_double(dx, sums, sums + D, dy, x, gamma, epsilon, D)
        if (r + 1) % ADDED_ROWS == 0:
            add_to(sums, block, 2 * D)
        dx, dy, x = dx + D, dy + D, x + D
    add_to(sums, block, 2 * D)


def layer_norm_backward(
    real[:, ::1] dx, real[::1] dgamma, real[::1] dbeta, const real[:, ::1] dy,
    const real[:, ::1] x, const real[::1] gamma, double epsilon, double[:, :, ::1] partial,
    real[:, ::1] blocks, int threads,
):
    """partial (parts, 2, D) and blocks (parts, 2 * D) are room to work in."""
    cdef Py_ssize_t R = x.shape[0], D = x.shape[1], parts = partial.shape[0], part, first, j
    cdef bint fits = factors_fit(&gamma[0], NULL, D)
    for part in prange(parts, nogil=True, num_threads=threads, schedule="static"):
        first = part * R // parts
        layer_norm_backward_part(
            &dx[first, 0], &partial[part, 0, 0], &blocks[part, 0], &dy[first, 0], &x[first, 0],
            &gamma[0], epsilon, fits, (part + 1) * R // parts - first, D,
        )
    for part in range(1, parts):
        for j in range(D):
            partial[0, 0, j] += partial[part, 0, j]
            partial[0, 1, j] += partial[part, 1, j]
    for j in range(D):
        dgamma[j], dbeta[j] = <real> partial[0, 0, j], <real> partial[0, 1, j]
