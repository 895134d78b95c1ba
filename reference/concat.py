"""Concatenation, as where a U-Net joins what it skipped (Ronneberger et al., 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._broadcast import shape_of
from ._checks import Array, array, check_shape, float_dtype, integer, rounded, shown, zeros


def concat(xs: Sequence[ArrayLike], axis: int = -1) -> Array:
    """Return the arrays of a list joined along an axis, float32 or float64.

    All of one rank, one at least, and of one shape but for that axis. TypeError for what is no
    list or tuple and for other or mixed dtypes, ValueError for shapes and axes that do not fit.
    """
    _several("concat", "xs", xs)
    named = {f"xs[{i}]": x for i, x in enumerate(xs)}
    dtype = _dtype("concat", named)
    arrays = [array("concat", name, x, dtype, None) for name, x in named.items()]
    y_shape, axis = _joined("concat", "xs", [x.shape for x in arrays], axis)
    y = zeros("concat", y_shape, "xs")
    end = 0
    for x in arrays:
        start, end = end, end + x.shape[axis]
        y[(slice(None),) * axis + (slice(start, end),)] = x
    return rounded(y, dtype)


def concat_backward(
    dy: ArrayLike, shapes: Sequence[tuple[int, ...]], axis: int = -1
) -> list[Array]:
    """Return the parts of dy, those of arrays of these shapes that were joined. Errors as there."""
    op = "concat_backward"
    dtype = float_dtype(op, dy=dy)
    _several(op, "shapes", shapes)
    parts = [shape_of(op, f"shapes[{i}]", shape) for i, shape in enumerate(shapes)]
    y_shape, axis = _joined(op, "shapes", parts, axis)
    dy = array(op, "dy", dy, dtype, None)
    check_shape(op, "dy", dy.shape, y_shape)
    result = []
    end = 0
    for shape in parts:
        start, end = end, end + shape[axis]
        result.append(rounded(dy[(slice(None),) * axis + (slice(start, end),)], dtype))
    return result


def _several(op: str, name: str, value: Any) -> None:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{op}: {name}: expected a list or a tuple, got {shown(value)}")
    if not value:
        raise ValueError(f"{op}: {name}: expected one at least, got none")


def _dtype(op: str, named: dict[str, ArrayLike]) -> np.dtype[Any]:
    for name, x in named.items():
        if x is None:
            raise TypeError(f"{op}: {name}: expected an array of float32 or float64, got None")
    return float_dtype(op, **named)


def _joined(
    op: str, name: str, shapes: list[tuple[int, ...]], axis: int
) -> tuple[tuple[int, ...], int]:
    """Return the shape of a concatenation, and its axis as a number from 0."""
    first = shapes[0]
    rank = len(first)
    if rank == 0:
        raise ValueError(f"{op}: {name}: expected arrays of rank 1 at least, got rank 0")
    axis = integer(op, "axis", axis, -rank)
    if axis >= rank:
        raise ValueError(
            f"{op}: axis: expected an integer from {-rank} to {rank - 1}, got {shown(axis)}"
        )
    axis %= rank
    for i, shape in enumerate(shapes):
        if len(shape) != rank or any(
            shape[other] != first[other] for other in range(rank) if other != axis
        ):
            raise ValueError(
                f"{op}: {name}[{i}]: expected the shape of {name}[0], {shown(first)}, but for "
                f"axis {axis}, got {shown(shape)}"
            )
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :]), axis
