"""Optimizer steps: each reads and writes every array once.

Most parameters are small, and to check the arguments in Python takes several times as long as
their step. So the steps take arrays of any rank and look at them here: they return False, with
nothing changed, unless every argument is as it should be, and the caller finds out what is wrong.
"""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cython.parallel cimport prange
from libc.math cimport INFINITY, sqrt
from libc.stdint cimport uintptr_t
from libc.string cimport memcmp

from sys import byteorder

from fastcnn._kernels._cpu cimport l3_bytes
from fastcnn._kernels._types cimport LANES, prefetch, prefetch_to_write, real

cdef enum:
    BLOCK = 4096                # elements
    AHEAD = 512                 # elements fetched while as many are computed

cdef char ORDER = b"<" if byteorder == "little" else b">"


cdef bint is_plain(object value) noexcept:
    """Return whether `value` is a finite float of at least 0."""
    return type(value) is float and 0 <= <double> value < INFINITY


cdef Py_ssize_t look(object arrays, real** data) except -1:
    """Set where the numbers of each array lie and return their number, 0 if they are no match.

    They match if they are C-contiguous, aligned, of this kernel's dtype and of one shape, and all
    but the first, the gradient, writable.
    """
    cdef Py_buffer view
    cdef Py_ssize_t[64] shape
    cdef Py_ssize_t i, rank = 0, count = 0
    cdef char code = b"f" if sizeof(real) == 4 else b"d"
    cdef const char* format
    cdef bint fits
    for i in range(len(arrays)):
        try:
            PyObject_GetBuffer(arrays[i], &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS
                               | (PyBUF_WRITABLE if i > 0 else 0))
        except (BufferError, ValueError):
            return 0
        if i == 0:
            rank, count = view.ndim, view.len // <Py_ssize_t> sizeof(real)
            for axis in range(rank):
                shape[axis] = view.shape[axis]
        format = view.format + (view.format[0] == ORDER)
        fits = (format[0] == code and format[1] == 0 and view.ndim == rank
                and (rank == 0 or memcmp(view.shape, shape, rank * sizeof(Py_ssize_t)) == 0)
                and <uintptr_t> view.buf % sizeof(real) == 0)
        data[i] = <real*> view.buf
        PyBuffer_Release(&view)     # the caller holds the array
        if not fits:
            return 0
    return count


cdef void descend(
    real* w, const real* dw, real learning_rate, real weight_decay, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        w[i] = w[i] - learning_rate * (dw[i] + weight_decay * w[i])


cdef void descend_piece(
    real* w, real* velocity, const real* dw, real learning_rate, real momentum, bint nesterov,
    real weight_decay, Py_ssize_t count,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real g, v
    for i in range(count):
        g = dw[i] + weight_decay * w[i]
        v = momentum * velocity[i] + g
        velocity[i] = v
        w[i] = w[i] - learning_rate * (g + momentum * v if nesterov else v)


cdef void descend_with_momentum(
    real* w, real* velocity, const real* dw, real learning_rate, real momentum, bint nesterov,
    real weight_decay, Py_ssize_t count, bint fetching,
) noexcept nogil:
    """Take the step of a block.

    Other cores have just read the weights: to get a line of them back for writing takes longer
    than the arithmetic, so it is asked for early. What lies in memory alone comes no sooner for it.
    """
    cdef Py_ssize_t i = 0, ahead
    while i < count:
        ahead = i + AHEAD
        while fetching and ahead < i + 2 * AHEAD:
            prefetch_to_write(w + ahead)
            prefetch_to_write(velocity + ahead)
            prefetch(dw + ahead)
            ahead += LANES
        descend_piece(w + i, velocity + i, dw + i, learning_rate, momentum, nesterov,
                      weight_decay, min(<Py_ssize_t> AHEAD, count - i))
        i += AHEAD


def sgd_step(
    w, velocity, dw, learning_rate, momentum, nesterov, weight_decay, int threads,
):
    """Take a step in w and velocity, which may be None, and return True; or return False."""
    cdef real* data[3]
    cdef Py_ssize_t count, i
    cdef real rate, mu, decay
    cdef bint looks_ahead, fetching
    if not (is_plain(learning_rate) and is_plain(momentum) and is_plain(weight_decay)
            and type(nesterov) is bool and (momentum == 0 or velocity is not None)):
        return False
    count = look((dw, w) if velocity is None else (dw, w, velocity), data)
    if count == 0:
        return False
    rate, mu, decay, looks_ahead = learning_rate, momentum, weight_decay, nesterov
    if velocity is None:
        for i in prange(0, count, BLOCK, nogil=True, num_threads=threads, schedule="static"):
            descend(data[1] + i, data[0] + i, rate, decay, min(<Py_ssize_t> BLOCK, count - i))
        return True
    fetching = 3 * count * <Py_ssize_t> sizeof(real) < l3_bytes
    for i in prange(0, count, BLOCK, nogil=True, num_threads=threads, schedule="static"):
        descend_with_momentum(
            data[1] + i, data[2] + i, data[0] + i, rate, mu, looks_ahead, decay,
            min(<Py_ssize_t> BLOCK, count - i), fetching,
        )
    return True


cdef struct Adam:
    real beta1, beta2, rest1, rest2     # rest: 1 - beta
    bint decoupled
    real keep, weight_decay             # of w: decoupled or in the gradient
    real rate, root, epsilon            # rate * m / (root * sqrt(v) + epsilon)


cdef void adam_block(
    real* w, real* m, real* v, const real* dw, Adam* adam, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef Adam a = adam[0]
    cdef real g, m_i, v_i
    for i in range(count):
        g = dw[i] if a.decoupled else dw[i] + a.weight_decay * w[i]     # 0 * w may be NaN
        m_i = a.beta1 * m[i] + a.rest1 * g
        v_i = a.beta2 * v[i] + a.rest2 * g * g
        m[i] = m_i
        v[i] = v_i
        w[i] = a.keep * w[i] - a.rate * m_i / (a.root * <real> sqrt(v_i) + a.epsilon)


def adam_step(
    real[::1] w, real[::1] m, real[::1] v, const real[::1] dw, double correction1,
    double correction2, double learning_rate, double beta1, double beta2, double epsilon,
    double weight_decay, bint decoupled, int threads,
):
    """The corrections are 1 - beta**step."""
    cdef Py_ssize_t count = w.shape[0], i
    cdef Adam adam
    adam.beta1, adam.rest1 = <real> beta1, <real> (1 - beta1)
    adam.beta2, adam.rest2 = <real> beta2, <real> (1 - beta2)
    adam.decoupled = decoupled
    adam.keep = <real> (1 - learning_rate * weight_decay if decoupled else 1)
    adam.weight_decay = <real> weight_decay
    adam.rate = <real> (learning_rate / correction1)
    adam.root = <real> (1 / sqrt(correction2))
    adam.epsilon = <real> epsilon
    for i in prange(0, count, BLOCK, nogil=True, num_threads=threads, schedule="static"):
        adam_block(&w[i], &m[i], &v[i], &dw[i], &adam, min(<Py_ssize_t> BLOCK, count - i))
