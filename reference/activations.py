"""Elementwise activations of arrays of any shape, float32 or float64.

Each raises TypeError for other or mixed dtypes and ValueError for arrays whose shapes differ.
A NaN stays a NaN. Where a formula would overflow on its way to a finite value it is written
another way, which the comment beside it explains.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, arrays_alike, finite, flag, limit, positive, rounded, silent


@silent
def relu(x: ArrayLike) -> Array:
    """Return max(x, 0)."""
    dtype, [x] = arrays_alike("relu", x=x)
    # np.where on x <= 0 and not np.maximum: NaN stays, and -0.0 becomes 0.0 on every machine.
    return rounded(np.where(x <= 0, 0.0, x), dtype)


@silent
def relu_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dy where y > 0 or y is NaN, else 0; y is what relu returned."""
    dtype, [dy, y] = arrays_alike("relu_backward", dy=dy, y=y)
    return rounded(np.where(y <= 0, 0.0, dy), dtype)


@silent
def leaky_relu(x: ArrayLike, *, negative_slope: float = 0.01) -> Array:
    """Return x where x > 0, else negative_slope * x; the slope is finite (Maas et al., 2013)."""
    dtype, [x] = arrays_alike("leaky_relu", x=x)
    slope = finite("leaky_relu", "negative_slope", negative_slope)
    return rounded(np.where(x > 0, x, slope * x), dtype)


@silent
def leaky_relu_backward(dy: ArrayLike, x: ArrayLike, *, negative_slope: float = 0.01) -> Array:
    """Return dy where x > 0, else negative_slope * dy."""
    dtype, [dy, x] = arrays_alike("leaky_relu_backward", dy=dy, x=x)
    slope = finite("leaky_relu_backward", "negative_slope", negative_slope)
    return rounded(np.where(x > 0, dy, slope * dy), dtype)


@silent
def clip(x: ArrayLike, *, low: float | None = None, high: float | None = None) -> Array:
    """Return min(max(x, low), high), the bounds rounded to the dtype of x.

    None or an infinity of its sign is no bound. ValueError for NaN and where low > high.
    """
    dtype, [x] = arrays_alike("clip", x=x)
    lower, upper = _bounds("clip", low, high, dtype)
    return rounded(np.where(x <= lower, lower, np.where(x >= upper, upper, x)), dtype)


@silent
def clip_backward(
    dy: ArrayLike, y: ArrayLike, *, low: float | None = None, high: float | None = None
) -> Array:
    """Return 0 where y <= low or y >= high, else dy; y is what clip returned.

    So ReLU6 passes no gradient where it is 0 or 6, as ReLU where it is 0.
    """
    dtype, [dy, y] = arrays_alike("clip_backward", dy=dy, y=y)
    lower, upper = _bounds("clip_backward", low, high, dtype)
    return rounded(np.where((y <= lower) | (y >= upper), 0.0, dy), dtype)


def _bounds(op: str, low: Any, high: Any, dtype: np.dtype[Any]) -> tuple[float, float]:
    lower = -math.inf if low is None else limit(op, "low", low)
    upper = math.inf if high is None else limit(op, "high", high)
    if lower > upper:
        raise ValueError(f"{op}: low: expected at most high, which is {upper}, got {lower}")
    # An array holds the bound as its dtype has it, and y is compared with it.
    return float(dtype.type(lower)), float(dtype.type(upper))


@silent
def hard_sigmoid(x: ArrayLike, *, alpha: float = 1 / 6, beta: float = 0.5) -> Array:
    """Return min(max(alpha * x + beta, 0), 1); both are finite (Courbariaux et al., 2015)."""
    dtype, [x] = arrays_alike("hard_sigmoid", x=x)
    alpha, beta = finite("hard_sigmoid", "alpha", alpha), finite("hard_sigmoid", "beta", beta)
    z = alpha * x + beta
    return rounded(np.where(z <= 0, 0.0, np.where(z >= 1, 1.0, z)), dtype)


