"""Functions of two arrays that broadcast, beside sums and products, which have files of their own.

Each takes arrays of float32 or float64 of any rank. TypeError for other or mixed dtypes, ValueError
for shapes that do not broadcast as in NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._broadcast import broadcast, shape_of, sum_to
from ._checks import Array, array, check_shape, float_dtype, rounded, silent, zeros


def _operands(op: str, a: ArrayLike, b: ArrayLike) -> tuple[Any, Array, Array]:
    """Return the dtype of the result, and both arrays repeated to its shape."""
    dtype = float_dtype(op, a=a, b=b)
    a = array(op, "a", a, dtype, None)
    b = array(op, "b", b, dtype, None)
    y_shape = broadcast(op, a.shape, b.shape)
    wide_a, wide_b = zeros(op, y_shape, "a, b"), zeros(op, y_shape, "a, b")
    wide_a[...] = a
    wide_b[...] = b
    return dtype, wide_a, wide_b


def _with_gradient(
    op: str, dy: ArrayLike, a: ArrayLike, b: ArrayLike
) -> tuple[Any, Array, Array, Array, tuple[int, ...], tuple[int, ...]]:
    """Return the dtype, dy, both arrays repeated to its shape, and their own shapes."""
    dtype = float_dtype(op, dy=dy, a=a, b=b)
    _, wide_a, wide_b = _operands(op, a, b)
    dy = array(op, "dy", dy, dtype, None)
    check_shape(op, "dy", dy.shape, wide_a.shape)
    return dtype, dy, wide_a, wide_b, np.shape(a), np.shape(b)


@silent
def subtract(a: ArrayLike, b: ArrayLike) -> Array:
    """Return a - b."""
    dtype, a, b = _operands("subtract", a, b)
    return rounded(a - b, dtype)


@silent
def subtract_backward(
    dy: ArrayLike, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """Return (da, db): dy and -dy, summed over the places along which each was repeated."""
    op = "subtract_backward"
    dtype = float_dtype(op, dy=dy)
    a_shape, b_shape = shape_of(op, "a_shape", a_shape), shape_of(op, "b_shape", b_shape)
    y_shape = broadcast(op, a_shape, b_shape, "a_shape, b_shape")
    dy = array(op, "dy", dy, dtype, None)
    check_shape(op, "dy", dy.shape, y_shape)
    return rounded(sum_to(dy, a_shape), dtype), rounded(-sum_to(dy, b_shape), dtype)


@silent
def divide(a: ArrayLike, b: ArrayLike) -> Array:
    """Return a / b: infinite or NaN where b is 0."""
    dtype, a, b = _operands("divide", a, b)
    return rounded(a / b, dtype)


@silent
def divide_backward(dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Return (da, db): dy / b and -dy * a / b**2, summed as in subtract_backward."""
    dtype, dy, a, b, a_shape, b_shape = _with_gradient("divide_backward", dy, a, b)
    # Not b**2, which may be beyond float64 where the quotients are not.
    da, db = dy / b, -(dy / b) * (a / b)
    return rounded(sum_to(da, a_shape), dtype), rounded(sum_to(db, b_shape), dtype)


@silent
def power(a: ArrayLike, b: ArrayLike) -> Array:
    """Return a**b: NaN where a is below 0 and b no integer."""
    dtype, a, b = _operands("power", a, b)
    return rounded(a**b, dtype)


@silent
def power_backward(dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Return (da, db): dy * b * a**(b-1) and dy * a**b * log(a), summed as in subtract_backward.

    Where b is 0, da is 0; where a is 0 and b is not below 0, db is 0: there a**b does not change.
    """
    dtype, dy, a, b, a_shape, b_shape = _with_gradient("power_backward", dy, a, b)
    da = np.where(b == 0, 0.0, dy * b * a ** (b - 1))
    db = np.where((a == 0) & (b >= 0), 0.0, dy * a**b * np.log(a))
    return rounded(sum_to(da, a_shape), dtype), rounded(sum_to(db, b_shape), dtype)


@silent
def maximum(a: ArrayLike, b: ArrayLike) -> Array:
    """Return the larger of a and b, NaN where one of them is."""
    dtype, a, b = _operands("maximum", a, b)
    return rounded(np.where(_is_second(a, b, b > a), b, a), dtype)


@silent
def maximum_backward(dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Return (da, db): dy goes to what was returned, to a where both are equal or both are NaN."""
    dtype, dy, a, b, a_shape, b_shape = _with_gradient("maximum_backward", dy, a, b)
    second = _is_second(a, b, b > a)
    da, db = np.where(second, 0.0, dy), np.where(second, dy, 0.0)
    return rounded(sum_to(da, a_shape), dtype), rounded(sum_to(db, b_shape), dtype)


@silent
def minimum(a: ArrayLike, b: ArrayLike) -> Array:
    """Return the smaller of a and b, NaN where one of them is."""
    dtype, a, b = _operands("minimum", a, b)
    return rounded(np.where(_is_second(a, b, b < a), b, a), dtype)


@silent
def minimum_backward(dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Return (da, db): dy goes to what was returned, to a where both are equal or both are NaN."""
    dtype, dy, a, b, a_shape, b_shape = _with_gradient("minimum_backward", dy, a, b)
    second = _is_second(a, b, b < a)
    da, db = np.where(second, 0.0, dy), np.where(second, dy, 0.0)
    return rounded(sum_to(da, a_shape), dtype), rounded(sum_to(db, b_shape), dtype)


def _is_second(a: Array, b: Array, beats: Array) -> Array:
    """Return where b wins: it beats a, or it is the first NaN of the two."""
    found: Array = beats | (np.isnan(b) & ~np.isnan(a))
    return found
