# The gradients of batch normalization + ReLU, by blocks of pixels: C channels, of whole vectors.
from libc.math cimport sqrt
from libc.string cimport memset

from fastcnn._kernels._narrow cimport too_narrow_for_gradients
from fastcnn._kernels._stream cimport put
from fastcnn._kernels._types cimport LANES, beats, load, real, splat, store, vec, where


cdef inline void keep_alive(
    real* kept, double* totals, real* sums, const real* dy, const real* y, const real* x,
    const real* mean, Py_ssize_t count, Py_ssize_t C, bint streaming,
) noexcept nogil:
    """Write dy where y is above zero; add it up, and its products with x - mean.

    totals is of 2 * C numbers, sums room for as many.
    """
    cdef Py_ssize_t c, _
    cdef real* products = sums + C
    cdef vec v, zero = splat(0)
    memset(sums, 0, 2 * C * sizeof(real))
    for _ in range(count):
        c = 0
        while c < C:
            v = where(beats(load(y + c), zero), load(dy + c), zero)
            put(kept + c, v, streaming)
            store(sums + c, load(sums + c) + v)
            v = v * (load(x + c) - load(mean + c))
            store(products + c, load(products + c) + v)
            c += LANES
        kept, dy, y, x = kept + C, dy + C, y + C, x + C
    for c in range(2 * C):
        totals[c] += sums[c]


cdef inline bint set_factors(
    real* factors, real* dgamma, real* dbeta, const double* totals, Py_ssize_t parts,
    Py_ssize_t size, const real* gamma, const real* variance, double epsilon, Py_ssize_t M,
    Py_ssize_t C,
) noexcept nogil:
    """Write the gradients of gamma and beta, and rows of mean dy, scale and slope for dx.

    totals: `size` numbers a part, of which the first are those of keep_alive. The formula is that
    of batch_norm_backward. Return whether `real` was too narrow.
    """
    cdef Py_ssize_t c, part
    cdef double s, dy_sum, product_sum
    cdef bint narrow = False
    for c in range(C):
        dy_sum, product_sum = 0, 0
        for part in range(parts):
            dy_sum += totals[part * size + c]
            product_sum += totals[part * size + C + c]
        s = sqrt(variance[c] + epsilon)
        narrow = narrow or too_narrow_for_gradients(s * s, gamma[c], product_sum / s, dy_sum, M)
        dgamma[c], dbeta[c] = <real> (product_sum / s), <real> dy_sum
        factors[c] = <real> (dy_sum / M)
        factors[C + c] = <real> (gamma[c] / s)
        factors[2 * C + c] = <real> (gamma[c] / s / s * (product_sum / s) / M)
    return narrow


cdef inline void through_norm(
    real* dx, const real* kept, const real* x, const real* mean, const real* factors,
    Py_ssize_t count, Py_ssize_t C, bint streaming,
) noexcept nogil:
    """Write what the norm makes of what keep_alive has kept; dx may be the same."""
    cdef Py_ssize_t c, _
    cdef vec v
    for _ in range(count):
        c = 0
        while c < C:
            v = (load(kept + c) - load(factors + c)) * load(factors + C + c)
            v = v - (load(x + c) - load(mean + c)) * load(factors + 2 * C + c)
            put(dx + c, v, streaming)
            c += LANES
        dx, kept, x = dx + C, kept + C, x + C
