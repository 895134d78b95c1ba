# Writing arrays that no cache keeps, and reading first what caches still hold.
#
# An ordinary store reads the line before it changes it, and takes the place of what the op reads.
# Whole lines written past the caches spare both; the next reader then finds them in memory alone.
# So it pays where an op touches more than the last cache holds: what it wrote would be gone anyway.
from libc.stdint cimport uintptr_t

from fastcnn._kernels._cpu cimport l3_bytes
from fastcnn._kernels._types cimport LANES, real, store, stream, vec


cdef inline bint past_caches(const real* y, Py_ssize_t touched, Py_ssize_t W) noexcept nogil:
    """Return whether to write y, in rows of W numbers, past the caches by whole vectors.

    So many numbers, those of y among them, should find room in the last cache while the op runs.
    """
    return (
        touched >= l3_bytes // <Py_ssize_t> sizeof(real)
        and W % LANES == 0
        and <uintptr_t> y % (LANES * sizeof(real)) == 0
    )


cdef inline void put(real* to, vec v, bint streaming) noexcept nogil:
    """Store a vector, past the caches if streaming; drain() after the last."""
    if streaming:
        stream(to, v)
    else:
        store(to, v)


cdef inline Py_ssize_t from_behind(Py_ssize_t i, Py_ssize_t count, int threads) noexcept nogil:
    """Return what stands in the place of i if each thread goes through its share from behind.

    The shares are those of schedule static. Behind an op that goes through arrays from the front,
    a thread's own caches hold the end of its share.
    """
    cdef Py_ssize_t size = count // threads, longer = count % threads, first
    if i < longer * (size + 1):
        size += 1
        first = i // size * size
    else:
        first = i - (i - longer * (size + 1)) % size
    return first + size - 1 - (i - first)