@silent
def hard_sigmoid_backward(
    dy: ArrayLike, y: ArrayLike, *, alpha: float = 1 / 6, beta: float = 0.5
) -> Array:
    """Return alpha * dy where 0 < y < 1, else 0; y is what hard_sigmoid returned."""
    op = "hard_sigmoid_backward"
    dtype, [dy, y] = arrays_alike(op, dy=dy, y=y)
    alpha, beta = finite(op, "alpha", alpha), finite(op, "beta", beta)
    return rounded(np.where((y <= 0) | (y >= 1), 0.0, alpha * dy), dtype)


@silent
def hard_swish(x: ArrayLike) -> Array:
    """Return x * min(max(x + 3, 0), 6) / 6 (Howard et al., 2019)."""
    dtype, [x] = arrays_alike("hard_swish", x=x)
    # The gate is divided and not the product, which may be beyond float64.
    return rounded(x * (np.clip(x + 3, 0, 6) / 6), dtype)


@silent
def hard_swish_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """Return 0 where x <= -3, dy where x >= 3, else dy * (2 * x + 3) / 6."""
    dtype, [dy, x] = arrays_alike("hard_swish_backward", dy=dy, x=x)
    slope = np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, (2 * x + 3) / 6))
    return rounded(dy * slope, dtype)


@silent
def elu(x: ArrayLike, *, alpha: float = 1.0) -> Array:
    """Return x where x > 0, else alpha * (exp(x) - 1); alpha is finite (Clevert et al., 2016)."""
    dtype, [x] = arrays_alike("elu", x=x)
    alpha = finite("elu", "alpha", alpha)
    return rounded(np.where(x > 0, x, alpha * np.expm1(x)), dtype)


@silent
def elu_backward(dy: ArrayLike, x: ArrayLike, *, alpha: float = 1.0) -> Array:
    """Return dy where x > 0, else dy * alpha * exp(x)."""
    dtype, [dy, x] = arrays_alike("elu_backward", dy=dy, x=x)
    alpha = finite("elu_backward", "alpha", alpha)
    return rounded(np.where(x > 0, dy, dy * alpha * np.exp(x)), dtype)


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848


@silent
def selu(x: ArrayLike) -> Array:
    """Return scale * elu(x, alpha=alpha), of two constants (Klambauer et al., 2017).

    With them mean 0 and variance 1 of many normal x are those of the results.
    """
    dtype, [x] = arrays_alike("selu", x=x)
    return rounded(_SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(x)), dtype)


@silent
def selu_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """Return scale * dy where x > 0, else scale * alpha * dy * exp(x)."""
    dtype, [dy, x] = arrays_alike("selu_backward", dy=dy, x=x)
    return rounded(_SELU_SCALE * np.where(x > 0, dy, _SELU_ALPHA * dy * np.exp(x)), dtype)


@silent
def celu(x: ArrayLike, *, alpha: float = 1.0) -> Array:
    """Return x where x > 0, else alpha * (exp(x / alpha) - 1); alpha > 0 (Barron, 2017)."""
    dtype, [x] = arrays_alike("celu", x=x)
    alpha = positive("celu", "alpha", alpha)
    return rounded(np.where(x > 0, x, alpha * np.expm1(x / alpha)), dtype)


@silent
def celu_backward(dy: ArrayLike, x: ArrayLike, *, alpha: float = 1.0) -> Array:
    """Return dy where x > 0, else dy * exp(x / alpha)."""
    dtype, [dy, x] = arrays_alike("celu_backward", dy=dy, x=x)
    alpha = positive("celu_backward", "alpha", alpha)
    return rounded(np.where(x > 0, dy, dy * np.exp(x / alpha)), dtype)


@silent
def gelu(x: ArrayLike, *, approximate: bool = False) -> Array:
    """Return x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel, 2016).

    If approximate, Phi(x) is (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2.
    """
    dtype, [x] = arrays_alike("gelu", x=x)
    if flag("gelu", "approximate", approximate):
        return rounded(x * _sigmoid(2 * _gelu_inner(x)), dtype)
    return rounded(x * _normal_distribution(x), dtype)


