"""Activations: elementwise, each backward directly below its forward.

y output, x input, dy upstream gradient; arrays are flat. Every op is a loop over a range of them
that the compiler vectorises; `over_ranges` gives every thread its range. A select on `x <= 0` or
`x > 0` decides where a NaN goes.

Longer than most: it holds every elementwise activation, each with its backward.
"""

from cython.parallel cimport prange
from libc.math cimport exp as exp_in_double, expm1 as expm1_in_double, fabs

from fastcnn._kernels._exp cimport (
    exp, expm1_negative, normal_tail, times_exp_negative
)
from fastcnn._kernels._stream cimport past_caches
from fastcnn._kernels._types cimport LANES, drain, load, real, stream

cdef enum:
    PAGE = 1024                 # numbers; a thread takes whole ones, the same in every such op
    PIECE = 64                  # numbers that are computed and then written past the caches

ctypedef void (*Loop)(
    real* out, const real* a, const real* b, double parameter, Py_ssize_t count
) noexcept nogil


cdef void over_ranges(
    Loop loop, real[::1] out, const real[::1] a, const real[::1] b, double parameter, int threads
) noexcept:
    """Run `loop` over the arrays, each thread a range; an op of one input gets it twice."""
    cdef Py_ssize_t count = out.shape[0], size = (count // threads // PAGE + 1) * PAGE, i
    cdef bint streaming = past_caches(&out[0], (2 if &a[0] == &b[0] else 3) * count, LANES)
    cdef real* out_0 = &out[0]
    cdef const real* a_0 = &a[0]
    cdef const real* b_0 = &b[0]
    for i in prange(0, count, size, nogil=True, num_threads=threads, schedule="static"):
        if streaming:
            stream_range(
                loop, out_0 + i, a_0 + i, b_0 + i, parameter, min(size, count - i)
            )
        else:
            loop(out_0 + i, a_0 + i, b_0 + i, parameter, min(size, count - i))


cdef void stream_range(
    Loop loop, real* out, const real* a, const real* b, double parameter, Py_ssize_t count
) noexcept nogil:
    """Run `loop` on pieces, and write each past the caches.

    Pieces are short: what is read and what is written should be under way at the same time.
    """
    cdef real[PIECE] piece
    cdef Py_ssize_t i = 0, at
    while i + PIECE <= count:
        loop(piece, a + i, b + i, parameter, PIECE)
        for at in range(PIECE // LANES):
            stream(out + i + at * LANES, load(piece + at * LANES))
        i += PIECE
    drain()
    loop(out + i, a + i, b + i, parameter, count - i)


cdef inline bint fits(double parameter) noexcept nogil:
    """Return whether a number is one of `real` too; else products are made in double."""
    return sizeof(real) == 8 or parameter == 0 or 1e-37 < fabs(parameter) < 1e38


# ---------------------------------------------------------------- ReLU
cdef void relu_loop(
    real* y, const real* x, const real* _, double __, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = 0 if x[i] <= 0 else x[i]


cdef void relu_backward_loop(
    real* dx, const real* dy, const real* y, double _, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        dx[i] = 0 if y[i] <= 0 else dy[i]


def relu(real[::1] y, const real[::1] x, int threads):
    over_ranges(relu_loop, y, x, x, 0, threads)


def relu_backward(real[::1] dx, const real[::1] dy, const real[::1] y, int threads):
    over_ranges(relu_backward_loop, dx, dy, y, 0, threads)


# ---------------------------------------------------------------- leaky ReLU
cdef void leaky_relu_loop(
    real* y, const real* x, const real* _, double negative_slope, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real slope = <real> negative_slope
    for i in range(count):
        y[i] = x[i] if x[i] > 0 else slope * x[i]


cdef void leaky_relu_wide_loop(
    real* y, const real* x, const real* _, double slope, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = x[i] if x[i] > 0 else <real> (slope * x[i])


cdef void leaky_relu_backward_loop(
    real* dx, const real* dy, const real* x, double negative_slope, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real slope = <real> negative_slope
    for i in range(count):
        dx[i] = dy[i] if x[i] > 0 else slope * dy[i]


cdef void leaky_relu_backward_wide_loop(
    real* dx, const real* dy, const real* x, double slope, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        dx[i] = dy[i] if x[i] > 0 else <real> (slope * dy[i])


def leaky_relu(real[::1] y, const real[::1] x, double negative_slope, int threads):
    over_ranges(leaky_relu_loop if fits(negative_slope) else leaky_relu_wide_loop,
                y, x, x, negative_slope, threads)


def leaky_relu_backward(
    real[::1] dx, const real[::1] dy, const real[::1] x, double negative_slope, int threads
):
    over_ranges(leaky_relu_backward_loop if fits(negative_slope) else leaky_relu_backward_wide_loop,
                dx, dy, x, negative_slope, threads)


# ---------------------------------------------------------------- ELU
cdef void elu_loop(
    real* y, const real* x, const real* _, double parameter, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real alpha = <real> parameter
    for i in range(count):
        y[i] = x[i] if x[i] > 0 else alpha * expm1_negative(x[i])


cdef void elu_wide_loop(
    real* y, const real* x, const real* _, double alpha, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = x[i] if x[i] > 0 else <real> (alpha * expm1_in_double(x[i]))


cdef void elu_backward_loop(
    real* dx, const real* dy, const real* x, double parameter, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real alpha = <real> parameter
    for i in range(count):
        dx[i] = dy[i] if x[i] > 0 else alpha * times_exp_negative(dy[i], x[i])


cdef void elu_backward_wide_loop(
    real* dx, const real* dy, const real* x, double alpha, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        dx[i] = dy[i] if x[i] > 0 else <real> (dy[i] * alpha * exp_in_double(x[i]))


def elu(real[::1] y, const real[::1] x, double alpha, int threads):
    over_ranges(elu_loop if fits(alpha) else elu_wide_loop, y, x, x, alpha, threads)


def elu_backward(real[::1] dx, const real[::1] dy, const real[::1] x, double alpha, int threads):
    # Where dy * exp(x) is next to nothing, what it loses stays so with an alpha that is not large.
    cdef bint narrow = fits(alpha) and (sizeof(real) == 8 or fabs(alpha) < 1e4)
    over_ranges(elu_backward_loop if narrow else elu_backward_wide_loop, dx, dy, x, alpha, threads)


# ---------------------------------------------------------------- GELU
cdef inline real normal_density(real x) noexcept nogil:
    return exp(x * x * <real> -0.5) * <real> 0.398942280401432677940


cdef inline real normal_distribution(real x, real density) noexcept nogil:
    cdef real tail = normal_tail(<real> fabs(x), density)
    return tail if x < 0 else <real> 1 - tail


cdef void gelu_loop(
    real* y, const real* x, const real* _, double __, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = x[i] * normal_distribution(x[i], normal_density(x[i]))


cdef void gelu_backward_loop(
    real* dx, const real* dy, const real* x, double _, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real density
    for i in range(count):
        density = normal_density(x[i])
        dx[i] = dy[i] * (normal_distribution(x[i], density) + x[i] * density)


def gelu(real[::1] y, const real[::1] x, int threads):
    over_ranges(gelu_loop, y, x, x, 0, threads)


def gelu_backward(real[::1] dx, const real[::1] dy, const real[::1] x, int threads):
    over_ranges(gelu_backward_loop, dx, dy, x, 0, threads)


# ---------------------------------------------------------------- SiLU
cdef inline real logistic(real x) noexcept nogil:
    # The exponent is never positive: e is at most 1, and neither end overflows.
    cdef real e = exp(-<real> fabs(x))
    cdef real s = <real> 1 / (<real> 1 + e)
    return e * s if x < 0 else s


cdef void silu_loop(
    real* y, const real* x, const real* _, double __, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = x[i] * logistic(x[i])


cdef void silu_backward_loop(
    real* dx, const real* dy, const real* x, double _, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real s
    for i in range(count):
        s = logistic(x[i])
        dx[i] = dy[i] * s * (<real> 1 + x[i] * (<real> 1 - s))


def silu(real[::1] y, const real[::1] x, int threads):
    over_ranges(silu_loop, y, x, x, 0, threads)


def silu_backward(real[::1] dx, const real[::1] dy, const real[::1] x, int threads):
    over_ranges(silu_backward_loop, dx, dy, x, 0, threads)


# ---------------------------------------------------------------- sigmoid
cdef void sigmoid_loop(
    real* y, const real* x, const real* _, double __, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        y[i] = logistic(x[i])


cdef void sigmoid_backward_loop(
    real* dx, const real* dy, const real* y, double _, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        # In this order: dy * y may be beyond real where y is no probability, and dx not.
        dx[i] = dy[i] * (<real> 1 - y[i]) * y[i]


def sigmoid(real[::1] y, const real[::1] x, int threads):
    over_ranges(sigmoid_loop, y, x, x, 0, threads)


def sigmoid_backward(real[::1] dx, const real[::1] dy, const real[::1] y, int threads):
    over_ranges(sigmoid_backward_loop, dx, dy, y, 0, threads)


# ---------------------------------------------------------------- tanh
cdef void tanh_loop(
    real* y, const real* x, const real* _, double __, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real e, t
    for i in range(count):
        e = expm1_negative(<real> -2 * <real> fabs(x[i]))
        t = e / (e + <real> 2)
        y[i] = -t if x[i] > 0 else t


cdef void tanh_backward_loop(
    real* dx, const real* dy, const real* y, double _, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real t
    for i in range(count):
        t = <real> fabs(y[i])   # 1 - t * t in two factors: no product is larger than the last
        dx[i] = dy[i] * (<real> 1 - t) * (<real> 1 + t)


def tanh(real[::1] y, const real[::1] x, int threads):
    over_ranges(tanh_loop, y, x, x, 0, threads)


def tanh_backward(real[::1] dx, const real[::1] dy, const real[::1] y, int threads):
    over_ranges(tanh_backward_loop, dx, dy, y, 0, threads)
