"""Losses of numbers: how far a prediction is from its target."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._labels import numbers
from fastcnn._loss import Loss, LossBackward, bytes_or_counts
from fastcnn._options import number
from fastcnn._settings import Checks, Settings
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.losses._call import weighted

__all__ = ["Huber", "MeanAbsoluteError", "MeanSquaredError"]


class _Distance(Loss, Settings):
    """Base of the losses of numbers, whose rule for targets is that of MeanSquaredError."""

    def targets(
        self, y: ArrayLike, count: int, output_shape: Shape, dtype: np.dtype[Any], where: str
    ) -> Array:
        """Return the targets (N, *output_shape): uint8, which batches divide by 255, or floats."""
        target = numbers(y, where)
        if target.shape != (count, *output_shape):
            raise ValueError(
                f"{where}: expected targets of shape {(count, *output_shape)}, got {target.shape}"
            )
        if target.dtype == np.uint8 and len(output_shape) == 1:
            raise bytes_or_counts(where)
        if target.dtype.kind == "f" or target.dtype == np.uint8:
            return target
        return target.astype(dtype)


class MeanSquaredError(_Distance):
    """The mean of (prediction - target)**2 over all elements; targets have the output's shape.

    Targets of dtype uint8 are images, divided by 255 as x is, so that `fit(x, x)` trains an
    autoencoder; of a model with flat outputs they are refused. All other numbers are taken as they
    are. Weights of samples make it a weighted mean over samples.
    """

    def __init__(self) -> None:
        super().__init__()

    def __call__(
        self,
        prediction: Array,
        target: Array,
        backend: Backend,
        sample_weight: Array | None = None,
    ) -> tuple[float, LossBackward]:
        """Return (loss, backward); prediction and target of one shape."""
        if sample_weight is None:
            loss = backend.mean_squared_error(prediction, target)
            return loss, lambda: backend.mean_squared_error_backward(1.0, prediction, target)
        total = sample_weight.sum(dtype=np.float64)
        if not total > 0:
            return 0.0, lambda: np.zeros_like(prediction)
        # The mean of what is scaled is the weighted one.
        scale = (sample_weight * (len(target) / total)).astype(prediction.dtype)
        scale = scale.reshape(-1, *[1] * (prediction.ndim - 1))
        difference = np.sqrt(scale) * (prediction - target)
        loss = backend.mean_squared_error(difference, np.zeros_like(difference))
        return loss, lambda: scale * backend.mean_squared_error_backward(1.0, prediction, target)


class MeanAbsoluteError(_Distance):
    """The mean of |prediction - target| over all elements, also called L1.

    Targets and weights are those of MeanSquaredError. Where the two are equal its gradient is 0.
    """

    def __init__(self) -> None:
        super().__init__()

    def __call__(
        self,
        prediction: Array,
        target: Array,
        backend: Backend,
        sample_weight: Array | None = None,
    ) -> tuple[float, LossBackward]:
        """Return (loss, backward); prediction and target of one shape."""
        return weighted("mean_absolute_error", prediction, target, backend, sample_weight)


class Huber(_Distance):
    """The mean of d**2 / 2 where |d| <= delta, of delta (|d| - delta / 2) beyond it.

    d = prediction - target: squares of small errors, while large ones count as they are. delta is
    above 0. Targets and weights are those of MeanSquaredError. As in Keras and PyTorch.
    """

    _checks: ClassVar[Checks] = {"delta": partial(number, low=0.0, open_low=True)}

    def __init__(self, *, delta: float = 1.0) -> None:
        self.delta = delta

    def __call__(
        self,
        prediction: Array,
        target: Array,
        backend: Backend,
        sample_weight: Array | None = None,
    ) -> tuple[float, LossBackward]:
        """Return (loss, backward); prediction and target of one shape."""
        return weighted("huber", prediction, target, backend, sample_weight, delta=self.delta)
