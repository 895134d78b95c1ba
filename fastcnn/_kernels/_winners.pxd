# What the backward pass of a block makes of its shape, and where the winners of windows are.
#
# For the letters see conv_block_backward.pyx.
from libc.stdint cimport int32_t

from fastcnn._kernels._tile cimport vectors_of
from fastcnn._kernels._types cimport LANES

cdef enum:
    MOST_PARTS = 8              # enough for 8 threads


cdef struct Geometry:
    Py_ssize_t N, H, W, C, P, Q, K, R, S
    Py_ssize_t stride_h, stride_w, pad_top, pad_left
    Py_ssize_t pool_h, pool_w, pool_stride_h, pool_stride_w
    bint copied                 # whether an image is worked on in a padded copy,
    Py_ssize_t rows, columns    # of this size
    Py_ssize_t row_vectors, L   # vectors of one row of a window, and of the window
    Py_ssize_t parts
    Py_ssize_t list_size, copy_size     # of a list of winners, of a padded copy
    Py_ssize_t numbers, places  # scratch a thread: reals and integers


cdef inline void plan(Geometry* g) noexcept nogil:
    """Set what follows from the sizes."""
    cdef Py_ssize_t span_h = ((g.P - 1) * g.pool_stride_h + g.pool_h - 1) * g.stride_h + g.R
    cdef Py_ssize_t span_w = ((g.Q - 1) * g.pool_stride_w + g.pool_w - 1) * g.stride_w + g.S
    cdef Py_ssize_t pixels = g.P * g.Q
    g.row_vectors = vectors_of(g.S * g.C)
    g.L = g.R * g.row_vectors
    g.copied = (g.pad_top > 0 or g.pad_left > 0 or span_h > g.H or span_w > g.W
                or g.S * g.C % LANES != 0)
    g.rows, g.columns = g.H, g.W
    if g.copied:
        # The last vector of a window's row may reach past the row, but not into the next one.
        g.rows = max(span_h, g.H + g.pad_top)
        g.columns = max(span_w, g.W + g.pad_left)
        g.columns = max(g.columns, (g.row_vectors * LANES + g.C - 1) // g.C)
    g.parts = min(g.N, MOST_PARTS)
    g.list_size = vectors_of(pixels + 1) * LANES
    g.copy_size = (vectors_of(g.rows * g.columns * g.C) + 1) * LANES if g.copied else 0
    g.numbers = g.list_size + g.copy_size
    g.places = pixels * g.K + 1 + (g.pool_h * g.pool_w + 1) * (pixels + 1)


cdef inline Py_ssize_t vector_at(const Geometry* g, Py_ssize_t v) noexcept nogil:
    """Return where vector v of a window lies in the image."""
    return v // g.row_vectors * g.columns * g.C + v % g.row_vectors * LANES


cdef inline void find_windows(const Geometry* g, int32_t* windows) noexcept nogil:
    """Write where each pixel's windows begin, one for every place of the pool window.

    The dead have no place; they are given a window too, so that reading it is harmless.
    """
    cdef Py_ssize_t places = g.pool_h * g.pool_w, pixel, h, w, i
    for pixel in range(g.P * g.Q):
        for i in range(places):
            h = pixel // g.Q * g.pool_stride_h + i // g.pool_w
            w = pixel % g.Q * g.pool_stride_w + i % g.pool_w
            windows[i] = <int32_t> ((h * g.stride_h * g.columns + w * g.stride_w) * g.C)
        windows[places] = 0
        windows += places + 1


cdef inline int32_t count_equal(const unsigned char* values, Py_ssize_t size,
                                unsigned char wanted) noexcept nogil:
    """Count the values equal to `wanted`, in bytes that cannot overflow."""
    cdef int32_t total = 0
    cdef unsigned char few
    cdef Py_ssize_t i, start = 0
    while start < size:
        few = 0
        for i in range(start, min(start + 128, size)):
            few += values[i] == wanted
        total += few
        start += 128
    return total


cdef inline void sort_winners(
    const Geometry* g, const unsigned char* argmax, int32_t* winners, int32_t* start
) noexcept nogil:
    """List each pixel's winning filters place by place; after them come the dead.

    start[i] says where in its pixel's list the winners of place i begin.
    """
    cdef Py_ssize_t dead = g.pool_h * g.pool_w, k, i
    cdef int32_t* cursor = start + g.P * g.Q * (dead + 1)
    cdef int32_t total
    for _ in range(g.P * g.Q):
        total = 0
        for i in range(dead):
            start[i] = total
            cursor[i] = total
            total += count_equal(argmax, g.K, <unsigned char> i)
        start[dead] = total
        cursor[dead] = total
        for k in range(g.K):
            i = argmax[k]
            winners[cursor[i]] = <int32_t> k
            cursor[i] += 1
        argmax += g.K
        winners += g.K
        start += dead + 1
