"""Losses of numbers: how far a prediction is from its target."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._labels import numbers
from fastcnn._loss import Loss, LossBackward, bytes_or_counts
from fastcnn._settings import Settings
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend

__all__ = ["MeanSquaredError"]


class MeanSquaredError(Loss, Settings):
    """The mean of (prediction - target)**2 over all elements; targets have the output's shape.

    Targets of dtype uint8 are images, divided by 255 as x is, so that `fit(x, x)` trains an
    autoencoder; of a model with flat outputs they are refused. All other numbers are taken as they
    are. Weights of samples make it a weighted
    mean over samples.
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
