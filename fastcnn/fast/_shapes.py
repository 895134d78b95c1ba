"""What moves numbers about: views of NumPy's, written out, and what pads add.

NumPy's copies took no longer than those of a kernel did, tile by tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, shape
from fastcnn._options import real, shape_of
from fastcnn._shapes import (
    Widths,
    axis_of,
    expanded,
    from_blocks,
    indices_of,
    order_of,
    padded,
    reshaped,
    slices_of,
    to_blocks,
    widths_of,
)
from fastcnn._types import Array, Shape
from fastcnn.fast._broadcast import sum_into
from fastcnn.fast._memory_bound import MemoryBound

__all__ = ["Shapes"]


class Shapes(MemoryBound):
    """The ops of fastcnn._contract.shapes."""

    def _written(self, op: str, argument: str, view: Array) -> Array:
        """Return what a view shows, in an array of its own."""
        y = self._result(op, argument, view.shape, view.dtype)
        self._run(np.copyto, y, view)
        return y

    # ------------------------------------------------------------------ other shapes
    def reshape(self, x: ArrayLike, shape: Sequence[int]) -> Array:
        (x,) = float_arrays("reshape", x=x)
        return self._written(
            "reshape", "shape", x.reshape(reshaped(x.shape, shape, "reshape: shape"))
        )

    def reshape_backward(self, dy: ArrayLike, x_shape: tuple[int, ...]) -> Array:
        op = "reshape_backward"
        (dy,) = float_arrays(op, dy=dy)
        x_shape = reshaped(dy.shape, shape_of(x_shape, f"{op}: x_shape", 0), f"{op}: dy, x_shape")
        return self._written(op, "x_shape", dy.reshape(x_shape))

    def transpose(self, x: ArrayLike, axes: Sequence[int]) -> Array:
        (x,) = float_arrays("transpose", x=x)
        return self._written(
            "transpose", "x", x.transpose(order_of(axes, "transpose: axes", x.ndim))
        )

    def transpose_backward(self, dy: ArrayLike, axes: Sequence[int]) -> Array:
        op = "transpose_backward"
        (dy,) = float_arrays(op, dy=dy)
        order = order_of(axes, f"{op}: axes", dy.ndim)
        return self._written(op, "dy", dy.transpose(np.argsort(order)))

    def expand(self, x: ArrayLike, shape: Sequence[int]) -> Array:
        (x,) = float_arrays("expand", x=x)
        y_shape = expanded(x.shape, shape, "expand: shape")
        y = self._result("expand", "shape", y_shape, x.dtype)
        self._run(np.copyto, y, x)
        return y

    def expand_backward(
        self, dy: ArrayLike, x_shape: tuple[int, ...], shape: Sequence[int]
    ) -> Array:
        op = "expand_backward"
        (dy,) = float_arrays(op, dy=dy)
        x_shape = shape_of(x_shape, f"{op}: x_shape", 0)
        _same(op, dy, expanded(x_shape, shape, f"{op}: x_shape, shape"))
        dx = self._empty(x_shape, dy.dtype)
        self._run(sum_into, dx, dy)
        return dx

    # ------------------------------------------------------------------ pads
    def pad(
        self,
        x: ArrayLike,
        widths: Sequence[tuple[int, int]],
        *,
        mode: str = "constant",
        value: float = 0.0,
    ) -> Array:
        op = "pad"
        (x,) = float_arrays(op, x=x)
        ends = widths_of(widths, f"{op}: widths", x.ndim)
        filling = real(value, f"{op}: value", any_size=True)
        y = self._result(op, "widths", padded(x.shape, ends, mode, f"{op}: widths"), x.dtype)
        self._run(_pad_into, y, x, ends, mode, filling)
        return y

    def pad_backward(
        self,
        dy: ArrayLike,
        x_shape: tuple[int, ...],
        widths: Sequence[tuple[int, int]],
        *,
        mode: str = "constant",
    ) -> Array:
        op = "pad_backward"
        (dy,) = float_arrays(op, dy=dy)
        x_shape = shape_of(x_shape, f"{op}: x_shape", 0)
        ends = widths_of(widths, f"{op}: widths", len(x_shape))
        _same(op, dy, padded(x_shape, ends, mode, f"{op}: widths"))
        if mode == "constant":
            return self._written(op, "x_shape", dy[_index(_inside(x_shape, ends))])
        dx = self._empty(x_shape, dy.dtype)
        self._run(_gather_into, dx, dy, ends, mode)
        return dx

    # ------------------------------------------------------------------ parts
    def strided_slice(
        self,
        x: ArrayLike,
        starts: Sequence[int | None] | None,
        stops: Sequence[int | None] | None,
        steps: Sequence[int | None] | None = None,
    ) -> Array:
        op = "strided_slice"
        (x,) = float_arrays(op, x=x)
        return self._written(op, "x", x[_index(slices_of(x.shape, starts, stops, steps, op))])

    def strided_slice_backward(
        self,
        dy: ArrayLike,
        x_shape: tuple[int, ...],
        starts: Sequence[int | None] | None,
        stops: Sequence[int | None] | None,
        steps: Sequence[int | None] | None = None,
    ) -> Array:
        op = "strided_slice_backward"
        (dy,) = float_arrays(op, dy=dy)
        x_shape = shape_of(x_shape, f"{op}: x_shape", 0)
        slices = slices_of(x_shape, starts, stops, steps, op)
        dx = self._zeros_of(op, x_shape, dy.dtype)
        taken = dx[_index(slices)]
        _same(op, dy, taken.shape)
        self._run(np.copyto, taken, dy)
        return dx

    def take(self, x: ArrayLike, indices: Sequence[int], axis: int = -1) -> Array:
        op = "take"
        (x,) = float_arrays(op, x=x)
        at = axis_of(axis, f"{op}: axis", x.ndim)
        places = indices_of(indices, f"{op}: indices", x.shape[at])
        y_shape = (*x.shape[:at], len(places), *x.shape[at + 1 :])
        y = self._result(op, "indices", y_shape, x.dtype)
        self._run(_take_into, y, x, np.array(places, np.intp), at)
        return y

    def take_backward(
        self, dy: ArrayLike, x_shape: tuple[int, ...], indices: Sequence[int], axis: int = -1
    ) -> Array:
        op = "take_backward"
        (dy,) = float_arrays(op, dy=dy)
        x_shape = shape_of(x_shape, f"{op}: x_shape", 0)
        at = axis_of(axis, f"{op}: axis", len(x_shape))
        places = indices_of(indices, f"{op}: indices", x_shape[at])
        _same(op, dy, (*x_shape[:at], len(places), *x_shape[at + 1 :]))
        dx = self._zeros_of(op, x_shape, dy.dtype)
        self._run(_put_into, dx, dy, places, at)
        return dx

    def _zeros_of(self, op: str, x_shape: Shape, dtype: np.dtype[Any]) -> Array:
        dx = self._result(op, "x_shape", x_shape, dtype)
        self._run(dx.fill, 0)
        return dx

    # ------------------------------------------------------------------ blocks
    def depth_to_space(self, x: ArrayLike, block: int, *, mode: str = "DCR") -> Array:
        return self._from_blocks("depth_to_space", "x", x, block, mode)

    def depth_to_space_backward(self, dy: ArrayLike, block: int, *, mode: str = "DCR") -> Array:
        return self._to_blocks("depth_to_space_backward", "dy", dy, block, mode)

    def space_to_depth(self, x: ArrayLike, block: int, *, mode: str = "DCR") -> Array:
        return self._to_blocks("space_to_depth", "x", x, block, mode)

    def space_to_depth_backward(self, dy: ArrayLike, block: int, *, mode: str = "DCR") -> Array:
        return self._from_blocks("space_to_depth_backward", "dy", dy, block, mode)

    def _from_blocks(self, op: str, name: str, x: ArrayLike, block: int, mode: str) -> Array:
        (x,) = float_arrays(op, **{name: x})
        y = self._result(op, name, from_blocks(x.shape, block, mode, f"{op}: {name}"), x.dtype)
        self._run(np.copyto, *_blocks(y, x, block, mode))
        return y

    def _to_blocks(self, op: str, name: str, x: ArrayLike, block: int, mode: str) -> Array:
        (x,) = float_arrays(op, **{name: x})
        y = self._result(op, name, to_blocks(x.shape, block, mode, f"{op}: {name}"), x.dtype)
        self._run(np.copyto, *_blocks(x, y, block, mode)[::-1])
        return y


def _same(op: str, dy: Array, y_shape: Shape) -> None:
    shape(dy, f"{op}: dy", y_shape, f"that of {op.removesuffix('_backward')}'s result")


def _index(slices: tuple[slice, ...]) -> Any:
    """Return an index that gives a view, of an array without axes too."""
    return (*slices, ...)


def _blocks(large: Array, deep: Array, block: int, mode: str) -> tuple[Array, Array]:
    """Return images and the same with blocks in their channels as views of one shape."""
    n, height, width, channels = deep.shape
    inner = channels // block**2
    pixels = large.reshape(n, height, block, width, block, inner)
    if mode == "DCR":
        return pixels, deep.reshape(n, height, width, block, block, inner).transpose(
            0, 1, 3, 2, 4, 5
        )
    return pixels, deep.reshape(n, height, width, inner, block, block).transpose(0, 1, 4, 2, 5, 3)


# ---------------------------------------------------------------------- pads
def _inside(x_shape: Shape, ends: Widths) -> tuple[slice, ...]:
    """Return where x lies in what it is padded to."""
    return tuple(
        slice(before, before + size) for size, (before, _) in zip(x_shape, ends, strict=True)
    )


def _along(axis: int, *parts: slice) -> list[tuple[slice, ...]]:
    """Return indices of parts along one axis, of all along those in front of it."""
    return [(*(slice(None),) * axis, part) for part in parts]


def _copies(axis: int, size: int, before: int, after: int, mode: str) -> Any:
    """Return pairs of a pad along an axis and what of the padded array is copied there."""
    last = before + size - 1
    if mode == "edge":
        sources = slice(before, before + 1), slice(last, last + 1)
    else:
        down = last - 1 - after
        sources = slice(2 * before, before, -1), slice(last - 1, down if down >= 0 else None, -1)
    pads = slice(0, before), slice(last + 1, last + 1 + after)
    pairs = zip(_along(axis, *pads), _along(axis, *sources), strict=True)
    return [pair for pair, width in zip(pairs, (before, after), strict=True) if width]


def _pad_into(y: Array, x: Array, ends: Widths, mode: str, value: float) -> None:
    y[_inside(x.shape, ends)] = x
    with np.errstate(over="ignore"):
        for axis, (size, pair) in enumerate(zip(x.shape, ends, strict=True)):
            for pad, source in _copies(axis, size, *pair, mode):
                # Behind the last axis each corner has its number.
                y[pad] = value if mode == "constant" else y[source]


def _gather_into(dx: Array, dy: Array, ends: Widths, mode: str) -> None:
    """Add up the gradients of each number and its copies, the last axis first."""
    total = dy.astype(np.float64)
    with np.errstate(all="ignore"):
        for axis in reversed(range(dx.ndim)):
            for pad, source in _copies(axis, dx.shape[axis], *ends[axis], mode):
                copies = total[pad]
                total[source] += copies.sum(axis, keepdims=True) if mode == "edge" else copies
        dx[...] = total[_inside(dx.shape, ends)]


# ---------------------------------------------------------------------- places
def _take_into(y: Array, x: Array, places: Array, axis: int) -> None:
    # They were checked; NumPy's own check would write to an array of its own first.
    np.take(x, places, axis, out=y, mode="clip")


def _put_into(dx: Array, dy: Array, places: Shape, axis: int) -> None:
    total = np.zeros(dx.shape)
    with np.errstate(all="ignore"):
        for at, place in enumerate(places):
            (to,), (of,) = _along(axis, slice(place, place + 1)), _along(axis, slice(at, at + 1))
            total[to] += dy[of]
        dx[...] = total
