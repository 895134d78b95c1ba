"""Activations: of arrays of any rank. A NaN stays a NaN."""

from __future__ import annotations

from typing import Protocol

from numpy.typing import ArrayLike

from fastcnn._contract.op import Op, same
from fastcnn._types import Array

__all__ = ["ROWS", "Activations"]


class Activations(Protocol):
    """See `fastcnn.backend.Backend`, whose rules hold for them."""

    def relu(self, x: ArrayLike) -> Array:
        """Return max(x, 0)."""

    def relu_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        """Return dy where y > 0 or y is NaN, else 0; y is what relu returned."""

    def leaky_relu(self, x: ArrayLike, *, negative_slope: float = 0.01) -> Array:
        """Return x where x > 0, else negative_slope * x."""

    def leaky_relu_backward(
        self, dy: ArrayLike, x: ArrayLike, *, negative_slope: float = 0.01
    ) -> Array:
        """Return dy where x > 0, else negative_slope * dy."""

    def elu(self, x: ArrayLike, *, alpha: float = 1.0) -> Array:
        """Return x where x > 0, else alpha * (exp(x) - 1)."""

    def elu_backward(self, dy: ArrayLike, x: ArrayLike, *, alpha: float = 1.0) -> Array:
        """Return dy where x > 0, else dy * alpha * exp(x)."""

    def gelu(self, x: ArrayLike) -> Array:
        """Return x * Phi(x), Phi the normal distribution function (by erf, not its tanh fit)."""

    def gelu_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        """Return dy * (Phi(x) + x * phi(x)), phi the normal density."""

    def silu(self, x: ArrayLike) -> Array:
        """Return x * sigmoid(x)."""

    def silu_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        """Return dy * s * (1 + x * (1 - s)), s = sigmoid(x)."""

    def hard_swish(self, x: ArrayLike) -> Array:
        """Return x * min(max(x + 3, 0), 6) / 6 (Howard et al., 2019)."""

    def hard_swish_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        """Return 0 where x <= -3, dy where x >= 3, else dy * (2 * x + 3) / 6."""

    def sigmoid(self, x: ArrayLike) -> Array:
        """Return 1 / (1 + exp(-x)), without overflow for any x."""

    def sigmoid_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        """Return dy * y * (1 - y); y is what sigmoid returned."""

    def tanh(self, x: ArrayLike) -> Array:
        """Return the hyperbolic tangent of x."""

    def tanh_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        """Return dy * (1 - y * y); y is what tanh returned."""

    def softmax(self, x: ArrayLike) -> Array:
        """Return exp(x) / sum(exp(x)) over the last axis, stable for any finite x."""

    def softmax_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        """Return y * (dy - sum(dy * y)) over the last axis; y is what softmax returned."""

    def log_softmax(self, x: ArrayLike) -> Array:
        """Return x - log(sum(exp(x))) over the last axis, stable for any finite x."""

    def log_softmax_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        """Return dy - exp(y) * sum(dy) over the last axis; y is what log_softmax returned."""


ROWS = dict.fromkeys(
    (
        "relu",
        "leaky_relu",
        "elu",
        "gelu",
        "silu",
        "hard_swish",
        "sigmoid",
        "tanh",
        "softmax",
        "log_softmax",
    ),
    Op(("y",), ("x",), same),
)
