"""Functions of single numbers that are no activations: of arrays of any rank. A NaN stays a NaN."""

from __future__ import annotations

from typing import Protocol

from numpy.typing import ArrayLike

from fastcnn._contract.op import Op, same
from fastcnn._types import Array

__all__ = ["ROWS", "Functions"]


class Functions(Protocol):
    """See `fastcnn.backend.Backend`, whose rules hold for them."""

    # Where a function has no value or no bound, the result is NaN or infinite, as IEEE 754 has it.
    def exp(self, x: ArrayLike) -> Array:
        """Return e**x."""

    def exp_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        """Return dy * y; y is what exp returned."""

    def log(self, x: ArrayLike) -> Array:
        """Return the natural logarithm of x."""

    def log_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        """Return dy / x."""

    def sqrt(self, x: ArrayLike) -> Array:
        """Return the square root of x."""

    def sqrt_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        """Return dy / (2 * y); y is what sqrt returned."""

    def abs(self, x: ArrayLike) -> Array:
        """Return the absolute value of x."""

    def abs_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        """Return dy where x > 0, -dy where x < 0, 0 where x is 0."""

    def negative(self, x: ArrayLike) -> Array:
        """Return -x."""

    def negative_backward(self, dy: ArrayLike) -> Array:
        """Return -dy."""

    def reciprocal(self, x: ArrayLike) -> Array:
        """Return 1 / x."""

    def reciprocal_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        """Return -dy * y * y; y is what reciprocal returned."""

    def erf(self, x: ArrayLike) -> Array:
        """Return the error function of x, 2 / sqrt(pi) times the integral of exp(-t*t) to x."""

    def erf_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        """Return dy * 2 / sqrt(pi) * exp(-x * x)."""


ROWS = dict.fromkeys(
    ("exp", "log", "sqrt", "abs", "negative", "reciprocal", "erf"), Op(("y",), ("x",), same)
)
