"""Convolution + batch normalization + ReLU + max-pool: the statistics, without the convolution.

N batch; H W input height and width; C channels in; P Q height and width of the convolution;
R S kernel height and width; K filters. A patch is the L = R*S*C numbers that an output sees,
M = N*P*Q of them; every output is z = w . patch + b.

So mean and variance of z follow from the first and second moments of the patches: mean = w . m + b
and variance = w . V w, where m is the mean of the patches and V their covariance. Where L is
small the moments cost far less than to write z and to read it again, and the gradients need no z
either. They are sums of products of float32 numbers in double, where each product is exact: this
module is for float32 images and compiled for float64 alone.

Longer than most: what makes the moments and the two that read them share one layout.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport fabs, sqrt
from libc.string cimport memset

from fastcnn._kernels._narrow cimport beyond_float
from fastcnn._kernels._types cimport (
    LANES, greater, load, mask, real, splat, store, vec, where
)

cdef enum:
    CHUNK = 512                 # places at a time, whose numbers stay in L1 meanwhile
    TILE = 3                    # a tile of products: 3 by 3 numbers of a patch
    MOST_PARTS = 16             # of a batch


cdef struct Geometry:
    Py_ssize_t N, H, W, C, P, Q, R, S
    Py_ssize_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w
    # Of a padded image, planes: one for each channel and place within the strides, so that each
    # number of a patch is found in its plane at the place of the output, plus an offset.
    Py_ssize_t rows, columns    # of a plane
    Py_ssize_t behind           # numbers behind all planes that are read,
    Py_ssize_t planes           # and of all planes with these
    Py_ssize_t places           # of outputs and, at the ends of their rows, of none
    Py_ssize_t L                # numbers of a patch
    Py_ssize_t tiles            # along a side of the products: L / TILE, rounded up
    Py_ssize_t sums             # of a part: of numbers, and of products in tiles
    Py_ssize_t parts


cdef void plan(Geometry* g) noexcept nogil:
    """Set what follows from the sizes."""
    g.rows = g.P + (g.R - 1) * g.dilation_h // g.stride_h
    g.columns = g.Q + (g.S - 1) * g.dilation_w // g.stride_w
    g.places = (g.P * g.columns + LANES - 1) // LANES * LANES
    g.behind = g.columns - g.Q + LANES
    g.planes = g.rows * g.columns * g.stride_h * g.stride_w * g.C + g.behind
    g.L = g.R * g.S * g.C
    g.tiles = (g.L + TILE - 1) // TILE
    g.sums = TILE * g.tiles + TILE * TILE * (g.tiles * (g.tiles + 1) // 2)
    g.parts = min(g.N, <Py_ssize_t> MOST_PARTS)


cdef Py_ssize_t offset(const Geometry* g, Py_ssize_t j) noexcept nogil:
    """Return where number j of the first patch lies in the planes; those after L repeat it."""
    cdef Py_ssize_t c = min(j, g.L - 1) % g.C, s = min(j, g.L - 1) // g.C % g.S
    cdef Py_ssize_t row = min(j, g.L - 1) // (g.C * g.S) * g.dilation_h, column = s * g.dilation_w
    cdef Py_ssize_t plane = (row % g.stride_h * g.stride_w + column % g.stride_w) * g.C + c
    return (plane * g.rows + row // g.stride_h) * g.columns + column // g.stride_w


cdef void copy_row(
    real* out, const float* x, Py_ssize_t count, Py_ssize_t step, Py_ssize_t place,
    Py_ssize_t width
) noexcept nogil:
    """Write x at `count` places of a row, `step` apart from `place` on: 0 outside its width."""
    cdef Py_ssize_t first = 0, end = count, q
    while first < end and place + first * step < 0:
        first += 1
    while end > first and place + (end - 1) * step >= width:
        end -= 1
    for q in range(first):
        out[q] = 0
    x += place
    if step == 1:
        for q in range(first, end):
            out[q] = x[q]
    else:
        for q in range(first, end):
            out[q] = x[q * step]
    for q in range(end, count):
        out[q] = 0


cdef void copy_image(const Geometry* g, real* planes, const float* x) noexcept nogil:
    """Write the planes of an image."""
    cdef Py_ssize_t i, j, c, p, row
    for i in range(g.stride_h):
        for j in range(g.stride_w):
            for c in range(g.C):
                for p in range(g.rows):
                    row = p * g.stride_h + i - g.pad_top
                    if 0 <= row < g.H:
                        copy_row(planes, x + row * g.W * g.C + c, g.columns, g.stride_w * g.C,
                                 (j - g.pad_left) * g.C, g.W * g.C)
                    else:
                        memset(planes, 0, g.columns * sizeof(real))
                    planes += g.columns
    memset(planes, 0, g.behind * sizeof(real))


cdef void add_tile(
    real* sums, const real* planes, const Py_ssize_t* a, const Py_ssize_t* b, const real* ones,
    Py_ssize_t count
) noexcept nogil:
    """Add the products of three numbers of patches with three, lane by lane."""
    cdef vec s0 = load(sums), s1 = load(sums + LANES), s2 = load(sums + 2 * LANES)
    cdef vec s3 = load(sums + 3 * LANES), s4 = load(sums + 4 * LANES)
    cdef vec s5 = load(sums + 5 * LANES), s6 = load(sums + 6 * LANES)
    cdef vec s7 = load(sums + 7 * LANES), s8 = load(sums + 8 * LANES)
    cdef const real* a0 = planes + a[0]
    cdef const real* a1 = planes + a[1]
    cdef const real* a2 = planes + a[2]
    cdef const real* b0 = planes + b[0]
    cdef const real* b1 = planes + b[1]
    cdef const real* b2 = planes + b[2]
    cdef vec x0, x1, x2, y, zero = splat(0)
    cdef mask inside
    cdef Py_ssize_t i = 0
    while i < count:
        inside = greater(load(ones + i), zero)
        x0 = where(inside, load(b0 + i), zero)
        x1 = where(inside, load(b1 + i), zero)
        x2 = where(inside, load(b2 + i), zero)
        y = where(inside, load(a0 + i), zero)
        s0 = s0 + y * x0
        s1 = s1 + y * x1
        s2 = s2 + y * x2
        y = where(inside, load(a1 + i), zero)
        s3 = s3 + y * x0
        s4 = s4 + y * x1
        s5 = s5 + y * x2
        y = where(inside, load(a2 + i), zero)
        s6 = s6 + y * x0
        s7 = s7 + y * x1
        s8 = s8 + y * x2
        i += LANES
    store(sums, s0); store(sums + LANES, s1); store(sums + 2 * LANES, s2)
    store(sums + 3 * LANES, s3); store(sums + 4 * LANES, s4); store(sums + 5 * LANES, s5)
    store(sums + 6 * LANES, s6); store(sums + 7 * LANES, s7); store(sums + 8 * LANES, s8)


cdef void add_numbers(
    real* sums, const real* planes, const real* ones, Py_ssize_t count
) noexcept nogil:
    """Add one number of patches, lane by lane."""
    cdef vec total = load(sums), zero = splat(0)
    cdef Py_ssize_t i = 0
    while i < count:
        total = total + where(greater(load(ones + i), zero), load(planes + i), zero)
        i += LANES
    store(sums, total)


cdef void add_image(
    const Geometry* g, real* sums, const real* planes, const Py_ssize_t* offsets, const real* ones
) noexcept nogil:
    """Add an image's patches: sums of their numbers first, then those of the tiles."""
    cdef Py_ssize_t i = 0, count, j, k
    cdef real* tile
    while i < g.places:
        count = min(g.places - i, <Py_ssize_t> CHUNK)
        for j in range(g.L):
            add_numbers(sums + j * LANES, planes + offsets[j] + i, ones + i, count)
        tile = sums + TILE * g.tiles * LANES
        for j in range(g.tiles):
            for k in range(j, g.tiles):
                add_tile(tile, planes + i, offsets + j * TILE, offsets + k * TILE, ones + i, count)
                tile += TILE * TILE * LANES
        i += CHUNK


