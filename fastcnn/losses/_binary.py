"""Losses of logits that say yes or no, each by itself: several labels an image, or masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._labels import fractions
from fastcnn._limits import number_or_each
from fastcnn._loss import Loss, LossBackward
from fastcnn._options import number
from fastcnn._settings import Checks, Settings
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.losses._call import weighted

__all__ = ["BinaryCrossEntropy", "Focal"]


class _Binary(Loss, Settings):
    """Base of the losses of yes and no, whose rule for targets is that of BinaryCrossEntropy."""

    activation = "sigmoid"
    _op: ClassVar[str]

    def __call__(
        self,
        prediction: Array,
        target: Array,
        backend: Backend,
        sample_weight: Array | None = None,
    ) -> tuple[float, LossBackward]:
        """Return (loss, backward); prediction: logits, target of their shape."""
        return weighted(self._op, prediction, target, backend, sample_weight, **self._options())

    def _options(self) -> dict[str, Any]:
        """Return the options of the op."""
        raise NotImplementedError

    def targets(
        self, y: ArrayLike, count: int, output_shape: Shape, dtype: np.dtype[Any], where: str
    ) -> Array:
        """Return numbers from 0 to 1 (N, *output_shape) in the model's dtype."""
        return fractions(y, count, output_shape, dtype, where)


class BinaryCrossEntropy(_Binary):
    """Cross-entropy of sigmoid(logits) with yes or no: -(w t log p + (1 - t) log(1 - p)).

    For several labels an image, or masks that may overlap. Targets t are numbers from 0, for no, to
    1, for yes, of the output's shape; a last axis of length 1 may be left out. pos_weight w: what a
    yes weighs next to a no, as where it is rare: a number of at least 0, or one for each of the
    last axis. The loss is the mean over all logits. As in PyTorch.
    """

    _op = "binary_cross_entropy"
    _checks: ClassVar[Checks] = {
        "pos_weight": lambda value, where: (
            None if value is None else number_or_each(value, where, 0.0)
        )
    }

    def __init__(self, *, pos_weight: float | Sequence[float] | None = None) -> None:
        self.pos_weight = pos_weight

    def _options(self) -> dict[str, Any]:
        return {} if self.pos_weight is None else {"pos_weight": self.pos_weight}

    def targets(
        self, y: ArrayLike, count: int, output_shape: Shape, dtype: np.dtype[Any], where: str
    ) -> Array:
        """Return numbers from 0 to 1 (N, *output_shape) in the model's dtype."""
        several = self.pos_weight if isinstance(self.pos_weight, tuple) else None
        if several is not None and len(several) != output_shape[-1]:
            raise ValueError(
                f"BinaryCrossEntropy: pos_weight: expected {output_shape[-1]} numbers, one for "
                f"each of the last axis, got {len(several)}"
            )
        return super().targets(y, count, output_shape, dtype, where)


class Focal(_Binary):
    """Binary cross-entropy that looks away from what is easy: a (1 - q)**gamma times it.

    q is the probability of what is true. alpha: what a yes is multiplied with, between 0 and 1, a
    no with 1 - alpha; None for neither. gamma of at least 0; 0 is cross-entropy. Targets are those
    of BinaryCrossEntropy. The loss is the mean over all logits. Lin et al., "Focal Loss for Dense
    Object Detection", 2017.
    """

    _op = "focal"
    _checks: ClassVar[Checks] = {
        "alpha": lambda value, where: None if value is None else number(value, where, 0.0, 1.0),
        "gamma": partial(number, low=0.0),
    }

    def __init__(self, *, alpha: float | None = 0.25, gamma: float = 2.0) -> None:
        self.alpha = alpha
        self.gamma = gamma

    def _options(self) -> dict[str, Any]:
        return {"alpha": self.alpha, "gamma": self.gamma}
