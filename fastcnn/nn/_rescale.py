"""Inputs brought to another scale: by numbers that are known, or by statistics of the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from fastcnn._options import number
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._variable import Buffer

Numbers = float | Sequence[float]  # one for all channels, or one each

# Keras divides by at least 1e-7; the square of it beside the variance is the same for a variance of
# zero, and lost beside others.
_EPSILON = 1e-14


def _numbers(value: Any, where: str, low: float = -math.inf) -> Numbers:
    """Return a number as a float, or several as a tuple of them."""
    check = partial(number, where=where, low=low)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, (tuple, list)):
        return check(value)
    if not value:
        raise ValueError(f"{where}: expected a number or one for each channel, got none")
    return tuple(check(each) for each in value)


def _fitting(value: Numbers, input_shape: Shape, where: str) -> None:
    """Refuse numbers that are not one for each channel of the input."""
    if isinstance(value, tuple) and len(value) != input_shape[-1]:
        raise ValueError(
            f"{where}: expected a number for each of {input_shape[-1]} channels, got {len(value)}"
        )


class Rescaling(Module):
    """y = scale * x + offset: the shape stays, nothing is trained.

    scale, offset: a number, or one for each channel. Rescaling(1 / 127.5, -1.0) takes pixels from 0
    to 255 to -1 to 1.

    Buffers: scale, and offset where it is not 0, of shape (1, ..., 1, C), or 1 in the place of C.
    """

    _scale: Buffer
    _offset: Buffer | None

    def __init__(self, scale: Numbers, offset: Numbers = 0.0, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.scale = _numbers(scale, "Rescaling: scale")
        self.offset = _numbers(offset, "Rescaling: offset")
        self._offset = None

    def declare(self, input_shape: Shape) -> Shape:
        self._scale = self._declare("scale", self.scale, input_shape)
        if self.offset != 0.0:
            self._offset = self._declare("offset", self.offset, input_shape)
        return input_shape

    def _declare(self, name: str, value: Numbers, input_shape: Shape) -> Buffer:
        _fitting(value, input_shape, f"Rescaling: {name}")
        # The rank of a batch, so that they meet it in any.
        shape = (*(1,) * len(input_shape), np.size(value))
        return self.declare_buffer(name, shape, lambda rng: np.reshape(value, shape))

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
        scale = self._scale._data
        y = backend.multiply(x, scale)
        if self._offset is not None:
            y = backend.add(y, self._offset._data)
        return y, lambda dy: backend.multiply(dy, scale)


class Normalization(Module):
    """y = (x - mean) / sqrt(variance), of statistics of the data: (C,) and (H, W, C) inputs.

    mean, variance: numbers, or one for each channel, as of all pixels of the training images. Where
    sqrt(variance) is less than about 1e-7, that is what is divided by. Nothing is trained.

    Buffers: mean (C,), variance (C,).
    """

    _mean: Buffer
    _variance: Buffer

    def __init__(
        self, mean: Numbers = 0.0, variance: Numbers = 1.0, *, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        self.mean = _numbers(mean, "Normalization: mean")
        self.variance = _numbers(variance, "Normalization: variance", 0.0)
        self._arrays: dict[Any, tuple[Array, Array]] = {}

    def declare(self, input_shape: Shape) -> Shape:
        if len(input_shape) not in (1, 3):
            raise ValueError(
                f"Normalization: expected an input of shape (C,) or (H, W, C), got {input_shape}"
            )
        _fitting(self.mean, input_shape, "Normalization: mean")
        _fitting(self.variance, input_shape, "Normalization: variance")
        shape = input_shape[-1:]
        mean, variance = self.mean, self.variance
        self._mean = self.declare_buffer("mean", shape, lambda rng: np.full(shape, mean))
        self._variance = self.declare_buffer(
            "variance", shape, lambda rng: np.full(shape, variance)
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
        # Batch normalization in inference with a scale of one, which folds into what is behind it.
        gamma, beta = self._plain(x)
        mean, variance = self._mean._data, self._variance._data
        y = backend.batch_norm_inference(x, gamma, beta, mean, variance, epsilon=_EPSILON)

        def backward(dy: Array) -> Array | None:
            dx, *_ = backend.batch_norm_inference_backward(
                dy, x, gamma, mean, variance, epsilon=_EPSILON
            )
            return dx

        return y, backward

    def _plain(self, x: Array) -> tuple[Array, Array]:
        """Return ones and zeros, a number a channel, the same arrays at each call."""
        key = x.shape[-1], np.dtype(x.dtype).str
        if key not in self._arrays:
            self._arrays[key] = np.ones(key[0], x.dtype), np.zeros(key[0], x.dtype)
        return self._arrays[key]