def workspace_size(
    Py_ssize_t N, Py_ssize_t H, Py_ssize_t W, Py_ssize_t C, Py_ssize_t P, Py_ssize_t Q,
    Py_ssize_t R, Py_ssize_t S, Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top,
    Py_ssize_t pad_left, Py_ssize_t dilation_h, Py_ssize_t dilation_w, int threads,
):
    """Return how many numbers of workspace the moments take, and how many offsets."""
    cdef Geometry g = Geometry(
        N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w,
        0, 0, 0, 0, 0, 0, 0, 0, 0)
    plan(&g)
    return g.places + g.parts * g.sums * LANES + threads * g.planes, TILE * g.tiles


def moments(
    real[:, ::1] sums, const float[:, :, :, ::1] x, real[::1] workspace, Py_ssize_t[::1] offsets,
    Py_ssize_t P, Py_ssize_t Q, Py_ssize_t R, Py_ssize_t S, Py_ssize_t stride_h,
    Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left, Py_ssize_t dilation_h,
    Py_ssize_t dilation_w, int threads,
):
    """Write the sums (1 + L, L) over all patches: of their numbers, and of products of two."""
    cdef Geometry g = Geometry(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], P, Q, R, S, stride_h, stride_w,
        pad_top, pad_left, dilation_h, dilation_w, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    cdef Py_ssize_t part, n, i, j, k, tile_i, tile_j
    cdef real* ones = &workspace[0]
    cdef real* parts
    cdef real* planes
    cdef real* mine
    plan(&g)
    for i in range(g.places):
        ones[i] = 1 if i % g.columns < g.Q and i < g.P * g.columns else 0
    for j in range(TILE * g.tiles):
        offsets[j] = offset(&g, j)
    parts = ones + g.places
    planes = parts + g.parts * g.sums * LANES
    for part in prange(g.parts, nogil=True, num_threads=threads, schedule="dynamic"):
        memset(parts + part * g.sums * LANES, 0, g.sums * LANES * sizeof(real))
        mine = planes + threadid() * g.planes
        for n in range(part * g.N // g.parts, (part + 1) * g.N // g.parts):
            copy_image(&g, mine, &x[n, 0, 0, 0])
            add_image(&g, parts + part * g.sums * LANES, mine, &offsets[0], ones)
    for part in range(1, g.parts):
        for i in range(g.sums * LANES):
            parts[i] += parts[part * g.sums * LANES + i]
    for i in range(g.sums):
        for k in range(1, LANES):
            parts[i * LANES] += parts[i * LANES + k]
    for j in range(g.L):
        sums[0, j] = parts[j * LANES]
    parts += TILE * g.tiles * LANES
    for tile_i in range(g.tiles):
        for tile_j in range(tile_i, g.tiles):
            for k in range(TILE * TILE):
                i, j = tile_i * TILE + k // TILE, tile_j * TILE + k % TILE
                if i < g.L and j < g.L:
                    sums[1 + i, j] = parts[k * LANES]
                    sums[1 + j, i] = parts[k * LANES]
            parts += TILE * TILE * LANES


def fold(
    float[::1] mean, float[::1] variance, float[:, :, :, ::1] folded, float[::1] shift,
    const real[:, ::1] sums, const float[:, :, :, ::1] w, const float[::1] b,
    const float[::1] gamma, const float[::1] beta, double epsilon, Py_ssize_t M,
    real[::1] workspace,
):
    """Write the statistics (K,) of M outputs, and weights and bias of both layers in one.

    gamma * (w . x + b - mean) / s + beta = (gamma / s * w) . x + beta - gamma / s * (w . m),
    s = sqrt(variance + epsilon). The workspace holds 3 * K numbers.
    Return whether float32 holds these weights.
    """
    cdef Py_ssize_t L = sums.shape[1], K = w.shape[3], i, j, k
    cdef const float* w_0 = &w[0, 0, 0, 0]
    cdef float* folded_0 = &folded[0, 0, 0, 0]
    cdef real* centers = &workspace[0]
    cdef real* squares = centers + K
    cdef real* row = squares + K
    cdef real m, covariance, weight
    cdef bint narrow = False
    for k in range(K):
        centers[k], squares[k] = 0, 0
    for i in range(L):
        m = sums[0, i] / M
        for k in range(K):
            centers[k] += m * w_0[i * K + k]
            row[k] = 0
        for j in range(L):
            covariance = sums[1 + i, j] / M - m * (sums[0, j] / M)
            for k in range(K):
                row[k] += covariance * w_0[j * K + k]
        for k in range(K):
            squares[k] += row[k] * w_0[i * K + k]
    for k in range(K):
        if squares[k] < 0:      # of equal numbers, by rounding
            squares[k] = 0
        row[k] = gamma[k] / sqrt(squares[k] + epsilon)
        mean[k], variance[k] = <float> (centers[k] + b[k]), <float> squares[k]
        narrow |= beyond_float(squares[k] + epsilon, gamma[k], centers[k] + b[k], beta[k])
        shift[k] = <float> (beta[k] - row[k] * centers[k])
    for i in range(L):
        for k in range(K):
            weight = row[k] * w_0[i * K + k]
            folded_0[i * K + k] = <float> weight
            # A weight of a usual size that has become next to nothing may meet large numbers.
            narrow |= (row[k] != 0 and fabs(w_0[i * K + k]) > 1e-20
                       and not 1e-37 < fabs(weight) < 1e38)
    return not narrow


# ---------------------------------------------------------------- backward
def gradients(
    float[:, :, :, ::1] dw, float[::1] db, float[::1] dgamma, const float[:, :, :, ::1] dw_norm,
    const float[::1] db_norm, const real[:, ::1] sums, const float[:, :, :, ::1] w,
    const float[::1] b, const float[::1] gamma, const float[::1] mean,
    const float[::1] variance, double epsilon, Py_ssize_t M, real[::1] workspace,
):
    """Write the gradients; dw_norm and db_norm are what w and b would have without the norm.

    With dy of the normalized z, dz = gamma / s * (dy - sum(dy) / M - xhat * dgamma / M), where
    xhat = (z - mean) / s and dgamma = sum(dy * xhat). z is w . patch + b, so that sums over dy * z
    and over z * patch are w times dw_norm and w times those of products. The workspace holds
    5 * K numbers. Return whether float32 holds dw_norm and db_norm, with what they are multiplied.
    """
    cdef Py_ssize_t L = sums.shape[1], K = w.shape[3], i, j, k
    cdef const float* w_0 = &w[0, 0, 0, 0]
    cdef const float* dw_norm_0 = &dw_norm[0, 0, 0, 0]
    cdef float* dw_0 = &dw[0, 0, 0, 0]
    cdef real* dots = &workspace[0]     # w times dw_norm, then dgamma / (M * s)
    cdef real* away = dots + K          # sum of z - mean
    cdef real* scale = away + K
    cdef real* offset = scale + K       # b - mean
    cdef real* row = offset + K
    cdef real s
    cdef bint fits = True
    for k in range(K):
        offset[k] = <real> b[k] - mean[k]
        dots[k], away[k] = offset[k] * db_norm[k], offset[k] * M
    for i in range(L):
        for k in range(K):
            dots[k] += <real> w_0[i * K + k] * dw_norm_0[i * K + k]
            fits &= fabs(dw_norm_0[i * K + k]) < 1e38
            away[k] += w_0[i * K + k] * sums[0, i]
    for k in range(K):
        s = sqrt(variance[k] + epsilon)
        dgamma[k] = <float> (dots[k] / s)
        dots[k] = dots[k] / s / s / M
        scale[k] = gamma[k] / s
        fits &= fabs(db_norm[k]) < 1e38 and fabs(scale[k]) < 1e8 and s > 1e-8
        db[k] = <float> (-scale[k] * dots[k] * away[k])
    for i in range(L):
        for k in range(K):
            row[k] = offset[k] * sums[0, i]
        for j in range(L):
            for k in range(K):
                row[k] += sums[1 + i, j] * w_0[j * K + k]
        for k in range(K):
            dw_0[i * K + k] = <float> (scale[k] * (
                dw_norm_0[i * K + k] - db_norm[k] / M * sums[0, i] - dots[k] * row[k]))
    return fits
