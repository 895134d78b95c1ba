"""Group normalization. N samples, P pixels of each, C channels in G groups of S, side by side.

The pixels of a sample are cut into parts that stay in the caches, by shape alone: so that one
sample is work for several threads, and mean and squares of a part cost one look at memory. They are
then joined as by Chan, Golub and LeVeque, 1979: the squares about the mean of all are those of each
part about its own, and what that lies away. All of it is in double, see layer_norm.pyx.

Sums go over rows, W numbers wide with W a multiple of C: several pixels, where few channels would
leave lanes of a vector idle.
"""

from cython.parallel cimport prange
from libc.math cimport sqrt

from fastcnn._kernels._types cimport real, real_out

cdef enum:
    GROUPED_PART = 16384        # numbers in a part, at most, unless one pixel has more
    GROUPED_WIDTH = 64          # numbers in a row, at least, unless a part has fewer


cdef Py_ssize_t pixels_in_part(Py_ssize_t P, Py_ssize_t C) noexcept nogil:
    return min(P, max(1, GROUPED_PART // C))


cdef Py_ssize_t row_width(Py_ssize_t P, Py_ssize_t C) noexcept nogil:
    return C * min(pixels_in_part(P, C), max(1, GROUPED_WIDTH // C))


def group_norm_sizes(Py_ssize_t P, Py_ssize_t C):
    """Return (parts of a sample, W)."""
    cdef Py_ssize_t pixels = pixels_in_part(P, C)
    return (P + pixels - 1) // pixels, row_width(P, C)


cdef void channel_sums(
    double* sums, const real* x, Py_ssize_t count, Py_ssize_t W, Py_ssize_t C
) noexcept nogil:
    """Write the sum of each channel to the first C of W."""
    cdef Py_ssize_t i = 0, j
    for j in range(W):
        sums[j] = 0
    while i + W <= count:
        for j in range(W):
            sums[j] += x[i + j]
        i += W
    for j in range(count - i):
        sums[j] += x[i + j]
    for j in range(C, W):
        sums[j % C] += sums[j]


cdef void channel_squares(
    double* squares, const real* x, const double* center, Py_ssize_t count, Py_ssize_t W,
    Py_ssize_t C,
) noexcept nogil:
    """Write the sum of (x - center)^2 of each channel."""
    cdef Py_ssize_t i = 0, j
    cdef double d
    for j in range(W):
        squares[j] = 0
    while i + W <= count:
        for j in range(W):
            d = x[i + j] - center[j]
            squares[j] += d * d
        i += W
    for j in range(count - i):
        d = x[i + j] - center[j]
        squares[j] += d * d
    for j in range(C, W):
        squares[j % C] += squares[j]


cdef void channel_products(
    double* sums, double* products, const real* dy, const real* x, const double* center,
    Py_ssize_t count, Py_ssize_t W, Py_ssize_t C,
) noexcept nogil:
    """Write the sums of dy and of dy * (x - center) of each channel."""
    cdef Py_ssize_t i = 0, j
    for j in range(W):
        sums[j], products[j] = 0, 0
    while i + W <= count:
        for j in range(W):
            sums[j] += dy[i + j]
            products[j] += dy[i + j] * (x[i + j] - center[j])
        i += W
    for j in range(count - i):
        sums[j] += dy[i + j]
        products[j] += dy[i + j] * (x[i + j] - center[j])
    for j in range(C, W):
        sums[j % C] += sums[j]
        products[j % C] += products[j]


cdef void part_moments(
    double* mean, double* squares, double* center, double* row, const real* x, Py_ssize_t count,
    Py_ssize_t W, Py_ssize_t C, Py_ssize_t G,
) noexcept nogil:
    """Write mean and squares of each group of a part, and its mean to all of center (W)."""
    cdef Py_ssize_t S = C // G, g, j
    cdef double total
    channel_sums(row, x, count, W, C)
    for g in range(G):
        total = 0
        for j in range(g * S, (g + 1) * S):
            total += row[j]
        mean[g] = total / (count // G)
    for j in range(W):
        center[j] = mean[j % C // S]
    channel_squares(row, x, center, count, W, C)
    for g in range(G):
        squares[g] = 0
        for j in range(g * S, (g + 1) * S):
            squares[g] += row[j]


cdef void join_moments(
    double* mean, double* scale, const double* moments, Py_ssize_t step, Py_ssize_t parts,
    Py_ssize_t P, Py_ssize_t C, Py_ssize_t G, double epsilon,
) noexcept nogil:
    """Write mean and 1 / sqrt(variance + epsilon) of the groups of a sample.

    moments: of its first part, means and squares (2, G); those of the others follow by steps.
    """
    cdef Py_ssize_t pixels = pixels_in_part(P, C), p, g
    cdef const double* part
    cdef double d
    for g in range(G):
        mean[g], scale[g] = 0, 0
    for p in range(parts):
        part = moments + p * step
        for g in range(G):
            mean[g] += part[g] * (<double> min(pixels, P - p * pixels) / P)
    for p in range(parts):
        part = moments + p * step
        for g in range(G):
            d = part[g] - mean[g]
            scale[g] += part[G + g] + d * d * (min(pixels, P - p * pixels) * (C // G))
    for g in range(G):
        scale[g] = 1 / sqrt(scale[g] / (P * (C // G)) + epsilon)


# ---------------------------------------------------------------- forward
cdef void group_rows(
    real_out y, const real* x, const double* mean, const double* scale, const double* shift,
    Py_ssize_t count, Py_ssize_t W,
) noexcept nogil:
    cdef Py_ssize_t i = 0, j
    while i + W <= count:
        for j in range(W):
            y[i + j] = <real> ((x[i + j] - mean[j]) * scale[j] + shift[j])
        i += W
    for j in range(count - i):
        y[i + j] = <real> ((x[i + j] - mean[j]) * scale[j] + shift[j])


def group_norm(
    real[:, :, ::1] y, const real[:, :, ::1] x, const real[::1] gamma, const real[::1] beta,
    Py_ssize_t G, double epsilon, double[:, :, ::1] partial, double[:, :, ::1] table, int threads,
):
    """partial (N, parts, 2 * G + 2 * W) and table (N, 3, W) are room to work in."""
    cdef Py_ssize_t N = x.shape[0], P = x.shape[1], C = x.shape[2], W = table.shape[2]
    cdef Py_ssize_t parts = partial.shape[1], pixels = pixels_in_part(P, C), n, p, i, j, g
    cdef double* moments
    cdef double* mean
    with nogil:
        for i in prange(N * parts, num_threads=threads, schedule="static"):
            n, p = i // parts, i % parts * pixels
            moments = &partial[n, i % parts, 0]
            part_moments(
                moments, moments + G, moments + 2 * G, moments + 2 * G + W, &x[n, p, 0],
                min(pixels, P - p) * C, W, C, G,
            )
        for n in range(N):
            mean = &partial[n, 0, 2 * G]
            join_moments(
                mean, mean + W, &partial[n, 0, 0], partial.shape[2], parts, P, C, G, epsilon
            )
            for j in range(W):
                g = j % C // (C // G)
                table[n, 0, j], table[n, 1, j] = mean[g], mean[W + g] * gamma[j % C]
                table[n, 2, j] = beta[j % C]
        for i in prange(N * parts, num_threads=threads, schedule="static"):
            n, p = i // parts, i % parts * pixels
            group_rows(
                &y[n, p, 0], &x[n, p, 0], &table[n, 0, 0], &table[n, 1, 0], &table[n, 2, 0],
                min(pixels, P - p) * C, W,
            )


# ---------------------------------------------------------------- backward
cdef void group_gradients(
    double* table, double* dgamma, double* dbeta, const double* partial, Py_ssize_t step,
    Py_ssize_t parts, const real* gamma, double epsilon, Py_ssize_t P, Py_ssize_t C, Py_ssize_t G,
    Py_ssize_t W,
) noexcept nogil:
    """Write the table of a sample, and add to the gradients of gamma and beta.

    Its rows are mean, scale, slope and offset: dx = dy * scale - (x - mean) * slope - offset.
    partial: of its first part, moments (2, G), then sums of dy and of dy * (x - its mean) (2, W).
    """
    cdef Py_ssize_t S = C // G, g, j, p
    cdef double* mean = table
    cdef double* scale = table + W
    cdef double* products = table + 2 * W
    cdef double* sums = table + 3 * W
    cdef const double* part
    cdef double d, m, s, slope, offset
    join_moments(mean, scale, partial, step, parts, P, C, G, epsilon)
    for j in range(C):
        sums[j], products[j] = 0, 0
    for p in range(parts):
        part = partial + p * step
        for j in range(C):
            sums[j] += part[2 * G + j]
            products[j] += part[2 * G + W + j]
            d = part[j // S] - mean[j // S]
            if d != 0:                  # what is infinite would be NaN times it
                products[j] += d * part[2 * G + j]
    for g in range(G - 1, -1, -1):      # from behind: mean and scale are spread over channels
        m, s, slope, offset = mean[g], scale[g], 0, 0
        for j in range(g * S, (g + 1) * S):
            products[j] *= s
            dgamma[j] += products[j]
            dbeta[j] += sums[j]
            slope += gamma[j] * products[j]
            offset += gamma[j] * sums[j]
        for j in range(g * S, (g + 1) * S):
            mean[j], scale[j] = m, s * gamma[j]
            products[j] = s * s * (slope / (P * S))
            sums[j] = s * (offset / (P * S))
    for j in range(C, W):
        for g in range(4):
            table[g * W + j] = table[g * W + j % C]


cdef void group_backward_rows(
    real_out dx, const real* dy, const real* x, const double* mean, const double* scale,
    const double* slope, const double* offset, Py_ssize_t count, Py_ssize_t W,
) noexcept nogil:
    cdef Py_ssize_t i = 0, j
    while i + W <= count:
        for j in range(W):
            dx[i + j] = <real> (
                dy[i + j] * scale[j] - ((x[i + j] - mean[j]) * slope[j] + offset[j])
            )
        i += W
    for j in range(count - i):
        dx[i + j] = <real> (dy[i + j] * scale[j] - ((x[i + j] - mean[j]) * slope[j] + offset[j]))


def group_norm_backward(
    real[:, :, ::1] dx, real[::1] dgamma, real[::1] dbeta, const real[:, :, ::1] dy,
    const real[:, :, ::1] x, const real[::1] gamma, Py_ssize_t G, double epsilon,
    double[:, :, ::1] partial, double[:, :, ::1] table, int threads,
):
    """partial (N, parts, 2 * G + 3 * W) and table (1 + N, 4, W) are room to work in."""
    cdef Py_ssize_t N = x.shape[0], P = x.shape[1], C = x.shape[2], W = table.shape[2]
    cdef Py_ssize_t parts = partial.shape[1], pixels = pixels_in_part(P, C), n, p, i, j
    cdef double* moments
    cdef double* sums = &table[N, 0, 0]         # of all samples
    with nogil:
        for i in prange(N * parts, num_threads=threads, schedule="static"):
            n, p = i // parts, i % parts * pixels
            moments = &partial[n, i % parts, 0]
            part_moments(
                moments, moments + G, moments + 2 * G + 2 * W, moments + 2 * G, &x[n, p, 0],
                min(pixels, P - p) * C, W, C, G,
            )
            channel_products(
                moments + 2 * G, moments + 2 * G + W, &dy[n, p, 0], &x[n, p, 0],
                moments + 2 * G + 2 * W, min(pixels, P - p) * C, W, C,
            )
        for j in range(2 * W):
            sums[j] = 0
        for n in range(N):
            group_gradients(
                &table[n, 0, 0], sums, sums + W, &partial[n, 0, 0], partial.shape[2], parts,
                &gamma[0], epsilon, P, C, G, W,
            )
        for j in range(C):
            dgamma[j], dbeta[j] = <real> sums[j], <real> sums[W + j]
        for i in prange(N * parts, num_threads=threads, schedule="static"):
            n, p = i // parts, i % parts * pixels
            group_backward_rows(
                &dx[n, p, 0], &dy[n, p, 0], &x[n, p, 0], &table[n, 0, 0], &table[n, 1, 0],
                &table[n, 2, 0], &table[n, 3, 0], min(pixels, P - p) * C, W,
            )
