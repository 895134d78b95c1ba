"""Parts of an array, as Python's slices say which."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._axes import sequence
from ._broadcast import shape_of
from ._checks import Array, array, check_shape, float_dtype, kind_of, rounded, shown, zeros

Numbers = Sequence[int | None] | None


def strided_slice(
    x: ArrayLike,
    starts: Sequence[int | None] | None,
    stops: Sequence[int | None] | None,
    steps: Sequence[int | None] | None = None,
) -> Array:
    """Return x[starts[0]:stops[0]:steps[0], ...], one slice for each axis, float32 or float64.

    TypeError for other dtypes, ValueError for a step of 0 and for too few or many numbers.
    """
    op = "strided_slice"
    dtype = float_dtype(op, x=x)
    x = array(op, "x", x, dtype, None)
    taken = _places(op, x.shape, starts, stops, steps)
    y = zeros(op, tuple(map(len, taken)))
    for place in np.ndindex(y.shape):
        y[place] = x[tuple(places[at] for places, at in zip(taken, place, strict=True))]
    return rounded(y, dtype)


def strided_slice_backward(
    dy: ArrayLike,
    x_shape: tuple[int, ...],
    starts: Sequence[int | None] | None,
    stops: Sequence[int | None] | None,
    steps: Sequence[int | None] | None = None,
) -> Array:
    """Return dx of shape `x_shape`: dy where it was taken from, else 0. Errors as there."""
    op = "strided_slice_backward"
    dtype = float_dtype(op, dy=dy)
    x_shape = shape_of(op, "x_shape", x_shape)
    taken = _places(op, x_shape, starts, stops, steps)
    dx = zeros(op, x_shape, "x_shape")
    dy = array(op, "dy", dy, dtype, None)
    check_shape(op, "dy", dy.shape, tuple(map(len, taken)))
    for place in np.ndindex(dy.shape):
        dx[tuple(places[at] for places, at in zip(taken, place, strict=True))] = dy[place]
    return rounded(dx, dtype)


def _places(
    op: str, x_shape: tuple[int, ...], starts: Numbers, stops: Numbers, steps: Numbers
) -> list[range]:
    """Return of each axis the places that are taken."""
    rank = len(x_shape)
    first, last = _numbers(op, "starts", starts, rank), _numbers(op, "stops", stops, rank)
    stride = _numbers(op, "steps", steps, rank)
    if 0 in stride:
        raise ValueError(f"{op}: steps: expected none of 0, got {shown(steps)}")
    return [
        range(*slice(first[axis], last[axis], stride[axis]).indices(size))
        for axis, size in enumerate(x_shape)
    ]


def _numbers(op: str, name: str, value: Numbers, rank: int) -> list[int | None]:
    if value is None:
        return [None] * rank
    given = sequence(op, name, value)
    if len(given) != rank:
        raise ValueError(f"{op}: {name}: expected one for each of {rank} axes, got {shown(value)}")
    return [None if each is None else _any_integer(op, name, each) for each in given]


def _any_integer(op: str, name: str, value: Any) -> int:
    """Return an integer, which may be larger than any size: it is cut off."""
    number = None
    if not isinstance(value, (bool, np.bool_)):
        with suppress(TypeError):
            number = operator.index(value)
    if number is None:
        raise TypeError(f"{op}: {name}: expected an integer, got {kind_of(value)}")
    if number < -(2**63):
        raise ValueError(
            f"{op}: {name}: expected an integer of at least -2**63, got {shown(number)}"
        )
    return number
