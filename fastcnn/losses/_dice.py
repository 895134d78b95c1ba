"""The soft Dice loss: how little masks overlap."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array
from fastcnn._labels import class_labels, fractions
from fastcnn._loss import Loss, LossBackward
from fastcnn._options import choice, integer_or_none, number
from fastcnn._settings import Checks, Settings
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.losses._call import weighted

__all__ = ["Dice"]


class Dice(Loss, Settings):
    """1 less the mean soft Dice of an image's channels, (2 sum(p t) + s) / (sum(p) + sum(t) + s).

    Sums are over the places of an image. activation: what makes the probabilities p of logits:
    "sigmoid" for masks that may overlap, targets t as of BinaryCrossEntropy, or "softmax" for
    classes of pixels, with labels as of CrossEntropy. smooth s, above 0: what a mask that is empty,
    and rightly so, is worth; a small one asks for less of an overlap. ignore_label: an integer that
    marks pixels which are in no sum, of labels alone. The loss is the mean over images. (Milletari
    et al., "V-Net", 2016, without its squares.)
    """

    _checks: ClassVar[Checks] = {
        "activation": partial(choice, choices=("sigmoid", "softmax")),
        "smooth": partial(number, low=0.0, open_low=True),
        "ignore_label": integer_or_none,
    }

    def __init__(
        self,
        activation: str = "sigmoid",
        *,
        smooth: float = 1.0,
        ignore_label: int | None = None,
    ) -> None:
        self.activation = activation
        self.smooth = smooth
        self.ignore_label = ignore_label

    def __call__(
        self,
        prediction: Array,
        target: Array,
        backend: Backend,
        sample_weight: Array | None = None,
    ) -> tuple[float, LossBackward]:
        """Return (loss, backward); prediction: logits (N, ..., C)."""
        return weighted(
            "dice",
            prediction,
            target,
            backend,
            sample_weight,
            activation=self.activation,
            smooth=self.smooth,
            ignore_label=self.ignore_label,
        )

    def targets(
        self, y: ArrayLike, count: int, output_shape: Shape, dtype: np.dtype[Any], where: str
    ) -> Array:
        """Return labels, one at each place, or numbers from 0 to 1 in the model's dtype."""
        labels = as_array(y, where)
        if self.activation == "softmax":
            return class_labels(labels, count, output_shape, dtype, where, self.ignore_label)
        if self.ignore_label is not None:
            raise ValueError(
                "Dice: ignore_label: expected None with sigmoid, whose targets are no labels, got "
                f"{self.ignore_label}"
            )
        return fractions(labels, count, output_shape, dtype, where)
