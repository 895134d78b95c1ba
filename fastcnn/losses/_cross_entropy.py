"""Cross-entropy of classes: one an image, or one a pixel."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array
from fastcnn._labels import balanced_weights, class_labels, class_weights_of, shares
from fastcnn._loss import Loss, LossBackward
from fastcnn._options import integer_or_none, number
from fastcnn._settings import Checks, Settings
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend

__all__ = ["CrossEntropy"]


class CrossEntropy(Loss, Settings):
    """Cross-entropy of softmax(logits) with integer labels or probabilities.

    Of logits (n, classes) it is that of images, with labels (n,); of logits (n, H, W, classes)
    that of pixels, with labels (n, H, W), as in segmentation. label_smoothing: a in
    t * (1 - a) + a / C, between 0 and 1. class_weights: (C,) non-negative, or {class: weight},
    where a class that is not named weighs 1, or "balanced", or None. ignore_label: an integer, such
    as 255 or -100, that marks what has no class: it counts for nothing, in the accuracy too. The
    loss is divided by the sum of the weights of its labels: a class of weight 0 counts for nothing.
    "balanced" is scikit-learn's rule, n / (classes * count) with the labels that fit is given (or
    evaluate, before any fit): n of them, of that many classes, count of the one at hand.
    """

    activation = "softmax"
    _checks: ClassVar[Checks] = {
        "label_smoothing": partial(number, low=0.0, high=1.0),
        "class_weights": class_weights_of,
        "ignore_label": integer_or_none,
    }

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        class_weights: ArrayLike | Mapping[int, float] | str | None = None,
        ignore_label: int | None = None,
    ) -> None:
        self.label_smoothing = label_smoothing
        self.class_weights: Any = class_weights
        self.ignore_label = ignore_label

    def __call__(
        self,
        prediction: Array,
        target: Array,
        backend: Backend,
        sample_weight: Array | None = None,
    ) -> tuple[float, LossBackward]:
        """Return (loss, backward); prediction: logits (N, C), or (N, H, W, C)."""
        if self.depends_on_targets:
            raise RuntimeError(_UNFITTED)
        dtype, ignored = prediction.dtype, self.ignore_label
        weights = self._table(prediction.shape[-1])
        weights = None if weights is None else weights.astype(dtype, copy=False)
        if weights is not None or sample_weight is not None:
            counts = shares(target, weights, sample_weight, ignored)
            if not counts.sum() > 0:  # no mean of nothing: the batch counts for nothing
                return 0.0, lambda: np.zeros_like(prediction)
            if sample_weight is not None:
                sample_weight = sample_weight.astype(dtype, copy=False)
            if self.label_smoothing and weights is not None and not weights.all():
                # Smoothing would have labels of a class that counts for nothing pull at others.
                if target.dtype.kind == "f":
                    given = 1.0 if sample_weight is None else sample_weight
                    sample_weight = np.where(counts > 0, given, 0).astype(dtype)
                else:
                    target, ignored = _without(target, weights, ignored)
        options: dict[str, Any] = {
            "label_smoothing": self.label_smoothing,
            "class_weights": weights,
            "ignore_label": ignored,
            **({} if sample_weight is None else {"sample_weights": sample_weight}),
        }
        loss, probabilities = backend.softmax_cross_entropy(prediction, target, **options)
        return loss, lambda: backend.softmax_cross_entropy_backward(
            1.0, probabilities, target, **options
        )

    def targets(
        self, y: ArrayLike, count: int, output_shape: Shape, dtype: np.dtype[Any], where: str
    ) -> Array:
        """Return integer labels, one at each place, or probabilities in the model's dtype."""
        weights = self._table(output_shape[-1])
        if weights is not None and weights.max(initial=0) > np.finfo(dtype).max:
            raise ValueError(
                f"CrossEntropy: class_weights: expected numbers that fit {dtype}, got "
                f"{weights.max():g}"
            )
        labels = as_array(y, where)
        if len(output_shape) > 1 and labels.ndim == 1:
            raise ValueError(
                f"loss: cross_entropy: expected a model that gives logits (classes,), got one "
                f"that gives {output_shape}, and labels {labels.shape}, one an image; end it with "
                "nn.Flatten and nn.Dense, or with nn.GlobalAvgPool2D"
            )
        return class_labels(labels, count, output_shape, dtype, where, self.ignore_label)

    def fitted(self, targets: Array, output_shape: Shape) -> Loss:
        """Return the loss with an array of class weights; "balanced" counts these targets."""
        if self.class_weights is None or isinstance(self.class_weights, np.ndarray):
            return self
        loss = copy.copy(self)
        if isinstance(self.class_weights, str):
            loss.class_weights = balanced_weights(targets, output_shape[-1], self.ignore_label)
        else:
            loss.class_weights = self._table(output_shape[-1])
        return loss

    @property
    def depends_on_targets(self) -> bool:
        """True for weights that are "balanced"."""
        return isinstance(self.class_weights, str)

    def weight(self, target: Array, sample_weight: Array | None = None) -> float:
        """Return the number of labels, or the sum of their weights, times their classes'."""
        weights = self.class_weights
        if weights is not None and not isinstance(weights, np.ndarray):
            raise RuntimeError(_UNFITTED)
        if weights is None and self.ignore_label is None and target.ndim == 1:
            return super().weight(target, sample_weight)
        return float(shares(target, weights, sample_weight, self.ignore_label).sum())

    def _table(self, classes: int) -> Array | None:
        """Return one weight a class; None for none, and as long as no labels were balanced."""
        given, where = self.class_weights, "CrossEntropy: class_weights"
        if given is None or isinstance(given, str):
            return None
        if isinstance(given, dict):
            unknown = [label for label in given if label >= classes]
            if unknown:
                raise ValueError(
                    f"{where}: expected classes from 0 to {classes - 1}, got {unknown[0]}"
                )
            return np.array([given.get(label, 1.0) for label in range(classes)])
        if len(given) != classes:
            raise ValueError(f"{where}: expected {classes} numbers, one a class, got {len(given)}")
        table: Array = given
        return table


def _without(target: Array, weights: Array, ignored: int | None) -> tuple[Array, int]:
    """Return labels of which those of classes that weigh nothing are ignored, and by what label."""
    label = len(weights) if ignored is None else ignored  # no class at all
    counted = np.ones(target.shape, bool) if ignored is None else target != ignored
    counted[counted] = weights[target[counted]] > 0
    return np.where(counted, target, label), label


_UNFITTED = (
    "CrossEntropy: class_weights: expected an array, got what `fitted` makes one of; call it first"
)
