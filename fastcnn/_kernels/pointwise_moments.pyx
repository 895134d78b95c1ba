"""1x1 convolution + batch normalization: the statistics, and gradients, without the convolution.

M pixels; C channels in; K filters. Every output is z = w . x + b, so that mean and variance of z
follow from the first and second moments of the pixels: conv_norm_block.pyx has the formulas, and
folds the norm into the weights. The sums are over products of float32 numbers in double, each of
which is exact: this module is for float32 images and compiled for float64 alone.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport fabs, sqrt
from libc.string cimport memset

from fastcnn._kernels._tile cimport ROWS, tile, vectors_of
from fastcnn._kernels._types cimport LANES, VECTORS, real

cdef enum:
    BLOCK = 128                 # pixels whose numbers stay in the caches while they are multiplied
    MOST_PARTS = 16             # of all pixels
    WIDEST = 64                 # lanes of a tile, at most


cdef Py_ssize_t pitch_of(Py_ssize_t C) noexcept nogil:
    return vectors_of(C) * LANES


cdef Py_ssize_t parts_of(Py_ssize_t M) noexcept nogil:
    return min(<Py_ssize_t> MOST_PARTS, (M + BLOCK - 1) // BLOCK)


cdef void widen(
    real* block, real* sums, const float* x, Py_ssize_t count, Py_ssize_t C
) noexcept nogil:
    """Write some pixels in double, and add them up."""
    cdef Py_ssize_t pitch = pitch_of(C), c, _
    for _ in range(count):
        for c in range(C):
            block[c] = x[c]
        for c in range(C):
            sums[c] += block[c]
        block += pitch
        x += C


cdef void add_block(
    real* sums, const real* block, Py_ssize_t count, Py_ssize_t C
) noexcept nogil:
    """Add the products of two channels: those on the diagonal and right of it, and a few more."""
    cdef Py_ssize_t pitch = pitch_of(C), vectors = vectors_of(C), row = 0, v, i, run = 0
    cdef const real* a[ROWS]
    cdef const real* init[ROWS]
    cdef real* to[ROWS]
    cdef real spare[WIDEST]
    memset(spare, 0, sizeof(spare))
    while row < C:
        v = row // LANES
        while v < vectors:
            for i in range(ROWS):       # a short last tile repeats its last row, to a spare one
                a[i] = block + min(row + i, C - 1)
                to[i] = spare
                if row + i < C:
                    to[i] = sums + (row + i) * pitch + v * LANES
                init[i] = to[i]
            tile(min(<Py_ssize_t> VECTORS, vectors - v), to, init, a, &run, pitch,
                 block + v * LANES, &run, pitch, 1, count)
            v += VECTORS
        row += ROWS


cdef void run_part(
    real* sums, real* block, const float* x, Py_ssize_t count, Py_ssize_t C
) noexcept nogil:
    """Add up some pixels: rows of their numbers first, then of products."""
    cdef Py_ssize_t pixels
    while count > 0:
        pixels = min(<Py_ssize_t> BLOCK, count)
        widen(block, sums, x, pixels, C)
        add_block(sums + pitch_of(C), block, pixels, C)
        x += pixels * C
        count -= pixels


def workspace_size(Py_ssize_t M, Py_ssize_t C, int threads):
    """Return how many numbers of workspace the moments take."""
    return pitch_of(C) * (parts_of(M) * (1 + C) + threads * BLOCK)


def moments(
    real[:, ::1] sums, const float[:, :, :, ::1] x, real[::1] workspace, int threads,
):
    """Write the sums (1 + C, C) over all pixels: of their numbers, and of products of two."""
    cdef Py_ssize_t C = x.shape[3], M = x.shape[0] * x.shape[1] * x.shape[2], pitch = pitch_of(C)
    cdef Py_ssize_t parts = parts_of(M), size = (1 + C) * pitch, part, m, i, j
    cdef const float* x_0 = &x[0, 0, 0, 0]
    cdef real* first = &workspace[0]
    cdef real* blocks = first + parts * size
    memset(first, 0, (parts * size + threads * BLOCK * pitch) * sizeof(real))
    for part in prange(parts, nogil=True, num_threads=threads, schedule="dynamic"):
        m = part * M // parts
        run_part(first + part * size, blocks + threadid() * BLOCK * pitch, x_0 + m * C,
                 (part + 1) * M // parts - m, C)
    for part in range(1, parts):
        for i in range(size):
            first[i] += first[part * size + i]
    for j in range(C):
        sums[0, j] = first[j]
    for i in range(C):
        for j in range(i, C):
            sums[1 + i, j] = first[(1 + i) * pitch + j]
            sums[1 + j, i] = sums[1 + i, j]


def gradients(
    float[:, ::1] dw, float[::1] dgamma, float[::1] dbeta, float[:, ::1] away,
    float[::1] offset, const float[:, :, ::1] products, const real[:, ::1] dy_sums,
    const real[:, ::1] sums, const float[::1] center, const float[:, ::1] w,
    const float[::1] gamma, const float[::1] mean, const float[::1] variance, double epsilon,
    Py_ssize_t M, real[:, ::1] workspace,
):
    """Write the gradients of w, gamma and beta, and what the gradient of x still lacks.

    With dy of the normalized z, dz = gamma / s * (dy - sum(dy) / M - xhat * dgamma / M), where
    xhat = (z - mean) / s and dgamma = sum(dy * xhat). z - mean is w . (x - m), with m the mean of
    the pixels. So dw is made of the sums of dy * (x - m), and of the moments; and dx, where all of
    dy has been multiplied with gamma / s * w, lacks (x - m) . away + offset.

    products (parts, C, K) and dy_sums (parts, K) are sums of dy * (x - center) and of dy, center
    being m as float32 has it. away is (C, C). The workspace is (3 * C + 4, K).
    Return whether float32 holds all that stands between.
    """
    cdef Py_ssize_t C = w.shape[0], K = w.shape[1], part, i, j, k
    cdef real* total = &workspace[2 * C, 0]     # of dy
    cdef real* dots = total + K                 # sum of dy * (z - mean), then dgamma / (M * s)
    cdef real* scale = dots + K
    cdef real* row = scale + K
    cdef real* turned = row + K                 # w, by filters
    cdef real* weights                          # of a channel, times scale and dots
    cdef real* dw_norm
    cdef real m, s, number, rest
    cdef bint fits = True
    for k in range(K):
        total[k], dots[k] = 0, 0
        for part in range(dy_sums.shape[0]):
            total[k] += dy_sums[part, k]
        fits &= fabs(total[k]) < 1e38
    for i in range(C):
        m = sums[0, i] / M
        dw_norm = &workspace[i, 0]
        for k in range(K):
            dw_norm[k] = (center[i] - m) * total[k]
        for part in range(products.shape[0]):
            for k in range(K):
                dw_norm[k] += products[part, i, k]
        for k in range(K):
            dots[k] += w[i, k] * dw_norm[k]
            fits &= fabs(dw_norm[k]) < 1e38
    for k in range(K):
        s = sqrt(variance[k] + epsilon)
        scale[k] = gamma[k] / s
        fits &= fabs(scale[k]) < 1e8 and (scale[k] == 0 or fabs(scale[k]) > 1e-37)
        fits &= 1e-7 < s < 1e8 and fabs(mean[k]) < 1e30
        dgamma[k], dbeta[k] = <float> (dots[k] / s), <float> total[k]
        dots[k] = dots[k] / s / s / M
    for i in range(C):
        m = sums[0, i] / M
        dw_norm, weights = &workspace[i, 0], &workspace[C + i, 0]
        rest = 0
        for k in range(K):
            row[k] = 0
            number = w[i, k] * scale[k]
            # A weight of a usual size that has become next to nothing may meet large numbers.
            fits &= scale[k] == 0 or fabs(w[i, k]) < 1e-20 or 1e-37 < fabs(number) < 1e38
            rest += number * total[k]
            weights[k] = number * dots[k]
        offset[i] = <float> (-rest / M)
        fits &= fabs(rest) < 1e38
        for j in range(C):
            number = sums[1 + i, j] - m * sums[0, j]
            for k in range(K):
                row[k] += number * w[j, k]
        for k in range(K):
            dw[i, k] = <float> (scale[k] * (dw_norm[k] - dots[k] * row[k]))
    for k in range(K):
        for j in range(C):
            turned[k * C + j] = w[j, k]
    for i in range(C):
        weights = &workspace[C + i, 0]
        for j in range(C):
            row[j] = 0
        for k in range(K):
            for j in range(C):
                row[j] -= weights[k] * turned[k * C + j]
        for j in range(C):
            away[i, j] = <float> row[j]
            fits &= row[j] == 0 or 1e-30 < fabs(row[j]) < 1e38
    return fits
