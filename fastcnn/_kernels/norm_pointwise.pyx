"""Batch normalization + ReLU + 1x1 convolution: what lies between them is never written.

M pixels; C channels read, whole vectors of them; K filters. The statistics of x are known. A block
of pixels is normalized into scratch, which the second cache holds, and multiplied there. Backward
makes it again, the sums of both gradients of the weights and of the norm's in one pass over x, and
what the norm's gradient still lacks then in a second one, from the last block to the first, for the
last are those that the caches still hold.
"""

from cython.parallel cimport prange, threadid
from libc.string cimport memset

from fastcnn._kernels._norm_blocks cimport keep_alive, set_factors, through_norm
from fastcnn._kernels._pixel_blocks cimport (
    Ahead, Blocks, add_products, ahead_of, blocks_of, multiply_pixels, pack_columns, part_start,
    times_of
)
from fastcnn._kernels._stream cimport from_behind, past_caches
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
    cdef Py_ssize_t c, _
    cdef vec v, zero = splat(0)
    for _ in range(count):
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
    cdef Py_ssize_t count = min(op.blocks.block, op.blocks.pixels - m), next = m + count
    cdef Ahead ahead
    normalize(op, scratch, op.x + m * op.C, count)
    ahead = ahead_of(
        op.x + next * op.C, op.x + next * op.C,
        min(op.blocks.block, op.blocks.pixels - next) * op.C, times_of(count, op.K, op.C))
    multiply_pixels(y + m * op.K, scratch, op.packed, op.bias, count, op.C, op.K, &ahead)


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


cdef void run_part(
    const Product* op, Py_ssize_t part, real* dx, real* products, double* totals, const real* dy,
    real* scratch, bint streaming
) noexcept nogil:
    cdef Py_ssize_t m = part_start(&op.blocks, part), end = part_start(&op.blocks, part + 1)
    cdef Py_ssize_t count, next, i, k
    cdef Ahead ahead
    cdef real* gradient = scratch + op.blocks.block * op.C
    cdef real* sums = gradient + op.blocks.block * op.C
    memset(products, 0, op.C * op.K * sizeof(real))
    memset(totals, 0, (2 * op.C + op.K) * sizeof(double))
    while m < end:
        count = min(op.blocks.block, end - m)
        normalize(op, scratch, op.x + m * op.C, count)
        next = (m + count) * op.C
        ahead = ahead_of(
            op.x + next, op.x + next, min(op.blocks.block, end - m - count) * op.C,
            times_of(op.K, op.C, count) + times_of(count, op.C, op.K))
        add_products(products, dy + m * op.K, scratch, count, op.K, op.C, &ahead)
        multiply_pixels(gradient, dy + m * op.K, op.packed, op.bias, count, op.K, op.C, &ahead)
        keep_alive(dx + m * op.C, totals, sums, gradient, scratch, op.x + m * op.C, op.mean, count,
                   op.C, streaming)
        for i in range(count):
            for k in range(op.K):
                totals[2 * op.C + k] += dy[(m + i) * op.K + k]
        m += count
    if streaming:
        drain()


cdef void add_parts(
    real* to, Py_ssize_t parts, Py_ssize_t size, Py_ssize_t count
) noexcept nogil:
    """Add numbers of all parts to those of the first, in order."""
    cdef Py_ssize_t part, c
    for part in range(1, parts):
        for c in range(count):
            to[c] += to[part * size + c]


cdef void finish_block(
    const Product* op, Py_ssize_t block, real* dx, const real* factors
) noexcept nogil:
    """Write what the norm makes of a block's gradient, where it lies."""
    cdef Py_ssize_t m = block * op.blocks.block
    dx += m * op.C
    through_norm(dx, dx, op.x + m * op.C, op.mean, factors,
                 min(op.blocks.block, op.blocks.pixels - m), op.C, False)


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
    cdef bint narrow, streaming
    cdef double total
    op.C, op.K = w.shape[0], w.shape[1]
    op.blocks = blocks_of(M, op.C)
    op.x, op.mean, op.scale, op.shift = &x[0, 0, 0, 0], &table[0, 0], &table[1, 0], &table[2, 0]
    op.bias = &workspace[0]
    op.packed = op.bias + op.C
    scratch, size = op.packed + op.C * op.K, (2 * op.blocks.block + 2) * op.C
    streaming = past_caches(dx_0, 2 * M * op.C, op.C)
    memset(op.bias, 0, op.C * sizeof(real))
    pack_columns(op.packed, &w[0, 0], op.K, op.C, 1, op.K, NULL)
    for part in prange(op.blocks.parts, nogil=True, num_threads=threads, schedule="static"):
        run_part(&op, part, dx_0, &products[part, 0, 0], &totals[part, 0], &dy[0, 0, 0, 0],
                 scratch + threadid() * size, streaming)
    for k in prange(op.K, nogil=True, num_threads=threads, schedule="static"):
        add_parts(&products[0, k, 0], op.blocks.parts, op.K * op.C, op.C)
    for c in range(op.C):
        for k in range(op.K):
            dw[c, k] = products[0, k, c]
    for k in range(op.K):
        total = 0
        for part in range(op.blocks.parts):
            total += totals[part, 2 * op.C + k]
        db[k] = <real> total
    narrow = set_factors(&factors[0, 0], &dgamma[0], &dbeta[0], &totals[0, 0], op.blocks.parts,
                         totals.shape[1], &gamma[0], &variance[0], epsilon, M, op.C)
    for block in prange(op.blocks.count, nogil=True, num_threads=threads, schedule="static"):
        finish_block(&op, from_behind(block, op.blocks.count, threads), dx_0, &factors[0, 0])
    return not narrow
