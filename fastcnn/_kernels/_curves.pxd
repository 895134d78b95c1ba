# Activations made of e^x, as loops of activations.pyx: y output, x input, dy upstream gradient. A
# select on `x > 0` or `x < 0` decides where a NaN goes.
from libc.math cimport exp as exp_in_double, expm1 as expm1_in_double, fabs

from fastcnn._kernels._exp cimport (
    exp_negative, expm1_negative, hyperbolic_tangent, log1p_fraction, logistic, normal_tail,
    times_exp_negative,
)
from fastcnn._kernels._finish cimport Parameters
from fastcnn._kernels._types cimport real


# ---------------------------------------------------------------- ELU
cdef inline void elu_loop(
    real* y, const real* x, const real* _, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real alpha = <real> p.first
    for i in range(count):
        y[i] = x[i] if x[i] > 0 else alpha * expm1_negative(x[i])


cdef inline void elu_wide_loop(
    real* y, const real* x, const real* _, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = x[i] if x[i] > 0 else <real> (p.first * expm1_in_double(x[i]))


cdef inline void elu_backward_loop(
    real* dx, const real* dy, const real* x, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real alpha = <real> p.first
    for i in range(count):
        dx[i] = dy[i] if x[i] > 0 else alpha * times_exp_negative(dy[i], x[i])


cdef inline void elu_backward_wide_loop(
    real* dx, const real* dy, const real* x, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        dx[i] = dy[i] if x[i] > 0 else <real> (dy[i] * p.first * exp_in_double(x[i]))


# ---------------------------------------------------------------- SELU
# The scale 1.0507... and the scale times alpha: Klambauer et al., 2017.
cdef inline void selu_loop(
    real* y, const real* x, const real* _, Parameters __, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = (
            x[i] * <real> 1.05070098735548049342 if x[i] > 0
            else expm1_negative(x[i]) * <real> 1.75809934084737685994
        )


cdef inline void selu_backward_loop(
    real* dx, const real* dy, const real* x, Parameters _, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        dx[i] = (
            dy[i] * <real> 1.05070098735548049342 if x[i] > 0
            else times_exp_negative(dy[i], x[i]) * <real> 1.75809934084737685994
        )


# ---------------------------------------------------------------- CELU
cdef inline void celu_loop(
    real* y, const real* x, const real* _, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real alpha = <real> p.first
    for i in range(count):
        y[i] = x[i] if x[i] > 0 else alpha * expm1_negative(x[i] / alpha)


cdef inline void celu_wide_loop(
    real* y, const real* x, const real* _, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = x[i] if x[i] > 0 else <real> (p.first * expm1_in_double(x[i] / p.first))


cdef inline void celu_backward_loop(
    real* dx, const real* dy, const real* x, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real alpha = <real> p.first
    for i in range(count):
        dx[i] = dy[i] if x[i] > 0 else times_exp_negative(dy[i], x[i] / alpha)


cdef inline void celu_backward_wide_loop(
    real* dx, const real* dy, const real* x, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        dx[i] = dy[i] if x[i] > 0 else <real> (dy[i] * exp_in_double(x[i] / p.first))


# ---------------------------------------------------------------- tanh
cdef inline void tanh_loop(
    real* y, const real* x, const real* _, Parameters __, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = hyperbolic_tangent(x[i])


cdef inline void tanh_backward_loop(
    real* dx, const real* dy, const real* y, Parameters _, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real t
    for i in range(count):
        t = <real> fabs(y[i])   # 1 - t * t in two factors: no product is larger than the last
        dx[i] = dy[i] * (<real> 1 - t) * (<real> 1 + t)
# ---------------------------------------------------------------- sigmoid
cdef inline void sigmoid_loop(
    real* y, const real* x, const real* _, Parameters __, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = logistic(x[i])


cdef inline void sigmoid_backward_loop(
    real* dx, const real* dy, const real* y, Parameters _, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        # In this order: dy * y may be beyond real where y is no probability, and dx not.
        dx[i] = dy[i] * (<real> 1 - y[i]) * y[i]


# ---------------------------------------------------------------- SiLU
cdef inline void silu_loop(
    real* y, const real* x, const real* _, Parameters __, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = x[i] * logistic(x[i])


cdef inline void silu_backward_loop(
    real* dx, const real* dy, const real* x, Parameters _, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real s
    for i in range(count):
        s = logistic(x[i])
        dx[i] = dy[i] * s * (<real> 1 + x[i] * (<real> 1 - s))


# ---------------------------------------------------------------- softplus
cdef inline void softplus_loop(
    real* y, const real* x, const real* _, Parameters __, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real above
    for i in range(count):
        # log(1 + e^x) = max(x, 0) + log(1 + e^-|x|): nothing overflows, and small values stay.
        above = <real> 0 if x[i] < 0 else x[i]
        y[i] = above + log1p_fraction(exp_negative(-<real> fabs(x[i])))


cdef inline void softplus_backward_loop(
    real* dx, const real* dy, const real* x, Parameters _, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        dx[i] = dy[i] * logistic(x[i])


# ---------------------------------------------------------------- Mish
# tanh(log(1 + e^x)) = n / d, with e = e^-|x| the one function that it takes:
#   x < 0: n = e * e + 2 * e, d = n + 2;    else n = 1 + 2 * e, d = n + 2 * e * e.
# Its slope is 4 * (1 + e) / d / d, times e or e * e.
cdef inline void mish_loop(
    real* y, const real* x, const real* _, Parameters __, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real e, n, rest
    for i in range(count):
        e = exp_negative(-<real> fabs(x[i]))
        n = e * (e + <real> 2) if x[i] < 0 else <real> 1 + <real> 2 * e
        rest = <real> 1 if x[i] < 0 else e * e
        y[i] = x[i] * (n / (n + <real> 2 * rest))


cdef inline void mish_backward_loop(
    real* dx, const real* dy, const real* x, Parameters _, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real e, n, rest, scale, slope
    for i in range(count):
        e = exp_negative(-<real> fabs(x[i]))
        n = e * (e + <real> 2) if x[i] < 0 else <real> 1 + <real> 2 * e
        rest = <real> 1 if x[i] < 0 else e * e
        scale = <real> 1 / (n + <real> 2 * rest)
        slope = <real> 4 * (<real> 1 + e) * scale * scale
        slope = slope * e if x[i] < 0 else slope * rest
        dx[i] = dy[i] * (n * scale + x[i] * slope)


# ---------------------------------------------------------------- GELU
cdef inline real normal_distribution(real x, real e) noexcept nogil:
    """Return the probability of less than x; e is e^(-x*x/2)."""
    cdef real tail = normal_tail(<real> fabs(x), e)
    return tail if x < 0 else <real> 1 - tail


cdef inline void gelu_loop(
    real* y, const real* x, const real* _, Parameters __, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = x[i] * normal_distribution(x[i], exp_negative(x[i] * x[i] * <real> -0.5))


cdef inline void gelu_backward_loop(
    real* dx, const real* dy, const real* x, Parameters _, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real e
    for i in range(count):
        e = exp_negative(x[i] * x[i] * <real> -0.5)
        dx[i] = dy[i] * (normal_distribution(x[i], e) + x[i] * (e * <real> 0.398942280401432677940))


# ---------------------------------------------------------------- GELU by tanh
# (1 + tanh(u)) / 2 is the logistic function of 2 * u = x * (1.59... + 0.0713... * x * x), with
# 2 * sqrt(2 / pi) and 0.044715 times that: Hendrycks and Gimpel, 2016.
cdef inline void gelu_tanh_loop(
    real* y, const real* x, const real* _, Parameters __, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real inner
    for i in range(count):
        inner = <real> 1.59576912160573071176 + <real> 0.0713548162726002527 * x[i] * x[i]
        y[i] = x[i] * logistic(x[i] * inner)


cdef inline void gelu_tanh_backward_loop(
    real* dx, const real* dy, const real* x, Parameters _, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real s, t, rise
    for i in range(count):
        # Beyond 30 the slope is 0 or 1, and squares of x might be none: 0 times infinity.
        t = <real> 30 if x[i] > 30 else x[i]
        t = <real> -30 if t < -30 else t            # a NaN passes both
        s = logistic(t * (<real> 1.59576912160573071176 + <real> 0.0713548162726002527 * t * t))
        rise = <real> 1.59576912160573071176 + <real> 0.2140644488178007581 * t * t
        dx[i] = dy[i] * (s + t * rise * (s * (<real> 1 - s)))
