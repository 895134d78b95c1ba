"""Products of two arrays, and their gradients in one pass. See _broadcast.pxd.

N M C as there: the whole, a, is (N, M, C), and the part, b, (N, C). Sums are made in double.
"""

from cython.parallel cimport prange

from fastcnn._kernels._broadcast cimport (
    PIECE, TILE, Sums, Task, fold, join, join_repeated, row_of, streams, sums_of, task_of, width_of
)
from fastcnn._kernels._types cimport LANES, drain, real, real_out


# ---------------------------------------------------------------- forward
cdef void multiply_numbers(
    real* y, const real* a, const real* b, Py_ssize_t count, bint streaming
) noexcept nogil:
    join(y, a, b, count, True, streaming)
    if streaming:
        drain()


cdef void multiply_part(
    real* y, const real* a, const real* part, Py_ssize_t count, Py_ssize_t W, Py_ssize_t C,
    bint streaming,
) noexcept nogil:
    join_repeated(y, a, part, count, W, C, True, streaming)


def multiply(real[::1] y, const real[::1] a, const real[::1] b, int threads):
    """Arrays of one shape."""
    cdef Py_ssize_t count = y.shape[0], i
    cdef bint streaming = streams(&y[0], 3 * count, LANES, 0)
    for i in prange(0, count, PIECE, nogil=True, num_threads=threads, schedule="static"):
        multiply_numbers(&y[i], &a[i], &b[i], min(<Py_ssize_t> PIECE, count - i), streaming)


def multiply_repeated(
    real[::1] y, const real[::1] a, const real[:, ::1] b, Py_ssize_t M, int threads
):
    cdef Py_ssize_t C = b.shape[1], W = width_of(M, C), image = M * C
    cdef Py_ssize_t piece = W * max(1, PIECE // W), pieces = (image + piece - 1) // piece
    cdef Py_ssize_t number, o, i
    cdef bint streaming = streams(&y[0], 2 * y.shape[0], W, image)
    for number in prange(b.shape[0] * pieces, nogil=True, num_threads=threads, schedule="static"):
        o, i = number // pieces, number % pieces * piece
        multiply_part(&y[o * image + i], &a[o * image + i], &b[o, 0], min(piece, image - i), W, C,
                      streaming)


# ---------------------------------------------------------------- backward
cdef void products(
    real* da, real* db, const real* dy, const real* a, const real* b, Py_ssize_t count,
    bint streaming,
) noexcept nogil:
    join(da, dy, b, count, True, streaming)
    join(db, dy, a, count, True, streaming)
    if streaming:
        drain()


def multiply_backward(
    real[::1] da, real[::1] db, const real[::1] dy, const real[::1] a, const real[::1] b,
    int threads,
):
    """Arrays of one shape; a piece of dy is still in the cache when it is read again."""
    cdef Py_ssize_t count = dy.shape[0], i
    cdef bint streaming = (
        streams(&da[0], 5 * count, LANES, 0) and streams(&db[0], 5 * count, LANES, 0)
    )
    for i in prange(0, count, PIECE // 8, nogil=True, num_threads=threads, schedule="static"):
        products(
            &da[i], &db[i], &dy[i], &a[i], &b[i], min(<Py_ssize_t> PIECE // 8, count - i),
            streaming,
        )


cdef inline void row_gradients(
    real_out da, double* total, const real* dy, const real* a, const real* row, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(count):
        da[j] = dy[j] * row[j]
        total[j] += <double> dy[j] * <double> a[j]


cdef void part_gradients(
    real* da, double* total, const real* dy, const real* a, const real* b, const Sums* s,
    const Task* task,
) noexcept nogil:
    """A task's da, and its sums of dy * a; b begins at the part's first number."""
    cdef real[TILE] room
    cdef const real* row = row_of(room, b, s.W, s.C) + task.first
    cdef Py_ssize_t i = 0, j
    for j in range(task.columns):
        total[j] = 0
    while i < task.count:
        row_gradients(da + i, total, dy + i, a + i, row, min(task.columns, task.count - i))
        i += s.W


def workspace_size(Py_ssize_t N, Py_ssize_t M, Py_ssize_t C):
    """Return how many sums are made on the way."""
    cdef Sums s = sums_of(M, C)
    return N * s.parts * s.W


def multiply_repeated_backward(
    real[::1] da, real[:, ::1] db, const real[::1] dy, const real[::1] a, const real[:, ::1] b,
    double[::1] workspace, Py_ssize_t M, int threads,
):
    cdef Sums s = sums_of(M, b.shape[1])
    cdef Py_ssize_t N = b.shape[0], number, o
    cdef Task task
    for number in prange(
        N * s.parts * s.blocks, nogil=True, num_threads=threads, schedule="static"
    ):
        task = task_of(&s, number)
        part_gradients(
            &da[task.at], &workspace[task.to], &dy[task.at], &a[task.at],
            &b[task.at // s.image, 0], &s, &task,
        )
    for o in prange(N, nogil=True, num_threads=threads, schedule="static"):
        fold(&db[o, 0], &workspace[o * s.parts * s.W], &s)
