# Where float32 is too narrow for batch normalization: squares of what is beyond 1e19 or below
# 1e-19 overflow or vanish, though the statistics would not. Then the formulas run in float64, by
# NumPy (fast/_wide.py). What is not finite counts as too narrow; float64 never is.
from libc.math cimport fabs, sqrt

from fastcnn._kernels._types cimport real


cdef inline bint too_narrow(double spread) noexcept nogil:
    """Return whether sums in float32 may have missed a variance + epsilon."""
    return sizeof(real) == 4 and not 1e-14 < spread < 1e30


cdef inline bint too_narrow_for_gradients(
    double spread, double gamma, double dgamma, double dbeta, Py_ssize_t M
) noexcept nogil:
    """Return whether a gradient with these sums may have terms beyond float32.

    They are divided by the spread: what is next to nothing then is multiplied with x again.
    """
    cdef double scale = gamma / sqrt(spread) / M
    return too_narrow(spread) or (
        sizeof(real) == 4 and not (
            spread < 1e16 and fabs(scale * dgamma) < 1e30 and fabs(scale * dbeta) < 1e30
        )
    )
