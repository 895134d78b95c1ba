"""Batch normalization + a residual + ReLU: what follows the statistics, in one pass.

M pixels; C channels, whole vectors of them. Backward keeps the gradient where ReLU let it through,
which is that of the residual, while it sums up those of the norm, and passes over it a second time
for dx: from the last block to the first, for the last are those that the caches still hold.
"""

from cython.parallel cimport prange, threadid
from libc.string cimport memset

from fastcnn._kernels._norm_blocks cimport keep_alive, set_factors, through_norm
from fastcnn._kernels._pixel_blocks cimport Blocks, blocks_of, part_start
from fastcnn._kernels._stream cimport from_behind, past_caches, put
from fastcnn._kernels._types cimport LANES, beats, drain, load, real, splat, vec, where


# ---------------------------------------------------------------- forward
cdef void add_block(
    real* y, const real* x, const real* residual, const real* mean, const real* scale,
    const real* shift, Py_ssize_t count, Py_ssize_t C, bint streaming
) noexcept nogil:
    cdef Py_ssize_t c, _
    cdef vec v, zero = splat(0)
    for _ in range(count):
        c = 0
        while c < C:
            v = (load(x + c) - load(mean + c)) * load(scale + c) + load(shift + c)
            v = v + load(residual + c)
            put(y + c, where(beats(v, zero), v, zero), streaming)
            c += LANES
        y, x, residual = y + C, x + C, residual + C
    if streaming:
        drain()


def batch_norm_add(
    real[:, :, :, ::1] y, const real[:, :, :, ::1] x, const real[:, :, :, ::1] residual,
    const real[:, ::1] table, int threads,
):
    """Write y (N, H, W, C). table: rows of mean, scale and shift, C numbers or more."""
    cdef Py_ssize_t C = x.shape[3], M = x.shape[0] * x.shape[1] * x.shape[2], block, m
    cdef Blocks blocks = blocks_of(M, C)
    cdef real* y_0 = &y[0, 0, 0, 0]
    cdef const real* x_0 = &x[0, 0, 0, 0]
    cdef const real* residual_0 = &residual[0, 0, 0, 0]
    cdef bint streaming = past_caches(y_0, 3 * M * C, C)
    for block in prange(blocks.count, nogil=True, num_threads=threads, schedule="static"):
        m = block * blocks.block
        add_block(y_0 + m * C, x_0 + m * C, residual_0 + m * C, &table[0, 0], &table[1, 0],
                  &table[2, 0], min(blocks.block, M - m), C, streaming)


# ---------------------------------------------------------------- backward
cdef void run_part(
    const Blocks* blocks, Py_ssize_t part, real* kept, double* totals, real* sums, const real* dy,
    const real* y, const real* x, const real* mean, Py_ssize_t C, bint streaming
) noexcept nogil:
    cdef Py_ssize_t m = part_start(blocks, part), end = part_start(blocks, part + 1), count
    memset(totals, 0, 2 * C * sizeof(double))
    while m < end:
        count = min(blocks.block, end - m)
        keep_alive(kept + m * C, totals, sums, dy + m * C, y + m * C, x + m * C, mean, count, C,
                   streaming)
        m += count
    if streaming:
        drain()


cdef void run_block(
    const Blocks* blocks, Py_ssize_t block, real* dx, const real* kept, const real* x,
    const real* mean, const real* factors, Py_ssize_t C, bint streaming
) noexcept nogil:
    cdef Py_ssize_t m = block * blocks.block, at = m * C
    through_norm(dx + at, kept + at, x + at, mean, factors, min(blocks.block, blocks.pixels - m),
                 C, streaming)
    if streaming:
        drain()


def parts(Py_ssize_t M, Py_ssize_t C):
    """Return how many parts the sums over M pixels have."""
    return blocks_of(M, C).parts


def batch_norm_add_backward(
    real[:, :, :, ::1] dx, real[:, :, :, ::1] kept, real[::1] dgamma, real[::1] dbeta,
    const real[:, :, :, ::1] dy, const real[:, :, :, ::1] y, const real[:, :, :, ::1] x,
    const real[::1] gamma, const real[::1] mean, const real[::1] variance, double epsilon,
    double[:, ::1] totals, real[:, ::1] factors, real[:, ::1] sums, int threads,
):
    """kept: the gradient of the residual. totals (parts, 2 * C), factors (3, C) and sums (threads,
    2 * C) are room to work in. Return whether `real` was wide enough.
    """
    cdef Py_ssize_t C = x.shape[3], M = x.shape[0] * x.shape[1] * x.shape[2], part, block
    cdef Blocks blocks = blocks_of(M, C)
    cdef real* dx_0 = &dx[0, 0, 0, 0]
    cdef real* kept_0 = &kept[0, 0, 0, 0]
    cdef const real* dy_0 = &dy[0, 0, 0, 0]
    cdef const real* y_0 = &y[0, 0, 0, 0]
    cdef const real* x_0 = &x[0, 0, 0, 0]
    # What is kept is read again.
    cdef bint keep_streaming = past_caches(kept_0, M * C, C)
    cdef bint streaming = past_caches(dx_0, 3 * M * C, C)
    cdef bint narrow
    for part in prange(blocks.parts, nogil=True, num_threads=threads, schedule="static"):
        run_part(&blocks, part, kept_0, &totals[part, 0], &sums[threadid(), 0], dy_0, y_0, x_0,
                 &mean[0], C, keep_streaming)
    narrow = set_factors(&factors[0, 0], &dgamma[0], &dbeta[0], &totals[0, 0], blocks.parts, 2 * C,
                         &gamma[0], &variance[0], epsilon, M, C)
    for block in prange(blocks.count, nogil=True, num_threads=threads, schedule="static"):
        run_block(&blocks, from_behind(block, blocks.count, threads), dx_0, kept_0, x_0, &mean[0],
                  &factors[0, 0], C, streaming)
    return not narrow
