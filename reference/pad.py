"""Pads: more places before and after those of an array, along each axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._axes import sequence
from ._broadcast import shape_of
from ._checks import (
    Array,
    array,
    check_shape,
    float_dtype,
    integer,
    is_sequence,
    real,
    rounded,
    shown,
    silent,
    zeros,
)

Widths = list[tuple[int, int]]


@silent
def pad(
    x: ArrayLike,
    widths: Sequence[tuple[int, int]],
    *,
    mode: str = "constant",
    value: float = 0.0,
) -> Array:
    """Return x with pads of so many places (before, after) along each axis, float32 or float64.

    "constant" fills them with `value`, "edge" with the outermost number of x, "reflect" with what
    lies as far on the other side of that one. TypeError for other dtypes, ValueError for a mode
    that is none of these and for pads that reach beyond what they copy.
    """
    op = "pad"
    dtype = float_dtype(op, x=x)
    x = array(op, "x", x, dtype, None)
    ends = _widths(op, widths, x.ndim)
    _check(op, x.shape, ends, mode)
    filling = real(op, "value", value)
    y = zeros(op, _padded(x.shape, ends), "widths")
    for place in np.ndindex(y.shape):
        source = _source(place, x.shape, ends, mode)
        y[place] = filling if source is None else x[source]
    return rounded(y, dtype)


@silent
def pad_backward(
    dy: ArrayLike,
    x_shape: tuple[int, ...],
    widths: Sequence[tuple[int, int]],
    *,
    mode: str = "constant",
) -> Array:
    """Return dx of shape `x_shape`: each number of x the sum of dy wherever it was copied to."""
    op = "pad_backward"
    dtype = float_dtype(op, dy=dy)
    x_shape = shape_of(op, "x_shape", x_shape)
    ends = _widths(op, widths, len(x_shape))
    _check(op, x_shape, ends, mode)
    dy = array(op, "dy", dy, dtype, None)
    check_shape(op, "dy", dy.shape, _padded(x_shape, ends))
    dx = zeros(op, x_shape)
    for place in np.ndindex(dy.shape):
        source = _source(place, x_shape, ends, mode)
        if source is not None:
            dx[source] += dy[place]
    return rounded(dx, dtype)


def _source(
    place: tuple[int, ...], x_shape: tuple[int, ...], ends: Widths, mode: str
) -> tuple[int, ...] | None:
    """Return which number of x stands at a place of y, None where `value` does."""
    source = []
    for at, size, (before, _) in zip(place, x_shape, ends, strict=True):
        at -= before
        if mode == "constant" and not 0 <= at < size:
            return None
        if mode == "edge":
            at = min(max(at, 0), size - 1)
        if mode == "reflect":
            at = abs(at)
            at = min(at, 2 * (size - 1) - at)
        source.append(at)
    return tuple(source)


def _padded(x_shape: tuple[int, ...], ends: Widths) -> tuple[int, ...]:
    return tuple(before + size + after for size, (before, after) in zip(x_shape, ends, strict=True))


def _widths(op: str, widths: Any, rank: int) -> Widths:
    pairs = sequence(op, "widths", widths)
    if len(pairs) != rank or not all(is_sequence(pair) and len(pair) == 2 for pair in pairs):
        raise ValueError(
            f"{op}: widths: expected a pair (before, after) for each of {rank} axes, "
            f"got {shown(widths)}"
        )
    return [
        (integer(op, "widths", before, 0), integer(op, "widths", after, 0))
        for before, after in pairs
    ]


def _check(op: str, x_shape: tuple[int, ...], ends: Widths, mode: Any) -> None:
    expected = '"constant", "reflect" or "edge"'
    if not isinstance(mode, str):
        raise TypeError(f"{op}: mode: expected {expected}, got {shown(mode)}")
    if mode not in ("constant", "reflect", "edge"):
        raise ValueError(f"{op}: mode: expected {expected}, got {shown(mode)}")
    for axis, (size, pair) in enumerate(zip(x_shape, ends, strict=True)):
        wide = max(pair)
        if mode == "reflect" and wide > 0 and wide >= size:
            raise ValueError(
                f"{op}: widths: expected fewer than the {size} places of axis {axis}, got {pair}"
            )
        if mode == "edge" and wide > 0 and size == 0:
            raise ValueError(f"{op}: widths: expected none along the empty axis {axis}, got {pair}")
