"""The same numbers with their axes in another order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ._axes import axis_of, sequence
from ._checks import Array, array, float_dtype, rounded, shown, zeros


def transpose(x: ArrayLike, axes: Sequence[int]) -> Array:
    """Return y with axis i of y axis axes[i] of x, float32 or float64.

    TypeError for other dtypes, ValueError where axes are not each of x's once.
    """
    op = "transpose"
    dtype = float_dtype(op, x=x)
    x = array(op, "x", x, dtype, None)
    order = _order(op, axes, x.ndim)
    y = zeros(op, tuple(x.shape[axis] for axis in order))
    for place in np.ndindex(x.shape):
        y[tuple(place[axis] for axis in order)] = x[place]
    return rounded(y, dtype)


def transpose_backward(dy: ArrayLike, axes: Sequence[int]) -> Array:
    """Return dx: each number of dy where the number of x was. Errors as in transpose."""
    op = "transpose_backward"
    dtype = float_dtype(op, dy=dy)
    dy = array(op, "dy", dy, dtype, None)
    order = _order(op, axes, dy.ndim)
    dx = zeros(op, tuple(dy.shape[order.index(axis)] for axis in range(dy.ndim)))
    for place in np.ndindex(dx.shape):
        dx[place] = dy[tuple(place[axis] for axis in order)]
    return rounded(dx, dtype)


def _order(op: str, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    order = tuple(axis_of(op, "axes", axis, rank) for axis in sequence(op, "axes", axes))
    if sorted(order) != list(range(rank)):
        raise ValueError(f"{op}: axes: expected each of {rank} axes once, got {shown(axes)}")
    return order
