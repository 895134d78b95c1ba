# Steps in double, for options that float32 has no room for: a rate of 1e-40, say, or a factor on
# the way to a weight that is beyond it though the weight is not. It is rare, and need not be fast.
from libc.math cimport fabs, sqrt

from fastcnn._kernels._types cimport real


cdef struct Descent:
    double rate, momentum, weight_decay
    bint nesterov


cdef struct Adam:
    double rate, beta1, beta2, weight_decay, epsilon
    double left1, left2         # 1 - beta**step
    bint decoupled


cdef inline bint usual(double option, double low, double high) noexcept nogil:
    """Return whether an option leaves room for float32's numbers: it is 0 or within these."""
    return sizeof(real) == 8 or option == 0 or low < option < high


cdef inline bint usual_descent(const Descent* d) noexcept nogil:
    return (usual(d.rate, 1e-30, 1e30) and usual(d.momentum, 1e-30, 1e15)
            and usual(d.weight_decay, 1e-30, 1e15))


cdef inline bint usual_adam(const Adam* a) noexcept nogil:
    # Squares may vanish: what v loses there must be next to nothing beside epsilon.
    return sizeof(real) == 8 or (
        usual(a.rate / a.left1, 1e-12, 1e12) and fabs(1 - a.rate * a.weight_decay) <= 1
        and usual(a.weight_decay, 1e-30, 1e15)
        and 1e-8 < a.left2 and 3e-15 / sqrt(a.left2) < a.epsilon < 1e12
    )


cdef inline void descend_in_double(
    real* w, real* velocity, const real* dw, const Descent* step, Py_ssize_t count
) noexcept nogil:
    """Take the step of a block; without velocities that pointer is NULL."""
    cdef double g, v
    cdef Py_ssize_t i
    for i in range(count):
        g = dw[i] + step.weight_decay * w[i]
        v = g
        if velocity:
            v = step.momentum * velocity[i] + g
            velocity[i] = <real> v
            v = g + step.momentum * v if step.nesterov else v
        w[i] = <real> (w[i] - step.rate * v)


cdef inline void adam_in_double(
    real* w, real* m, real* v, const real* dw, const Adam* a, Py_ssize_t count
) noexcept nogil:
    """Take the step of a block."""
    cdef double g, m_i, v_i, keep = 1 - a.rate * a.weight_decay if a.decoupled else 1
    cdef Py_ssize_t i
    for i in range(count):
        g = dw[i] if a.decoupled else dw[i] + a.weight_decay * w[i]
        m_i = a.beta1 * m[i] + (1 - a.beta1) * g
        v_i = a.beta2 * v[i] + (1 - a.beta2) * g * g
        m[i], v[i] = <real> m_i, <real> v_i
        w[i] = <real> (
            keep * w[i] - a.rate * (m_i / a.left1) / (sqrt(v_i / a.left2) + a.epsilon)
        )
