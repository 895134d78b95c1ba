# Where float32 is too narrow for batch normalization: squares of what is beyond 1e19 or below
# 1e-19 overflow or vanish, though the statistics would not, and so do factors made of them. Then
# the formulas run in float64, by NumPy (fast/_wide.py, which says the same of a whole array). What
# is not finite counts as too narrow; float64 never is.
from libc.math cimport fabs, sqrt

from fastcnn._kernels._types cimport real


cdef inline bint beyond_float(
    double spread, double gamma, double mean, double beta
) noexcept nogil:
    """Return whether float32 may miss gamma * (x - mean) / sqrt(spread) + beta, or the spread.

    The spread is variance + epsilon.
    """
    cdef double scale = fabs(gamma) / sqrt(spread)
    return not (
        1e-14 < spread < 1e30 and fabs(mean) < 1e30 and fabs(beta) < 1e30
        and (gamma == 0 or 1e-37 < scale < 1e38) and scale * fabs(mean) < 1e38
    )


cdef inline bint too_narrow(
    double spread, double gamma, double mean, double beta
) noexcept nogil:
    return sizeof(real) == 4 and beyond_float(spread, gamma, mean, beta)


cdef inline bint too_narrow_for_gradients(
    double spread, double gamma, double dgamma, double dbeta, Py_ssize_t M
) noexcept nogil:
    """Return whether a gradient with these sums may have terms beyond float32.

    They are divided by the spread: what is next to nothing then is multiplied with x again.
    """
    cdef double scale = fabs(gamma) / sqrt(spread), slope = scale / sqrt(spread) * fabs(dgamma) / M
    return sizeof(real) == 4 and not (
        1e-14 < spread < 1e16 and (gamma == 0 or 1e-37 < scale < 1e38)
        and scale / M * fabs(dgamma) < 1e30 and scale / M * fabs(dbeta) < 1e30
        and (slope == 0 or slope > 1e-37)
    )
