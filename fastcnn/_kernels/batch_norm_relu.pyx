"""Batch normalization + ReLU: what follows the statistics, in one pass; backward from x alone.

M pixels; C channels, whole vectors of them. Where ReLU let the gradient through is found again from
x: that costs less than to keep a mask of it. Backward passes over dy and x for the sums, and again
for dx, from the last block to the first: the last are those that the caches still hold.
"""

from cython.parallel cimport prange, threadid
from libc.string cimport memset

from fastcnn._kernels._norm_blocks cimport set_factors
from fastcnn._kernels._pixel_blocks cimport Blocks, blocks_of, part_start
from fastcnn._kernels._stream cimport from_behind, past_caches, put
from fastcnn._kernels._types cimport LANES, beats, drain, load, real, splat, store, vec, where


cdef struct Norm:
    Blocks blocks
    Py_ssize_t C
    bint streaming
    const real* x
    const real* mean            # (x - mean) * scale + shift
    const real* scale
    const real* shift


cdef Norm norm_of(const real[:, :, :, ::1] x, const real[:, ::1] table) noexcept nogil:
    cdef Norm op
    op.C = x.shape[3]
    op.blocks = blocks_of(x.shape[0] * x.shape[1] * x.shape[2], op.C)
    op.x, op.mean, op.scale, op.shift = &x[0, 0, 0, 0], &table[0, 0], &table[1, 0], &table[2, 0]
    return op


# ---------------------------------------------------------------- forward
cdef void normalize(const Norm* op, Py_ssize_t block, real* y) noexcept nogil:
    cdef Py_ssize_t m = block * op.blocks.block, C = op.C, c, _
    cdef const real* x = op.x + m * C
    cdef const real* mean = op.mean
    cdef const real* scale = op.scale
    cdef const real* shift = op.shift
    cdef bint streaming = op.streaming
    cdef vec v, zero = splat(0)
    y += m * C
    for _ in range(min(op.blocks.block, op.blocks.pixels - m)):
        c = 0
        while c < C:
            v = (load(x + c) - load(mean + c)) * load(scale + c) + load(shift + c)
            put(y + c, where(beats(v, zero), v, zero), streaming)
            c += LANES
        y, x = y + C, x + C
    if streaming:
        drain()


def batch_norm_relu(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, ::1] table, int threads,
):
    """Write y (N, H, W, C). table: rows of mean, scale and shift, C numbers or more."""
    cdef Norm op = norm_of(x, table)
    cdef Py_ssize_t block
    op.streaming = past_caches(&y[0, 0, 0, 0], 2 * op.blocks.pixels * op.C, op.C)
    for block in prange(op.blocks.count, nogil=True, num_threads=threads, schedule="static"):
        normalize(&op, block, &y[0, 0, 0, 0])


# ---------------------------------------------------------------- backward
cdef inline vec alive(vec away, vec dy, vec scale, vec shift) noexcept nogil:
    """Return dy where ReLU let it through; away: x - mean."""
    cdef vec zero = splat(0)
    return where(beats(away * scale + shift, zero), dy, zero)


cdef void add_block(
    const Norm* op, double* totals, real* sums, const real* dy, Py_ssize_t m, Py_ssize_t count
) noexcept nogil:
    """Add up the gradients of a block, and their products with x - mean."""
    cdef Py_ssize_t C = op.C, c, i = 0
    cdef real* products = sums + C
    cdef const real* x = op.x + m * C
    cdef const real* mean = op.mean
    cdef const real* scale = op.scale
    cdef const real* shift = op.shift
    cdef vec m_c, s, t, a0, a1, v0, v1
    dy += m * C
    memset(sums, 0, 2 * C * sizeof(real))
    while i + 2 <= count:
        c = 0
        while c < C:
            m_c, s, t = load(mean + c), load(scale + c), load(shift + c)
            a0 = load(x + c) - m_c
            a1 = load(x + C + c) - m_c
            v0 = alive(a0, load(dy + c), s, t)
            v1 = alive(a1, load(dy + C + c), s, t)
            a0 = a0 * v0 + a1 * v1
            v0 = v0 + v1
            store(sums + c, load(sums + c) + v0)
            store(products + c, load(products + c) + a0)
            c += LANES
        x, dy, i = x + 2 * C, dy + 2 * C, i + 2
    if i < count:
        c = 0
        while c < C:
            a0 = load(x + c) - load(mean + c)
            v0 = alive(a0, load(dy + c), load(scale + c), load(shift + c))
            store(sums + c, load(sums + c) + v0)
            store(products + c, load(products + c) + a0 * v0)
            c += LANES
    for c in range(2 * C):
        totals[c] += sums[c]


