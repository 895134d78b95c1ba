"""The error function. Its derivative is a formula of NumPy's (fast/_functions.py).

erf(x) = 1 - 2 * P(|x| * sqrt(2)), P the tail of the normal distribution, with the sign of x. That
cancels where x is small: there it is the series of erf around 0.
"""

from cython.parallel cimport prange
from libc.math cimport fabs

from fastcnn._kernels._exp cimport exp_negative, normal_tail
from fastcnn._kernels._types cimport real

cdef enum:
    ERF_PIECE = 1024            # numbers


cdef inline real erf_series(real x) noexcept nogil:
    """Return 2 / sqrt(pi) * sum of (-1)^n x^(2n+1) / (n! (2n+1)) for |x| <= 1/2."""
    cdef real s, z = x * x
    if sizeof(real) == 8:
        s = <real> (1. / 11975040000.)
        s = s * z - <real> (1. / 918086400.)
        s = s * z + <real> (1. / 76204800.)
        s = s * z - <real> (1. / 6894720.)
        s = s * z + <real> (1. / 685440.)
        s = s * z - <real> (1. / 75600.)
        s = s * z + <real> (1. / 9360.)
    else:
        s = <real> (1. / 9360.)
    s = s * z - <real> (1. / 1320.)
    s = s * z + <real> (1. / 216.)
    s = s * z - <real> (1. / 42.)
    s = s * z + <real> 0.1
    s = s * z - <real> (1. / 3.)
    s = s * z + <real> 1
    return x * s * <real> 1.12837916709551257390


cdef void erf_loop(real* y, const real* x, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    cdef real t, near, far
    for i in range(count):
        t = <real> fabs(x[i])
        far = <real> 1 - <real> 2 * normal_tail(
            t * <real> 1.41421356237309504880, exp_negative(-t * t)
        )
        far = -far if x[i] < 0 else far
        near = erf_series(x[i])
        y[i] = near if t < <real> 0.5 else far


def erf(real[::1] y, const real[::1] x, int threads):
    cdef Py_ssize_t count = x.shape[0], i
    for i in prange(0, count, ERF_PIECE, nogil=True, num_threads=threads, schedule="static"):
        erf_loop(&y[i], &x[i], min(<Py_ssize_t> ERF_PIECE, count - i))
