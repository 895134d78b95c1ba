"""Functions of two arrays that broadcast, by NumPy: a row of the table of gradients each.

Sums and products have kernels: see _add.py and _multiply.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, shape
from fastcnn._options import shape_of
from fastcnn._types import Array
from fastcnn.fast._broadcast import Broadcast, apply_into, meeting, operands, sum_into

__all__ = ["Elementwise"]


class _Gradients(NamedTuple):
    """What makes the gradients of a and b of dy, a and b in double."""

    of_a: Callable[[Array, Array, Array], Any]
    of_b: Callable[[Array, Array, Array], Any]


def _of_winner(larger: np.ufunc) -> _Gradients:
    """Return the row of what gives one of its arguments: the first, unless the second wins."""

    def second_wins(a: Array, b: Array) -> Any:
        return ~np.isnan(a) & ((b != a) & (larger(a, b) == b) | np.isnan(b))

    return _Gradients(
        lambda dy, a, b: np.where(second_wins(a, b), 0.0, dy),
        lambda dy, a, b: np.where(second_wins(a, b), dy, 0.0),
    )


_TABLE = {
    "divide": _Gradients(lambda dy, a, b: dy / b, lambda dy, a, b: -(dy / b) * (a / b)),
    "power": _Gradients(
        lambda dy, a, b: np.where(b == 0, 0.0, dy * b * np.power(a, b - 1)),
        lambda dy, a, b: np.where((a == 0) & (b >= 0), 0.0, dy * np.power(a, b) * np.log(a)),
    ),
    "maximum": _of_winner(np.maximum),
    "minimum": _of_winner(np.minimum),
}


class Elementwise(Broadcast):
    """subtract, divide, power, maximum, minimum and their gradients."""

    def _applied(self, op: str, function: np.ufunc, a: ArrayLike, b: ArrayLike) -> Array:
        a, b = operands(op, a=a, b=b)
        y = self._result(op, "a, b", meeting(op, a.shape, b.shape).shape, a.dtype)
        self._run(apply_into, y, function, a, b)
        return y

    def _applied_backward(
        self, op: str, dy: ArrayLike, a: ArrayLike, b: ArrayLike
    ) -> tuple[Array, Array]:
        dy, a, b = operands(op, dy=dy, a=a, b=b)
        forward = op.removesuffix("_backward")
        shape(dy, f"{op}: dy", meeting(op, a.shape, b.shape).shape, f"that of {forward}'s result")
        da, db = self._empty(a.shape, a.dtype), self._empty(b.shape, b.dtype)
        self._run(_gradients_into, da, db, _TABLE[forward], dy, a, b)
        return da, db

    def subtract(self, a: ArrayLike, b: ArrayLike) -> Array:
        return self._applied("subtract", np.subtract, a, b)

    def subtract_backward(
        self, dy: ArrayLike, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        op = "subtract_backward"
        (dy,) = float_arrays(op, dy=dy)
        a_shape = shape_of(a_shape, f"{op}: a_shape", 0)
        b_shape = shape_of(b_shape, f"{op}: b_shape", 0)
        pair = meeting(op, a_shape, b_shape, "a_shape, b_shape")
        shape(dy, f"{op}: dy", pair.shape, "that of subtract's result")
        da, db = self._empty(a_shape, dy.dtype), self._empty(b_shape, dy.dtype)
        self._run(sum_into, da, dy)
        self._run(sum_into, db, dy)
        self._run(np.negative, db, db)
        return da, db

    def divide(self, a: ArrayLike, b: ArrayLike) -> Array:
        return self._applied("divide", np.divide, a, b)

    def divide_backward(self, dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
        return self._applied_backward("divide_backward", dy, a, b)

    def power(self, a: ArrayLike, b: ArrayLike) -> Array:
        return self._applied("power", np.power, a, b)

    def power_backward(self, dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
        return self._applied_backward("power_backward", dy, a, b)

    def maximum(self, a: ArrayLike, b: ArrayLike) -> Array:
        return self._applied("maximum", np.maximum, a, b)

    def maximum_backward(self, dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
        return self._applied_backward("maximum_backward", dy, a, b)

    def minimum(self, a: ArrayLike, b: ArrayLike) -> Array:
        return self._applied("minimum", np.minimum, a, b)

    def minimum_backward(self, dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
        return self._applied_backward("minimum_backward", dy, a, b)


def _gradients_into(
    da: Array, db: Array, gradients: _Gradients, dy: Array, a: Array, b: Array
) -> None:
    with np.errstate(all="ignore"):
        wide = [each.astype(np.float64) for each in (dy, a, b)]
        for gradient, of in zip((da, db), gradients, strict=True):
            sum_into(gradient, np.asarray(of(*wide)))
