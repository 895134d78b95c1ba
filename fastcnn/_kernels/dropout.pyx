"""Inverted dropout with a mask drawn by the caller; arrays are flat."""

from cython.parallel cimport prange
from libc.stdint cimport uint8_t

from fastcnn._kernels._types cimport real

cdef enum:
    DROPOUT_BLOCK = 4096        # elements


cdef void dropout_block(
    real* y, const real* x, const uint8_t* mask, real scale, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = x[i] * scale if mask[i] else 0


def dropout(real[::1] y, const real[::1] x, const uint8_t[::1] mask, double rate, int threads):
    """Its own gradient too: dx is to dy as y is to x."""
    cdef real scale = <real> (1 / (1 - rate))
    cdef Py_ssize_t count = y.shape[0], i
    for i in prange(0, count, DROPOUT_BLOCK, nogil=True, num_threads=threads, schedule="static"):
        dropout_block(&y[i], &x[i], &mask[i], scale, min(<Py_ssize_t> DROPOUT_BLOCK, count - i))


def dropout_backward(
    real[::1] dx, const real[::1] dy, const uint8_t[::1] mask, double rate, int threads
):
    dropout(dx, dy, mask, rate, threads)
