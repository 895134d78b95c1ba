# Sums and products of two arrays, one of which may be repeated along the other.
#
# The whole is (N, M, C) and the part (N, C): a vector of channels has N = 1, a gate of each image
# its M pixels between the images and the channels. Few numbers in a row would leave lanes idle, so
# a row here is W numbers wide, several repetitions of the part. Work is cut by the shape alone.
from fastcnn._kernels._stream cimport past_caches, put
from fastcnn._kernels._types cimport LANES, drain, load, real, vec

cdef enum:
    LANES_OF_ALL = 16           # a multiple of the lanes of every instruction set
    TILE = 256                  # numbers of a row that is repetitions, at most
    PIECE = 16384               # numbers of the whole that a thread takes at once, about
    BLOCK = 2048                # columns that are summed at a time
    PART = 65536                # numbers that are summed before the sums are added, about


cdef inline Py_ssize_t width_of(Py_ssize_t M, Py_ssize_t C) noexcept nogil:
    """Return W: a multiple of C, and where that is short, of whole vectors too."""
    cdef Py_ssize_t count = TILE // C
    if count >= LANES_OF_ALL:
        count -= count % LANES_OF_ALL
    return C * max(1, min(M, count))


cdef inline const real* row_of(
    real* room, const real* part, Py_ssize_t W, Py_ssize_t C
) noexcept nogil:
    """Return the part, repeated to a row of W numbers; room has place for TILE."""
    cdef Py_ssize_t j
    if W == C:
        return part
    for j in range(C):
        room[j] = part[j]
    for j in range(C, W):
        room[j] = room[j - C]
    return room


cdef inline bint streams(
    const real* y, Py_ssize_t touched, Py_ssize_t W, Py_ssize_t image
) noexcept nogil:
    """Return whether to write rows of W numbers past the caches, `image` from one N to the next."""
    return past_caches(y, touched, W) and image % LANES == 0


# ---------------------------------------------------------------- forward
cdef inline vec joined(vec a, vec b, bint product) noexcept nogil:
    if product:
        return a * b
    return a + b


cdef inline void join(
    real* y, const real* a, const real* b, Py_ssize_t count, bint product, bint streaming
) noexcept nogil:
    """y = a + b, or a * b; drain() after the last if streaming."""
    cdef Py_ssize_t i = 0
    while i + 2 * LANES <= count:
        put(y + i, joined(load(a + i), load(b + i), product), streaming)
        put(y + i + LANES, joined(load(a + i + LANES), load(b + i + LANES), product), streaming)
        i += 2 * LANES
    while i + LANES <= count:
        put(y + i, joined(load(a + i), load(b + i), product), streaming)
        i += LANES
    while i < count:
        y[i] = a[i] * b[i] if product else a[i] + b[i]
        i += 1


cdef inline void join_repeated(
    real* y, const real* a, const real* part, Py_ssize_t count, Py_ssize_t W, Py_ssize_t C,
    bint product, bint streaming,
) noexcept nogil:
    """The same with a part that is repeated along a."""
    cdef real[TILE] room
    cdef const real* row = row_of(room, part, W, C)
    cdef Py_ssize_t i = 0
    while i < count:
        join(y + i, a + i, row, min(W, count - i), product, streaming)
        i += W
    if streaming:
        drain()


# ---------------------------------------------------------------- sums over the repetitions
cdef struct Sums:
    Py_ssize_t image            # numbers of the whole for each N
    Py_ssize_t C, W
    Py_ssize_t part, parts      # numbers in a part of an image, and how many there are
    Py_ssize_t blocks           # of columns in a row


cdef inline Sums sums_of(Py_ssize_t M, Py_ssize_t C) noexcept nogil:
    cdef Py_ssize_t W = width_of(M, C)
    cdef Py_ssize_t part = W * max(1, PART // min(W, <Py_ssize_t> BLOCK)), image = M * C
    return Sums(image, C, W, part, (image + part - 1) // part, (W + BLOCK - 1) // BLOCK)


cdef struct Task:
    Py_ssize_t at               # where its numbers begin, in the whole,
    Py_ssize_t count            # and how far they reach, rows of W apart
    Py_ssize_t columns
    Py_ssize_t first            # its first column
    Py_ssize_t to               # where its sums are


cdef inline Task task_of(const Sums* s, Py_ssize_t number) noexcept nogil:
    """Return a part of an image, and a block of its columns."""
    cdef Py_ssize_t first = number % s.blocks * BLOCK, part = number // s.blocks
    cdef Py_ssize_t begin = part % s.parts * s.part
    return Task(
        part // s.parts * s.image + begin + first, min(s.part, s.image - begin) - first,
        min(<Py_ssize_t> BLOCK, s.W - first), first, part * s.W + first,
    )


cdef inline void fold(real* to, double* total, const Sums* s) noexcept nogil:
    """Add up the sums of an image's parts, and those of the repetitions in a row, in order."""
    cdef Py_ssize_t p, j
    for p in range(1, s.parts):
        for j in range(s.W):
            total[j] += total[p * s.W + j]
    for p in range(1, s.W // s.C):
        for j in range(s.C):
            total[j] += total[p * s.C + j]
    for j in range(s.C):
        to[j] = <real> total[j]
