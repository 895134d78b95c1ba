# Copies that may go past the caches.
from fastcnn._kernels._stream cimport put
from fastcnn._kernels._types cimport LANES, load, real


cdef inline void copy(
    real* to, const real* source, Py_ssize_t count, bint streaming
) noexcept nogil:
    """Copy numbers; drain() after the last if streaming, for which `to` is aligned."""
    cdef Py_ssize_t i = 0
    while i + 4 * LANES <= count:
        put(to + i, load(source + i), streaming)
        put(to + i + LANES, load(source + i + LANES), streaming)
        put(to + i + 2 * LANES, load(source + i + 2 * LANES), streaming)
        put(to + i + 3 * LANES, load(source + i + 3 * LANES), streaming)
        i += 4 * LANES
    while i + LANES <= count:
        put(to + i, load(source + i), streaming)
        i += LANES
    while i < count:
        to[i] = source[i]
        i += 1
