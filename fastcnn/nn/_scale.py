"""A learned factor for each channel."""

from __future__ import annotations

import numpy as np

from fastcnn._options import number
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._variable import Parameter


class LayerScale(Module):
    """y = gamma * x, a learned factor for each channel (Touvron et al., 2021).

    As the last layer of a residual branch: deep networks learn better where branches begin as next
    to nothing. initial: what each factor begins as.

    Parameters: gamma (C,).
    """

    gamma: Parameter

    def __init__(self, initial: float = 1e-6, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.initial = number(initial, "LayerScale: initial")

    def declare(self, input_shape: Shape) -> Shape:
        shape = input_shape[-1:]
        self.gamma = self.declare_parameter(
            "gamma", shape, lambda rng: np.full(shape, self.initial)
        )
        return input_shape

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
        gamma = self.gamma

        def backward(dy: Array) -> Array | None:
            dx, dgamma = backend.multiply_backward(dy, x, gamma._data)
            gamma.grad = None if self._frozen else dgamma
            return dx

        return backend.multiply(x, gamma._data), backward