cdef void run_part(
    const Norm* op, Py_ssize_t part, double* totals, real* sums, const real* dy
) noexcept nogil:
    cdef Py_ssize_t m = part_start(&op.blocks, part), end = part_start(&op.blocks, part + 1), count
    memset(totals, 0, 2 * op.C * sizeof(double))
    while m < end:
        count = min(op.blocks.block, end - m)
        add_block(op, totals, sums, dy, m, count)
        m += count


cdef void run_block(
    const Norm* op, Py_ssize_t block, real* dx, const real* dy, const real* factors
) noexcept nogil:
    cdef Py_ssize_t m = block * op.blocks.block, C = op.C, c, _
    cdef const real* x = op.x + m * C
    cdef const real* mean = op.mean
    cdef const real* scale = op.scale
    cdef const real* shift = op.shift
    cdef const real* slope = factors + 2 * C
    cdef bint streaming = op.streaming
    cdef vec away, v
    dx, dy = dx + m * C, dy + m * C
    for _ in range(min(op.blocks.block, op.blocks.pixels - m)):
        c = 0
        while c < C:
            away = load(x + c) - load(mean + c)
            v = alive(away, load(dy + c), load(scale + c), load(shift + c))
            v = (v - load(factors + c)) * load(factors + C + c)
            put(dx + c, v - away * load(slope + c), streaming)
            c += LANES
        dx, dy, x = dx + C, dy + C, x + C
    if streaming:
        drain()


def parts(Py_ssize_t M, Py_ssize_t C):
    """Return how many parts the sums over M pixels have."""
    return blocks_of(M, C).parts


def batch_norm_relu_backward(
    real[:, :, :, ::1] dx, real[::1] dgamma, real[::1] dbeta, const real[:, :, :, ::1] dy,
    const real[:, :, :, ::1] x, const real[:, ::1] table, const real[::1] gamma,
    const real[::1] variance, double epsilon, double[:, ::1] totals, real[:, ::1] factors,
    real[:, ::1] sums, int threads,
):
    """table is that of batch_norm_relu; totals (parts, 2 * C), factors (3, C) and sums (threads,
    2 * C) are room to work in. Return whether `real` was wide enough.
    """
    cdef Norm op = norm_of(x, table)
    cdef Py_ssize_t part, block
    cdef bint narrow
    op.streaming = past_caches(&dx[0, 0, 0, 0], 3 * op.blocks.pixels * op.C, op.C)
    for part in prange(op.blocks.parts, nogil=True, num_threads=threads, schedule="static"):
        run_part(&op, part, &totals[part, 0], &sums[threadid(), 0], &dy[0, 0, 0, 0])
    narrow = set_factors(&factors[0, 0], &dgamma[0], &dbeta[0], &totals[0, 0], op.blocks.parts,
                         2 * op.C, &gamma[0], &variance[0], epsilon, op.blocks.pixels, op.C)
    for block in prange(op.blocks.count, nogil=True, num_threads=threads, schedule="static"):
        run_block(&op, from_behind(block, op.blocks.count, threads), &dx[0, 0, 0, 0],
                  &dy[0, 0, 0, 0], &factors[0, 0])
    return not narrow
