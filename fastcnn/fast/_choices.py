"""What picks one number or another, and what rounds, by NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, shape
from fastcnn._options import shape_of
from fastcnn._types import Array
from fastcnn.fast._broadcast import Broadcast, apply_into, meeting, operands, sum_into

__all__ = ["Choices"]


class Choices(Broadcast):
    """The ops of fastcnn._contract.choices."""

    def _compared(self, op: str, function: np.ufunc, a: ArrayLike, b: ArrayLike) -> Array:
        a, b = operands(op, a=a, b=b)
        y = self._result(op, "a, b", meeting(op, a.shape, b.shape).shape, a.dtype)
        self._run(apply_into, y, function, a, b)
        return y

    def equal(self, a: ArrayLike, b: ArrayLike) -> Array:
        return self._compared("equal", np.equal, a, b)

    def less(self, a: ArrayLike, b: ArrayLike) -> Array:
        return self._compared("less", np.less, a, b)

    def where(self, condition: ArrayLike, a: ArrayLike, b: ArrayLike) -> Array:
        condition, a, b = operands("where", condition=condition, a=a, b=b)
        pair = meeting("where", a.shape, b.shape)
        whole = meeting("where", condition.shape, pair.shape, "condition, a, b").shape
        y = self._result("where", "condition, a, b", whole, a.dtype)
        self._run(_pick_into, y, condition, a, b)
        return y

    def where_backward(
        self,
        dy: ArrayLike,
        condition: ArrayLike,
        a_shape: tuple[int, ...],
        b_shape: tuple[int, ...],
    ) -> tuple[Array, Array]:
        op = "where_backward"
        dy, condition = float_arrays(op, dy=dy, condition=condition)
        a_shape = shape_of(a_shape, f"{op}: a_shape", 0)
        b_shape = shape_of(b_shape, f"{op}: b_shape", 0)
        pair = meeting(op, a_shape, b_shape, "a_shape, b_shape").shape
        whole = meeting(op, condition.shape, pair, "condition, a_shape, b_shape").shape
        shape(dy, f"{op}: dy", whole, "that of where's result")
        da, db = self._empty(a_shape, dy.dtype), self._empty(b_shape, dy.dtype)
        self._run(_share_into, da, db, dy, condition)
        return da, db

    def _rounded(self, op: str, function: np.ufunc, x: ArrayLike) -> Array:
        (x,) = float_arrays(op, x=x)
        y = self._empty(x.shape, x.dtype)
        self._run(function, x, y)
        return y

    def floor(self, x: ArrayLike) -> Array:
        return self._rounded("floor", np.floor, x)

    def ceil(self, x: ArrayLike) -> Array:
        return self._rounded("ceil", np.ceil, x)

    def round(self, x: ArrayLike) -> Array:
        return self._rounded("round", np.rint, x)

    def sign(self, x: ArrayLike) -> Array:
        return self._rounded("sign", np.sign, x)


def _pick_into(y: Array, condition: Array, a: Array, b: Array) -> None:
    y[...] = np.where(condition != 0, a, b)


def _share_into(da: Array, db: Array, dy: Array, condition: Array) -> None:
    chosen = condition != 0
    sum_into(da, np.where(chosen, dy, 0))
    sum_into(db, np.where(chosen, 0, dy))
