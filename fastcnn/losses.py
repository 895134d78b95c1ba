"""Losses: what training makes small.

A loss is called with (prediction, target, backend) and returns (loss, backward), backward()
giving the gradient of the loss with respect to the prediction.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._labels import balanced_weights, class_labels, class_weights_of, numbers, shares
from fastcnn._loss import FunctionLoss, Loss, LossBackward, LossFunction, bytes_or_counts
from fastcnn._options import choice, number
from fastcnn._sentences import takes
from fastcnn._settings import Checks, Settings
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend

__all__ = ["CrossEntropy", "FunctionLoss", "Loss", "MeanSquaredError", "get_loss"]


class CrossEntropy(Loss, Settings):
    """Cross-entropy of softmax(logits) with integer labels or probabilities.

    label_smoothing: a in t * (1 - a) + a / C, between 0 and 1. class_weights: (C,) non-negative,
    or {class: weight}, where a class that is not named weighs 1, or "balanced", or None. The loss
    is divided by the sum of the weights of its samples: a class of weight 0 counts for nothing.
    "balanced" is scikit-learn's rule, n / (classes * count) with the labels that fit is given (or
    evaluate, before any fit): n of them, of that many classes, count of the one at hand.
    """

    _checks: ClassVar[Checks] = {
        "label_smoothing": partial(number, low=0.0, high=1.0),
        "class_weights": class_weights_of,
    }

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        class_weights: ArrayLike | Mapping[int, float] | str | None = None,
    ) -> None:
        self.label_smoothing = label_smoothing
        self.class_weights: Any = class_weights

    def __call__(
        self,
        prediction: Array,
        target: Array,
        backend: Backend,
        sample_weight: Array | None = None,
    ) -> tuple[float, LossBackward]:
        """Return (loss, backward); prediction: logits (N, C)."""
        if self.depends_on_targets:
            raise RuntimeError(_UNFITTED)
        dtype = prediction.dtype
        weights = self._table(prediction.shape[1])
        weights = None if weights is None else weights.astype(dtype, copy=False)
        if weights is not None or sample_weight is not None:
            counts = shares(target, weights, sample_weight)
            if not counts.sum() > 0:  # no mean of nothing: the batch counts for nothing
                return 0.0, lambda: np.zeros_like(prediction)
            if sample_weight is not None:
                sample_weight = sample_weight.astype(dtype, copy=False)
            if self.label_smoothing and not counts.all():
                # Smoothing would have samples of a class that counts for nothing pull at others.
                given = 1.0 if sample_weight is None else sample_weight
                sample_weight = np.where(counts > 0, given, 0).astype(dtype)
        options: dict[str, Any] = {
            "label_smoothing": self.label_smoothing,
            "class_weights": weights,
            **({} if sample_weight is None else {"sample_weights": sample_weight}),
        }
        loss, probabilities = backend.softmax_cross_entropy(prediction, target, **options)
        return loss, lambda: backend.softmax_cross_entropy_backward(
            1.0, probabilities, target, **options
        )

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
        weights = self._table(*output_shape)
        if weights is not None and weights.max(initial=0) > np.finfo(dtype).max:
            raise ValueError(
                f"CrossEntropy: class_weights: expected numbers that fit {dtype}, got "
                f"{weights.max():g}"
            )
        return class_labels(y, count, *output_shape, dtype, where)

    def fitted(self, targets: Array, output_shape: Shape) -> Loss:
        """Return the loss with an array of class weights; "balanced" counts these targets."""
        if self.class_weights is None or isinstance(self.class_weights, np.ndarray):
            return self
        loss = copy.copy(self)
        if isinstance(self.class_weights, str):
            loss.class_weights = balanced_weights(targets, *output_shape)
        else:
            loss.class_weights = self._table(*output_shape)
        return loss

    @property
    def depends_on_targets(self) -> bool:
        """True for weights that are "balanced"."""
        return isinstance(self.class_weights, str)

    def weight(self, target: Array, sample_weight: Array | None = None) -> float:
        """Return the number of samples, or the sum of their weights, times their classes'."""
        if self.class_weights is None:
            return super().weight(target, sample_weight)
        weights = self.class_weights
        if not isinstance(weights, np.ndarray):
            raise RuntimeError(_UNFITTED)
        return float(shares(target, weights, sample_weight).sum())

    @property
    def measures_accuracy(self) -> bool:
        """True: targets are classes."""
        return True

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


