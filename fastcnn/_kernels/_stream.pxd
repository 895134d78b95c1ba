# Writing arrays that no cache keeps.
#
# An ordinary store reads the line before it changes it. Whole lines written past the caches spare
# that; the next reader then finds them in memory alone, so it pays from some size on only.
from libc.stdint cimport uintptr_t

from fastcnn._kernels._types cimport LANES, real, store, stream, vec

cdef enum:
    LARGE = 32 << 20            # bytes that no cache keeps


cdef inline bint past_caches(const real* y, Py_ssize_t count, Py_ssize_t W) noexcept nogil:
    """Return whether to write y, `count` numbers in rows of W, past the caches by whole vectors."""
    return (
        count >= LARGE // <Py_ssize_t> sizeof(real)
        and W % LANES == 0
        and <uintptr_t> y % (LANES * sizeof(real)) == 0
    )


cdef inline void put(real* to, vec v, bint streaming) noexcept nogil:
    """Store a vector, past the caches if streaming; drain() after the last."""
    if streaming:
        stream(to, v)
    else:
        store(to, v)
