# The transformed weights of Winograd's convolution.
from libc.string cimport memset

from fastcnn._kernels._tile cimport first_vector
from fastcnn._kernels._types cimport LANES, load, real
from fastcnn._kernels._winograd cimport SIDE, transform_taps
from fastcnn._kernels._winograd_plan cimport CHANNELS, TAPS, Geometry


cdef inline void gather_weights(const Geometry* g, real* to, const real* w, Py_ssize_t channels,
                                Py_ssize_t valid, Py_ssize_t width) noexcept nogil:
    """Copy weights to [tap][c][lane] with the taps and channels in the order of their use."""
    cdef Py_ssize_t tap, i, k
    cdef const real* w_k
    for tap in range(TAPS):
        memset(to, 0, channels * width * sizeof(real))
        for k in range(valid):
            w_k = w + (TAPS - 1 - tap if g.flipped else tap) * g.w_tap + k * g.w_outer
            for i in range(channels):
                to[i * width + k] = w_k[i * g.w_inner]
        to += CHANNELS * width


cdef inline void transform_weights(
    const Geometry* g, Py_ssize_t panel, Py_ssize_t c, Py_ssize_t c_end, Py_ssize_t point, real* u,
    const real* w, real* t, real* gathered,
) noexcept nogil:
    """Write G w G^T for some channels of a panel to u, where c has its place."""
    cdef Py_ssize_t first = first_vector(g.K, panel) * LANES, tap = g.w_tap, row = g.w_inner
    cdef Py_ssize_t i, j, k, width = first_vector(g.K, panel + 1) * LANES - first
    cdef Py_ssize_t valid = min(width, g.K - first), channels
    cdef bint in_place = g.w_outer == 1 and valid == width and not g.flipped
    cdef const real* w_c
    cdef const real* w_k
    if not in_place:
        tap, row = CHANNELS * width, width
    while c < c_end:
        channels = min(CHANNELS, c_end - c)
        w_c = w + c * g.w_inner + first * g.w_outer
        if not in_place:
            gather_weights(g, gathered, w_c, channels, valid, width)
            w_c = gathered
        for i in range(channels):
            k = 0
            while k < width:
                w_k = w_c + i * row + k
                for j in range(3):
                    transform_taps(t + j * LANES, 3 * LANES, load(w_k + j * tap),
                                   load(w_k + (3 + j) * tap), load(w_k + (6 + j) * tap))
                for j in range(SIDE):
                    transform_taps(u + SIDE * j * point + k, point, load(t + 3 * j * LANES),
                                   load(t + (3 * j + 1) * LANES), load(t + (3 * j + 2) * LANES))
                k += LANES
            u += width
        c += channels
