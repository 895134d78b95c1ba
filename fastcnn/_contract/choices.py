"""What picks one number or another, and what rounds: conditions let no gradient through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._contract.op import Op, broadcast, same
from fastcnn._types import Array, Shape

__all__ = ["ROWS", "Choices"]


class Choices(Protocol):
    """See `fastcnn.backend.Backend`, whose rules hold for them."""

    # Shapes broadcast as in NumPy. A comparison gives 1 where it holds and 0 where it does not, as
    # it never does for NaN.
    def equal(self, a: ArrayLike, b: ArrayLike) -> Array:
        """Return 1 where a == b, else 0."""

    def less(self, a: ArrayLike, b: ArrayLike) -> Array:
        """Return 1 where a < b, else 0."""

    def where(self, condition: ArrayLike, a: ArrayLike, b: ArrayLike) -> Array:
        """Return a where the condition is not 0, else b."""

    def where_backward(
        self,
        dy: ArrayLike,
        condition: ArrayLike,
        a_shape: tuple[int, ...],
        b_shape: tuple[int, ...],
    ) -> tuple[Array, Array]:
        """Return (da, db): dy where it came from there, else 0, summed as in add."""

    # Of arrays of any rank. A NaN stays a NaN.
    def floor(self, x: ArrayLike) -> Array:
        """Return the largest integer that is not above x."""

    def ceil(self, x: ArrayLike) -> Array:
        """Return the smallest integer that is not below x."""

    def round(self, x: ArrayLike) -> Array:
        """Return the nearest integer, of two as near the even one."""

    def sign(self, x: ArrayLike) -> Array:
        """Return 1 where x > 0, -1 where x < 0, 0 where x is 0."""


def _where(condition: Shape, a: Shape, b: Shape, **options: Any) -> Sequence[Shape]:
    return (np.broadcast_shapes(condition, a, b),)


ROWS = {
    **dict.fromkeys(("equal", "less"), Op(("y",), (), broadcast)),
    "where": Op(("y",), ("a", "b"), _where),
    **dict.fromkeys(("floor", "ceil", "round", "sign"), Op(("y",), (), same)),
}
