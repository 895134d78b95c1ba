"""What picks one number or another, and what rounds: conditions let no gradient through.

Each takes arrays of float32 or float64 of any rank. TypeError for other or mixed dtypes, ValueError
for shapes that do not broadcast as in NumPy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._broadcast import broadcast, shape_of, sum_to
from ._checks import Array, array, arrays_alike, check_shape, float_dtype, rounded, silent, zeros
from .elementwise import _operands


def equal(a: ArrayLike, b: ArrayLike) -> Array:
    """Return 1 where a == b, else 0."""
    dtype, a, b = _operands("equal", a, b)
    return rounded(np.where(a == b, 1.0, 0.0), dtype)


def less(a: ArrayLike, b: ArrayLike) -> Array:
    """Return 1 where a < b, else 0."""
    dtype, a, b = _operands("less", a, b)
    return rounded(np.where(a < b, 1.0, 0.0), dtype)


def where(condition: ArrayLike, a: ArrayLike, b: ArrayLike) -> Array:
    """Return a where the condition is not 0, else b."""
    op = "where"
    dtype = float_dtype(op, condition=condition, a=a, b=b)
    condition = array(op, "condition", condition, dtype, None)
    a, b = array(op, "a", a, dtype, None), array(op, "b", b, dtype, None)
    pair = broadcast(op, a.shape, b.shape)
    shape = broadcast(op, condition.shape, pair, "condition, a, b")
    y = zeros(op, shape, "condition, a, b")
    chosen = y + condition != 0
    y[...] = b
    np.copyto(y, a, where=chosen)
    return rounded(y, dtype)


def where_backward(
    dy: ArrayLike, condition: ArrayLike, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """Return (da, db): dy where it came from there, else 0, summed as in add."""
    op = "where_backward"
    dtype = float_dtype(op, dy=dy, condition=condition)
    condition = array(op, "condition", condition, dtype, None)
    a_shape, b_shape = shape_of(op, "a_shape", a_shape), shape_of(op, "b_shape", b_shape)
    pair = broadcast(op, a_shape, b_shape, "a_shape, b_shape")
    shape = broadcast(op, condition.shape, pair, "condition, a_shape, b_shape")
    dy = array(op, "dy", dy, dtype, None)
    check_shape(op, "dy", dy.shape, shape)
    chosen = np.zeros(shape) + condition != 0
    da, db = np.zeros(shape), np.zeros(shape)
    np.copyto(da, dy, where=chosen)
    np.copyto(db, dy, where=~chosen)
    return rounded(sum_to(da, a_shape), dtype), rounded(sum_to(db, b_shape), dtype)


def floor(x: ArrayLike) -> Array:
    """Return the largest integer that is not above x."""
    dtype, [x] = arrays_alike("floor", x=x)
    return rounded(np.floor(x), dtype)


def ceil(x: ArrayLike) -> Array:
    """Return the smallest integer that is not below x."""
    dtype, [x] = arrays_alike("ceil", x=x)
    return rounded(np.ceil(x), dtype)


def round(x: ArrayLike) -> Array:
    """Return the nearest integer, of two as near the even one."""
    dtype, [x] = arrays_alike("round", x=x)
    return rounded(np.rint(x), dtype)


@silent
def sign(x: ArrayLike) -> Array:
    """Return 1 where x > 0, -1 where x < 0, 0 where x is 0."""
    dtype, [x] = arrays_alike("sign", x=x)
    return rounded(np.sign(x), dtype)
