"""Convolution + bias + ReLU + max-pool in one pass, by direct convolution.

N batch; H W input height and width; C input channels; P Q height and width of the pooled
output; K filters; R S kernel height and width.

The rows of the convolution that a strip of pooled rows reads are computed to scratch, which
stays in the first cache, and pooled from there: the convolution's output never goes to memory,
and what no pool window reads is never computed.
"""

from cython.parallel cimport prange, threadid
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from fastcnn._kernels._correlate cimport Correlation, correlate_chunk, forward_axis, pack
from fastcnn._kernels._cpu cimport l1_bytes
from fastcnn._kernels._finish cimport nothing
from fastcnn._kernels._tile cimport panels_of
from fastcnn._kernels._types cimport (
    LANES, beats, load, mask, real, splat, store, store_as_bytes, vec, where,
)

cdef enum:
    SERIAL_BELOW = 300000       # flop: waking a second thread costs more than it saves


cdef struct Pool:
    Py_ssize_t P, Q, h, w, stride_h, stride_w
    Py_ssize_t strip_rows       # pooled rows a task
    real* y
    unsigned char* argmax


cdef inline void pool_pixel(
    const Pool* pool, Py_ssize_t K, Py_ssize_t row, const real* z,
    real* y, unsigned char* argmax,
) noexcept nogil:
    """Write relu, max and argmax of the window at z, whose rows are `row` numbers apart."""
    cdef vec best, place, v
    cdef mask won
    cdef Py_ssize_t k = 0, i, j
    cdef real last[64]
    cdef unsigned char last_bytes[64]
    while k < K:
        best = load(z + k)
        place = splat(0)
        for i in range(pool.h):
            for j in range(pool.w):
                v = load(z + i * row + j * K + k)
                won = beats(v, best)
                best = where(won, v, best)
                place = where(won, splat(i * pool.w + j), place)
        won = beats(best, splat(0))
        best = where(won, best, splat(0))
        place = where(won, place, splat(pool.h * pool.w))
        if k + LANES <= K:
            store(y + k, best)
            store_as_bytes(argmax + k, place)
        else:
            store(last, best)
            store_as_bytes(last_bytes, place)
            memcpy(y + k, last, (K - k) * sizeof(real))
            memcpy(argmax + k, last_bytes, K - k)
        k += LANES


cdef void block_task(
    const Correlation* op, const Pool* pool, Py_ssize_t task, real* z, Py_ssize_t* runs,
) noexcept nogil:
    """Compute a strip of pooled rows of one image."""
    cdef Py_ssize_t strips = (pool.P + pool.strip_rows - 1) // pool.strip_rows
    cdef Py_ssize_t n = task // strips, p = task % strips * pool.strip_rows, q, panel
    cdef Py_ssize_t p_end = min(p + pool.strip_rows, pool.P), K = op.outer, row = op.Q * K
    cdef Py_ssize_t first = p * pool.stride_h, at
    cdef Correlation strip = op[0]
    strip.y, strip.P, strip.h.out_start = z, 0, -first      # every image lands in the scratch
    for panel in range(panels_of(K)):
        correlate_chunk(&strip, 0, panel, n, n + 1, first,
                        (p_end - 1) * pool.stride_h + pool.h, runs)
    while p < p_end:
        for q in range(pool.Q):
            at = ((n * pool.P + p) * pool.Q + q) * K
            pool_pixel(pool, K, row, z + (p * pool.stride_h - first) * row
                       + q * pool.stride_w * K, pool.y + at, pool.argmax + at)
        p += 1


