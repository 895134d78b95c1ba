"""Functions of one array or two, by element, and products of matrices."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.functional._call import backend_of, with_names

__all__ = [
    "abs",
    "divide",
    "erf",
    "exp",
    "log",
    "matmul",
    "maximum",
    "minimum",
    "negative",
    "power",
    "reciprocal",
    "sqrt",
    "subtract",
]


@with_names()
def subtract(a: ArrayLike, b: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return a - b, of shapes that broadcast as in NumPy."""
    return backend_of(backend).subtract(a, b)


@with_names()
def divide(a: ArrayLike, b: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return a / b, of shapes that broadcast as in NumPy."""
    return backend_of(backend).divide(a, b)


@with_names()
def power(a: ArrayLike, b: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return a**b, of shapes that broadcast as in NumPy."""
    return backend_of(backend).power(a, b)


@with_names()
def maximum(a: ArrayLike, b: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return the larger of a and b, of shapes that broadcast as in NumPy."""
    return backend_of(backend).maximum(a, b)


@with_names()
def minimum(a: ArrayLike, b: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return the smaller of a and b, of shapes that broadcast as in NumPy."""
    return backend_of(backend).minimum(a, b)


@with_names()
def matmul(a: ArrayLike, b: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return products of matrices, a (..., M, K) and b (..., K, N) -> (..., M, N)."""
    return backend_of(backend).matmul(a, b)


@with_names()
def exp(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return e**x."""
    return backend_of(backend).exp(x)


@with_names()
def log(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return the natural logarithm of x."""
    return backend_of(backend).log(x)


@with_names()
def sqrt(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return the square root of x."""
    return backend_of(backend).sqrt(x)


@with_names()
def abs(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return the absolute value of x."""
    return backend_of(backend).abs(x)


@with_names()
def negative(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return -x."""
    return backend_of(backend).negative(x)


@with_names()
def reciprocal(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return 1 / x."""
    return backend_of(backend).reciprocal(x)


@with_names()
def erf(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return the error function of x."""
    return backend_of(backend).erf(x)
