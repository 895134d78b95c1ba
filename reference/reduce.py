"""Reductions: of the numbers along some axes their sum, their mean, the largest or the smallest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._axes import Axis, axes_of
from ._broadcast import shape_of
from ._checks import Array, array, check_shape, flag, float_dtype, rounded, silent, zeros

Places = tuple[int, ...]


@silent
def reduce_sum(x: ArrayLike, axis: Axis = None, *, keepdims: bool = False) -> Array:
    """Return the sums of x along one axis, several or all, float32 or float64.

    TypeError for other dtypes, ValueError for axes that are not there.
    """
    op = "reduce_sum"
    dtype = float_dtype(op, x=x)
    x = array(op, "x", x, dtype, None)
    axes = _options(op, "x", x.shape, axis, keepdims)
    y = zeros(op, _kept(x.shape, axes))
    for place in np.ndindex(x.shape):
        y[_at(place, axes)] += x[place]
    return rounded(_result(y, axes, keepdims), dtype)


@silent
def reduce_sum_backward(
    dy: ArrayLike, x_shape: tuple[int, ...], axis: Axis = None, *, keepdims: bool = False
) -> Array:
    """Return dx of shape `x_shape`: every number that was added has the gradient of its sum."""
    op = "reduce_sum_backward"
    dtype = float_dtype(op, dy=dy)
    x_shape = shape_of(op, "x_shape", x_shape)
    axes = _options(op, "x_shape", x_shape, axis, keepdims)
    dy = _gradient(op, dy, dtype, x_shape, axes, keepdims)
    dx = zeros(op, x_shape, "x_shape")
    for place in np.ndindex(x_shape):
        dx[place] = dy[_at(place, axes)]
    return rounded(dx, dtype)


@silent
def reduce_mean(x: ArrayLike, axis: Axis = None, *, keepdims: bool = False) -> Array:
    """Return the means of x along axes; ValueError where one would be of no numbers."""
    op = "reduce_mean"
    dtype = float_dtype(op, x=x)
    x = array(op, "x", x, dtype, None)
    axes = _options(op, "x", x.shape, axis, keepdims, least=1)
    y = zeros(op, _kept(x.shape, axes))
    for place in np.ndindex(x.shape):
        y[_at(place, axes)] += x[place]
    return rounded(_result(y / _count(x.shape, axes), axes, keepdims), dtype)


@silent
def reduce_mean_backward(
    dy: ArrayLike, x_shape: tuple[int, ...], axis: Axis = None, *, keepdims: bool = False
) -> Array:
    """Return dx of shape `x_shape`: dy divided by how many numbers the mean is of."""
    op = "reduce_mean_backward"
    dtype = float_dtype(op, dy=dy)
    x_shape = shape_of(op, "x_shape", x_shape)
    axes = _options(op, "x_shape", x_shape, axis, keepdims, least=1)
    dy = _gradient(op, dy, dtype, x_shape, axes, keepdims)
    dx = zeros(op, x_shape, "x_shape")
    for place in np.ndindex(x_shape):
        dx[place] = dy[_at(place, axes)] / _count(x_shape, axes)
    return rounded(dx, dtype)


@silent
def reduce_max(x: ArrayLike, axis: Axis = None, *, keepdims: bool = False) -> Array:
    """Return the largest numbers of x along axes, NaN where there is one; of one at least."""
    return _extreme("reduce_max", x, axis, keepdims, lambda one, other: one > other)


@silent
def reduce_max_backward(
    dy: ArrayLike, x: ArrayLike, axis: Axis = None, *, keepdims: bool = False
) -> Array:
    """Return dx: dy where the first of the largest numbers is, in row-major order, else 0."""
    return _to_first("reduce_max_backward", dy, x, axis, keepdims, lambda one, other: one > other)


@silent
def reduce_min(x: ArrayLike, axis: Axis = None, *, keepdims: bool = False) -> Array:
    """Return the smallest numbers of x along axes, NaN where there is one; of one at least."""
    return _extreme("reduce_min", x, axis, keepdims, lambda one, other: one < other)


@silent
def reduce_min_backward(
    dy: ArrayLike, x: ArrayLike, axis: Axis = None, *, keepdims: bool = False
) -> Array:
    """Return dx: dy where the first of the smallest numbers is, in row-major order, else 0."""
    return _to_first("reduce_min_backward", dy, x, axis, keepdims, lambda one, other: one < other)


# ---------------------------------------------------------------------- the winner
def _extreme(
    op: str, x: ArrayLike, axis: Axis, keepdims: bool, beats: Callable[[Any, Any], bool]
) -> Array:
    dtype = float_dtype(op, x=x)
    x = array(op, "x", x, dtype, None)
    axes = _options(op, "x", x.shape, axis, keepdims, least=1)
    y = zeros(op, _kept(x.shape, axes))
    for place, winner in _winners(x, axes, beats).items():
        y[place] = x[winner]
    return rounded(_result(y, axes, keepdims), dtype)


def _to_first(
    op: str,
    dy: ArrayLike,
    x: ArrayLike,
    axis: Axis,
    keepdims: bool,
    beats: Callable[[Any, Any], bool],
) -> Array:
    dtype = float_dtype(op, dy=dy, x=x)
    x = array(op, "x", x, dtype, None)
    axes = _options(op, "x", x.shape, axis, keepdims, least=1)
    dy = _gradient(op, dy, dtype, x.shape, axes, keepdims)
    dx = zeros(op, x.shape)
    for place, winner in _winners(x, axes, beats).items():
        dx[winner] = dy[place]
    return rounded(dx, dtype)


def _winners(x: Array, axes: Places, beats: Callable[[Any, Any], bool]) -> dict[Places, Places]:
    """Return for each place of the result which place of x wins; a NaN beats every number."""
    winners: dict[Places, Places] = {}
    for place in np.ndindex(x.shape):
        y_place = _at(place, axes)
        best = x[winners[y_place]] if y_place in winners else None
        if best is None or beats(x[place], best) or (np.isnan(x[place]) and not np.isnan(best)):
            winners[y_place] = place
    return winners


# ---------------------------------------------------------------------- axes
def _options(
    op: str, name: str, x_shape: Places, axis: Axis, keepdims: bool, least: int = 0
) -> Places:
    axes = axes_of(op, "axis", axis, len(x_shape))
    flag(op, "keepdims", keepdims)
    if _count(x_shape, axes) < least:
        raise ValueError(
            f"{op}: {name}: expected at least one number along the axes {axes}, got shape {x_shape}"
        )
    return axes


def _count(x_shape: Places, axes: Places) -> int:
    count = 1
    for axis in axes:
        count *= x_shape[axis]
    return count


def _kept(x_shape: Places, axes: Places) -> Places:
    """Return the shape of the result with axes of length 1."""
    return tuple(1 if axis in axes else size for axis, size in enumerate(x_shape))


def _at(place: Places, axes: Places) -> Places:
    """Return which number of the result a place of x goes to."""
    return tuple(0 if axis in axes else at for axis, at in enumerate(place))


def _result(y: Array, axes: Places, keepdims: bool) -> Array:
    return y if keepdims else y.reshape(_without(y.shape, axes))


def _without(shape: Places, axes: Places) -> Places:
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _gradient(
    op: str, dy: ArrayLike, dtype: Any, x_shape: Places, axes: Places, keepdims: bool
) -> Array:
    """Return dy with axes of length 1."""
    kept = _kept(x_shape, axes)
    dy = array(op, "dy", dy, dtype, None)
    check_shape(op, "dy", dy.shape, kept if keepdims else _without(x_shape, axes))
    return dy.reshape(kept)
