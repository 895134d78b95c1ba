"""Activations on the compiled kernels: elementwise, arrays of any rank."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, same_shape
from fastcnn._options import number
from fastcnn._types import Array
from fastcnn.fast._memory_bound import MemoryBound

__all__ = ["Activations"]


class Activations(MemoryBound):
    """The activations and their gradients."""

    def _elementwise(self, op: str, x: ArrayLike, parameter: float = 0.0) -> Array:
        (x,) = float_arrays(op, x=x)
        y = self._empty(x.shape, x.dtype)
        if y.size:
            kernel = self._load(x).activations.forward
            self._run(kernel, op, y.reshape(-1), x.reshape(-1), parameter, self._team(x))
        return y

    def _elementwise_backward(
        self, op: str, dy: ArrayLike, parameter: float = 0.0, **saved: ArrayLike
    ) -> Array:
        """Run a backward kernel; `saved` is the one array that forward took or gave."""
        ((name, _),) = saved.items()
        dy, array = float_arrays(op, dy=dy, **saved)
        same_shape(dy, f"{op}: dy", name, array)
        dx = self._empty(dy.shape, dy.dtype)
        if dx.size:
            kernel, forward = self._load(dy).activations.backward, op.removesuffix("_backward")
            flat = dx.reshape(-1), dy.reshape(-1), array.reshape(-1)
            self._run(kernel, forward, *flat, parameter, self._team(dy))
        return dx

    def relu(self, x: ArrayLike) -> Array:
        return self._elementwise("relu", x)

    def relu_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        return self._elementwise_backward("relu_backward", dy, y=y)

    def leaky_relu(self, x: ArrayLike, *, negative_slope: float = 0.01) -> Array:
        slope = number(negative_slope, "leaky_relu: negative_slope")
        return self._elementwise("leaky_relu", x, slope)

    def leaky_relu_backward(
        self, dy: ArrayLike, x: ArrayLike, *, negative_slope: float = 0.01
    ) -> Array:
        slope = number(negative_slope, "leaky_relu_backward: negative_slope")
        return self._elementwise_backward("leaky_relu_backward", dy, slope, x=x)

    def elu(self, x: ArrayLike, *, alpha: float = 1.0) -> Array:
        return self._elementwise("elu", x, number(alpha, "elu: alpha"))

    def elu_backward(self, dy: ArrayLike, x: ArrayLike, *, alpha: float = 1.0) -> Array:
        return self._elementwise_backward(
            "elu_backward", dy, number(alpha, "elu_backward: alpha"), x=x
        )

    def gelu(self, x: ArrayLike) -> Array:
        return self._elementwise("gelu", x)

    def gelu_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        return self._elementwise_backward("gelu_backward", dy, x=x)

    def silu(self, x: ArrayLike) -> Array:
        return self._elementwise("silu", x)

    def silu_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        return self._elementwise_backward("silu_backward", dy, x=x)

    def hard_swish(self, x: ArrayLike) -> Array:
        return self._elementwise("hard_swish", x)

    def hard_swish_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        return self._elementwise_backward("hard_swish_backward", dy, x=x)

    def sigmoid(self, x: ArrayLike) -> Array:
        return self._elementwise("sigmoid", x)

    def sigmoid_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        return self._elementwise_backward("sigmoid_backward", dy, y=y)

    def tanh(self, x: ArrayLike) -> Array:
        return self._elementwise("tanh", x)

    def tanh_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        return self._elementwise_backward("tanh_backward", dy, y=y)
