"""Products of two arrays on the compiled kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import shape
from fastcnn._types import Array
from fastcnn.fast._broadcast import Broadcast, Meeting, meeting, operands, products_into

__all__ = ["Multiply"]

_DOUBLE = np.dtype(np.float64)


class Multiply(Broadcast):
    """multiply and its gradient."""

    def multiply(self, a: ArrayLike, b: ArrayLike) -> Array:
        return self._joined("multiply", np.multiply, a, b)

    def multiply_backward(self, dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
        op = "multiply_backward"
        dy, a, b = operands(op, dy=dy, a=a, b=b)
        pair = meeting(op, a.shape, b.shape)
        shape(dy, f"{op}: dy", pair.shape, "that of multiply's result")
        if dy.size == 0:
            return self._zeros(a.shape, a.dtype), self._zeros(b.shape, b.dtype)
        if pair.times == 0:
            da, db = self._empty(a.shape, a.dtype), self._empty(b.shape, b.dtype)
            self._run(products_into, da, db, dy, a, b)
            return da, db
        if pair.swapped:
            db, da = self._product_gradients(dy, b, a, pair)
        else:
            da, db = self._product_gradients(dy, a, b, pair)
        return da, db

    def _product_gradients(
        self, dy: Array, whole: Array, part: Array, pair: Meeting
    ) -> tuple[Array, Array]:
        kernels, threads = self._load(dy).multiply, self._team(dy)
        of_whole, of_part = self._empty(whole.shape, dy.dtype), self._empty(part.shape, dy.dtype)
        if pair.alike:
            flat = (array.reshape(-1) for array in (of_whole, of_part, dy, whole, part))
            self._run(kernels.multiply_backward, *flat, threads)
            return of_whole, of_part
        inner = (pair.outer, pair.inner)
        size = kernels.workspace_size(pair.outer, pair.times, pair.inner)
        self._run(
            kernels.multiply_repeated_backward,
            of_whole.reshape(-1),
            of_part.reshape(inner),
            dy.reshape(-1),
            whole.reshape(-1),
            part.reshape(inner),
            self._room(size, _DOUBLE),
            pair.times,
            threads,
        )
        return of_whole, of_part
