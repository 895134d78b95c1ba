"""Batch normalization over all axes but the last. M values a channel, C channels; x is flat.

Few channels would leave lanes of a vector idle, so a row here is several pixels, W numbers wide
with W a multiple of C, and what belongs to a channel is repeated along it. x is cut into parts
of whole rows, by its shape alone; sums over a part are kept in `real`, W of them, and the parts
added in order in double: the bits do not depend on the number of threads. Where `real` turns out
to be too narrow, the argument `wide` does the channels again for which it was.

Longer than most: training, inference and the gradients of both cut rows and parts alike.
"""

from cython.parallel cimport prange
from libc.math cimport sqrt

from fastcnn._kernels._narrow cimport too_narrow, too_narrow_for_gradients
from fastcnn._kernels._short_rows cimport (
    add_short_rows, backward_short_rows, normalize_short_rows, short, sum_short_rows
)
from fastcnn._kernels._stream cimport from_behind, past_caches
from fastcnn._kernels._types cimport (
    LANES, drain, load, prefetch, real, real_out, store, stream, vec
)

cdef enum:
    LANES_OF_ALL = 16           # a multiple of the lanes of every instruction set
    PART = 65536                # numbers in a part, at most
    STEP = 8                    # rows added at a time
    ROWS = 256                  # rows in a part, at most: the terms of a sum in `real`


