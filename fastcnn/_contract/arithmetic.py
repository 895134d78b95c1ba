"""Products with weights, and what joins or scales arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import ArrayLike

from fastcnn._contract.op import Op, broadcast, same
from fastcnn._shapes import multiplied
from fastcnn._types import Array, Shape

__all__ = ["ROWS", "Arithmetic"]


class Arithmetic(Protocol):
    """See `fastcnn.backend.Backend`, whose rules hold for them."""

    # Sums and products are of arrays of any rank, whose shapes broadcast as in NumPy: aligned at
    # the last axis, and an axis of length 1, or one that is not there, is repeated.
    def linear(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> Array:
        """Return x @ w + b: x (N, C), w (C, K), b (K,) or None -> y (N, K)."""

    def linear_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        w: ArrayLike,
        *,
        input_gradient: bool = True,
        weight_gradient: bool = True,
    ) -> tuple[Array | None, Array | None, Array | None]:
        """Return (dx, dw, db), shaped like x, w and (K,): None for what is not asked for."""

    def add(self, a: ArrayLike, b: ArrayLike) -> Array:
        """Return a + b: of equal shapes, images and a vector (C,), or any that broadcast."""

    def add_backward(
        self, dy: ArrayLike, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        """Return (da, db): dy, summed over the axes along which a or b was repeated.

        A gradient of the shape of dy may be dy itself and no copy of it.
        """

    def multiply(self, a: ArrayLike, b: ArrayLike) -> Array:
        """Return a * b: of equal shapes, images and gates (N, 1, 1, C), or any that broadcast."""

    def multiply_backward(self, dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
        """Return (da, db): dy * b and dy * a, summed over the axes of a repetition as in add."""

    def subtract(self, a: ArrayLike, b: ArrayLike) -> Array:
        """Return a - b, of shapes that broadcast."""

    def subtract_backward(
        self, dy: ArrayLike, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        """Return (da, db): dy and -dy, summed over the axes of a repetition as in add."""

    def divide(self, a: ArrayLike, b: ArrayLike) -> Array:
        """Return a / b, of shapes that broadcast; what is divided by 0 is infinite or NaN."""

    def divide_backward(self, dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
        """Return (da, db): dy / b and -dy * a / b**2, summed as in add."""

    def power(self, a: ArrayLike, b: ArrayLike) -> Array:
        """Return a**b, of shapes that broadcast; NaN for a below 0 and b that is no integer."""

    def power_backward(self, dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
        """Return (da, db): dy * b * a**(b-1) and dy * a**b * log(a), summed as in add.

        Where b is 0, a has none; where a is 0 and b is not below 0, b has none.
        """

    def maximum(self, a: ArrayLike, b: ArrayLike) -> Array:
        """Return the larger of a and b, of shapes that broadcast; NaN where one of them is."""

    def maximum_backward(self, dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
        """Return (da, db): dy where that is the result, a where both are, else 0; summed as in add.

        The first of two equal numbers takes all of it, as in max_pool2d.
        """

    def minimum(self, a: ArrayLike, b: ArrayLike) -> Array:
        """Return the smaller of a and b, of shapes that broadcast; NaN where one of them is."""

    def minimum_backward(self, dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
        """Return (da, db) as maximum_backward does."""

    def matmul(self, a: ArrayLike, b: ArrayLike) -> Array:
        """Return the products of matrices, a (..., M, K) and b (..., K, N) -> y (..., M, N).

        The axes in front of the matrices, which may be none, broadcast.
        """

    def matmul_backward(self, dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
        """Return (da, db): dy @ b^T and a^T @ dy, summed over matrices that were repeated."""

    def concat(self, xs: Sequence[ArrayLike], axis: int = -1) -> Array:
        """Return a list of arrays joined along an axis: the last, of channels, by default.

        At least one array, of one rank and of one shape but for that axis; a list or tuple of them.
        """

    def concat_backward(
        self, dy: ArrayLike, shapes: Sequence[tuple[int, ...]], axis: int = -1
    ) -> list[Array]:
        """Return the parts of dy that belong to arrays of these shapes, in their order."""

    def dropout(self, x: ArrayLike, mask: ArrayLike, *, rate: float) -> Array:
        """Return x / (1 - rate) where the mask is True, else 0 (inverted dropout).

        x any shape, 0 <= rate < 1. mask boolean and alike, or with axes of length 1, along which it
        is repeated: (N, 1, 1, C) drops whole channels, (N, 1, 1, 1) whole samples. The caller draws
        the mask.
        """

    def dropout_backward(self, dy: ArrayLike, mask: ArrayLike, *, rate: float) -> Array:
        """Return dy / (1 - rate) where the mask is True, else 0."""


def _linear(x: Shape, w: Shape, b: Shape | None = None, **options: Any) -> Sequence[Shape]:
    if len(x) != 2 or x[1] != w[0] or b not in (None, w[1:]):
        raise ValueError(f"linear: expected x of shape (N, {w[0]}), got {x}, {b}")
    return ((x[0], w[1]),)


def _concat(xs: Sequence[Shape], axis: int = -1) -> Sequence[Shape]:
    first, at = xs[0], axis % len(xs[0])
    return ((*first[:at], sum(x[at] for x in xs), *first[at + 1 :]),)


ROWS = {
    "linear": Op(("y",), ("x", "w", "b"), _linear),
    "add": Op(("y",), ("a", "b"), broadcast),
    "multiply": Op(("y",), ("a", "b"), broadcast),
    **dict.fromkeys(
        ("subtract", "divide", "power", "maximum", "minimum"), Op(("y",), ("a", "b"), broadcast)
    ),
    "matmul": Op(("y",), ("a", "b"), lambda a, b: (multiplied(a, b, "matmul: a, b"),)),
    "concat": Op(("y",), ("xs",), _concat),
    "dropout": Op(("y",), ("x",), same),
}
