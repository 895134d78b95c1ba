"""A pool of memory blocks for results, and arenas, whose pieces are stretches of such blocks.

Fresh memory costs a page fault every 4 KB, more than most ops cost. So results live in blocks
that come back to the pool when their array dies: a steady training loop allocates nothing.
Blocks are sorted by size into classes an eighth of a power of two apart.

Sizes that change from call to call would fill class after class. So what the pool holds, idle or
not, stays below twice of what was lately needed at once: beyond that a larger idle block serves,
if there is one, and the block that has been idle for longest goes back to the system, at once, as
large ones are mapped one by one. The interpreter's lock guards the pool.

Longer than most: it is all of the memory that results lie in.
"""

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

from math import prod

from numpy import ndarray

cdef extern from *:
    """
    #include <stdlib.h>
    #if defined(_WIN32)
    #include <malloc.h>
    static inline void *block_alloc(size_t align, size_t n) { return _aligned_malloc(n, align); }
    static inline void block_free(void *p) { _aligned_free(p); }
    static inline void *block_map(size_t align, size_t n) { return _aligned_malloc(n, align); }
    static inline void block_unmap(void *p, size_t n) { (void)n; _aligned_free(p); }
    #else
    #include <stdint.h>
    #include <sys/mman.h>
    static inline void *block_alloc(size_t align, size_t n) {
        void *p; return posix_memalign(&p, align, n) ? NULL : p; }
    static inline void block_free(void *p) { free(p); }
    static inline void *block_map(size_t align, size_t n) {
        char *p = mmap(NULL, n + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        size_t before = align ? -(uintptr_t)p % align : 0;
        if (p == MAP_FAILED) return NULL;
        if (before) munmap(p, before);
        if (before < align) munmap(p + before + n, align - before);
    #ifdef MADV_HUGEPAGE
        if (align) (void)!madvise(p + before, n, MADV_HUGEPAGE);
    #endif
        return p + before; }
    static inline void block_unmap(void *p, size_t n) { munmap(p, n); }
    #endif
    """
    void* block_alloc(size_t align, size_t n) nogil
    void block_free(void* p) nogil
    void* block_map(size_t align, size_t n) nogil
    void block_unmap(void* p, size_t n) nogil

cdef enum:
    CLASSES = 8 * 64
    LARGER = 8                  # classes that may serve in the place of one: up to twice its size
    _ALIGNMENT = 64             # a cache line, and the widest vector
    SMALL = 8 << 10             # an array for which an arena looks for no memory
    MAPPED_FROM = 128 << 10     # smaller ones are malloc's; beyond, a class is whole pages
    HUGE_PAGE = 2 << 20
    HUGE_PAGES_FROM = 4 << 20
    LITTLE = 8 << 20            # may be held without need
    LATELY = 1 << 16            # blocks handed out, after which a peak begins to be forgotten


MOST = PY_SSIZE_T_MAX - _ALIGNMENT      # bytes, which whole cache lines are counted in


cdef struct Node:
    # A block, by itself so that idle memory is not touched; idle, it is in two rings, that of its
    # class and that of all, the one last used first.
    void* data
    Py_ssize_t index            # its size class
    Node* next[2]
    Node* previous[2]

cdef enum:
    OF_CLASS = 0
    OF_ALL = 1

cdef Node[CLASSES] _classes     # where the rings begin and end
cdef Node _all
cdef Py_ssize_t _held = 0       # bytes of all blocks
cdef Py_ssize_t _idle = 0       # bytes of those in the pool
cdef Py_ssize_t _needed = 0     # bytes asked for, in whole classes, of those handed out
cdef Py_ssize_t _peak = 0       # the most that was needed at once, lately
cdef Py_ssize_t _peak_before = 0
cdef Py_ssize_t _handed_out = 0     # blocks, since _peak took the place of _peak_before


cdef void empty_ring(Node* ring, int which) noexcept:
    ring.next[which] = ring.previous[which] = ring


