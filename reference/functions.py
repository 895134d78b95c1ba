"""Functions of single numbers that are no activations, of arrays of any shape, float32 or float64.

Each raises TypeError for other or mixed dtypes and ValueError for arrays whose shapes differ. A NaN
stays a NaN; where a function has no value or no bound, IEEE 754 says what comes out.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, arrays_alike, rounded, silent


@silent
def exp(x: ArrayLike) -> Array:
    """Return e**x."""
    dtype, [x] = arrays_alike("exp", x=x)
    return rounded(np.exp(x), dtype)


@silent
def exp_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dy * y; y is what exp returned."""
    dtype, [dy, y] = arrays_alike("exp_backward", dy=dy, y=y)
    return rounded(dy * y, dtype)


@silent
def log(x: ArrayLike) -> Array:
    """Return the natural logarithm of x."""
    dtype, [x] = arrays_alike("log", x=x)
    return rounded(np.log(x), dtype)


@silent
def log_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """Return dy / x."""
    dtype, [dy, x] = arrays_alike("log_backward", dy=dy, x=x)
    return rounded(dy / x, dtype)


@silent
def sqrt(x: ArrayLike) -> Array:
    """Return the square root of x."""
    dtype, [x] = arrays_alike("sqrt", x=x)
    return rounded(np.sqrt(x), dtype)


@silent
def sqrt_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dy / (2 * y); y is what sqrt returned."""
    dtype, [dy, y] = arrays_alike("sqrt_backward", dy=dy, y=y)
    return rounded(dy / (2 * y), dtype)


@silent
def abs(x: ArrayLike) -> Array:
    """Return the absolute value of x."""
    dtype, [x] = arrays_alike("abs", x=x)
    return rounded(np.where(x < 0, -x, x + 0.0), dtype)  # -0.0 + 0.0 is 0.0


@silent
def abs_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """Return dy where x > 0, -dy where x < 0, 0 where x is 0."""
    dtype, [dy, x] = arrays_alike("abs_backward", dy=dy, x=x)
    slope = np.where(x > 0, 1.0, np.where(x < 0, -1.0, x))  # 0 where x is 0, NaN where it is NaN
    return rounded(dy * slope, dtype)


@silent
def negative(x: ArrayLike) -> Array:
    """Return -x."""
    dtype, [x] = arrays_alike("negative", x=x)
    return rounded(-x, dtype)


@silent
def negative_backward(dy: ArrayLike) -> Array:
    """Return -dy."""
    dtype, [dy] = arrays_alike("negative_backward", dy=dy)
    return rounded(-dy, dtype)


@silent
def reciprocal(x: ArrayLike) -> Array:
    """Return 1 / x."""
    dtype, [x] = arrays_alike("reciprocal", x=x)
    return rounded(1 / x, dtype)


@silent
def reciprocal_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return -dy * y * y; y is what reciprocal returned."""
    dtype, [dy, y] = arrays_alike("reciprocal_backward", dy=dy, y=y)
    return rounded(-dy * y * y, dtype)


@silent
def erf(x: ArrayLike) -> Array:
    """Return 2 / sqrt(pi) times the integral of exp(-t*t) from 0 to x."""
    dtype, [x] = arrays_alike("erf", x=x)
    y = np.zeros(x.shape)
    for place, value in np.ndenumerate(x):
        y[place] = math.erf(value)
    return rounded(y, dtype)


@silent
def erf_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """Return dy * 2 / sqrt(pi) * exp(-x*x)."""
    dtype, [dy, x] = arrays_alike("erf_backward", dy=dy, x=x)
    return rounded(dy * (2 / math.sqrt(math.pi) * np.exp(-x * x)), dtype)
