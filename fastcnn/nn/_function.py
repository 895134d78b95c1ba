"""Layers of one op each: functions of single numbers, reductions, parts at places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn._options import choice, flag, integer, shape_of
from fastcnn._shapes import axes_of, axis_of, indices_of, reduced
from fastcnn._types import Array, Axis, Shape
from fastcnn.backend import Backend
from fastcnn.nn._module import Backward, Module

__all__ = ["Function", "Reduce", "Take"]

# What the backward op of each takes beside dy.
_SAVED = {
    "exp": "y",
    "log": "x",
    "sqrt": "y",
    "abs": "x",
    "negative": "",
    "reciprocal": "y",
    "erf": "x",
}
_REDUCTIONS = ("sum", "mean", "max", "min")


class Function(Module):
    """A function of each number that is no activation.

    function: "exp", "log" (the natural one), "sqrt", "abs", "negative" (-x), "reciprocal" (1 / x)
    or "erf".
    """

    def __init__(self, function: str, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.function = choice(function, "Function: function", _SAVED)

    def declare(self, input_shape: Shape) -> Shape:
        return input_shape

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        op = self.function
        y: Array = getattr(backend, op)(x)

        def backward(dy: Array) -> Array:
            saved = {"x": (x,), "y": (y,), "": ()}[_SAVED[op]]
            dx: Array = getattr(backend, f"{op}_backward")(dy, *saved)
            return dx

        return y, backward


class Reduce(Module):
    """The sum, the mean, the largest or the smallest of the numbers along axes.

    how: "sum", "mean", "max" or "min". axis: one or several of one input, without the batch axis,
    from 0 on or counted from the end; None for all of them. keepdims: leave axes of length 1.
    """

    def __init__(
        self, how: str, axis: Axis = None, *, keepdims: bool = False, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        self.how = choice(how, "Reduce: how", _REDUCTIONS)
        self.axis: Axis = _axes(axis)
        self.keepdims = flag(keepdims, "Reduce: keepdims")

    def declare(self, input_shape: Shape) -> Shape:
        axes = axes_of(self.axis, "Reduce: axis", len(input_shape))
        return reduced(input_shape, axes, self.keepdims)

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        axes = axes_of(self.axis, "Reduce: axis", x.ndim - 1)
        options: dict[str, Any] = {
            "axis": tuple(axis + 1 for axis in axes),
            "keepdims": self.keepdims,
        }
        op = f"reduce_{self.how}"
        saved: Any = x.shape if self.how in ("sum", "mean") else x

        def backward(dy: Array) -> Array:
            dx: Array = getattr(backend, f"{op}_backward")(dy, saved, **options)
            return dx

        return getattr(backend, op)(x, **options), backward


class Take(Module):
    """The parts of an input at places along an axis, of channels by default, in their order.

    indices: the places, from 0 on or counted from the end; one may recur. axis: of one input,
    without the batch axis, from 0 on or counted from the end.
    """

    def __init__(self, indices: Sequence[int], axis: int = -1, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.indices = shape_of(indices, "Take: indices", -(2**62))
        self.axis = integer(axis, "Take: axis", -(2**31))

    def declare(self, input_shape: Shape) -> Shape:
        at = axis_of(self.axis, "Take: axis", len(input_shape))
        places = indices_of(self.indices, "Take: indices", input_shape[at])
        return (*input_shape[:at], len(places), *input_shape[at + 1 :])

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        x_shape, indices = x.shape, self.indices
        at = axis_of(self.axis, "Take: axis", x.ndim - 1) + 1
        return (
            backend.take(x, indices, at),
            lambda dy: backend.take_backward(dy, x_shape, indices, at),
        )


def _axes(value: Any) -> Axis:
    if value is None:
        return None
    if isinstance(value, (tuple, list)):
        return tuple(integer(each, "Reduce: axis", -(2**31)) for each in value)
    return integer(value, "Reduce: axis", -(2**31))
