"""A pool of memory blocks for results.

Fresh memory costs a page fault every 4 KB, more than most ops cost. So results live in blocks
that come back to the pool when their array dies: a steady training loop allocates nothing.
Blocks are sorted by size into classes an eighth of a power of two apart; a free block holds
the address of the next one of its class. The interpreter's lock guards the pool.
"""

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdint cimport uint64_t
from libc.string cimport memcmp

cdef extern from *:
    """
    #include <stdlib.h>
    #if defined(_WIN32)
    #include <malloc.h>
    static inline void *block_alloc(size_t align, size_t n) { return _aligned_malloc(n, align); }
    static inline void block_free(void *p) { _aligned_free(p); }
    static inline void block_advise(void *p, size_t n) { (void)p; (void)n; }
    #else
    #include <sys/mman.h>
    static inline void *block_alloc(size_t align, size_t n) {
        void *p; return posix_memalign(&p, align, n) ? NULL : p; }
    static inline void block_free(void *p) { free(p); }
    #ifdef MADV_HUGEPAGE
    static inline void block_advise(void *p, size_t n) { (void)!madvise(p, n, MADV_HUGEPAGE); }
    #else
    static inline void block_advise(void *p, size_t n) { (void)p; (void)n; }
    #endif
    #endif
    """
    void* block_alloc(size_t align, size_t n) nogil
    void block_free(void* p) nogil
    void block_advise(void* p, size_t n) nogil

cdef enum:
    CLASSES = 8 * 64
    ALIGNMENT = 64              # a cache line, and the widest vector
    HUGE_PAGE = 2 << 20
    HUGE_PAGES_FROM = 4 << 20

cdef void** _free[CLASSES]
cdef Py_ssize_t _idle = 0       # bytes in the pool
cdef Py_ssize_t _in_use = 0     # bytes handed out


cdef inline Py_ssize_t size_class(uint64_t size) noexcept:
    """Return the first class whose blocks hold `size` bytes, `size` at least 64."""
    cdef Py_ssize_t bits = 0
    cdef uint64_t top = size - 1
    while top >> bits > 15:     # leaves the leading one and three bits below it
        bits += 1
    return 8 * bits + <Py_ssize_t> (top >> bits) - 7


cdef inline Py_ssize_t class_size(Py_ssize_t index) noexcept:
    """Return the size of the blocks of a class, in bytes: the inverse of size_class."""
    return (index % 8 + 8) << (index // 8)


cdef void release_idle() noexcept:
    global _idle
    cdef Py_ssize_t i
    cdef void** block
    for i in range(CLASSES):
        while _free[i] is not NULL:
            block = _free[i]
            _free[i] = <void**> block[0]
            block_free(block)
    _idle = 0


cdef class Block:
    """Memory from the pool, given back when the object dies; a writable buffer of bytes."""

    cdef void* data
    cdef Py_ssize_t size        # as asked for
    cdef Py_ssize_t index       # its size class

    def __cinit__(self, Py_ssize_t size):
        global _idle, _in_use
        cdef Py_ssize_t whole
        self.size = size
        self.index = size_class(max(size, ALIGNMENT))
        whole = class_size(self.index)
        if _free[self.index] is not NULL:
            self.data = _free[self.index]
            _free[self.index] = <void**> _free[self.index][0]
            _idle -= whole
        else:
            self.data = allocate(whole)
            if self.data is NULL:
                release_idle()
                self.data = allocate(whole)
            if self.data is NULL:
                raise MemoryError(f"could not allocate {size} bytes for a result")
        _in_use += whole

    def __dealloc__(self):
        global _idle, _in_use
        cdef Py_ssize_t whole
        if self.data is NULL:
            return
        whole = class_size(self.index)
        (<void**> self.data)[0] = _free[self.index]
        _free[self.index] = <void**> self.data
        _idle += whole
        _in_use -= whole

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.size, 0, flags)


cdef void* allocate(Py_ssize_t size) noexcept:
    cdef void* data
    if size < HUGE_PAGES_FROM:
        return block_alloc(ALIGNMENT, size)
    data = block_alloc(HUGE_PAGE, size)
    if data is not NULL:
        block_advise(data, size)
    return data


def empty_cache():
    """Give the pool's idle memory back to the system."""
    release_idle()


def statistics():
    """Return (bytes in use, bytes idle in the pool)."""
    return _in_use, _idle


def same_bytes(a, b):
    """Return whether two arrays hold the same bytes; False where one is not contiguous."""
    cdef Py_buffer view, other
    cdef bint same
    try:
        PyObject_GetBuffer(a, &view, PyBUF_SIMPLE)
    except (BufferError, ValueError):     # NumPy's choice is the second
        return False
    try:
        PyObject_GetBuffer(b, &other, PyBUF_SIMPLE)
    except (BufferError, ValueError):     # NumPy's choice is the second
        PyBuffer_Release(&view)
        return False
    same = view.len == other.len and memcmp(view.buf, other.buf, view.len) == 0
    PyBuffer_Release(&other)
    PyBuffer_Release(&view)
    return same