_UNFITTED = (
    "CrossEntropy: class_weights: expected an array, got what `fitted` makes one of; call it first"
)


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


LOSSES: dict[str, Callable[[], Loss]] = {
    "cross_entropy": CrossEntropy,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
}


def get_loss(loss: Loss | LossFunction | str) -> Loss:
    """Return the loss of that name or function; a loss is given back as it is."""
    if isinstance(loss, Loss):
        name = type(loss).__name__
        if type(loss).__call__ is Loss.__call__:
            raise TypeError(f"loss: {name}: expected a method {_CALL}, got none")
        if not takes(loss, 3):
            taken = ", ".join(inspect.signature(loss).parameters)
            raise TypeError(f"loss: {name}: expected {_CALL}, got __call__(self, {taken:.160})")
        return loss
    if isinstance(loss, type):
        raise TypeError(f"loss: expected a loss, got the class {loss.__name__}; call it")
    if callable(loss):
        return FunctionLoss(loss)
    return LOSSES[choice(loss, "loss", LOSSES)]()


def is_op(loss: object) -> bool:
    """Return whether a loss calls an op and nothing else."""
    if type(loss) is CrossEntropy:
        return loss.class_weights is None  # else it is divided by the batch's weight
    return type(loss) is MeanSquaredError


def called(
    loss: Loss, prediction: Array, target: Array, backend: Backend, sample_weight: Array | None
) -> tuple[float, LossBackward]:
    """Call a loss, with the weights of samples where there are any.

    What one that is not the library's own returns is checked.
    """
    weighted: Any = loss  # its `takes_weights` was asked before
    weights = () if sample_weight is None else (sample_weight,)
    result: tuple[float, LossBackward] = weighted(prediction, target, backend, *weights)
    own = type(loss).__module__.startswith("fastcnn.")
    return result if own else _checked(result, loss, prediction)


def _checked(result: Any, loss: Loss, prediction: Array) -> tuple[float, LossBackward]:
    """Return (loss, backward) if that is what a loss of one's own returned, else raise."""
    where = f"loss: {type(loss).__name__}"
    if not isinstance(result, (tuple, list)) or len(result) != 2 or not callable(result[1]):
        got = type(result).__name__
        if isinstance(result, (tuple, list)):
            got = f"({', '.join(type(each).__name__ for each in result[:4])})"
        raise TypeError(
            f"{where}: expected __call__ to return (loss, backward), a number and a function that "
            f"returns the gradient, got {got}"
        )
    value, backward = result
    if not isinstance(value, float):
        number_ = np.asarray(value)
        if number_.shape != () or number_.dtype.kind not in "iuf":
            raise TypeError(
                f"{where}: expected a number for the loss that __call__ returns, got "
                f"{number_.dtype} of shape {number_.shape}"
            )

    def gradient() -> Array:
        given: Any = np.asarray(backward())
        if given.shape != prediction.shape or given.dtype.kind not in "iuf":
            raise ValueError(
                f"{where}: expected backward to return real numbers of the prediction's shape "
                f"{prediction.shape}, got {given.dtype} of shape {given.shape}"
            )
        same: Array = given.astype(prediction.dtype, copy=False)
        return same

    return float(value), gradient


_CALL = (
    "__call__(self, prediction, target, backend), which returns (loss, backward); a fourth "
    "argument, sample_weight=None, is for weights"
)