cdef void plan(Pool* pool, Py_ssize_t K) noexcept nogil:
    """Choose the strips, whose rows of the convolution fit L1: no result depends on them."""
    cdef Py_ssize_t width = (pool.Q - 1) * pool.stride_w + pool.w
    cdef Py_ssize_t fit = l1_bytes // (width * K * <Py_ssize_t> sizeof(real))
    pool.strip_rows = max(1, min(pool.P, (fit - pool.h) // pool.stride_h + 1))


cdef inline Py_ssize_t scratch_size(const Pool* pool, Py_ssize_t K) noexcept nogil:
    cdef Py_ssize_t rows = (pool.strip_rows - 1) * pool.stride_h + pool.h
    return rows * ((pool.Q - 1) * pool.stride_w + pool.w) * K + LANES


def workspace_size(
    Py_ssize_t K, Py_ssize_t P, Py_ssize_t Q, Py_ssize_t pool_h, Py_ssize_t pool_w,
    Py_ssize_t pool_stride_h, Py_ssize_t pool_stride_w, int threads,
):
    """Return how many numbers of workspace the block takes beside its weights."""
    cdef Pool pool = Pool(P, Q, pool_h, pool_w, pool_stride_h, pool_stride_w, 0, NULL, NULL)
    plan(&pool, K)
    return threads * scratch_size(&pool, K)


cpdef conv_block(
    real[:, :, :, ::1] y, unsigned char[:, :, :, ::1] argmax, const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] w, const real[::1] b, real[::1] weights, real[::1] workspace,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w,
    Py_ssize_t pool_h, Py_ssize_t pool_w, Py_ssize_t pool_stride_h, Py_ssize_t pool_stride_w,
    int threads, bint packed=False,
):
    """Write y and argmax (N, P, Q, K) for x (N, H, W, C) and w (R, S, C, K).

    weights: room for the packed weights, as much as conv2d's; packed: they are in it already, by
    conv2d's pack_weights.
    """
    cdef Correlation op
    cdef Pool pool = Pool(y.shape[1], y.shape[2], pool_h, pool_w, pool_stride_h, pool_stride_w,
                          0, &y[0, 0, 0, 0], &argmax[0, 0, 0, 0])
    cdef Py_ssize_t task, tasks, taps = w.shape[0] * w.shape[1]
    cdef Py_ssize_t* runs
    cdef real* scratch = &workspace[0]
    op.bias, op.end = NULL, nothing()
    if b is not None:
        op.bias = &b[0]
    op.images, op.groups, op.inner, op.outer = x.shape[0], 1, x.shape[3], w.shape[3]
    op.P, op.Q = (pool.P - 1) * pool_stride_h + pool_h, (pool.Q - 1) * pool_stride_w + pool_w
    op.S = w.shape[1]
    op.h = forward_axis(x.shape[1], w.shape[0], op.P, stride_h, pad_top, dilation_h)
    op.w = forward_axis(x.shape[2], w.shape[1], op.Q, stride_w, pad_left, dilation_w)
    op.w_tap, op.w_inner, op.w_outer, op.w_group = w.shape[2] * w.shape[3], w.shape[3], 1, 0
    op.y, op.x, op.w_data, op.packed = NULL, &x[0, 0, 0, 0], &w[0, 0, 0, 0], &weights[0]
    plan(&pool, op.outer)
    if 2.0 * op.images * op.P * op.Q * taps * op.inner * op.outer < SERIAL_BELOW:
        threads = 1
    tasks = op.images * ((pool.P + pool.strip_rows - 1) // pool.strip_rows)
    runs = <Py_ssize_t*> malloc(2 * threads * taps * sizeof(Py_ssize_t))
    if runs is NULL:
        raise MemoryError("conv_block: no memory for the table of taps")
    if not packed:
        for task in prange(
            panels_of(op.outer), nogil=True, num_threads=threads, schedule="static"
        ):
            pack(&op, task)
    for task in prange(tasks, nogil=True, num_threads=threads, schedule="dynamic"):
        block_task(&op, &pool, task, scratch + threadid() * scratch_size(&pool, op.outer),
                   runs + 2 * threadid() * taps)
    free(runs)


def bound_conv_block(
    real[:, :, :, ::1] y, unsigned char[:, :, :, ::1] argmax, const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] w, const real[::1] b, real[::1] weights, real[::1] workspace,
    Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t pad_top, Py_ssize_t pad_left,
    Py_ssize_t dilation_h, Py_ssize_t dilation_w,
    Py_ssize_t pool_h, Py_ssize_t pool_w, Py_ssize_t pool_stride_h, Py_ssize_t pool_stride_w,
    int threads, bint packed=False,
):
    """Return a function of nothing that is this call of conv_block."""
    return lambda: conv_block(
        y, argmax, x, w, b, weights, workspace, stride_h, stride_w, pad_top, pad_left, dilation_h,
        dilation_w, pool_h, pool_w, pool_stride_h, pool_stride_w, threads, packed,
    )
