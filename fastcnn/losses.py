"""Losses: what training makes small.

A loss is called with (prediction, target, backend) and returns (loss, backward), backward()
giving the gradient of the loss with respect to the prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.backend import Array, Backend
from fastcnn.nn._options import Shape, choice, number
from fastcnn.nn._repr import OptionsRepr

__all__ = ["CrossEntropy", "Loss", "MeanSquaredError", "get_loss"]

LossBackward = Callable[[], Array]


class Loss(OptionsRepr):
    """Base of the losses: the mean of a cost over samples, or a weighted mean."""

    def __call__(
        self, prediction: Array, target: Array, backend: Backend
    ) -> tuple[float, LossBackward]:
        """Return (loss, backward) of one batch."""
        raise NotImplementedError

    def targets(
        self, y: ArrayLike, count: int, output_shape: Shape, dtype: np.dtype[Any], where: str
    ) -> Array:
        """Check the targets of `count` samples and return them as the backends take them."""
        raise NotImplementedError

    def weight(self, target: Array) -> float:
        """Return by how much a batch counts when losses of batches are averaged."""
        return float(len(target))

    @property
    def measures_accuracy(self) -> bool:
        """Whether targets are classes, so that accuracy has a meaning."""
        return False


class CrossEntropy(Loss):
    """Cross-entropy of softmax(logits) with integer labels or probabilities.

    label_smoothing: a in t * (1 - a) + a / C, between 0 and 1. class_weights: (C,) non-negative,
    or None; the loss is then divided by the sum of the weights of its samples.
    """

    def __init__(
        self, *, label_smoothing: float = 0.0, class_weights: ArrayLike | None = None
    ) -> None:
        self.label_smoothing = number(label_smoothing, "CrossEntropy: label_smoothing", 0.0, 1.0)
        self.class_weights: Array | None = None
        if class_weights is not None:
            weights = np.array(class_weights, dtype=np.float64)
            if weights.ndim != 1 or not np.all(np.isfinite(weights) & (weights >= 0)):
                raise ValueError(
                    "CrossEntropy: class_weights: expected one finite non-negative number a "
                    f"class, got {class_weights!r:.100}"
                )
            self.class_weights = weights

    def __call__(
        self, prediction: Array, target: Array, backend: Backend
    ) -> tuple[float, LossBackward]:
        """Return (loss, backward); prediction: logits (N, C)."""
        weights = self.class_weights
        if weights is not None:
            weights = weights.astype(prediction.dtype, copy=False)
        loss, gradient = backend.softmax_cross_entropy(
            prediction,
            target,
            label_smoothing=self.label_smoothing,
            class_weights=weights,
            gradient=True,
        )
        return loss, lambda: gradient

    def targets(
        self, y: ArrayLike, count: int, output_shape: Shape, dtype: np.dtype[Any], where: str
    ) -> Array:
        """Return integer labels (N,) as int64, or probabilities (N, C) in the model's dtype."""
        if len(output_shape) != 1:
            raise ValueError(
                f"loss: cross_entropy: expected a model that gives logits (classes,), got one "
                f"that gives {output_shape}; end it with nn.Flatten and nn.Dense, or with "
                "nn.GlobalAvgPool2D"
            )
        (classes,) = output_shape
        if self.class_weights is not None and len(self.class_weights) != classes:
            raise ValueError(
                f"CrossEntropy: class_weights: expected {classes} numbers, one a class, got "
                f"{len(self.class_weights)}"
            )
        labels = np.asarray(y)
        if labels.shape == (count, classes) and labels.dtype.kind in "biuf":
            return _probabilities(labels, dtype, where)
        if labels.dtype.kind not in "iu":
            raise TypeError(
                f"{where}: expected integer labels ({count},) or probabilities "
                f"({count}, {classes}), got {labels.dtype} of shape {labels.shape}"
            )
        if labels.shape != (count,):
            raise ValueError(
                f"{where}: expected labels of shape ({count},), one an image, got {labels.shape}"
            )
        low, high = labels.min(), labels.max()
        if low < 0 or high >= classes:
            raise ValueError(
                f"{where}: expected labels from 0 to {classes - 1} for a model with {classes} "
                f"outputs, got {low if low < 0 else high}"
            )
        return labels.astype(np.int64)

    def weight(self, target: Array) -> float:
        """Return the number of samples, or the sum of their classes' weights."""
        if self.class_weights is None:
            return float(len(target))
        if target.ndim == 1:
            return float(self.class_weights[target].sum())
        return float((target * self.class_weights).sum())

    @property
    def measures_accuracy(self) -> bool:
        """True: targets are classes."""
        return True


class MeanSquaredError(Loss):
    """The mean of (prediction - target)**2 over all elements; targets have the output's shape."""

    def __call__(
        self, prediction: Array, target: Array, backend: Backend
    ) -> tuple[float, LossBackward]:
        """Return (loss, backward); prediction and target of one shape."""
        loss = backend.mean_squared_error(prediction, target)
        return loss, lambda: backend.mean_squared_error_backward(1.0, prediction, target)

    def targets(
        self, y: ArrayLike, count: int, output_shape: Shape, dtype: np.dtype[Any], where: str
    ) -> Array:
        """Return the targets (N, *output_shape) in the model's dtype."""
        target = np.asarray(y)
        if target.dtype.kind not in "biuf":
            raise TypeError(f"{where}: expected real numbers, got {target.dtype}")
        if target.shape != (count, *output_shape):
            raise ValueError(
                f"{where}: expected targets of shape {(count, *output_shape)}, got {target.shape}"
            )
        return target.astype(dtype, copy=False)


def _probabilities(labels: Array, dtype: np.dtype[Any], where: str) -> Array:
    table = labels.astype(dtype)
    sums = table.sum(axis=1, dtype=np.float64)
    if not np.all(table >= 0) or not np.all(np.abs(sums - 1.0) <= 1e-3):
        raise ValueError(f"{where}: expected probabilities, each row adding up to 1, got others")
    return table


LOSSES: dict[str, Callable[[], Loss]] = {
    "cross_entropy": CrossEntropy,
    "mean_squared_error": MeanSquaredError,
}


def get_loss(loss: Loss | str) -> Loss:
    """Return the loss of that name; a loss is given back as it is."""
    if isinstance(loss, Loss):
        return loss
    return LOSSES[choice(loss, "loss", LOSSES)]()
