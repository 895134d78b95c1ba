"""Batch normalization + ReLU + 1x1 convolution: what lies between them is never written.

M pixels; C channels read, whole vectors of them; K filters. The statistics of x are known. A block
of pixels is normalized into scratch, which the second cache holds, and multiplied there. Backward
makes it again, the sums of both gradients of the weights and of the norm's in one pass over x, and
what the norm's gradient still lacks then in a second one, from the last block to the first, for the
last are those that the caches still hold.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport sqrt
from libc.string cimport memset

from fastcnn._kernels._narrow cimport too_narrow_for_gradients
from fastcnn._kernels._pixel_blocks cimport (
    Blocks, add_products, blocks_of, multiply_pixels, pack_columns, part_start
)
from fastcnn._kernels._stream cimport past_caches, put
from fastcnn._kernels._tile cimport vectors_of
from fastcnn._kernels._types cimport LANES, beats, drain, load, real, splat, store, vec, where


cdef struct Product:
    Blocks blocks
    Py_ssize_t C, K
    real* packed                # weights
    real* bias                  # filled to vectors
    const real* x
    const real* mean            # of the norm: (x - mean) * scale + shift
    const real* scale
    const real* shift


cdef void normalize(
    const Product* op, real* to, const real* x, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t m, c
    cdef vec v, zero = splat(0)
    for m in range(count):
        c = 0
        while c < op.C:
            v = (load(x + c) - load(op.mean + c)) * load(op.scale + c) + load(op.shift + c)
            store(to + c, where(beats(v, zero), v, zero))
            c += LANES
        to, x = to + op.C, x + op.C


# ---------------------------------------------------------------- forward
def lanes():
    """Return of what C must be a multiple."""
    return LANES


def workspace_size(Py_ssize_t M, Py_ssize_t C, Py_ssize_t K, int threads):
    """Return how many numbers of workspace norm_pointwise takes."""
    return vectors_of(K) * LANES * (C + 1) + threads * blocks_of(M, C).block * C


cdef void run_forward(
    const Product* op, Py_ssize_t part, real* y, real* scratch
) noexcept nogil:
    cdef Py_ssize_t m = part * op.blocks.block
    cdef Py_ssize_t count = min(op.blocks.block, op.blocks.pixels - m)
    normalize(op, scratch, op.x + m * op.C, count)
    multiply_pixels(y + m * op.K, scratch, op.packed, op.bias, count, op.C, op.K)


def norm_pointwise(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, ::1] table,
    const real[:, ::1] w, b, real[::1] workspace, int threads,
):
    """Write y (N, H, W, K). table: rows of mean, scale and shift, C numbers or more."""
    cdef Product op
    cdef Py_ssize_t block, k, width = vectors_of(w.shape[1]) * LANES
    cdef const real[::1] bias
    cdef real* scratch
    op.C, op.K = w.shape[0], w.shape[1]
    op.blocks = blocks_of(x.shape[0] * x.shape[1] * x.shape[2], op.C)
    op.x, op.mean, op.scale, op.shift = &x[0, 0, 0, 0], &table[0, 0], &table[1, 0], &table[2, 0]
    op.bias = &workspace[0]
    op.packed = op.bias + width
    scratch = op.packed + width * op.C
    memset(op.bias, 0, width * sizeof(real))
    if b is not None:
        bias = b
        for k in range(op.K):
            op.bias[k] = bias[k]
    pack_columns(op.packed, &w[0, 0], op.C, op.K, op.K, 1, NULL)
    for block in prange(op.blocks.count, nogil=True, num_threads=threads, schedule="static"):
        run_forward(&op, block, &y[0, 0, 0, 0], scratch + threadid() * op.blocks.block * op.C)


# ---------------------------------------------------------------- backward
def sizes(Py_ssize_t M, Py_ssize_t C, Py_ssize_t K, int threads):
    """Return how many parts there are, and numbers of workspace."""
    cdef Blocks blocks = blocks_of(M, C)
    return blocks.parts, C * (K + 1) + threads * (2 * blocks.block + 2) * C


cdef void keep_alive(
    const Product* op, real* dx, double* totals, real* sums, const real* x, const real* alive,
    const real* gradient, Py_ssize_t count, bint streaming
) noexcept nogil:
    """Write the gradient where ReLU let it through; add it up, and times x - mean."""
    cdef Py_ssize_t m, c
    cdef real* products = sums + op.C
    cdef vec v, zero = splat(0)
    memset(sums, 0, 2 * op.C * sizeof(real))
    for m in range(count):
        c = 0
        while c < op.C:
            v = where(beats(load(alive + c), zero), load(gradient + c), zero)
            put(dx + c, v, streaming)
            store(sums + c, load(sums + c) + v)
            v = v * (load(x + c) - load(op.mean + c))
            store(products + c, load(products + c) + v)
            c += LANES
        dx, x, alive, gradient = dx + op.C, x + op.C, alive + op.C, gradient + op.C
    for c in range(2 * op.C):
        totals[c] += sums[c]


cdef void run_part(
    const Product* op, Py_ssize_t part, real* dx, real* products, double* totals, const real* dy,
    real* scratch, bint streaming
) noexcept nogil:
    cdef Py_ssize_t m = part_start(&op.blocks, part), end = part_start(&op.blocks, part + 1)
    cdef Py_ssize_t count, i, k
    cdef real* gradient = scratch + op.blocks.block * op.C
    cdef real* sums = gradient + op.blocks.block * op.C
    memset(products, 0, op.C * op.K * sizeof(real))
    memset(totals, 0, (2 * op.C + op.K) * sizeof(double))
    while m < end:
        count = min(op.blocks.block, end - m)
        normalize(op, scratch, op.x + m * op.C, count)
        add_products(products, dy + m * op.K, scratch, count, op.K, op.C)
        multiply_pixels(gradient, dy + m * op.K, op.packed, op.bias, count, op.K, op.C)
        keep_alive(op, dx + m * op.C, totals, sums, op.x + m * op.C, scratch, gradient, count,
                   streaming)
        for i in range(count):
            for k in range(op.K):
                totals[2 * op.C + k] += dy[(m + i) * op.K + k]
        m += count
    if streaming:
        drain()


cdef void finish_block(
    const Product* op, Py_ssize_t block, real* dx, const real* dy_mean, const real* scale,
    const real* slope
) noexcept nogil:
    """Write what the norm makes of a block's gradient."""
    cdef Py_ssize_t m = block * op.blocks.block, c, _
    cdef const real* x = op.x + m * op.C
    cdef vec v
    dx += m * op.C
    for _ in range(min(op.blocks.block, op.blocks.pixels - m)):
        c = 0
        while c < op.C:
            v = (load(dx + c) - load(dy_mean + c)) * load(scale + c)
            v = v - (load(x + c) - load(op.mean + c)) * load(slope + c)
            store(dx + c, v)
            c += LANES
        dx, x = dx + op.C, x + op.C


