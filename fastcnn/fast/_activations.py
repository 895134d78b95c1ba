"""Activations on the compiled kernels: elementwise, arrays of any rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, same_shape
from fastcnn._limits import limits
from fastcnn._options import flag, number
from fastcnn._types import Array
from fastcnn.fast._memory_bound import MemoryBound

__all__ = ["Activations", "Pair", "pair_of"]

Pair = tuple[float, float]

# The options of activations, checked, as the pair of numbers that loops of their kernels take.
_PAIRS: dict[str, Callable[..., Pair]] = {
    "leaky_relu": lambda op, negative_slope: (number(negative_slope, f"{op}: negative_slope"), 0.0),
    "clip": lambda op, low, high: limits(low, high, op),
    "hard_sigmoid": lambda op, alpha, beta: (
        number(alpha, f"{op}: alpha"),
        number(beta, f"{op}: beta"),
    ),
    "elu": lambda op, alpha: (number(alpha, f"{op}: alpha"), 0.0),
    "celu": lambda op, alpha: (number(alpha, f"{op}: alpha", 0.0, open_low=True), 0.0),
    "gelu": lambda op, approximate: (float(flag(approximate, f"{op}: approximate")), 0.0),
}


def pair_of(op: str, options: dict[str, Any]) -> Pair:
    """Return what the loops of an activation or of its backward op take of its options.

    TypeError or ValueError for an option that is none.
    """
    make = _PAIRS.get(op.removesuffix("_backward"))
    return (0.0, 0.0) if make is None else make(op, **options)


class Activations(MemoryBound):
    """The activations and their gradients."""

    def _elementwise(self, op: str, x: ArrayLike, **options: Any) -> Array:
        pair = pair_of(op, options)
        (x,) = float_arrays(op, x=x)
        y = self._empty(x.shape, x.dtype)
        if y.size:
            kernel = self._load(x).activations.forward
            self._run(kernel, op, y.reshape(-1), x.reshape(-1), pair, self._team(x))
        return y

    def _elementwise_backward(
        self, op: str, dy: ArrayLike, name: str, saved: ArrayLike, **options: Any
    ) -> Array:
        """Run a backward kernel; `saved` is the one array that forward took or gave, x or y."""
        pair = pair_of(op, options)
        dy, array = float_arrays(op, dy=dy, **{name: saved})
        same_shape(dy, f"{op}: dy", name, array)
        dx = self._empty(dy.shape, dy.dtype)
        if dx.size:
            kernel, forward = self._load(dy).activations.backward, op.removesuffix("_backward")
            flat = dx.reshape(-1), dy.reshape(-1), array.reshape(-1)
            self._run(kernel, forward, *flat, pair, self._team(dy))
        return dx

    def relu(self, x: ArrayLike) -> Array:
        return self._elementwise("relu", x)

    def relu_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        return self._elementwise_backward("relu_backward", dy, "y", y)

    def leaky_relu(self, x: ArrayLike, *, negative_slope: float = 0.01) -> Array:
        return self._elementwise("leaky_relu", x, negative_slope=negative_slope)

    def leaky_relu_backward(
        self, dy: ArrayLike, x: ArrayLike, *, negative_slope: float = 0.01
    ) -> Array:
        op = "leaky_relu_backward"
        return self._elementwise_backward(op, dy, "x", x, negative_slope=negative_slope)

    def clip(self, x: ArrayLike, *, low: float | None = None, high: float | None = None) -> Array:
        return self._elementwise("clip", x, low=low, high=high)

    def clip_backward(
        self, dy: ArrayLike, y: ArrayLike, *, low: float | None = None, high: float | None = None
    ) -> Array:
        return self._elementwise_backward("clip_backward", dy, "y", y, low=low, high=high)

    def hard_sigmoid(self, x: ArrayLike, *, alpha: float = 1 / 6, beta: float = 0.5) -> Array:
        return self._elementwise("hard_sigmoid", x, alpha=alpha, beta=beta)

    def hard_sigmoid_backward(
        self, dy: ArrayLike, y: ArrayLike, *, alpha: float = 1 / 6, beta: float = 0.5
    ) -> Array:
        op = "hard_sigmoid_backward"
        return self._elementwise_backward(op, dy, "y", y, alpha=alpha, beta=beta)

    def hard_swish(self, x: ArrayLike) -> Array:
        return self._elementwise("hard_swish", x)

    def hard_swish_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        return self._elementwise_backward("hard_swish_backward", dy, "x", x)

    def elu(self, x: ArrayLike, *, alpha: float = 1.0) -> Array:
        return self._elementwise("elu", x, alpha=alpha)

    def elu_backward(self, dy: ArrayLike, x: ArrayLike, *, alpha: float = 1.0) -> Array:
        return self._elementwise_backward("elu_backward", dy, "x", x, alpha=alpha)

    def selu(self, x: ArrayLike) -> Array:
        return self._elementwise("selu", x)

    def selu_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        return self._elementwise_backward("selu_backward", dy, "x", x)

    def celu(self, x: ArrayLike, *, alpha: float = 1.0) -> Array:
        return self._elementwise("celu", x, alpha=alpha)

    def celu_backward(self, dy: ArrayLike, x: ArrayLike, *, alpha: float = 1.0) -> Array:
        return self._elementwise_backward("celu_backward", dy, "x", x, alpha=alpha)

    def gelu(self, x: ArrayLike, *, approximate: bool = False) -> Array:
        return self._elementwise("gelu", x, approximate=approximate)

    def gelu_backward(self, dy: ArrayLike, x: ArrayLike, *, approximate: bool = False) -> Array:
        return self._elementwise_backward("gelu_backward", dy, "x", x, approximate=approximate)

    def silu(self, x: ArrayLike) -> Array:
        return self._elementwise("silu", x)

    def silu_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        return self._elementwise_backward("silu_backward", dy, "x", x)

    def mish(self, x: ArrayLike) -> Array:
        return self._elementwise("mish", x)

    def mish_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        return self._elementwise_backward("mish_backward", dy, "x", x)

    def softplus(self, x: ArrayLike) -> Array:
        return self._elementwise("softplus", x)

    def softplus_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        return self._elementwise_backward("softplus_backward", dy, "x", x)

    def sigmoid(self, x: ArrayLike) -> Array:
        return self._elementwise("sigmoid", x)

    def sigmoid_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        return self._elementwise_backward("sigmoid_backward", dy, "y", y)

    def tanh(self, x: ArrayLike) -> Array:
        return self._elementwise("tanh", x)

    def tanh_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        return self._elementwise_backward("tanh_backward", dy, "y", y)
