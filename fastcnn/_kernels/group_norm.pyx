"""Group normalization. N samples, P pixels of each, C channels in G groups of S, side by side.

The pixels of a sample are cut into parts, by shape alone, which stay in the caches and are work for
several threads. Sums of a part are kept in `real` and joined in double, as by Chan, Golub and
LeVeque, 1979: the squares about the mean of all are those of each part about its own, and what that
lies away. Where `real` is too narrow, the argument `wide` does the samples again for which it was.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport fabs, sqrt
from libc.stdint cimport uint8_t

from fastcnn._kernels._group_sums cimport join_moments, pixels_in_part, row_width, sum_part
from fastcnn._kernels._narrow cimport too_narrow
from fastcnn._kernels._types cimport real, real_out


def group_norm_sizes(Py_ssize_t P, Py_ssize_t C):
    """Return (parts of a sample, W)."""
    cdef Py_ssize_t pixels = pixels_in_part(P, C)
    return (P + pixels - 1) // pixels, row_width(P, C)


cdef bint any_of(const uint8_t[::1] flags) noexcept nogil:
    cdef Py_ssize_t n
    for n in range(flags.shape[0]):
        if flags[n]:
            return True
    return False


# ---------------------------------------------------------------- forward
cdef bint write_table(
    real* table, const double* mean, const double* variance, const real* gamma, const real* beta,
    double epsilon, Py_ssize_t W, Py_ssize_t C, Py_ssize_t G,
) noexcept nogil:
    """Write mean, scale and shift (3, W) of a sample; return whether `real` was too narrow."""
    cdef Py_ssize_t S = C // G, g, j
    cdef double s
    cdef bint narrow = False
    for g in range(G):
        s = 1 / sqrt(variance[g] + epsilon)
        for j in range(g * S, (g + 1) * S):
            narrow = narrow or too_narrow(variance[g] + epsilon, gamma[j], mean[g], beta[j])
            table[j], table[W + j] = <real> mean[g], <real> (gamma[j] * s)
            # What the mean loses in rounding goes where it is not lost.
            table[2 * W + j] = <real> (beta[j] - (mean[g] - table[j]) * (gamma[j] * s))
    repeat_channels(table, 3, W, C)
    return narrow


cdef void repeat_channels(real* table, Py_ssize_t rows, Py_ssize_t W, Py_ssize_t C) noexcept nogil:
    """Fill rows of which the first pixel is there."""
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(C, W):
            table[i * W + j] = table[i * W + j - C]


cdef void scale_pixels(
    real_out y, const real* x, const real* mean, const real* scale, const real* shift,
    Py_ssize_t count, Py_ssize_t W,
) noexcept nogil:
    cdef Py_ssize_t i = 0, j
    while i < count:
        for j in range(min(W, count - i)):
            y[i + j] = (x[i + j] - mean[j]) * scale[j] + shift[j]
        i += W


def group_norm(
    real[:, :, ::1] y, const real[:, :, ::1] x, const real[::1] gamma, const real[::1] beta,
    Py_ssize_t G, double epsilon, double[:, :, ::1] partial, real[:, :, ::1] table,
    real[:, ::1] room, uint8_t[::1] narrow, int threads, wide,
):
    """To work in: partial (N, 1 + parts, 2 * G), table (N, 3, W), room (threads, 5 * W), narrow."""
    cdef Py_ssize_t N = x.shape[0], P = x.shape[1], C = x.shape[2], W = table.shape[2]
    cdef Py_ssize_t parts = partial.shape[1] - 1, step = partial.shape[2]
    cdef Py_ssize_t pixels = pixels_in_part(P, C), n, p, i
    with nogil:
        for i in prange(N * parts, num_threads=threads, schedule="static"):
            n, p = i // parts, i % parts
            sum_part(
                &partial[n, 1 + p, 0], &room[threadid(), 0], &x[n, p * pixels, 0], NULL,
                min(pixels, P - p * pixels) * C, W, C, G,
            )
        for n in range(N):
            join_moments(&partial[n, 0, 0], &partial[n, 1, 0], step, parts, P, C, G)
            narrow[n] = write_table(
                &table[n, 0, 0], &partial[n, 0, 0], &partial[n, 0, G], &gamma[0], &beta[0],
                epsilon, W, C, G,
            )
        for i in prange(N * parts, num_threads=threads, schedule="static"):
            n, p = i // parts, i % parts * pixels
            scale_pixels(
                &y[n, p, 0], &x[n, p, 0], &table[n, 0, 0], &table[n, 1, 0], &table[n, 2, 0],
                min(pixels, P - p) * C, W,
            )
    if any_of(narrow):
        wide(y, x, gamma, beta, G, epsilon, narrow)


# ---------------------------------------------------------------- backward
cdef void join_sums(
    double* sums, const double* mean, const double* partial, Py_ssize_t step, Py_ssize_t parts,
    Py_ssize_t C, Py_ssize_t G,
) noexcept nogil:
    """Write the sums of dy and of dy * (x - mean) (2, C) of a sample; partial: as there."""
    cdef Py_ssize_t S = C // G, p, g, j
    cdef const double* part
    cdef double d
    for j in range(2 * C):
        sums[j] = 0
    for p in range(parts):
        part = partial + p * step
        for j in range(2 * C):
            sums[j] += part[2 * G + j]
        for g in range(G):
            d = part[g] - mean[g]
            if d != 0:              # what is infinite would be NaN times 0
                for j in range(g * S, (g + 1) * S):
                    sums[C + j] += d * part[2 * G + j]


cdef bint within(double value, double low, double high) noexcept nogil:
    return value == 0 or low < fabs(value) < high


cdef bint write_slopes(
    real* table, double* dgamma, double* dbeta, const double* total, const real* gamma,
    double epsilon, Py_ssize_t P, Py_ssize_t W, Py_ssize_t C, Py_ssize_t G,
) noexcept nogil:
    """Write mean, scale, slope and offset (4, W) of a sample, and add to the other gradients.

    dx = dy * scale - ((x - mean) * slope + offset). total: mean and variance (2, G), and sums of dy
    and of dy * (x - mean) (2, C). Return whether `real` was too narrow.
    """
    cdef Py_ssize_t S = C // G, g, j
    cdef const double* sums = total + 2 * G
    cdef double spread, s, slope, offset
    cdef bint fits = True
    for g in range(G):
        spread, slope, offset = total[G + g] + epsilon, 0, 0
        s = 1 / sqrt(spread)
        for j in range(g * S, (g + 1) * S):
            dgamma[j] += sums[C + j] * s
            dbeta[j] += sums[j]
            slope += gamma[j] * (sums[C + j] * s)
            offset += gamma[j] * sums[j]
            fits = (
                fits and within(gamma[j] * s, 1e-37, 1e38) and within(sums[j], 1e-20, 1e25)
                and fabs(sums[C + j] * s) < 1e30
            )
        slope, offset = s * s * (slope / (P * S)), s * (offset / (P * S))
        fits = (
            fits and 1e-14 < spread < 1e16 and fabs(total[g]) < 1e30
            and within(slope, 1e-37, 1e30) and fabs(offset) < 1e30
        )
        for j in range(g * S, (g + 1) * S):
            table[j], table[W + j] = <real> total[g], <real> (gamma[j] * s)
            table[2 * W + j] = <real> slope
            table[3 * W + j] = <real> (offset - (total[g] - table[j]) * slope)
    repeat_channels(table, 4, W, C)
    return sizeof(real) == 4 and not fits


cdef void slope_pixels(
    real_out dx, const real* dy, const real* x, const real* mean, const real* scale,
    const real* slope, const real* offset, Py_ssize_t count, Py_ssize_t W,
) noexcept nogil:
    cdef Py_ssize_t i = 0, j
    while i < count:
        for j in range(min(W, count - i)):
            dx[i + j] = dy[i + j] * scale[j] - ((x[i + j] - mean[j]) * slope[j] + offset[j])
        i += W


def group_norm_backward(
    real[:, :, ::1] dx, real[::1] dgamma, real[::1] dbeta, const real[:, :, ::1] dy,
    const real[:, :, ::1] x, const real[::1] gamma, Py_ssize_t G, double epsilon,
    double[:, :, ::1] partial, double[:, ::1] sums, real[:, :, ::1] table, real[:, ::1] room,
    uint8_t[::1] narrow, int threads, wide,
):
    """To work in: partial (N, 1 + parts, 2 * G + 2 * C), sums (2, C), and the others as above, with
    a table (N, 4, W).
    """
    cdef Py_ssize_t N = x.shape[0], P = x.shape[1], C = x.shape[2], W = table.shape[2]
    cdef Py_ssize_t parts = partial.shape[1] - 1, step = partial.shape[2]
    cdef Py_ssize_t pixels = pixels_in_part(P, C), n, p, i
    with nogil:
        for i in prange(N * parts, num_threads=threads, schedule="static"):
            n, p = i // parts, i % parts
            sum_part(
                &partial[n, 1 + p, 0], &room[threadid(), 0], &x[n, p * pixels, 0],
                &dy[n, p * pixels, 0], min(pixels, P - p * pixels) * C, W, C, G,
            )
        for i in range(C):
            sums[0, i], sums[1, i] = 0, 0
        for n in range(N):
            join_moments(&partial[n, 0, 0], &partial[n, 1, 0], step, parts, P, C, G)
            join_sums(
                &partial[n, 0, 2 * G], &partial[n, 0, 0], &partial[n, 1, 0], step, parts, C, G
            )
            narrow[n] = write_slopes(
                &table[n, 0, 0], &sums[0, 0], &sums[1, 0], &partial[n, 0, 0], &gamma[0], epsilon,
                P, W, C, G,
            )
        for i in range(C):
            dgamma[i], dbeta[i] = <real> sums[0, i], <real> sums[1, i]
        for i in prange(N * parts, num_threads=threads, schedule="static"):
            n, p = i // parts, i % parts * pixels
            slope_pixels(
                &dx[n, p, 0], &dy[n, p, 0], &x[n, p, 0], &table[n, 0, 0], &table[n, 1, 0],
                &table[n, 2, 0], &table[n, 3, 0], min(pixels, P - p) * C, W,
            )
    if any_of(narrow):
        wide(dx, dgamma, dbeta, dy, x, gamma, G, epsilon, narrow)
