"""Optimizer steps: each reads and writes every array once. Arrays are flat."""

from cython.parallel cimport prange
from libc.math cimport sqrt

from fastcnn._kernels._types cimport real

cdef enum:
    BLOCK = 4096                # elements


cdef void descend(
    real* w, const real* dw, real learning_rate, real weight_decay, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        w[i] = w[i] - learning_rate * (dw[i] + weight_decay * w[i])


cdef void descend_with_momentum(
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


def sgd_step(
    real[::1] w, real[::1] velocity, const real[::1] dw, double learning_rate, double momentum,
    bint nesterov, double weight_decay, int threads,
):
    cdef Py_ssize_t count = w.shape[0], i
    cdef real rate = <real> learning_rate, mu = <real> momentum, decay = <real> weight_decay
    if velocity is None:
        for i in prange(0, count, BLOCK, nogil=True, num_threads=threads, schedule="static"):
            descend(&w[i], &dw[i], rate, decay, min(<Py_ssize_t> BLOCK, count - i))
        return
    for i in prange(0, count, BLOCK, nogil=True, num_threads=threads, schedule="static"):
        descend_with_momentum(
            &w[i], &velocity[i], &dw[i], rate, mu, nesterov, decay,
            min(<Py_ssize_t> BLOCK, count - i),
        )


cdef struct Adam:
    real beta1, beta2, rest1, rest2     # rest: 1 - beta
    real keep, weight_decay             # of w: decoupled or in the gradient
    real rate, root, epsilon            # rate * m / (root * sqrt(v) + epsilon)


cdef void adam_block(
    real* w, real* m, real* v, const real* dw, Adam* adam, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef Adam a = adam[0]
    cdef real g, m_i, v_i
    for i in range(count):
        g = dw[i] + a.weight_decay * w[i]
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
    adam.keep = <real> (1 - learning_rate * weight_decay if decoupled else 1)
    adam.weight_decay = <real> (0 if decoupled else weight_decay)
    adam.rate = <real> (learning_rate / correction1)
    adam.root = <real> (1 / sqrt(correction2))
    adam.epsilon = <real> epsilon
    for i in prange(0, count, BLOCK, nogil=True, num_threads=threads, schedule="static"):
        adam_block(&w[i], &m[i], &v[i], &dw[i], &adam, min(<Py_ssize_t> BLOCK, count - i))