def norm_pointwise_backward(
    real[:, :, :, ::1] dx, real[:, ::1] dw, real[::1] db, real[::1] dgamma, real[::1] dbeta,
    const real[:, :, :, ::1] dy, const real[:, :, :, ::1] x, const real[:, ::1] table,
    const real[:, ::1] w, const real[::1] gamma, const real[::1] variance, double epsilon,
    real[:, :, ::1] products, double[:, ::1] totals, real[:, ::1] factors, real[::1] workspace,
    int threads,
):
    """table is that of norm_pointwise; products (parts, K, C), totals (parts, 2 * C + K) and
    factors (3, C) are room to work in. Return whether `real` was wide enough.
    """
    cdef Product op
    cdef Py_ssize_t part, block, size, c, k, M = x.shape[0] * x.shape[1] * x.shape[2]
    cdef real* dx_0 = &dx[0, 0, 0, 0]
    cdef real* scratch
    cdef bint narrow = False, streaming
    cdef double s, dy_sum, product_sum, total
    op.C, op.K = w.shape[0], w.shape[1]
    op.blocks = blocks_of(M, op.C)
    op.x, op.mean, op.scale, op.shift = &x[0, 0, 0, 0], &table[0, 0], &table[1, 0], &table[2, 0]
    op.bias = &workspace[0]
    op.packed = op.bias + op.C
    scratch, size = op.packed + op.C * op.K, (2 * op.blocks.block + 2) * op.C
    streaming = past_caches(dx_0, 2 * M * op.C, op.C)
    memset(op.bias, 0, op.C * sizeof(real))
    pack_columns(op.packed, &w[0, 0], op.K, op.C, 1, op.K, NULL)
    for part in prange(op.blocks.parts, nogil=True, num_threads=threads, schedule="static",
                       chunksize=1):
        run_part(&op, part, dx_0, &products[part, 0, 0], &totals[part, 0], &dy[0, 0, 0, 0],
                 scratch + threadid() * size, streaming)
    for c in range(op.C):
        for k in range(op.K):
            total = 0
            for part in range(op.blocks.parts):
                total += products[part, k, c]
            dw[c, k] = <real> total
    for k in range(op.K):
        total = 0
        for part in range(op.blocks.parts):
            total += totals[part, 2 * op.C + k]
        db[k] = <real> total
    for c in range(op.C):
        dy_sum, product_sum = 0, 0
        for part in range(op.blocks.parts):
            dy_sum += totals[part, c]
            product_sum += totals[part, op.C + c]
        s = sqrt(variance[c] + epsilon)
        narrow = narrow or too_narrow_for_gradients(s * s, gamma[c], product_sum / s, dy_sum, M)
        dgamma[c], dbeta[c] = <real> (product_sum / s), <real> dy_sum
        factors[0, c] = <real> (dy_sum / M)
        factors[1, c] = <real> (gamma[c] / s)
        factors[2, c] = <real> (gamma[c] / s / s * (product_sum / s) / M)
    for block in prange(op.blocks.count, nogil=True, num_threads=threads, schedule="static"):
        finish_block(&op, op.blocks.count - 1 - block, dx_0, &factors[0, 0], &factors[1, 0],
                     &factors[2, 0])
    return not narrow
