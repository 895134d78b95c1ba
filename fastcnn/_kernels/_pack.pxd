# Packing weights: a panel of output channels becomes dense rows, zero-filled to whole vectors.
from fastcnn._kernels._types cimport LANES, load, real, store

cdef enum:
    TURNED = 16                 # rows and columns transposed at a time: a cache line, four bits


cdef inline void zip_halves(real* to, const real* source) noexcept nogil:
    """Write the first half of a square of numbers zipped with the second."""
    cdef Py_ssize_t i, half = TURNED * TURNED // 2
    for i in range(half):
        to[2 * i] = source[i]
        to[2 * i + 1] = source[half + i]


cdef inline void turn(
    real* to, Py_ssize_t to_row, const real* source, Py_ssize_t row,
) noexcept nogil:
    """Write the transpose of a square of TURNED rows.

    A zip moves the top bit of each number's place to the bottom. After four of them the bits of
    the row and those of the column have changed places.
    """
    cdef real[TURNED * TURNED] a
    cdef real[TURNED * TURNED] b
    cdef Py_ssize_t i, j
    for i in range(TURNED):
        for j in range(TURNED):
            a[i * TURNED + j] = source[i * row + j]
    zip_halves(b, a)
    zip_halves(a, b)
    zip_halves(b, a)
    zip_halves(a, b)
    for i in range(TURNED):
        for j in range(TURNED):
            to[i * to_row + j] = a[i * TURNED + j]


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
        lane = 0
        if w_inner == 1 and c_end == c + TURNED:
            while lane + TURNED <= valid:
                turn(to + c * width + lane, width, w + lane * w_outer + c, w_outer)
                lane += TURNED
        for lane in range(lane, valid):
            source = w + lane * w_outer
            for i in range(c, c_end):
                to[i * width + lane] = source[i * w_inner]
        for i in range(c, c_end):
            for lane in range(valid, width):
                to[i * width + lane] = 0
        c = c_end
