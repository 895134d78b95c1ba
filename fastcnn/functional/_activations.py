"""Activations."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.functional._call import backend_of, with_names

__all__ = [
    "celu",
    "clip",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_swish",
    "leaky_relu",
    "log_softmax",
    "mish",
    "prelu",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]


@with_names()
def relu(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return max(x, 0); a NaN stays a NaN."""
    return backend_of(backend).relu(x)


@with_names()
def leaky_relu(
    x: ArrayLike, *, negative_slope: float = 0.01, backend: str | Backend = "fast"
) -> Array:
    """Return x where x > 0, else negative_slope * x."""
    return backend_of(backend).leaky_relu(x, negative_slope=negative_slope)


@with_names()
def prelu(x: ArrayLike, slope: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return x where x > 0, else slope * x; slope is (C,), (1,) or any that broadcasts to x."""
    return backend_of(backend).prelu(x, slope)


@with_names()
def clip(
    x: ArrayLike,
    *,
    low: float | None = None,
    high: float | None = None,
    backend: str | Backend = "fast",
) -> Array:
    """Return min(max(x, low), high); None is no bound. ReLU6 is low=0, high=6."""
    return backend_of(backend).clip(x, low=low, high=high)


@with_names()
def hard_sigmoid(
    x: ArrayLike, *, alpha: float = 1 / 6, beta: float = 0.5, backend: str | Backend = "fast"
) -> Array:
    """Return min(max(alpha * x + beta, 0), 1)."""
    return backend_of(backend).hard_sigmoid(x, alpha=alpha, beta=beta)


@with_names()
def hard_swish(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return x * min(max(x + 3, 0), 6) / 6."""
    return backend_of(backend).hard_swish(x)


@with_names()
def elu(x: ArrayLike, *, alpha: float = 1.0, backend: str | Backend = "fast") -> Array:
    """Return x where x > 0, else alpha * (exp(x) - 1)."""
    return backend_of(backend).elu(x, alpha=alpha)


@with_names()
def selu(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return 1.0507 * elu(x, alpha=1.67326), with the constants' 16 digits."""
    return backend_of(backend).selu(x)


@with_names()
def celu(x: ArrayLike, *, alpha: float = 1.0, backend: str | Backend = "fast") -> Array:
    """Return x where x > 0, else alpha * (exp(x / alpha) - 1)."""
    return backend_of(backend).celu(x, alpha=alpha)


@with_names()
def gelu(x: ArrayLike, *, approximate: bool = False, backend: str | Backend = "fast") -> Array:
    """Return x * Phi(x), Phi the normal distribution function, or its fit by tanh."""
    return backend_of(backend).gelu(x, approximate=approximate)


@with_names()
def silu(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return x * sigmoid(x)."""
    return backend_of(backend).silu(x)


@with_names()
def mish(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return x * tanh(softplus(x))."""
    return backend_of(backend).mish(x)


@with_names()
def softplus(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return log(1 + exp(x)), without overflow for any x."""
    return backend_of(backend).softplus(x)


@with_names()
def sigmoid(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return 1 / (1 + exp(-x))."""
    return backend_of(backend).sigmoid(x)


@with_names()
def tanh(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return the hyperbolic tangent of x."""
    return backend_of(backend).tanh(x)


@with_names()
def softmax(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return exp(x) / sum(exp(x)) over the last axis."""
    return backend_of(backend).softmax(x)


@with_names()
def log_softmax(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return x - log(sum(exp(x))) over the last axis."""
    return backend_of(backend).log_softmax(x)
