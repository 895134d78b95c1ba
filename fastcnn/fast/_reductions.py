"""Reductions: sums and means on compiled kernels, the largest and smallest numbers on NumPy's."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, shape
from fastcnn._options import flag, shape_of
from fastcnn._shapes import axes_of, reduced
from fastcnn._types import Array, Axis, Shape
from fastcnn.fast._memory_bound import MemoryBound

__all__ = ["Reductions"]

_DOUBLE = np.dtype(np.float64)
_ROW = 65536  # numbers that lie side by side and one thread adds up; longer rows are cut


class _Reduction(NamedTuple):
    """The checked options of a reduction; `order` puts the axes that go behind the others."""

    x_shape: Shape
    axes: Shape
    kept: Shape  # the shape of the result with axes of length 1
    y_shape: Shape
    size: int  # how many numbers one is left of

    @property
    def order(self) -> Shape:
        return (*(at for at in range(len(self.x_shape)) if at not in self.axes), *self.axes)


def _reduction(
    op: str, name: str, x_shape: Shape, axis: Axis, keepdims: bool, *, least: int = 0
) -> _Reduction:
    axes = axes_of(axis, f"{op}: axis", len(x_shape))
    keep = flag(keepdims, f"{op}: keepdims")
    kept, y_shape = reduced(x_shape, axes, True), reduced(x_shape, axes, keep)
    count = math.prod(x_shape[at] for at in axes)
    if count < least:
        raise ValueError(
            f"{op}: {name}: expected at least one number along the axes {axes}, got shape {x_shape}"
        )
    return _Reduction(x_shape, axes, kept, y_shape, count)


class Reductions(MemoryBound):
    """The ops of fastcnn._contract.reductions."""

    # ------------------------------------------------------------------ sums
    def reduce_sum(self, x: ArrayLike, axis: Axis = None, *, keepdims: bool = False) -> Array:
        op = "reduce_sum"
        (x,) = float_arrays(op, x=x)
        how = _reduction(op, "x", x.shape, axis, keepdims)
        if x.size == 0:
            return self._zeros(how.y_shape, x.dtype)
        y = self._empty(how.y_shape, x.dtype)
        flat, outer, inner = self._layers(x, how)
        if inner == 1 and how.size <= _ROW:
            self._sum_rows(y, flat, how.size, 1.0)
            return y
        kernels = self._load(x).add
        room = self._room(kernels.workspace_size(outer, how.size, inner), _DOUBLE)
        rows = y.reshape(outer, inner)
        self._run(kernels.add_backward, rows, flat, room, how.size, self._team(x))
        return y

    def reduce_sum_backward(
        self, dy: ArrayLike, x_shape: tuple[int, ...], axis: Axis = None, *, keepdims: bool = False
    ) -> Array:
        return self._spread("reduce_sum_backward", dy, x_shape, axis, keepdims, np.copyto)

    def reduce_mean(self, x: ArrayLike, axis: Axis = None, *, keepdims: bool = False) -> Array:
        op = "reduce_mean"
        (x,) = float_arrays(op, x=x)
        how = _reduction(op, "x", x.shape, axis, keepdims, least=1)
        y = self._empty(how.y_shape, x.dtype)
        if x.size:
            flat, outer, inner = self._layers(x, how)
            if inner == 1 and how.size <= _ROW:
                self._sum_rows(y, flat, how.size, float(how.size))
                return y
            kernels = self._load(x).avg_pool2d
            room = self._empty((outer, *kernels.sizes(how.size, inner)), _DOUBLE)
            rows, images = y.reshape(outer, inner), flat.reshape(outer, -1)
            self._run(kernels.global_avg_pool2d, rows, room, images, self._team(x))
        return y

    def reduce_mean_backward(
        self, dy: ArrayLike, x_shape: tuple[int, ...], axis: Axis = None, *, keepdims: bool = False
    ) -> Array:
        return self._spread("reduce_mean_backward", dy, x_shape, axis, keepdims, _share)

    def _layers(self, x: Array, how: _Reduction) -> tuple[Array, int, int]:
        """Return x, outer and inner: as (outer, size, inner) it is reduced along the middle axis.

        It is flat, and copied where the axes lie apart.
        """
        long = [at for at in how.axes if x.shape[at] > 1]
        if not long:
            return x.reshape(-1), x.size, 1
        first, end = long[0], long[-1] + 1
        between = (x.shape[at] for at in range(first, end) if at not in how.axes)
        if math.prod(between) == 1:
            return x.reshape(-1), math.prod(x.shape[:first]), math.prod(x.shape[end:])
        copy = self._empty(tuple(x.shape[at] for at in how.order), x.dtype)
        self._run(np.copyto, copy, x.transpose(how.order))
        return copy.reshape(-1), x.size // how.size, 1

    def _sum_rows(self, y: Array, flat: Array, size: int, divisor: float) -> None:
        kernel = self._load(y).row_sums.row_sums
        self._run(kernel, y.reshape(-1), flat.reshape(-1, size), divisor, self._team(flat))

    def _spread(
        self, op: str, dy: ArrayLike, x_shape: Any, axis: Axis, keepdims: bool, write: Any
    ) -> Array:
        """Return dx, which `write` makes of dy, repeated along the axes that went."""
        (dy,) = float_arrays(op, dy=dy)
        x_shape = shape_of(x_shape, f"{op}: x_shape", 0)
        least = 1 if write is _share else 0
        how = _reduction(op, "x_shape", x_shape, axis, keepdims, least=least)
        _same(op, dy, how.y_shape)
        dx = self._result(op, "x_shape", x_shape, dy.dtype)
        if dx.size:
            self._run(write, dx, dy.reshape(how.kept))
        return dx

    # ------------------------------------------------------------------ the largest, the smallest
    def reduce_max(self, x: ArrayLike, axis: Axis = None, *, keepdims: bool = False) -> Array:
        return self._extreme("reduce_max", x, axis, keepdims, np.maximum)

    def reduce_max_backward(
        self, dy: ArrayLike, x: ArrayLike, axis: Axis = None, *, keepdims: bool = False
    ) -> Array:
        return self._to_first("reduce_max_backward", dy, x, axis, keepdims, np.argmax)

    def reduce_min(self, x: ArrayLike, axis: Axis = None, *, keepdims: bool = False) -> Array:
        return self._extreme("reduce_min", x, axis, keepdims, np.minimum)

    def reduce_min_backward(
        self, dy: ArrayLike, x: ArrayLike, axis: Axis = None, *, keepdims: bool = False
    ) -> Array:
        return self._to_first("reduce_min_backward", dy, x, axis, keepdims, np.argmin)

    def _extreme(
        self, op: str, x: ArrayLike, axis: Axis, keepdims: bool, function: np.ufunc
    ) -> Array:
        (x,) = float_arrays(op, x=x)
        how = _reduction(op, "x", x.shape, axis, keepdims, least=1)
        y = self._empty(how.y_shape, x.dtype)
        self._run(_reduce_into, y.reshape(how.kept), function, x, how.axes)
        return y

    def _to_first(
        self, op: str, dy: ArrayLike, x: ArrayLike, axis: Axis, keepdims: bool, find: Any
    ) -> Array:
        dy, x = float_arrays(op, dy=dy, x=x)
        how = _reduction(op, "x", x.shape, axis, keepdims, least=1)
        _same(op, dy, how.y_shape)
        dx = self._zeros(x.shape, x.dtype)
        if dx.size:
            self._run(_give_first, dx, dy, x, how.order, how.size, find)
        return dx


def _same(op: str, dy: Array, y_shape: Shape) -> None:
    shape(dy, f"{op}: dy", y_shape, f"that of {op.removesuffix('_backward')}'s result")


def _share(dx: Array, dy: Array) -> None:
    with np.errstate(all="ignore"):
        np.divide(dy, dy.dtype.type(dx.size // dy.size), out=dx)


def _reduce_into(y: Array, function: np.ufunc, x: Array, axes: Shape) -> None:
    with np.errstate(all="ignore"):
        function.reduce(x, axis=axes, keepdims=True, out=y)
        np.add(y, 0, out=y)  # of 0 and -0 the order would decide, which is NumPy's affair


def _give_first(dx: Array, dy: Array, x: Array, order: Shape, count: int, find: Any) -> None:
    """Write dy to dx, zeros so far, where `find` finds a number among those along the axes."""
    places = np.arange(x.size).reshape(x.shape).transpose(order).reshape(-1, count)
    winners = find(x.transpose(order).reshape(-1, count), axis=1)
    dx.reshape(-1)[np.take_along_axis(places, winners[:, None], 1)[:, 0]] = dy.reshape(-1)
