"""Repetition along axes, as an array is repeated in a sum with another."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from ._broadcast import broadcast, shape_of, sum_to
from ._checks import Array, array, check_shape, float_dtype, rounded, silent, zeros


@silent
def expand(x: ArrayLike, shape: Sequence[int]) -> Array:
    """Return x + zeros(shape), float32 or float64 (ONNX's Expand).

    TypeError for other dtypes, ValueError for a shape that does not broadcast with that of x.
    """
    op = "expand"
    dtype = float_dtype(op, x=x)
    x = array(op, "x", x, dtype, None)
    y = zeros(op, broadcast(op, x.shape, shape_of(op, "shape", shape), "shape"), "shape")
    y[...] = x
    return rounded(y, dtype)


@silent
def expand_backward(dy: ArrayLike, x_shape: tuple[int, ...], shape: Sequence[int]) -> Array:
    """Return dy, summed over the axes along which an x of shape `x_shape` was repeated."""
    op = "expand_backward"
    dtype = float_dtype(op, dy=dy)
    x_shape = shape_of(op, "x_shape", x_shape)
    y_shape = broadcast(op, x_shape, shape_of(op, "shape", shape), "x_shape, shape")
    dy = array(op, "dy", dy, dtype, None)
    check_shape(op, "dy", dy.shape, y_shape)
    return rounded(sum_to(dy, x_shape), dtype)
