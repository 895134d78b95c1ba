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

    def prelu(self, x: ArrayLike, slope: ArrayLike) -> Array:
        """Return x where x > 0, else slope * x, shaped like x (He et al., 2015).

        slope: a shape that broadcasts to that of x: (C,), one a channel, (1,), or any other.
        """

    def prelu_backward(self, dy: ArrayLike, x: ArrayLike, slope: ArrayLike) -> tuple[Array, Array]:
        """Return (dx, dslope): dy where x > 0, else slope * dy; and dy * x, but 0 where x > 0.

        dslope is summed over the axes along which slope was repeated.
        """

    def clip(self, x: ArrayLike, *, low: float | None = None, high: float | None = None) -> Array:
        """Return min(max(x, low), high); None or an infinite bound is none, low <= high.

        Bounds are rounded to the dtype of x. ReLU6 is low=0, high=6.
        """

    def clip_backward(
        self, dy: ArrayLike, y: ArrayLike, *, low: float | None = None, high: float | None = None
    ) -> Array:
        """Return 0 where y <= low or y >= high, else dy; y is what clip returned."""

    def hard_sigmoid(self, x: ArrayLike, *, alpha: float = 1 / 6, beta: float = 0.5) -> Array:
        """Return min(max(alpha * x + beta, 0), 1) (Courbariaux et al., 2015)."""

    def hard_sigmoid_backward(
        self, dy: ArrayLike, y: ArrayLike, *, alpha: float = 1 / 6, beta: float = 0.5
    ) -> Array:
        """Return alpha * dy where 0 < y < 1, else 0; y is what hard_sigmoid returned."""

    def hard_swish(self, x: ArrayLike) -> Array:
        """Return x * min(max(x + 3, 0), 6) / 6 (Howard et al., 2019)."""

    def hard_swish_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        """Return 0 where x <= -3, dy where x >= 3, else dy * (2 * x + 3) / 6."""

    def elu(self, x: ArrayLike, *, alpha: float = 1.0) -> Array:
        """Return x where x > 0, else alpha * (exp(x) - 1)."""

    def elu_backward(self, dy: ArrayLike, x: ArrayLike, *, alpha: float = 1.0) -> Array:
        """Return dy where x > 0, else dy * alpha * exp(x)."""

    def selu(self, x: ArrayLike) -> Array:
        """Return scale * x where x > 0, else scale * alpha * (exp(x) - 1).

        scale = 1.0507009873554805, alpha = 1.6732632423543773 (Klambauer et al., 2017).
        """

    def selu_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        """Return dy * scale where x > 0, else dy * scale * alpha * exp(x)."""

    def celu(self, x: ArrayLike, *, alpha: float = 1.0) -> Array:
        """Return x where x > 0, else alpha * (exp(x / alpha) - 1); alpha > 0 (Barron, 2017)."""

    def celu_backward(self, dy: ArrayLike, x: ArrayLike, *, alpha: float = 1.0) -> Array:
        """Return dy where x > 0, else dy * exp(x / alpha)."""

    def gelu(self, x: ArrayLike, *, approximate: bool = False) -> Array:
        """Return x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel, 2016).

        By erf, or, if approximate, Phi(x) = (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2.
        """

    def gelu_backward(self, dy: ArrayLike, x: ArrayLike, *, approximate: bool = False) -> Array:
        """Return dy * (Phi(x) + x * phi(x)), phi the derivative of Phi: the normal density."""

    def silu(self, x: ArrayLike) -> Array:
        """Return x * sigmoid(x)."""

    def silu_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        """Return dy * s * (1 + x * (1 - s)), s = sigmoid(x)."""

    def mish(self, x: ArrayLike) -> Array:
        """Return x * tanh(softplus(x)) (Misra, 2019)."""

    def mish_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        """Return dy * (t + x * (1 - t * t) * sigmoid(x)), t = tanh(softplus(x))."""

    def softplus(self, x: ArrayLike) -> Array:
        """Return log(1 + exp(x)), without overflow for any x."""

    def softplus_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        """Return dy * sigmoid(x)."""

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


ROWS = {
    **dict.fromkeys(
        (
            "relu",
            "leaky_relu",
            "clip",
            "hard_sigmoid",
            "hard_swish",
            "elu",
            "selu",
            "celu",
            "gelu",
            "silu",
            "mish",
            "softplus",
            "sigmoid",
            "tanh",
            "softmax",
            "log_softmax",
        ),
        Op(("y",), ("x",), same),
    ),
    "prelu": Op(("y",), ("x", "slope"), same),
}
