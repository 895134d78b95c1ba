"""Concatenation on the compiled kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, shape
from fastcnn._options import shape_of, shown
from fastcnn._shapes import axis_of
from fastcnn._types import Array
from fastcnn.fast._broadcast import operands
from fastcnn.fast._memory_bound import MemoryBound

__all__ = ["Concat"]


def _several(op: str, name: str, value: Any) -> None:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{op}: {name}: expected a list or a tuple, got {shown(value)}")
    if not value:
        raise ValueError(f"{op}: {name}: expected one at least, got none")


def _joined(
    op: str, name: str, shapes: list[tuple[int, ...]], axis: int
) -> tuple[tuple[int, ...], int]:
    """Return the shape of the arrays joined along an axis, and the axis as a number from 0."""
    first = shapes[0]
    rank = len(first)
    if rank == 0:
        raise ValueError(f"{op}: {name}: expected arrays of rank 1 at least, got rank 0")
    axis = axis_of(axis, f"{op}: axis", rank)
    before, behind = first[:axis], first[axis + 1 :]
    for i, one in enumerate(shapes):
        if len(one) != rank or one[:axis] != before or one[axis + 1 :] != behind:
            raise ValueError(
                f"{op}: {name}[{i}]: expected the shape of {name}[0], {shown(first)}, but for "
                f"axis {axis}, got {shown(one)}"
            )
    return (*before, sum(one[axis] for one in shapes), *behind), axis


class Concat(MemoryBound):
    """concat and its gradient."""

    def concat(self, xs: Sequence[ArrayLike], axis: int = -1) -> Array:
        op = "concat"
        _several(op, "xs", xs)
        arrays = operands(op, **{f"xs[{i}]": x for i, x in enumerate(xs)})
        y_shape, axis = _joined(op, "xs", [x.shape for x in arrays], axis)
        y = self._result(op, "xs", y_shape, arrays[0].dtype)
        kernel, rows, first = self._load(y).concat.concat, math.prod(y_shape[:axis]), 0
        for x in arrays:
            if x.size:
                width = x.size // rows
                flat = y.reshape(rows, -1), x.reshape(rows, width)
                self._run(kernel, *flat, first, self._team(x))
                first += width
        return y

    def concat_backward(
        self, dy: ArrayLike, shapes: Sequence[tuple[int, ...]], axis: int = -1
    ) -> list[Array]:
        op = "concat_backward"
        (dy,) = float_arrays(op, dy=dy)
        _several(op, "shapes", shapes)
        parts = [shape_of(part, f"{op}: shapes[{i}]", 0) for i, part in enumerate(shapes)]
        y_shape, axis = _joined(op, "shapes", parts, axis)
        shape(dy, f"{op}: dy", y_shape, "that of concat's result")
        kernel = self._load(dy).concat.concat_backward
        rows, first = math.prod(y_shape[:axis]), 0
        gradients = [self._empty(part, dy.dtype) for part in parts]
        for dx in gradients:
            if dx.size:
                width = dx.size // rows
                flat = dx.reshape(rows, width), dy.reshape(rows, -1)
                self._run(kernel, *flat, first, self._team(dx))
                first += width
        return gradients
