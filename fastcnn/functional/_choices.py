"""What picks one number or another, and what rounds."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.functional._call import backend_of, with_names

__all__ = ["ceil", "equal", "floor", "less", "round", "sign", "where"]


@with_names()
def equal(a: ArrayLike, b: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return 1 where a == b, else 0; shapes broadcast as in NumPy."""
    return backend_of(backend).equal(a, b)


@with_names()
def less(a: ArrayLike, b: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return 1 where a < b, else 0; shapes broadcast as in NumPy."""
    return backend_of(backend).less(a, b)


@with_names()
def where(
    condition: ArrayLike, a: ArrayLike, b: ArrayLike, *, backend: str | Backend = "fast"
) -> Array:
    """Return a where the condition is not 0, else b; shapes broadcast as in NumPy."""
    return backend_of(backend).where(condition, a, b)


@with_names()
def floor(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return the largest integer that is not above x."""
    return backend_of(backend).floor(x)


@with_names()
def ceil(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return the smallest integer that is not below x."""
    return backend_of(backend).ceil(x)


@with_names()
def round(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return the nearest integer, of two as near the even one."""
    return backend_of(backend).round(x)


@with_names()
def sign(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return 1 where x > 0, -1 where x < 0, 0 where x is 0."""
    return backend_of(backend).sign(x)
