"""The same numbers in another shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

from numpy.typing import ArrayLike

from ._broadcast import shape_of
from ._checks import Array, array, float_dtype, integer, rounded, shown, zeros


def reshape(x: ArrayLike, shape: Sequence[int]) -> Array:
    """Return the numbers of x in row-major order in a shape of as many, float32 or float64.

    One size may be -1: what the others leave. TypeError for other dtypes and what is no tuple of
    integers, ValueError for a shape of more or fewer numbers.
    """
    op = "reshape"
    dtype = float_dtype(op, x=x)
    x = array(op, "x", x, dtype, None)
    return rounded(_in_shape(x, _sizes(op, shape, x.size)), dtype)


def reshape_backward(dy: ArrayLike, x_shape: tuple[int, ...]) -> Array:
    """Return dy in the shape of x. Errors as in reshape."""
    op = "reshape_backward"
    dtype = float_dtype(op, dy=dy)
    dy = array(op, "dy", dy, dtype, None)
    x_shape = shape_of(op, "x_shape", x_shape)
    if math.prod(x_shape) != dy.size:
        raise ValueError(
            f"{op}: dy, x_shape: expected a shape of {dy.size} numbers, got {shown(x_shape)}"
        )
    return rounded(_in_shape(dy, x_shape), dtype)


def _in_shape(x: Array, shape: tuple[int, ...]) -> Array:
    y = zeros("reshape", shape, "shape")
    for place, value in enumerate(x.flat):
        y.flat[place] = value
    return y


def _sizes(op: str, shape: Sequence[int], count: int) -> tuple[int, ...]:
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"{op}: shape: expected a tuple of sizes, got {shown(shape)}")
    sizes = [integer(op, "shape", size, -1) for size in shape]
    if sizes.count(-1) == 1:
        others = math.prod(size for size in sizes if size != -1)
        if others > 0 and count % others == 0:
            sizes[sizes.index(-1)] = count // others
    if -1 in sizes or math.prod(sizes) != count:
        raise ValueError(f"{op}: shape: expected a shape of {count} numbers, got {shown(shape)}")
    return tuple(sizes)
