"""A step of a long short-term memory behind its products with the weights.

N sequences; T steps; K units. A row of sums is four blocks of K, of the gates i, f, g and o.
"""

from cython.parallel cimport prange

from fastcnn._kernels._exp cimport hyperbolic_tangent, logistic
from fastcnn._kernels._types cimport real, real_out


cdef void step_of_units(
    real_out y, real_out h, real_out c, const real* from_x, const real* from_h, Py_ssize_t K
) noexcept nogil:
    cdef Py_ssize_t k
    cdef real i, f, g, o
    for k in range(K):
        i = logistic(from_x[k] + from_h[k])
        f = logistic(from_x[K + k] + from_h[K + k])
        g = hyperbolic_tangent(from_x[2 * K + k] + from_h[2 * K + k])
        o = logistic(from_x[3 * K + k] + from_h[3 * K + k])
        c[k] = f * c[k] + i * g
        h[k] = o * hyperbolic_tangent(c[k])
        y[k] = h[k]


def lstm_step(
    real[:, :, ::1] y, real[:, ::1] h, real[:, ::1] c, const real[:, :, ::1] from_x,
    const real[:, ::1] from_h, Py_ssize_t t, int threads,
):
    """Replace the states h and c, and write h to y: from_x (N, T, 4 * K) has the bias in it."""
    cdef Py_ssize_t n
    for n in prange(h.shape[0], nogil=True, num_threads=threads, schedule="static"):
        step_of_units(&y[n, t, 0], &h[n, 0], &c[n, 0], &from_x[n, t, 0], &from_h[n, 0], h.shape[1])
