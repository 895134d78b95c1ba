# Activations made of straight pieces, as loops of activations.pyx: y output, x input, dy upstream
# gradient. A select on `x <= 0` or `x > 0` decides where a NaN goes.
from fastcnn._kernels._finish cimport Parameters
from fastcnn._kernels._types cimport real


# ---------------------------------------------------------------- ReLU
cdef inline void relu_loop(
    real* y, const real* x, const real* _, Parameters __, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = 0 if x[i] <= 0 else x[i]


cdef inline void relu_backward_loop(
    real* dx, const real* dy, const real* y, Parameters _, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        dx[i] = 0 if y[i] <= 0 else dy[i]


# ---------------------------------------------------------------- leaky ReLU
cdef inline void leaky_relu_loop(
    real* y, const real* x, const real* _, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real slope = <real> p.first
    for i in range(count):
        y[i] = x[i] if x[i] > 0 else slope * x[i]


cdef inline void leaky_relu_wide_loop(
    real* y, const real* x, const real* _, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = x[i] if x[i] > 0 else <real> (p.first * x[i])


cdef inline void leaky_relu_backward_loop(
    real* dx, const real* dy, const real* x, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real slope = <real> p.first
    for i in range(count):
        dx[i] = dy[i] if x[i] > 0 else slope * dy[i]


cdef inline void leaky_relu_backward_wide_loop(
    real* dx, const real* dy, const real* x, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        dx[i] = dy[i] if x[i] > 0 else <real> (p.first * dy[i])


# ---------------------------------------------------------------- clip
cdef inline void clip_loop(
    real* y, const real* x, const real* _, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real low = <real> p.first, high = <real> p.second, z
    for i in range(count):
        z = low if x[i] <= low else x[i]    # a NaN passes both
        y[i] = high if z >= high else z


cdef inline void clip_backward_loop(
    real* dx, const real* dy, const real* y, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real low = <real> p.first, high = <real> p.second, z
    for i in range(count):
        z = <real> 0 if y[i] <= low else dy[i]
        dx[i] = <real> 0 if y[i] >= high else z


# ---------------------------------------------------------------- hard sigmoid
# In double for float32 too, where a product is exact: zeros and ones are where they should be. The
# lower end is taken in front of the sum, which no compiler can make one with the product then.
cdef inline void hard_sigmoid_loop(
    real* y, const real* x, const real* _, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef double z
    for i in range(count):
        z = p.first * x[i]
        z = -p.second if z < -p.second else z       # a NaN passes both
        z = z + p.second
        y[i] = <real> (1. if z > 1 else z)


cdef inline void hard_sigmoid_backward_loop(
    real* dx, const real* dy, const real* y, Parameters p, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real z
    for i in range(count):
        z = <real> (p.first * dy[i])
        z = <real> 0 if y[i] <= 0 else z
        dx[i] = <real> 0 if y[i] >= 1 else z


# ---------------------------------------------------------------- hard swish
cdef inline void hard_swish_loop(
    real* y, const real* x, const real* _, Parameters __, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real gate
    for i in range(count):
        # Times 1/6 and not by 6 in the end: no product is larger than x.
        gate = x[i] + <real> 3
        gate = <real> 0 if gate < 0 else gate       # a NaN passes both
        gate = <real> 6 if gate > 6 else gate
        y[i] = x[i] * (gate * <real> (1. / 6.))


cdef inline void hard_swish_backward_loop(
    real* dx, const real* dy, const real* x, Parameters _, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real slope
    for i in range(count):
        slope = (<real> 2 * x[i] + <real> 3) * <real> (1. / 6.)
        slope = <real> 0 if x[i] <= -3 else slope
        slope = <real> 1 if x[i] >= 3 else slope
        dx[i] = dy[i] * slope