cdef Py_ssize_t width_of(Py_ssize_t C) noexcept nogil:
    """Return W: whole vectors and 128 numbers or more, unless that takes very long rows."""
    cdef Py_ssize_t fold = LANES_OF_ALL, c = C
    while c % 2 == 0 and fold > 1:
        fold, c = fold // 2, c // 2
    if fold * C > 2048:
        return C
    return fold * C * max(1, 128 // (fold * C))


cdef Py_ssize_t part_of(Py_ssize_t count, Py_ssize_t W) noexcept nogil:
    """Return the numbers in a part: few enough parts to add, enough for the threads."""
    cdef Py_ssize_t rows = min(<Py_ssize_t> PART, count // 16) // W
    return W * max(4, min(rows, <Py_ssize_t> ROWS))


def sizes(Py_ssize_t count, Py_ssize_t C):
    """Return (parts, W) for an x of `count` numbers: the shape of partial sums and tables."""
    cdef Py_ssize_t W = width_of(C), part = part_of(count, W)
    return (count + part - 1) // part, W


cdef void fold_channels(double* channels, double* row, Py_ssize_t W, Py_ssize_t C) noexcept nogil:
    """Add up the repetitions of each channel."""
    cdef Py_ssize_t j, c
    for c in range(C):
        channels[c] = row[c]
    for j in range(C, W):
        channels[j % C] += row[j]


# ---------------------------------------------------------------- statistics of the batch
cdef void part_statistics(
    real_out center, real_out sums, real_out squares, const real* x, Py_ssize_t count, Py_ssize_t W
) noexcept nogil:
    """Write a center near the mean, and the sums of (x - center) and (x - center)^2.

    The center is the mean of the first eighth of the part. That bounds what is lost where it
    differs from the mean of all: (sum of x - center)^2 / n is at most 8 times the sum of
    squared distances from the mean, whatever the numbers, so that at most three bits cancel.
    """
    cdef Py_ssize_t head = max(1, count // W // 8), rows, i, j
    cdef real d
    for j in range(W):
        sums[j], squares[j], center[j] = 0, 0, 0
    if short(W) and count >= W:
        add_short_rows(sums, squares, x, center, head * W)
        for j in range(W):
            center[j] = sums[j]
    else:
        for i in range(head):
            for j in range(min(W, count - i * W)):
                center[j] += x[i * W + j]
    for j in range(W):
        center[j] = center[j] / <real> head
        center[j] = center[j] if center[j] - center[j] == 0 else 0      # not inf - inf below
    i = 0
    if short(W):
        i = count // W * W
        add_short_rows(sums, squares, x, center, i)
    while i + W <= count:
        rows = min(<Py_ssize_t> STEP, (count - i) // W)
        j = STEP * W
        while j < (STEP + rows) * W:            # the next rows, line by line
            prefetch(x + i + j)
            j += 64 // <Py_ssize_t> sizeof(real)
        add_rows(sums, squares, x + i, center, rows, W)
        i += rows * W
    for j in range(count - i):
        d = x[i + j] - center[j]
        sums[j] += d
        squares[j] += d * d


cdef void add_rows(
    real* sums, real* squares, const real* x, const real* center, Py_ssize_t rows, Py_ssize_t W
) noexcept nogil:
    """Add some rows: the sums of a column stay in registers meanwhile."""
    cdef Py_ssize_t whole = W // LANES * LANES, i, j = 0
    cdef vec d, c, total, square
    cdef real d_j
    while j < whole:
        c, total, square = load(center + j), load(sums + j), load(squares + j)
        for i in range(rows):
            d = load(x + i * W + j) - c
            total = total + d
            square = square + d * d
        store(sums + j, total)
        store(squares + j, square)
        j += LANES
    for j in range(whole, W):
        for i in range(rows):
            d_j = x[i * W + j] - center[j]
            sums[j] += d_j
            squares[j] += d_j * d_j


cdef void combine_statistics(
    double* mean, double* variance, double* row, const real[:, :, ::1] partial,
    Py_ssize_t count, Py_ssize_t part, Py_ssize_t C,
) noexcept nogil:
    cdef Py_ssize_t W = partial.shape[2], M = count // C, p, j, n
    cdef double d, terms
    for j in range(W):
        row[j] = 0
    for p in range(partial.shape[0]):
        n = min(part, count - p * part)
        for j in range(W):
            row[j] += (n // W) * <double> partial[p, 0, j] + partial[p, 1, j]
        for j in range(n % W):
            row[j] += partial[p, 0, j]
    fold_channels(mean, row, W, C)
    for j in range(W):
        mean[j] = mean[j] / M if j < C else mean[j - C]
        row[j] = 0
    for p in range(partial.shape[0]):
        n = min(part, count - p * part)
        for j in range(W):
            # The sum of (x - mean)^2, from the sums of (x - center) and (x - center)^2.
            terms = n // W + (j < n % W)
            d = partial[p, 0, j] - mean[j]
            row[j] += partial[p, 2, j] + d * (2 * <double> partial[p, 1, j] + terms * d)
    fold_channels(variance, row, W, C)
    for j in range(C):
        variance[j] = 0 if variance[j] < 0 else variance[j] / M


# ---------------------------------------------------------------- forward
cdef void normalize_part(
    real_out y, const real* x, const real* mean, const real* scale, const real* shift,
    Py_ssize_t count, Py_ssize_t W, bint streaming,
) noexcept nogil:
    cdef Py_ssize_t i = 0, j, at
    if short(W):
        i = count // W * W
        normalize_short_rows(y, x, mean, scale, shift, i, streaming)
    elif streaming:
        while i + W <= count:
            for j in range(W // LANES):
                at = j * LANES
                stream(
                    y + i + at,
                    (load(x + i + at) - load(mean + at)) * load(scale + at) + load(shift + at),
                )
            i += W
    if streaming:
        drain()
    while i < count:
        for j in range(min(W, count - i)):
            y[i + j] = (x[i + j] - mean[j]) * scale[j] + shift[j]
        i += W


cdef void normalize(
    real[::1] y, const real[::1] x, real[:, ::1] table, Py_ssize_t part, int threads
) noexcept nogil:
    cdef Py_ssize_t i, count = x.shape[0]
    cdef bint streaming = past_caches(&y[0], 2 * count, table.shape[1])
    for i in prange(0, count, part, num_threads=threads, schedule="static"):
        normalize_part(
            &y[i], &x[i], &table[0, 0], &table[1, 0], &table[2, 0],
            min(part, count - i), table.shape[1], streaming,
        )


cdef bint statistics(
    real[::1] mean, real[::1] variance, const real[::1] x, const real[::1] gamma,
    const real[::1] beta, double epsilon, real[:, :, ::1] partial, double[:, ::1] sums,
    real[:, ::1] table, int threads,
) noexcept nogil:
    """Write mean and variance, and the rows of table: mean, scale and shift.

    Return whether `real` was too narrow.
    """
    cdef Py_ssize_t C = gamma.shape[0], W = table.shape[1], count = x.shape[0], p, i, j, c
    cdef Py_ssize_t part = part_of(count, W)
    cdef double scale
    cdef bint narrow = False
    for i in prange(partial.shape[0], num_threads=threads, schedule="static"):
        p = from_behind(i, partial.shape[0], threads)
        part_statistics(
            &partial[p, 0, 0], &partial[p, 1, 0], &partial[p, 2, 0], &x[p * part],
            min(part, count - p * part), W,
        )
    combine_statistics(&sums[0, 0], &sums[1, 0], &sums[2, 0], partial, count, part, C)
    for c in range(C):
        mean[c], variance[c] = <real> sums[0, c], <real> sums[1, c]
        narrow = narrow or too_narrow(sums[1, c] + epsilon, gamma[c], sums[0, c], beta[c])
    for j in range(W):
        c = j % C
        scale = gamma[c] / sqrt(sums[1, c] + epsilon)
        table[0, j] = mean[c]
        table[1, j] = <real> scale
        # What the mean loses in rounding goes where it is not lost.
        table[2, j] = <real> (beta[c] - (sums[0, c] - mean[c]) * scale)
    return narrow


def batch_norm_statistics(
    real[::1] mean, real[::1] variance, const real[::1] x, const real[::1] gamma,
    const real[::1] beta, double epsilon, real[:, :, ::1] partial, double[:, ::1] sums,
    real[:, ::1] table, int threads,
):
    """What batch_norm does before it writes y; its y is (x - table[0]) * table[1] + table[2].

    sums[2, 0] tells whether `real` was too narrow: then they are to be made otherwise.
    """
    with nogil:
        sums[2, 0] = statistics(
            mean, variance, x, gamma, beta, epsilon, partial, sums, table, threads
        )


def batch_norm(
    real[::1] y, real[::1] mean, real[::1] variance, const real[::1] x, const real[::1] gamma,
    const real[::1] beta, double epsilon, real[:, :, ::1] partial, double[:, ::1] sums,
    real[:, ::1] table, int threads, wide,
):
    """partial (parts, 3, W), sums (3, W) and table (3, W) are room to work in."""
    cdef bint narrow
    with nogil:
        narrow = statistics(
            mean, variance, x, gamma, beta, epsilon, partial, sums, table, threads
        )
        normalize(y, x, table, part_of(x.shape[0], table.shape[1]), threads)
    if narrow:
        wide(y, mean, variance, x, gamma, beta, epsilon)


def batch_norm_inference(
    real[::1] y, const real[::1] x, const real[::1] gamma, const real[::1] beta,
    const real[::1] mean, const real[::1] variance, double epsilon, real[:, ::1] table,
    int threads, wide,
):
    """table (3, W) is room to work in."""
    cdef Py_ssize_t C = gamma.shape[0], W = table.shape[1], j, c
    cdef bint narrow = False
    with nogil:
        for c in range(C):
            narrow = narrow or too_narrow(variance[c] + epsilon, gamma[c], mean[c], beta[c])
        for j in range(W):
            c = j % C
            table[0, j] = mean[c]
            table[1, j] = <real> (gamma[c] / sqrt(variance[c] + epsilon))
            table[2, j] = beta[c]
        normalize(y, x, table, part_of(x.shape[0], W), threads)
    if narrow:
        wide(y, x, gamma, beta, mean, variance, epsilon)


# ---------------------------------------------------------------- backward
cdef void part_gradients(
    real_out dy_sum, real_out product_sum, const real* dy, const real* x, const real* mean,
    Py_ssize_t count, Py_ssize_t W,
) noexcept nogil:
    """Write the sums of dy and of dy * (x - mean)."""
    cdef Py_ssize_t i = 0, j
    for j in range(W):
        dy_sum[j], product_sum[j] = 0, 0
    if short(W):
        i = count // W * W
        sum_short_rows(dy_sum, product_sum, dy, x, mean, i)
    while i < count:
        for j in range(min(W, count - i)):
            dy_sum[j] += dy[i + j]
            product_sum[j] += dy[i + j] * (x[i + j] - mean[j])
        i += W


cdef bint sum_gradients(
    real[::1] dgamma, real[::1] dbeta, const real[::1] dy, const real[::1] x,
    const real[::1] gamma, const real[::1] mean, const real[::1] variance, double epsilon,
    real[:, :, ::1] partial, double[:, ::1] sums, real[:, ::1] table, int threads,
) noexcept nogil:
    """Fill dgamma and dbeta, and leave them in sums[0] and sums[1], in double.

    Return whether `real` was too narrow.
    """
    cdef Py_ssize_t C = mean.shape[0], W = table.shape[1], count = x.shape[0], p, i, j, c
    cdef Py_ssize_t part = part_of(count, W)
    cdef bint narrow = False
    for j in range(W):
        table[0, j] = mean[j % C]
    for p in prange(partial.shape[0], num_threads=threads, schedule="static"):
        part_gradients(
            &partial[p, 0, 0], &partial[p, 1, 0], &dy[p * part], &x[p * part], &table[0, 0],
            min(part, count - p * part), W,
        )
    for i in range(2):
        for j in range(W):
            sums[2, j] = 0
        for p in range(partial.shape[0]):
            for j in range(W):
                sums[2, j] += partial[p, 1 - i, j]
        fold_channels(&sums[i, 0], &sums[2, 0], W, C)
    for c in range(C):
        sums[0, c] /= sqrt(variance[c] + epsilon)
        dgamma[c], dbeta[c] = <real> sums[0, c], <real> sums[1, c]
        narrow = narrow or too_narrow_for_gradients(
            variance[c] + epsilon, gamma[c], sums[0, c], sums[1, c], count // C
        )
    return narrow


cdef void backward_part(
    real_out dx, const real* dy, const real* x, const real* mean, const real* offset,
    const real* scale, const real* slope, Py_ssize_t count, Py_ssize_t W, bint streaming,
) noexcept nogil:
    cdef Py_ssize_t i = 0, j, at
    if short(W):
        i = count // W * W
        backward_short_rows(dx, dy, x, mean, offset, scale, slope, i, streaming)
    elif streaming:
        while i + W <= count:
            for j in range(W // LANES):
                at = j * LANES
                stream(
                    dx + i + at,
                    load(dy + i + at) * load(scale + at)
                    - ((load(x + i + at) - load(mean + at)) * load(slope + at) + load(offset + at)),
                )
            i += W
    if streaming:
        drain()
    while i < count:
        for j in range(min(W, count - i)):
            dx[i + j] = dy[i + j] * scale[j] - ((x[i + j] - mean[j]) * slope[j] + offset[j])
        i += W


def batch_norm_backward(
    real[::1] dx, real[::1] dgamma, real[::1] dbeta, const real[::1] dy, const real[::1] x,
    const real[::1] gamma, const real[::1] mean, const real[::1] variance, double epsilon,
    real[:, :, ::1] partial, double[:, ::1] sums, real[:, ::1] table, int threads, wide,
):
    """dx = gamma / s * (dy - dbeta / M - (x - mean) / s * dgamma / M), s^2 = variance + epsilon.

    partial (parts, 2, W), sums (3, W) and table (4, W) are room to work in.
    """
    cdef Py_ssize_t C = mean.shape[0], W = table.shape[1], count = x.shape[0], i, j, c
    cdef Py_ssize_t part = part_of(count, W), M = count // C
    cdef bint streaming = past_caches(&dx[0], 3 * count, W)
    cdef double s
    cdef bint narrow
    with nogil:
        narrow = sum_gradients(
            dgamma, dbeta, dy, x, gamma, mean, variance, epsilon, partial, sums, table, threads
        )
        for j in range(W):
            c = j % C
            s = sqrt(variance[c] + epsilon)
            table[1, j] = <real> (gamma[c] / s * sums[1, c] / M)
            table[2, j] = <real> (gamma[c] / s)
            table[3, j] = <real> (gamma[c] / s / s * sums[0, c] / M)
        for i in prange(0, count, part, num_threads=threads, schedule="static"):
            backward_part(
                &dx[i], &dy[i], &x[i], &table[0, 0], &table[1, 0], &table[2, 0], &table[3, 0],
                min(part, count - i), W, streaming,
            )
    if narrow:
        wide(dx, dgamma, dbeta, dy, x, gamma, mean, variance, epsilon)


cdef void scale_part(
    real_out dx, const real* dy, const real* scale, Py_ssize_t count, Py_ssize_t W
) noexcept nogil:
    cdef Py_ssize_t i = 0, j
    while i < count:
        for j in range(min(W, count - i)):
            dx[i + j] = dy[i + j] * scale[j]
        i += W


def batch_norm_inference_backward(
    real[::1] dx, real[::1] dgamma, real[::1] dbeta, const real[::1] dy, const real[::1] x,
    const real[::1] gamma, const real[::1] mean, const real[::1] variance, double epsilon,
    real[:, :, ::1] partial, double[:, ::1] sums, real[:, ::1] table, int threads, wide,
):
    """dx = gamma / sqrt(variance + epsilon) * dy; room to work in as in batch_norm_backward."""
    cdef Py_ssize_t C = mean.shape[0], W = table.shape[1], count = x.shape[0], i, j
    cdef Py_ssize_t part = part_of(count, W)
    cdef bint narrow
    with nogil:
        narrow = sum_gradients(
            dgamma, dbeta, dy, x, gamma, mean, variance, epsilon, partial, sums, table, threads
        )
        for j in range(W):
            table[1, j] = <real> (gamma[j % C] / sqrt(variance[j % C] + epsilon))
        for i in prange(0, count, part, num_threads=threads, schedule="static"):
            scale_part(&dx[i], &dy[i], &table[1, 0], min(part, count - i), W)
    if narrow:
        wide(dx, dgamma, dbeta, dy, x, gamma, mean, variance, epsilon, False)
