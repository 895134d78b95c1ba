"""Sums of two arrays, as where a residual layer adds what it skipped (He et al., 2016)."""

from __future__ import annotations

from numpy.typing import ArrayLike

from ._broadcast import broadcast, shape_of, sum_to
from ._checks import Array, array, check_shape, float_dtype, rounded, silent, zeros


@silent
def add(a: ArrayLike, b: ArrayLike) -> Array:
    """Return a + b, of shapes that broadcast as in NumPy, float32 or float64.

    TypeError for other or mixed dtypes, ValueError for shapes that do not broadcast.
    """
    dtype = float_dtype("add", a=a, b=b)
    a = array("add", "a", a, dtype, None)
    b = array("add", "b", b, dtype, None)
    y = zeros("add", broadcast("add", a.shape, b.shape), "a, b")
    y[...] = a
    y += b
    return rounded(y, dtype)


@silent
def add_backward(
    dy: ArrayLike, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """Return (da, db), of shapes `a_shape` and `b_shape`, from dy, which has that of a + b.

    Each number of a went to every place along which a was repeated, so its gradient is the sum
    of theirs; b's alike. Errors as in add.
    """
    op = "add_backward"
    dtype = float_dtype(op, dy=dy)
    a_shape, b_shape = shape_of(op, "a_shape", a_shape), shape_of(op, "b_shape", b_shape)
    y_shape = broadcast(op, a_shape, b_shape, "a_shape, b_shape")
    dy = array(op, "dy", dy, dtype, None)
    check_shape(op, "dy", dy.shape, y_shape)
    return rounded(sum_to(dy, a_shape), dtype), rounded(sum_to(dy, b_shape), dtype)
