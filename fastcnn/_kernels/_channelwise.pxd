# What depthwise convolution and that of narrow groups share: vectors of channels, of which the last
# overlaps the one before where C is no multiple of LANES, and a weight gradient in parts.
from libc.string cimport memcpy

from fastcnn._kernels._types cimport LANES, equal, load, real, splat, store, vec, where

cdef enum:
    SERIAL_BELOW = 500000       # multiply-adds: waking a second thread costs more than it saves
    MOST_PARTS = 16             # of the weight gradient; a part is a range of rows of dy
    WIDEST = 64                 # lanes at most


cdef inline int threads_for(double work, int threads) noexcept nogil:
    return threads if work >= SERIAL_BELOW else 1


cdef inline Py_ssize_t parts_of(Py_ssize_t rows) noexcept nogil:
    return min(rows, MOST_PARTS)


cdef inline void mark_lanes(real* old_lanes) noexcept nogil:
    """Fill 2 * WIDEST numbers for `add`: from LANES - n on there are n times 1, then 0."""
    cdef Py_ssize_t i
    for i in range(2 * WIDEST):
        old_lanes[i] = 1 if i < LANES else 0


cdef inline void add(real* to, vec more, const real* old_lanes, Py_ssize_t covered) noexcept nogil:
    """Add a vector; lanes that the vector before has covered keep what they have."""
    cdef vec old = load(to), one = splat(1), total = old + more
    if covered > 0:
        total = where(equal(load(old_lanes + LANES - covered), one), old, total)
    store(to, total)


cdef inline void add_parts(
    real* to, const real* parts, Py_ssize_t size, Py_ssize_t count
) noexcept nogil:
    """Add `count` parts of `size` numbers, in order: the same bits on any number of threads."""
    cdef Py_ssize_t part, i
    memcpy(to, parts, size * sizeof(real))
    for part in range(1, count):
        for i in range(size):
            to[i] += parts[part * size + i]
