"""Reductions: of the numbers along some axes one is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import ArrayLike

from fastcnn._contract.op import Op
from fastcnn._shapes import axes_of, reduced
from fastcnn._types import Array, Axis, Shape

__all__ = ["ROWS", "Reductions"]


class Reductions(Protocol):
    """See `fastcnn.backend.Backend`, whose rules hold for them."""

    # `axis` is one of x's axes, several, or None for all of them; below 0 it is counted from the
    # end. With `keepdims` they stay, of length 1. Float32 is summed in double.
    def reduce_sum(self, x: ArrayLike, axis: Axis = None, *, keepdims: bool = False) -> Array:
        """Return the sums of x along these axes: 0 of no numbers."""

    def reduce_sum_backward(
        self, dy: ArrayLike, x_shape: tuple[int, ...], axis: Axis = None, *, keepdims: bool = False
    ) -> Array:
        """Return dx of shape `x_shape`: dy at every number that was added."""

    def reduce_mean(self, x: ArrayLike, axis: Axis = None, *, keepdims: bool = False) -> Array:
        """Return the means of x along these axes, each of one number at least."""

    def reduce_mean_backward(
        self, dy: ArrayLike, x_shape: tuple[int, ...], axis: Axis = None, *, keepdims: bool = False
    ) -> Array:
        """Return dx of shape `x_shape`: dy, divided by how many numbers a mean is of."""

    def reduce_max(self, x: ArrayLike, axis: Axis = None, *, keepdims: bool = False) -> Array:
        """Return the largest numbers of x along these axes; a NaN is larger than every number."""

    def reduce_max_backward(
        self, dy: ArrayLike, x: ArrayLike, axis: Axis = None, *, keepdims: bool = False
    ) -> Array:
        """Return dx: dy where the largest number was, else 0.

        As in max_pool2d the first of several, in row-major order, takes all of it.
        """

    def reduce_min(self, x: ArrayLike, axis: Axis = None, *, keepdims: bool = False) -> Array:
        """Return the smallest numbers of x along these axes; a NaN is smaller than every number."""

    def reduce_min_backward(
        self, dy: ArrayLike, x: ArrayLike, axis: Axis = None, *, keepdims: bool = False
    ) -> Array:
        """Return dx: dy where the smallest number was, of several the first, else 0."""


def _reduced(x: Shape, axis: Any = None, keepdims: bool = False) -> Sequence[Shape]:
    return (reduced(x, axes_of(axis, "reduce: axis", len(x)), keepdims),)


ROWS = dict.fromkeys(
    ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min"), Op(("y",), ("x",), _reduced)
)
