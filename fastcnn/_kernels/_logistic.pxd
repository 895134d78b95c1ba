# Logits that say yes or no: their probabilities and the logarithms of these, without a branch.
from fastcnn._kernels._exp cimport exp_negative, log1p_fraction
from fastcnn._kernels._types cimport real


cdef inline real from_zero(real x) noexcept nogil:
    """Return -|x|."""
    return -x if x > 0 else x


cdef inline void probabilities(
    real* yes, real* no, const real* x, Py_ssize_t count
) noexcept nogil:
    """Write sigmoid(x) and what it leaves of 1, each as it is: next to 1 that would be nothing."""
    cdef Py_ssize_t i
    cdef real e
    for i in range(count):
        e = exp_negative(from_zero(x[i]))
        yes[i] = (<real> 1 if x[i] > 0 else e) / (<real> 1 + e)
        no[i] = (e if x[i] > 0 else <real> 1) / (<real> 1 + e)


cdef inline void surprises(real* yes, real* no, const real* x, Py_ssize_t count) noexcept nogil:
    """Write -log of these: log(1 + exp(-x)) and log(1 + exp(x))."""
    cdef Py_ssize_t i
    cdef real log
    for i in range(count):
        log = log1p_fraction(exp_negative(from_zero(x[i])))
        yes[i] = log + (-x[i] if x[i] < 0 else <real> 0)
        no[i] = log + (x[i] if x[i] > 0 else <real> 0)


cdef inline double weighed(double weight, double surprise) noexcept nogil:
    """Return the product, but 0 for a weight of 0: 0 * log(0) is 0, as entropy has it."""
    return weight * surprise if weight else 0.