cdef void put_first(Node* ring, Node* node, int which) noexcept:
    node.next[which] = ring.next[which]
    node.previous[which] = ring
    ring.next[which].previous[which] = node
    ring.next[which] = node


cdef void take_out(Node* node, int which) noexcept:
    node.next[which].previous[which] = node.previous[which]
    node.previous[which].next[which] = node.next[which]


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


cdef Node* allocate(Py_ssize_t index) noexcept:
    """Return a fresh block, or NULL."""
    global _held
    cdef Py_ssize_t size = class_size(index)
    cdef Node* node = <Node*> malloc(sizeof(Node))
    if node is NULL:
        return NULL
    node.index = index
    if size < MAPPED_FROM:
        node.data = block_alloc(_ALIGNMENT, size)
    else:
        node.data = block_map(HUGE_PAGE if size >= HUGE_PAGES_FROM else 0, size)
    if node.data is NULL:
        free(node)
        return NULL
    _held += size
    return node


cdef Node* take(Node* node) noexcept:
    """Return an idle block, no longer in the pool."""
    global _idle
    take_out(node, OF_CLASS)
    take_out(node, OF_ALL)
    _idle -= class_size(node.index)
    return node


cdef void release(Py_ssize_t most) noexcept:
    """Give idle blocks back to the system until `most` bytes are held, the longest idle first."""
    global _held
    cdef Node* node
    cdef Py_ssize_t size
    while _held > most and _all.previous[OF_ALL] is not &_all:
        node = take(_all.previous[OF_ALL])
        size = class_size(node.index)
        if size < MAPPED_FROM:
            block_free(node.data)
        else:
            block_unmap(node.data, size)
        free(node)
        _held -= size


cdef inline Py_ssize_t limit() noexcept:
    """Return how many bytes may be held."""
    return LITTLE + 2 * max(_peak, _peak_before)


cdef Node* miss(Py_ssize_t index) noexcept:
    """Return a block where none of the class is idle, or NULL."""
    cdef Py_ssize_t size = class_size(index), larger
    cdef Node* node
    if _held + size > limit():
        for larger in range(index + 1, min(index + LARGER + 1, <Py_ssize_t> CLASSES)):
            if _classes[larger].next[OF_CLASS] is not &_classes[larger]:
                return take(_classes[larger].next[OF_CLASS])
        release(limit() - size)
    node = allocate(index)
    if node is NULL:
        release(0)
        node = allocate(index)
    return node


cdef void forget() noexcept:
    """Let the peak of the last blocks take the place of the one before."""
    global _peak, _peak_before, _handed_out
    _peak_before, _peak, _handed_out = _peak, _needed, 0
    release(limit())


cdef class Block:
    """Memory from the pool, given back when the object dies; a writable buffer of bytes."""

    cdef Node* node
    cdef Py_ssize_t size        # as asked for
    cdef Py_ssize_t needed      # in whole classes

    def __cinit__(self, Py_ssize_t size):
        global _needed, _peak, _handed_out
        cdef Py_ssize_t index = size_class(max(size, _ALIGNMENT))
        cdef Py_ssize_t peak = _peak
        cdef Node* first = _classes[index].next[OF_CLASS]
        self.size = size
        self.needed = class_size(index)
        _needed += self.needed
        _peak = max(_peak, _needed)
        self.node = miss(index) if first is &_classes[index] else take(first)
        if self.node is NULL:
            _needed, _peak = _needed - self.needed, peak
            raise MemoryError(f"could not allocate {size} bytes for a result")
        _handed_out += 1
        if _handed_out >= LATELY:
            forget()

    def __dealloc__(self):
        global _idle, _needed
        if self.node is NULL:
            return
        put_first(&_classes[self.node.index], self.node, OF_CLASS)
        put_first(&_all, self.node, OF_ALL)
        _idle += class_size(self.node.index)
        _needed -= self.needed

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.node.data, self.size, 0, flags)


