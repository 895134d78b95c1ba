"""Sums of two arrays, and the sums of a gradient over what was repeated. See _broadcast.pxd.

N M C as there: the whole is (N, M, C), the part (N, C). Gradients are summed in double.
"""

from cython.parallel cimport prange

from fastcnn._kernels._broadcast cimport (
    PIECE, Sums, Task, fold, join, join_repeated, streams, sums_of, task_of, width_of
)
from fastcnn._kernels._types cimport LANES, drain, real


# ---------------------------------------------------------------- forward
cdef void add_numbers(
    real* y, const real* a, const real* b, Py_ssize_t count, bint streaming
) noexcept nogil:
    join(y, a, b, count, False, streaming)
    if streaming:
        drain()


cdef void add_part(
    real* y, const real* a, const real* part, Py_ssize_t count, Py_ssize_t W, Py_ssize_t C,
    bint streaming,
) noexcept nogil:
    join_repeated(y, a, part, count, W, C, False, streaming)


def add(real[::1] y, const real[::1] a, const real[::1] b, int threads):
    """Arrays of one shape; y may be a."""
    cdef Py_ssize_t count = y.shape[0], i
    cdef bint streaming = streams(&y[0], 3 * count, LANES, 0)
    for i in prange(0, count, PIECE, nogil=True, num_threads=threads, schedule="static"):
        add_numbers(&y[i], &a[i], &b[i], min(<Py_ssize_t> PIECE, count - i), streaming)


def add_repeated(
    real[::1] y, const real[::1] a, const real[:, ::1] b, Py_ssize_t M, int threads
):
    """a (N, M, C) and b (N, C); y may be a."""
    cdef Py_ssize_t C = b.shape[1], W = width_of(M, C), image = M * C
    cdef Py_ssize_t piece = W * max(1, PIECE // W), pieces = (image + piece - 1) // piece
    cdef Py_ssize_t number, o, i
    cdef bint streaming = streams(&y[0], 2 * y.shape[0], W, image)
    for number in prange(b.shape[0] * pieces, nogil=True, num_threads=threads, schedule="static"):
        o, i = number // pieces, number % pieces * piece
        add_part(&y[o * image + i], &a[o * image + i], &b[o, 0], min(piece, image - i), W, C,
                 streaming)


# ---------------------------------------------------------------- backward
cdef void add_rows(
    double* total, const real* dy, Py_ssize_t count, Py_ssize_t columns, Py_ssize_t W
) noexcept nogil:
    """Sum rows of W numbers, the columns that dy begins with."""
    cdef Py_ssize_t j, i = 0
    for j in range(columns):
        total[j] = 0
    while i + 3 * W + columns <= count:     # four at once: fewer loads and stores of total
        for j in range(columns):
            total[j] += (
                (<double> dy[i + j] + <double> dy[i + W + j])
                + (<double> dy[i + 2 * W + j] + <double> dy[i + 3 * W + j])
            )
        i += 4 * W
    while i < count:
        for j in range(min(columns, count - i)):
            total[j] += dy[i + j]
        i += W


def workspace_size(Py_ssize_t N, Py_ssize_t M, Py_ssize_t C):
    """Return how many sums are made on the way."""
    cdef Sums s = sums_of(M, C)
    return N * s.parts * s.W


def add_backward(
    real[:, ::1] db, const real[::1] dy, double[::1] workspace, Py_ssize_t M, int threads
):
    """db (N, C): the sums of dy (N, M, C) over M."""
    cdef Sums s = sums_of(M, db.shape[1])
    cdef Py_ssize_t N = db.shape[0], number, o
    cdef Task task
    for number in prange(
        N * s.parts * s.blocks, nogil=True, num_threads=threads, schedule="static"
    ):
        task = task_of(&s, number)
        add_rows(&workspace[task.to], &dy[task.at], task.count, task.columns, s.W)
    for o in prange(N, nogil=True, num_threads=threads, schedule="static"):
        fold(&db[o, 0], &workspace[o * s.parts * s.W], &s)
