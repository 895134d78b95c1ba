"""Dropout."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np

from fastcnn._options import number
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._run import Tracing


class Dropout(Module):
    """In training zero each value with probability `rate` and scale the rest by 1 / (1 - rate).

    In inference the input passes as it is (Srivastava et al., 2014, in its inverted form).
    rate: 0 <= rate < 1. The mask comes from the generator handed to `forward`, so the same seed
    means the same masks on every backend and in both dtypes.
    """

    _settings: ClassVar = {
        "rate": partial(number, where="Dropout: rate", low=0.0, high=1.0, open_high=True)
    }

    def __init__(self, rate: float, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.rate = rate

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
    ) -> tuple[Array, Backward]:
        if not training or self.rate == 0.0:
            return x, lambda dy: dy
        rate = self.rate
        if isinstance(backend, Tracing):
            mask = backend.mask(x.shape, rate)
        else:
            mask = require_rng(rng).random(x.shape, dtype=np.float32) >= rate
        return (
            backend.dropout(x, mask, rate=rate),
            lambda dy: backend.dropout_backward(dy, mask, rate=rate),
        )


def require_rng(rng: np.random.Generator | None) -> np.random.Generator:
    """Return the generator that masks are drawn from; ValueError for none."""
    if rng is None:
        raise ValueError("Dropout: rng: expected a numpy Generator in training, got None")
    return rng
