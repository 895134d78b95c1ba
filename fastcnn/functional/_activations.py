"""Activations."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.functional._call import backend_of, with_names

__all__ = [
    "elu",
    "gelu",
    "hard_swish",
    "leaky_relu",
    "log_softmax",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
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
def elu(x: ArrayLike, *, alpha: float = 1.0, backend: str | Backend = "fast") -> Array:
    """Return x where x > 0, else alpha * (exp(x) - 1)."""
    return backend_of(backend).elu(x, alpha=alpha)


@with_names()
def gelu(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return x * Phi(x), Phi the normal distribution function."""
    return backend_of(backend).gelu(x)


@with_names()
def silu(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return x * sigmoid(x)."""
    return backend_of(backend).silu(x)


@with_names()
def hard_swish(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return x * min(max(x + 3, 0), 6) / 6."""
    return backend_of(backend).hard_swish(x)


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
