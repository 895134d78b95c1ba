"""Batches: rows of a data set in any order, as floats. D numbers a row."""

from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

from fastcnn._kernels._types cimport real


def take(real[:, ::1] batch, const real[:, ::1] rows, const int64_t[::1] chosen, int threads):
    """Copy the chosen rows; each must be one."""
    cdef Py_ssize_t D = rows.shape[1], n
    for n in prange(chosen.shape[0], nogil=True, num_threads=threads, schedule="static"):
        memcpy(&batch[n, 0], &rows[chosen[n], 0], D * sizeof(real))


cdef void scale(real* batch, const uint8_t* row, Py_ssize_t D) noexcept nogil:
    cdef Py_ssize_t d
    for d in range(D):
        batch[d] = <real> row[d] / 255


def take_bytes(
    real[:, ::1] batch, const uint8_t[:, ::1] rows, const int64_t[::1] chosen, int threads
):
    """Write the chosen rows divided by 255."""
    cdef Py_ssize_t D = rows.shape[1], n
    for n in prange(chosen.shape[0], nogil=True, num_threads=threads, schedule="static"):
        scale(&batch[n, 0], &rows[chosen[n], 0], D)
