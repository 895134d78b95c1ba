"""Activations: as layers, and as the `activation` argument of convolutions and dense layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import numpy as np

from fastcnn._options import choice, integer, number
from fastcnn._shapes import axis_of
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._module import Module

ArrayBackward = Callable[[Array], Array]


class Activation(Module):
    """A layer that keeps the shape of its input, has no parameters and always gives dx."""

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
    ) -> tuple[Array, ArrayBackward]:
        raise NotImplementedError


class ReLU(Activation):
    """y = max(x, 0)."""

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, ArrayBackward]:
        y = backend.relu(x)
        return y, lambda dy: backend.relu_backward(dy, y)


class LeakyReLU(Activation):
    """y = x where x > 0, else negative_slope * x."""

    _settings: ClassVar = {
        "negative_slope": partial(number, where="LeakyReLU: negative_slope", low=0.0)
    }

    def __init__(self, negative_slope: float = 0.01, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.negative_slope = negative_slope

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, ArrayBackward]:
        slope = self.negative_slope
        y = backend.leaky_relu(x, negative_slope=slope)
        return y, lambda dy: backend.leaky_relu_backward(dy, x, negative_slope=slope)


class ELU(Activation):
    """y = x where x > 0, else alpha * (exp(x) - 1) (Clevert et al., 2016)."""

    _settings: ClassVar = {"alpha": partial(number, where="ELU: alpha", low=0.0)}

    def __init__(self, alpha: float = 1.0, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.alpha = alpha

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, ArrayBackward]:
        y = backend.elu(x, alpha=self.alpha)
        return y, lambda dy: backend.elu_backward(dy, x, alpha=self.alpha)


class GELU(Activation):
    """y = x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel, 2016)."""

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, ArrayBackward]:
        y = backend.gelu(x)
        return y, lambda dy: backend.gelu_backward(dy, x)


class SiLU(Activation):
    """y = x * sigmoid(x)."""

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, ArrayBackward]:
        y = backend.silu(x)
        return y, lambda dy: backend.silu_backward(dy, x)


class HardSwish(Activation):
    """y = x * min(max(x + 3, 0), 6) / 6 (Howard et al., 2019), SiLU in straight pieces."""

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, ArrayBackward]:
        y = backend.hard_swish(x)
        return y, lambda dy: backend.hard_swish_backward(dy, x)


class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x))."""

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, ArrayBackward]:
        y = backend.sigmoid(x)
        return y, lambda dy: backend.sigmoid_backward(dy, y)


class Tanh(Activation):
    """y = tanh(x)."""

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, ArrayBackward]:
        y = backend.tanh(x)
        return y, lambda dy: backend.tanh_backward(dy, y)


class _OverAxis(Activation):
    """What is made of all numbers along an axis: of channels, unless another is given.

    Its ops go over the last axis; another changes places with that one.
    """

    _op: ClassVar[str]

    def __init__(self, axis: int = -1, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.axis = integer(axis, f"{type(self).__name__}: axis", -(2**31))

    def _at(self, rank: int) -> int:
        return axis_of(self.axis, f"{type(self).__name__}: axis", rank)

    def declare(self, input_shape: Shape) -> Shape:
        self._at(len(input_shape))
        return input_shape

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, ArrayBackward]:
        op, last = getattr(backend, self._op), x.ndim - 1

        def op_backward(dy: Array, y: Array) -> Array:
            dx: Array = getattr(backend, f"{self._op}_backward")(dy, y)
            return dx

        at = self._at(last) + 1
        if at == last:
            y = op(x)
            return y, lambda dy: op_backward(dy, y)
        axes = list(range(last + 1))
        axes[at], axes[last] = last, at
        z = op(backend.transpose(x, axes))

        def backward(dy: Array) -> Array:
            dz = op_backward(backend.transpose_backward(dy, axes), z)
            return backend.transpose_backward(dz, axes)

        return backend.transpose(z, axes), backward


class Softmax(_OverAxis):
    """y = exp(x) / sum(exp(x)) over an axis, the last by default.

    axis: of one input, without the batch axis, from 0 on or counted from the end. A classifier
    trained with cross-entropy ends without this layer: the loss takes logits.
    """

    _op = "softmax"


class LogSoftmax(_OverAxis):
    """y = x - log(sum(exp(x))) over an axis, the last by default: the logarithm of Softmax.

    axis: of one input, without the batch axis, from 0 on or counted from the end.
    """

    _op = "log_softmax"


ACTIVATIONS: dict[str, type[Activation]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "gelu": GELU,
    "silu": SiLU,
    "hard_swish": HardSwish,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "softmax": Softmax,
    "log_softmax": LogSoftmax,
}


def activation_named(name: str | None, where: str) -> Activation | None:
    """Return the layer that a name such as "relu" stands for, with its default options."""
    return None if name is None else ACTIVATIONS[choice(name, where, ACTIVATIONS)]()
