"""Recurrent layers, on sequences (T, C)."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from fastcnn._options import choice, flag, integer
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._initializers import INITIALIZERS
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._variable import Parameter

_NO_GRADIENT = "LSTM: expected inference, for it has no gradient, got training"


class LSTM(Module):
    """A long short-term memory, for inference: (T, C) -> (T, units), or (units,).

    units: number of outputs a step. bidirectional: a second one goes from the last step to the
    first, with weights of its own, and its outputs stand behind those of the other: (T, 2 * units).
    return_sequences: the outputs of all steps; else those that each direction gives last. use_bias,
    initializer: as in Dense. It has no gradient: training is refused.

    Parameters: weight (C, 4 * units), recurrent_weight (units, 4 * units), bias (4 * units,), in
    four blocks, of the input gate, the forget gate, the cell and the output gate, as in Keras and
    PyTorch; of the other direction reverse_weight, reverse_recurrent_weight, reverse_bias.
    """

    weight: Parameter
    recurrent_weight: Parameter
    bias: Parameter | None
    reverse_weight: Parameter | None
    reverse_recurrent_weight: Parameter | None
    reverse_bias: Parameter | None
    _hint = "; the number of inputs is found by build"

    def __init__(
        self,
        units: int,
        *,
        bidirectional: bool = False,
        return_sequences: bool = True,
        use_bias: bool = True,
        initializer: str = "glorot_uniform",
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.units = integer(units, "LSTM: units")
        self.bidirectional = flag(bidirectional, "LSTM: bidirectional")
        self.return_sequences = flag(return_sequences, "LSTM: return_sequences")
        self.use_bias = flag(use_bias, "LSTM: use_bias")
        self.initializer = choice(initializer, "LSTM: initializer", INITIALIZERS)
        self.bias = self.reverse_bias = None
        self.reverse_weight = self.reverse_recurrent_weight = None

    def declare(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2:
            raise ValueError(f"LSTM: expected an input of shape (T, C), got {input_shape}")
        steps, features = input_shape
        self.weight, self.recurrent_weight, self.bias = self._declare("", features)
        if self.bidirectional:
            made = self._declare("reverse_", features)
            self.reverse_weight, self.reverse_recurrent_weight, self.reverse_bias = made
        width = self.units * (2 if self.bidirectional else 1)
        return (steps, width) if self.return_sequences else (width,)

    def _declare(self, prefix: str, features: int) -> tuple[Parameter, Parameter, Parameter | None]:
        """Declare the parameters of one direction."""
        draw, width = INITIALIZERS[self.initializer], 4 * self.units

        def matrix(name: str, rows: int) -> Parameter:
            shape = (rows, width)
            return self.declare_parameter(name, shape, lambda rng: draw(rng, shape, rows, width))

        w, r = matrix(f"{prefix}weight", features), matrix(f"{prefix}recurrent_weight", self.units)
        if not self.use_bias:
            return w, r, None
        return w, r, self.declare_parameter(f"{prefix}bias", (width,), lambda rng: np.zeros(width))

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
        if training:
            raise RuntimeError(_NO_GRADIENT)
        given: list[Any] = [(self.weight, self.recurrent_weight, self.bias)]
        if self.bidirectional:
            given.append((self.reverse_weight, self.reverse_recurrent_weight, self.reverse_bias))
        found = []
        for at, (w, r, b) in enumerate(given):
            bias = None if b is None else b._data
            y, h, _ = backend.lstm(x, w._data, r._data, bias, reverse=at == 1)
            found.append(y if self.return_sequences else h)
        return backend.concat(found) if self.bidirectional else found[0], _refuse


def _refuse(dy: Array) -> NoReturn:
    raise RuntimeError(_NO_GRADIENT)