cdef class Piece:
    """A stretch of a block, a writable buffer of bytes; holders: by how many it is still needed."""

    cdef Block block
    cdef Py_ssize_t start       # in the block
    cdef Py_ssize_t size
    cdef Py_ssize_t holders

    def __getbuffer__(self, Py_buffer* view, int flags):
        cdef char* data = <char*> self.block.node.data
        PyBuffer_FillInfo(view, self, data + self.start, self.size, 0, flags)


cdef Piece piece(Block block, Py_ssize_t start, Py_ssize_t size):
    cdef Piece new = Piece.__new__(Piece)
    new.block, new.start, new.size, new.holders = block, start, size, 1
    return new


cdef class Arena:
    """Memory of arrays that come and go as planned: what nobody holds any more serves again.

    An array is held by the op that makes it until `release`, and by each value that lies in it. It
    takes the smallest free stretch that holds it, and one that nobody holds is one stretch with
    those beside it. What is small lies elsewhere, and stays. nbytes: of a first block.
    """

    cdef list free              # stretches, as pieces
    cdef list made              # pieces, since the last release
    cdef dict held              # pieces, by the values that lie in them
    cdef readonly Py_ssize_t nbytes     # of blocks
    cdef readonly Py_ssize_t small      # bytes of what is small

    def __init__(self, nbytes=0):
        self.free, self.made, self.held = [], [], {}
        if nbytes > MOST:
            raise MemoryError(f"{nbytes} bytes are more than any address space has")
        if nbytes:
            self.let_go(self.take(nbytes))

    def make(self, tuple shape not None, dtype not None):
        """Return an array, which is gone after the next release unless it is held."""
        count = prod(shape) * dtype.itemsize
        if count > MOST:
            raise MemoryError(f"a result of shape {shape} is larger than any address space")
        cdef Py_ssize_t size = count
        if size <= SMALL:
            self.small += size
            return ndarray(shape, dtype, Block(size))
        cdef Piece new = self.take(size)
        self.made.append(new)
        return ndarray(shape, dtype, new)

    def hold(self, name, array):
        """Keep the memory that a value lies in; what is not from here is left alone."""
        while isinstance(array, ndarray):
            array = array.base
        if isinstance(array, Piece):
            (<Piece> array).holders += 1
            self.held[name] = array

    def release(self, names):
        """Let go of what was made since the last time, and of what these values lie in."""
        cdef Piece each
        for each in self.made:
            self.let_go(each)
        self.made = []
        for name in names:
            each = self.held.pop(name, None)
            if each is not None:
                self.let_go(each)

    cdef Piece take(self, Py_ssize_t size):
        """Return a piece of so many bytes, rounded up to whole cache lines, with one holder."""
        cdef Piece each, found = None
        size = (size + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
        for each in self.free:
            if each.size >= size and (found is None or each.size < found.size):
                found = each
        if found is None:
            self.nbytes += size
            return piece(Block(size), 0, size)
        if found.size == size:
            self.free.remove(found)
        found.start += size
        found.size -= size
        return piece(found.block, found.start - size, size)

    cdef let_go(self, Piece old):
        """Count one holder less of a piece; without any its bytes serve others."""
        cdef Piece each, new
        old.holders -= 1
        if old.holders > 0:
            return
        new = piece(old.block, old.start, old.size)
        for each in tuple(self.free):
            if each.block is new.block and (
                each.start + each.size == new.start or new.start + new.size == each.start
            ):
                new.start = min(new.start, each.start)
                new.size += each.size
                self.free.remove(each)
        self.free.append(new)

    def stretches(self):
        """Return the sizes of what is free."""
        return [(<Piece> each).size for each in self.free]


def empty_cache():
    """Give the pool's idle memory back to the system."""
    release(0)


def statistics():
    """Return (bytes in use, bytes idle in the pool)."""
    return _held - _idle, _idle


ALIGNMENT = _ALIGNMENT
cdef Py_ssize_t i
for i in range(CLASSES):
    empty_ring(&_classes[i], OF_CLASS)
empty_ring(&_all, OF_ALL)


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
