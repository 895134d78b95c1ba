"""What a loss is: its base, and a plain function as one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._labels import numbers
from fastcnn._sentences import shown, takes
from fastcnn._settings import Checks, Settings
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._repr import OptionsRepr

__all__ = ["AnyLoss", "FunctionLoss", "Loss", "LossBackward", "LossFunction", "bytes_or_counts"]

LossBackward = Callable[[], Array]
LossFunction = Callable[[Array, Array], tuple[float, Array]]  # see FunctionLoss


class Loss(OptionsRepr):
    """Base of the losses: the mean of a cost over samples, or a weighted mean.

    A loss of one's own overrides `__call__`, and `targets` where the rule below does not suit. For
    weights of samples it takes a fourth argument, sample_weight: (n,) in the model's dtype.

    activation: what makes probabilities of the logits that it takes, "softmax" of a row of classes
    or "sigmoid" of each yes and no; None for a loss of numbers.
    """

    activation: str | None = None

    def __call__(
        self, prediction: Array, target: Array, backend: Backend
    ) -> tuple[float, LossBackward]:
        """Return (loss, backward) of one batch."""
        raise NotImplementedError

    def targets(
        self, y: ArrayLike, count: int, output_shape: Shape, dtype: np.dtype[Any], where: str
    ) -> Array:
        """Check the targets of `count` samples and return them, a view where that will do.

        By this rule integers are labels and come as int64, and floats come in the model's dtype.
        uint8 images of the output's shape are divided by 255, as x is.
        """
        target = numbers(y, where)
        if target.dtype.kind == "f":
            return target
        if target.dtype != np.uint8 or target.shape != (count, *output_shape):
            return target.astype(np.int64)
        if len(output_shape) == 1:
            raise bytes_or_counts(where)
        return target

    def fitted(self, targets: Array, output_shape: Shape) -> Loss:
        """Return the loss for these targets: itself, unless something in it depends on them."""
        return self

    @property
    def depends_on_targets(self) -> bool:
        """Whether `fitted` looks at the targets."""
        return False

    def weight(self, target: Array, sample_weight: Array | None = None) -> float:
        """Return by how much a batch counts when losses of batches are averaged."""
        if sample_weight is None:
            return float(len(target))
        return float(sample_weight.sum(dtype=np.float64))

    @property
    def takes_weights(self) -> bool:
        """Whether `__call__` has an argument for the weights of samples."""
        return takes(self, 4)

    @property
    def measures_accuracy(self) -> bool:
        """Whether targets are classes, or yes and no, so that accuracy has a meaning."""
        return self.activation is not None


def bytes_or_counts(where: str) -> TypeError:
    return TypeError(
        f"{where}: expected floats or int64 for targets of the output's shape, got uint8, which "
        "may be bytes of images or counts; convert them: y / 255 or y.astype(int)"
    )


AnyLoss = Loss | LossFunction | str  # what a caller may give as one


class FunctionLoss(Loss, Settings):
    """A plain function as a loss.

    function: of (prediction, target), the arrays of a batch. It returns (value, gradient): value a
    number, the mean over the batch; gradient an array of the prediction's shape, the derivative of
    value by each number of the prediction. Targets follow the rule of Loss.targets.

        def absolute_error(prediction, target):
            difference = prediction - target
            return np.abs(difference).mean(), np.sign(difference) / difference.size
    """

    _checks: ClassVar[Checks] = {"function": lambda value, where: _of_two(value)}

    def __init__(self, function: LossFunction) -> None:
        self.function = function

    def __call__(
        self, prediction: Array, target: Array, backend: Backend
    ) -> tuple[float, LossBackward]:
        """Return (loss, backward) from what the function returns."""
        result = self.function(prediction, target)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise TypeError(
                f"{self._where}: expected it to return (value, gradient), the gradient an array "
                f"of the prediction's shape, got {type(result).__name__}"
            )
        value, gradient = np.asarray(result[0]), np.asarray(result[1])
        if value.shape != () or value.dtype.kind not in "iuf":
            raise TypeError(
                f"{self._where}: expected a number for the value that it returns, got "
                f"{value.dtype} of shape {value.shape}"
            )
        if gradient.shape != prediction.shape or gradient.dtype.kind not in "iuf":
            raise ValueError(
                f"{self._where}: expected real numbers of the prediction's shape "
                f"{prediction.shape} for the gradient that it returns, got {gradient.dtype} of "
                f"shape {gradient.shape}"
            )
        return float(value), lambda: gradient.astype(prediction.dtype, copy=False)

    @property
    def _where(self) -> str:
        return _place_of(self.function)


def _of_two(function: object) -> object:
    """Return a function of (prediction, target); TypeError for another."""
    if callable(function) and takes(function, 2) and not _is_optional(function, 1):
        return function
    got = shown(function) if callable(function) else type(function).__name__
    raise TypeError(
        f"{_place_of(function)}: expected a function of (prediction, target) that returns (value, "
        f"gradient), got {got:.160}"
    )


def _is_optional(function: Callable[..., Any], place: int) -> bool:
    """Return whether an argument has a default, as the axis of np.mean; a target has none."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # of compiled functions
        return False
    return len(parameters) > place and parameters[place].default is not inspect.Parameter.empty


def _place_of(function: object) -> str:
    return f"loss: {getattr(function, '__name__', type(function).__name__)}"
