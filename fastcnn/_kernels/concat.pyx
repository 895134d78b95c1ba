"""Concatenation: copies of rows into longer rows, and back. One call takes one of the arrays.

x is (N, W), W numbers of each row of y (N, V), from `first` on: what lies before the axis is N,
the axis and what lies behind it a row.
"""

from cython.parallel cimport prange

from fastcnn._kernels._copy cimport copy
from fastcnn._kernels._stream cimport past_caches
from fastcnn._kernels._types cimport LANES, drain, real

cdef enum:
    PIECE = 16384               # numbers that a thread takes at once, about


cdef struct Rows:
    Py_ssize_t N, W
    Py_ssize_t from_step, to_step       # from one row to the next
    Py_ssize_t rows, columns            # of a piece
    bint streaming


cdef void copy_piece(
    real* to, const real* source, const Rows* g, Py_ssize_t row, Py_ssize_t column
) noexcept nogil:
    """Copy a piece of some rows, or of some columns of one, of which this is the first number."""
    cdef Py_ssize_t o, count = min(g.columns, g.W - column)
    for o in range(row, min(row + g.rows, g.N)):
        copy(
            to + o * g.to_step + column, source + o * g.from_step + column, count, g.streaming
        )
    if g.streaming:
        drain()


cdef void copy_rows(
    real* to, const real* source, Py_ssize_t N, Py_ssize_t W, Py_ssize_t from_step,
    Py_ssize_t to_step, int threads,
) noexcept:
    cdef Rows g = Rows(N, W, from_step, to_step, max(1, PIECE // W), min(W, <Py_ssize_t> PIECE),
                       past_caches(to, 2 * N * W, W) and to_step % LANES == 0)
    cdef Py_ssize_t across = (W + g.columns - 1) // g.columns, down = (N + g.rows - 1) // g.rows
    cdef Py_ssize_t i
    for i in prange(down * across, nogil=True, num_threads=threads, schedule="static"):
        copy_piece(to, source, &g, i // across * g.rows, i % across * g.columns)


def concat(real[:, ::1] y, const real[:, ::1] x, Py_ssize_t first, int threads):
    copy_rows(&y[0, first], &x[0, 0], x.shape[0], x.shape[1], x.shape[1], y.shape[1], threads)


def concat_backward(real[:, ::1] dx, const real[:, ::1] dy, Py_ssize_t first, int threads):
    copy_rows(&dx[0, 0], &dy[0, first], dx.shape[0], dx.shape[1], dy.shape[1], dx.shape[1], threads)
