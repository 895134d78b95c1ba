# Packing weights: a panel of output channels becomes dense rows, zero-filled to whole vectors.
from fastcnn._kernels._types cimport LANES, load, real, store

cdef enum:
    TURNED = 16                 # rows transposed at a time: a cache line of each column is used up


cdef inline void pack_panel(
    real* to, const real* w, Py_ssize_t inner, Py_ssize_t w_inner, Py_ssize_t w_outer,
    Py_ssize_t valid, Py_ssize_t width,
) noexcept nogil:
    """Write rows to[c, lane] = w[c*w_inner + lane*w_outer], zeros from lane `valid` on."""
    cdef Py_ssize_t c, c_end, lane, i, _
    cdef const real* source
    if w_outer == 1:
        for _ in range(inner):
            lane = 0
            while lane + LANES <= valid:
                store(to + lane, load(w + lane))
                lane += LANES
            while lane < width:
                to[lane] = w[lane] if lane < valid else 0
                lane += 1
            to += width
            w += w_inner
        return
    c = 0
    while c < inner:
        c_end = min(c + TURNED, inner)
        for lane in range(valid):
            source = w + lane * w_outer
            for i in range(c, c_end):
                to[i * width + lane] = source[i * w_inner]
        for i in range(c, c_end):
            for lane in range(valid, width):
                to[i * width + lane] = 0
        c = c_end
