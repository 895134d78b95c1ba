"""Elementwise activations of arrays of any shape, float32 or float64.

Each raises TypeError for other or mixed dtypes and ValueError for arrays whose shapes differ.
A NaN stays a NaN. Where a formula would overflow on its way to a finite value it is written
another way, which the comment beside it explains.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, arrays_alike, finite, rounded, silent


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


@silent
def gelu(x: ArrayLike) -> Array:
    """Return x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel, 2016)."""
    dtype, [x] = arrays_alike("gelu", x=x)
    return rounded(x * _normal_distribution(x), dtype)


@silent
def gelu_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """Return dy * (Phi(x) + x * phi(x)), phi the normal density."""
    dtype, [dy, x] = arrays_alike("gelu_backward", dy=dy, x=x)
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return rounded(dy * (_normal_distribution(x) + x * density), dtype)


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
