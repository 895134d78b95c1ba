"""Dropout: of values, of whole channels, of whole samples."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np

from fastcnn._options import image_shape, number
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._run import Tracing


def _rate(layer: str) -> dict[str, partial[float]]:
    """Return how the rate of a layer is checked."""
    where = f"{layer}: rate"
    return {"rate": partial(number, where=where, low=0.0, high=1.0, open_high=True)}


class Dropout(Module):
    """In training zero each value with probability `rate` and scale the rest by 1 / (1 - rate).

    In inference the input passes as it is (Srivastava et al., 2014, in its inverted form).
    rate: 0 <= rate < 1. The mask comes from the generator handed to `forward`, so the same seed
    means the same masks on every backend and in both dtypes.
    """

    _settings: ClassVar = _rate("Dropout")

    def __init__(self, rate: float, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.rate = rate

    def declare(self, input_shape: Shape) -> Shape:
        return input_shape

    def _mask_shape(self, shape: Shape) -> Shape:
        """Return the shape of the mask of a batch of this one: along axes of 1 it is repeated."""
        return shape

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
        rate, shape = self.rate, self._mask_shape(x.shape)
        if isinstance(backend, Tracing):
            mask = backend.mask(shape, rate)
        else:
            mask = require_rng(rng).random(shape, dtype=np.float32) >= rate
        return (
            backend.dropout(x, mask, rate=rate),
            lambda dy: backend.dropout_backward(dy, mask, rate=rate),
        )


class SpatialDropout2D(Dropout):
    """Dropout of whole channels of images, (H, W, C) inputs (Tompson et al., 2015).

    In training each channel of a sample is zero with probability `rate`, the others are scaled by
    1 / (1 - rate): pixels of a channel are so like their neighbours that to drop a few drops
    little. In inference the input passes as it is. rate: 0 <= rate < 1.
    """

    _settings: ClassVar = _rate("SpatialDropout2D")

    def declare(self, input_shape: Shape) -> Shape:
        return image_shape(input_shape, "SpatialDropout2D")

    def _mask_shape(self, shape: Shape) -> Shape:
        return shape[0], 1, 1, shape[-1]


class StochasticDepth(Dropout):
    """Dropout of whole samples, as the last layer of a residual branch (Huang et al., 2016).

    In training a sample is zero with probability `rate`, so that the sum behind it passes what was
    skipped, else scaled by 1 / (1 - rate). In inference the input passes as it is.
    rate: 0 <= rate < 1.
    """

    _settings: ClassVar = _rate("StochasticDepth")

    def _mask_shape(self, shape: Shape) -> Shape:
        return (shape[0], *(1,) * (len(shape) - 1))


def require_rng(rng: np.random.Generator | None) -> np.random.Generator:
    """Return the generator that masks are drawn from; ValueError for none."""
    if rng is None:
        raise ValueError("Dropout: rng: expected a numpy Generator in training, got None")
    return rng
