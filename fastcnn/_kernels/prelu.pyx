"""PReLU, whose slopes below zero are learned, and its gradients in one pass. See _broadcast.pxd.

N M C as there: the whole, x, is (N, M, C), and the part, the slopes, (N, C). Sums are made in
double.
"""

from cython.parallel cimport prange

from fastcnn._kernels._broadcast cimport (
    PIECE as AT_ONCE, TILE, Sums, Task, fold, row_of, sums_of, task_of, width_of,
)
from fastcnn._kernels._types cimport real, real_out


# ---------------------------------------------------------------- forward
cdef inline void sloped_row(
    real_out y, const real* x, const real* row, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(count):
        y[j] = x[j] if x[j] > 0 else row[j] * x[j]


cdef void sloped_piece(
    real* y, const real* x, const real* slope, Py_ssize_t count, Py_ssize_t W, Py_ssize_t C
) noexcept nogil:
    cdef real[TILE] room
    cdef const real* row = row_of(room, slope, W, C)
    cdef Py_ssize_t i = 0
    while i < count:
        sloped_row(y + i, x + i, row, min(W, count - i))
        i += W


def prelu(real[::1] y, const real[::1] x, const real[:, ::1] slope, Py_ssize_t M, int threads):
    cdef Py_ssize_t C = slope.shape[1], W = width_of(M, C), image = M * C
    cdef Py_ssize_t piece = W * max(1, AT_ONCE // W), pieces = (image + piece - 1) // piece
    cdef Py_ssize_t number, o, i
    for number in prange(
        slope.shape[0] * pieces, nogil=True, num_threads=threads, schedule="static"
    ):
        o, i = number // pieces, number % pieces * piece
        sloped_piece(&y[o * image + i], &x[o * image + i], &slope[o, 0], min(piece, image - i), W,
                     C)


# ---------------------------------------------------------------- backward
cdef inline void sloped_row_gradients(
    real_out dx, double* total, const real* dy, const real* x, const real* row, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t j
    cdef double below
    for j in range(count):
        dx[j] = dy[j] if x[j] > 0 else row[j] * dy[j]
        below = <double> dy[j] * <double> x[j]
        total[j] += 0. if x[j] > 0 else below


cdef void slope_gradients(
    real* dx, double* total, const real* dy, const real* x, const real* slope, const Sums* s,
    const Task* task,
) noexcept nogil:
    """A task's dx, and its sums of dy * x; slope begins at the part's first number."""
    cdef real[TILE] room
    cdef const real* row = row_of(room, slope, s.W, s.C) + task.first
    cdef Py_ssize_t i = 0, j
    for j in range(task.columns):
        total[j] = 0
    while i < task.count:
        sloped_row_gradients(dx + i, total, dy + i, x + i, row, min(task.columns, task.count - i))
        i += s.W


def prelu_backward(
    real[::1] dx, real[:, ::1] dslope, const real[::1] dy, const real[::1] x,
    const real[:, ::1] slope, double[::1] workspace, Py_ssize_t M, int threads,
):
    """The workspace is that of multiply_repeated_backward."""
    cdef Sums s = sums_of(M, slope.shape[1])
    cdef Py_ssize_t N = slope.shape[0], number, o
    cdef Task task
    for number in prange(
        N * s.parts * s.blocks, nogil=True, num_threads=threads, schedule="static"
    ):
        task = task_of(&s, number)
        slope_gradients(
            &dx[task.at], &workspace[task.to], &dy[task.at], &x[task.at],
            &slope[task.at // s.image, 0], &s, &task,
        )
    for o in prange(N, nogil=True, num_threads=threads, schedule="static"):
        fold(&dslope[o, 0], &workspace[o * s.parts * s.W], &s)
