"""The fully connected layer, and Flatten, which leads to it."""

from __future__ import annotations

import math

import numpy as np

from fastcnn._options import choice, flag, integer
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._activation import activation_named
from fastcnn.nn._initializers import INITIALIZERS
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._variable import Parameter


class Dense(Module):
    """y = x @ weight + bias: (C,) -> (units,).

    units: number of outputs. activation: a name such as "relu", or None. in_features: checked
    against the input where given. initializer: "glorot_uniform" or "he_normal"; biases start at
    zero.

    Parameters: weight (C, units), bias (units,).
    """

    weight: Parameter
    bias: Parameter | None
    _hidden = Module._hidden | {"_activation"}
    _hint = "; the number of inputs is found by build, the activation is given by name"

    def __init__(
        self,
        units: int,
        *,
        use_bias: bool = True,
        activation: str | None = None,
        in_features: int | None = None,
        initializer: str = "glorot_uniform",
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.units = integer(units, "Dense: units")
        self.use_bias = flag(use_bias, "Dense: use_bias")
        self._activation = activation_named(activation, "Dense: activation")
        self.activation = activation
        self.in_features = (
            None if in_features is None else integer(in_features, "Dense: in_features")
        )
        self.initializer = choice(initializer, "Dense: initializer", INITIALIZERS)
        self.bias = None

    def declare(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise ValueError(
                f"Dense: expected an input of shape (C,), got {input_shape}; put nn.Flatten() "
                "before it"
            )
        (features,), units = input_shape, self.units
        if self.in_features not in (None, features):
            raise ValueError(
                f"Dense: in_features: expected {self.in_features} features, got an input of "
                f"shape {input_shape}"
            )
        draw = INITIALIZERS[self.initializer]
        self.weight = self.declare_parameter(
            "weight",
            (features, units),
            lambda rng: draw(rng, (features, units), features, units),
        )
        if self.use_bias:
            self.bias = self.declare_parameter("bias", (units,), lambda rng: np.zeros(units))
        return (units,)

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        self._require_built()
        weight, bias = self.weight, self.bias
        y = backend.linear(x, weight._data, None if bias is None else bias._data)

        def backward(dy: Array) -> Array | None:
            dx, weight.grad, db = backend.linear_backward(
                dy,
                x,
                weight._data,
                input_gradient=input_gradient,
                weight_gradient=not self._frozen,
            )
            if bias is not None:
                bias.grad = db
            return dx

        if self._activation is None:
            return y, backward
        y, activation_backward = self._activation.forward(y, backend, training=training)
        return y, lambda dy: backward(activation_backward(dy))


class Flatten(Module):
    """All values of an input in one row: (H, W, C) -> (H * W * C,), channels running fastest."""

    def declare(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        shape = x.shape
        return x.reshape(len(x), math.prod(shape[1:])), lambda dy: dy.reshape(shape)
