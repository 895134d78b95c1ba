# The sums of group normalization. N samples, P pixels of each, C channels in G groups of S.
#
# Sums go over rows, W numbers wide with W a multiple of C: several pixels, where few channels would
# leave lanes of a vector idle. They are of distances from a center, and kept in `real`.
from libc.string cimport memset

from fastcnn._kernels._types cimport LANES, load, real, real_out, store, vec

cdef enum:
    GROUPED_LANES = 16          # a multiple of the lanes of every instruction set
    GROUPED_PART = 16384        # numbers in a part, at most, unless one pixel has more
    GROUPED_WIDTH = 64          # numbers in a row, at least, unless a part has fewer
    GROUPED_STEP = 8            # rows added at a time


cdef inline Py_ssize_t pixels_in_part(Py_ssize_t P, Py_ssize_t C) noexcept nogil:
    return min(P, max(1, GROUPED_PART // C))


cdef inline Py_ssize_t row_width(Py_ssize_t P, Py_ssize_t C) noexcept nogil:
    """Return W: whole vectors, unless that takes many pixels."""
    cdef Py_ssize_t fold = GROUPED_LANES, c = C
    while c % 2 == 0 and fold > 1:
        fold, c = fold // 2, c // 2
    if fold * C > 512:
        fold = 1
    return C * min(pixels_in_part(P, C), fold * max(1, GROUPED_WIDTH // (fold * C)))


cdef inline void add_distances(
    real_out sums, const real* x, const real* center, Py_ssize_t rows, Py_ssize_t W
) noexcept nogil:
    """Add the distances d of some rows, and d * d, to sums (2, W)."""
    cdef Py_ssize_t whole = W // LANES * LANES, i, j = 0
    cdef vec c, d, total, square
    cdef real d_j
    while j < whole:
        c, total, square = load(center + j), load(sums + j), load(sums + W + j)
        for i in range(rows):
            d = load(x + i * W + j) - c
            total, square = total + d, square + d * d
        store(sums + j, total)
        store(sums + W + j, square)
        j += LANES
    for j in range(whole, W):
        for i in range(rows):
            d_j = x[i * W + j] - center[j]
            sums[j] += d_j
            sums[W + j] += d_j * d_j


cdef inline void add_all(
    real_out sums, const real* x, const real* center, const real* dy, Py_ssize_t rows, Py_ssize_t W
) noexcept nogil:
    """Add those of rows, and dy and dy * d, to sums (4, W)."""
    cdef Py_ssize_t whole = W // LANES * LANES, i, j = 0
    cdef vec c, d, e, total, square, gradient, product
    cdef real d_j, e_j
    while j < whole:
        c, total, square = load(center + j), load(sums + j), load(sums + W + j)
        gradient, product = load(sums + 2 * W + j), load(sums + 3 * W + j)
        for i in range(rows):
            d, e = load(x + i * W + j) - c, load(dy + i * W + j)
            total, square = total + d, square + d * d
            gradient, product = gradient + e, product + e * d
        store(sums + j, total)
        store(sums + W + j, square)
        store(sums + 2 * W + j, gradient)
        store(sums + 3 * W + j, product)
        j += LANES
    for j in range(whole, W):
        for i in range(rows):
            d_j, e_j = x[i * W + j] - center[j], dy[i * W + j]
            sums[j] += d_j
            sums[W + j] += d_j * d_j
            sums[2 * W + j] += e_j
            sums[3 * W + j] += e_j * d_j


cdef inline void add_pixels(
    real* sums, const real* x, const real* center, const real* dy, Py_ssize_t count, Py_ssize_t W
) noexcept nogil:
    """Write the sums of a part, (2, W), or (4, W) with a dy that is not NULL."""
    cdef Py_ssize_t i = 0, rows, j, rest
    cdef real d
    memset(sums, 0, (2 if dy == NULL else 4) * W * sizeof(real))
    while i + W <= count:
        rows = min(<Py_ssize_t> GROUPED_STEP, (count - i) // W)
        if dy == NULL:
            add_distances(sums, x + i, center, rows, W)
        else:
            add_all(sums, x + i, center, dy + i, rows, W)
        i += rows * W
    rest = count - i
    for j in range(rest):
        d = x[i + j] - center[j]
        sums[j] += d
        sums[W + j] += d * d
    if dy != NULL:
        for j in range(rest):
            sums[2 * W + j] += dy[i + j]
            sums[3 * W + j] += dy[i + j] * (x[i + j] - center[j])


cdef inline void spread_out(
    real* row, Py_ssize_t W, Py_ssize_t C, Py_ssize_t S
) noexcept nogil:
    """Write the number at the first channel of each group of a row to all its channels."""
    cdef Py_ssize_t g, j
    for g in range(C // S):
        for j in range(g * S + 1, (g + 1) * S):
            row[j] = row[g * S]
    for j in range(C, W):
        row[j] = row[j - C]


cdef inline bint group_moments(
    double* mean, double* squares, const real* sums, const real* center, Py_ssize_t count,
    Py_ssize_t W, Py_ssize_t C, Py_ssize_t G,
) noexcept nogil:
    """Write mean and squares of each group, and return whether more than three bits canceled."""
    cdef Py_ssize_t S = C // G, n = count // G, g, j, pixel
    cdef double away
    cdef bint far = False
    for g in range(G):
        mean[g], squares[g] = 0, 0
        for pixel in range(W // C):
            for j in range(pixel * C + g * S, pixel * C + (g + 1) * S):
                mean[g] += sums[j]
                squares[g] += sums[W + j]
        away = mean[g] / n
        mean[g] = center[g * S] + away
        squares[g] -= away * away * n
        far = far or away * away * n > 8 * squares[g]
        squares[g] = 0 if squares[g] < 0 else squares[g]
    return far


cdef inline void sum_part(
    double* part, real* room, const real* x, const real* dy, Py_ssize_t count, Py_ssize_t W,
    Py_ssize_t C, Py_ssize_t G,
) noexcept nogil:
    """Write means and squares (2, G) and, with dy, sums of dy and of dy * (x - mean) (2, C).

    The center is the first number of each group; where it lies far off, the mean, in a second look.
    room is (5, W).
    """
    cdef real* center = room + 4 * W
    cdef double* sums = part + 2 * G
    cdef Py_ssize_t S = C // G, g, j, pixel
    cdef double away
    for g in range(G):
        center[g * S] = x[g * S]
    spread_out(center, W, C, S)
    add_pixels(room, x, center, dy, count, W)
    if group_moments(part, part + G, room, center, count, W, C, G):
        for g in range(G):
            center[g * S] = <real> part[g]
        spread_out(center, W, C, S)
        add_pixels(room, x, center, dy, count, W)
        group_moments(part, part + G, room, center, count, W, C, G)
    if dy == NULL:
        return
    for j in range(C):
        sums[j], sums[C + j] = 0, 0
    for pixel in range(W // C):
        for j in range(C):
            sums[j] += room[2 * W + pixel * C + j]
            sums[C + j] += room[3 * W + pixel * C + j]
    for g in range(G):
        away = part[g] - center[g * S]
        if away != 0:                   # what is infinite would be NaN times 0
            for j in range(g * S, (g + 1) * S):
                sums[C + j] -= away * sums[j]


cdef inline void join_moments(
    double* mean, const double* partial, Py_ssize_t step, Py_ssize_t parts, Py_ssize_t P,
    Py_ssize_t C, Py_ssize_t G,
) noexcept nogil:
    """Write mean and variance (2, G) of a sample, of what sum_part wrote of all parts, by steps."""
    cdef double* variance = mean + G
    cdef Py_ssize_t pixels = pixels_in_part(P, C), p, g
    cdef const double* part
    cdef double d, share
    for g in range(G):
        mean[g], variance[g] = 0, 0
    for p in range(parts):
        part, share = partial + p * step, <double> min(pixels, P - p * pixels) / P
        for g in range(G):
            mean[g] += part[g] * share
    for p in range(parts):
        part, share = partial + p * step, <double> min(pixels, P - p * pixels) / P
        for g in range(G):
            d = part[g] - mean[g]
            variance[g] += part[G + g] / (P * (C // G)) + d * d * share
