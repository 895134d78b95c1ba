"""Sums of two arrays on the compiled kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, shape
from fastcnn._options import shape_of
from fastcnn._types import Array
from fastcnn.fast._broadcast import Broadcast, meeting, sum_into

__all__ = ["Add"]

_DOUBLE = np.dtype(np.float64)


class Add(Broadcast):
    """add and its gradient."""

    def add(self, a: ArrayLike, b: ArrayLike) -> Array:
        return self._joined("add", np.add, a, b)

    def add_backward(
        self, dy: ArrayLike, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        op = "add_backward"
        (dy,) = float_arrays(op, dy=dy)
        a_shape = shape_of(a_shape, f"{op}: a_shape", 0)
        b_shape = shape_of(b_shape, f"{op}: b_shape", 0)
        pair = meeting(op, a_shape, b_shape, "a_shape, b_shape")
        shape(dy, f"{op}: dy", pair.shape, "that of add's result")
        if pair.times == 0:
            return self._summed(dy, a_shape), self._summed(dy, b_shape)
        whole, part = (b_shape, a_shape) if pair.swapped else (a_shape, b_shape)
        of_whole = dy.reshape(whole)
        of_part = dy.reshape(part) if pair.alike else self._added_up(dy, pair.outer, pair.inner)
        of_part = of_part.reshape(part)
        return (of_part, of_whole) if pair.swapped else (of_whole, of_part)

    def _summed(self, dy: Array, part_shape: tuple[int, ...]) -> Array:
        """Return dy, summed over the axes along which an array of this shape was repeated."""
        if part_shape == dy.shape:
            return dy
        part = self._empty(part_shape, dy.dtype)
        self._run(sum_into, part, dy)
        return part

    def _added_up(self, dy: Array, outer: int, inner: int) -> Array:
        """Return the sums of dy, (outer, times, inner), over times."""
        if dy.size == 0:
            return self._zeros((outer, inner), dy.dtype)
        kernels, times = self._load(dy).add, dy.size // (outer * inner)
        db = self._empty((outer, inner), dy.dtype)
        workspace = self._room(kernels.workspace_size(outer, times, inner), _DOUBLE)
        self._run(kernels.add_backward, db, dy.reshape(-1), workspace, times, self._team(dy))
        return db