@silent
def gelu_backward(dy: ArrayLike, x: ArrayLike, *, approximate: bool = False) -> Array:
    """Return dy * (Phi(x) + x * phi(x)), phi the derivative of Phi, the normal density."""
    dtype, [dy, x] = arrays_alike("gelu_backward", dy=dy, x=x)
    if flag("gelu_backward", "approximate", approximate):
        # Beyond 30 the slope is 0 or 1, and squares of x might be none: 0 times infinity.
        x = np.clip(x, -30, 30)
        s = _sigmoid(2 * _gelu_inner(x))
        slope = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
        return rounded(dy * (s + x * s * (1 - s) * slope), dtype)
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return rounded(dy * (_normal_distribution(x) + x * density), dtype)


def _gelu_inner(x: Array) -> Array:
    # (1 + tanh(u)) / 2 is sigmoid(2 * u), whose small values do not cancel.
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)


def _normal_distribution(x: Array) -> Array:
    # (1 + erf(x / sqrt(2))) / 2, as erfc because the sum cancels where x is far below zero.
    phi = np.zeros(x.shape)
    for place, value in np.ndenumerate(x):
        phi[place] = math.erfc(-value / math.sqrt(2)) / 2
    return phi


@silent
def silu(x: ArrayLike) -> Array:
    """Return x * sigmoid(x) (Elfwing et al., 2018)."""
    dtype, [x] = arrays_alike("silu", x=x)
    return rounded(x * _sigmoid(x), dtype)


@silent
def silu_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """Return dy * s * (1 + x * (1 - s)), s = sigmoid(x)."""
    dtype, [dy, x] = arrays_alike("silu_backward", dy=dy, x=x)
    s = _sigmoid(x)
    return rounded(dy * s * (1 + x * (1 - s)), dtype)


@silent
def mish(x: ArrayLike) -> Array:
    """Return x * tanh(softplus(x)) (Misra, 2019)."""
    dtype, [x] = arrays_alike("mish", x=x)
    return rounded(x * np.tanh(_softplus(x)), dtype)


@silent
def mish_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """Return dy * (t + x * (1 - t * t) * sigmoid(x)), t = tanh(softplus(x))."""
    dtype, [dy, x] = arrays_alike("mish_backward", dy=dy, x=x)
    t = np.tanh(_softplus(x))
    return rounded(dy * (t + x * (1 - t * t) * _sigmoid(x)), dtype)


@silent
def softplus(x: ArrayLike) -> Array:
    """Return log(1 + exp(x)), without overflow for any x (Dugas et al., 2001)."""
    dtype, [x] = arrays_alike("softplus", x=x)
    return rounded(_softplus(x), dtype)


@silent
def softplus_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """Return dy * sigmoid(x)."""
    dtype, [dy, x] = arrays_alike("softplus_backward", dy=dy, x=x)
    return rounded(dy * _sigmoid(x), dtype)


def _softplus(x: Array) -> Array:
    # log(1 + e^x) = log(e^x * (e^-x + 1)): the exponent is never positive.
    return np.where(x < 0, 0.0, x) + np.log1p(np.exp(-np.abs(x)))


@silent
def sigmoid(x: ArrayLike) -> Array:
    """Return 1 / (1 + exp(-x)), without overflow for any x."""
    dtype, [x] = arrays_alike("sigmoid", x=x)
    return rounded(_sigmoid(x), dtype)


@silent
def sigmoid_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dy * y * (1 - y); y is what sigmoid returned."""
    dtype, [dy, y] = arrays_alike("sigmoid_backward", dy=dy, y=y)
    return rounded(dy * y * (1 - y), dtype)


def _sigmoid(x: Array) -> Array:
    # exp of a number that is never positive cannot overflow.
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e / (1 + e), 1 / (1 + e))


@silent
def tanh(x: ArrayLike) -> Array:
    """Return the hyperbolic tangent of x."""
    dtype, [x] = arrays_alike("tanh", x=x)
    return rounded(np.tanh(x), dtype)


@silent
def tanh_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dy * (1 - y * y); y is what tanh returned."""
    dtype, [dy, y] = arrays_alike("tanh_backward", dy=dy, y=y)
    return rounded(dy * (1 - y * y), dtype)
