"""Parts of an array at places along an axis, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from ._axes import axis_of, sequence
from ._broadcast import shape_of
from ._checks import Array, array, check_shape, float_dtype, integer, rounded, silent, zeros


def take(x: ArrayLike, indices: Sequence[int], axis: int = -1) -> Array:
    """Return y with y[..., i, ...] = x[..., indices[i], ...] along an axis, float32 or float64.

    TypeError for other dtypes, ValueError for a place that is not there.
    """
    op = "take"
    dtype = float_dtype(op, x=x)
    x = array(op, "x", x, dtype, None)
    axis = axis_of(op, "axis", axis, x.ndim)
    places = _places(op, indices, x.shape[axis])
    y = zeros(op, (*x.shape[:axis], len(places), *x.shape[axis + 1 :]), "indices")
    front: Any = (slice(None),) * axis
    for i, place in enumerate(places):
        y[(*front, i)] = x[(*front, place)]
    return rounded(y, dtype)


@silent
def take_backward(
    dy: ArrayLike, x_shape: tuple[int, ...], indices: Sequence[int], axis: int = -1
) -> Array:
    """Return dx of shape `x_shape`: each part the sum of those of dy that were taken there."""
    op = "take_backward"
    dtype = float_dtype(op, dy=dy)
    x_shape = shape_of(op, "x_shape", x_shape)
    axis = axis_of(op, "axis", axis, len(x_shape))
    places = _places(op, indices, x_shape[axis])
    dy = array(op, "dy", dy, dtype, None)
    check_shape(op, "dy", dy.shape, (*x_shape[:axis], len(places), *x_shape[axis + 1 :]))
    dx = zeros(op, x_shape, "x_shape")
    front: Any = (slice(None),) * axis
    for i, place in enumerate(places):
        dx[(*front, place)] += dy[(*front, i)]
    return rounded(dx, dtype)


def _places(op: str, indices: Any, size: int) -> list[int]:
    places = [integer(op, "indices", each, -size) for each in sequence(op, "indices", indices)]
    if any(place >= size for place in places):
        raise ValueError(
            f"{op}: indices: expected integers from {-size} to {size - 1}, got {max(places)}"
        )
    return [place % size for place in places]
