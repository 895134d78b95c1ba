"""Losses: what training makes small.

A loss is called with (prediction, target, backend) and returns (loss, backward), backward()
giving the gradient of the loss with respect to the prediction.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from fastcnn._loss import FunctionLoss, Loss, LossFunction
from fastcnn._options import choice
from fastcnn._sentences import takes
from fastcnn.losses._binary import BinaryCrossEntropy, Focal
from fastcnn.losses._call import called as called
from fastcnn.losses._cross_entropy import CrossEntropy
from fastcnn.losses._dice import Dice
from fastcnn.losses._regression import Huber, MeanAbsoluteError, MeanSquaredError

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Dice",
    "Focal",
    "FunctionLoss",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "get_loss",
]

LOSSES: dict[str, Callable[[], Loss]] = {
    "cross_entropy": CrossEntropy,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
    "l1": MeanAbsoluteError,
    "huber": Huber,
    "binary_cross_entropy": BinaryCrossEntropy,
    "bce": BinaryCrossEntropy,
    "focal": Focal,
    "dice": Dice,
}
OWN = frozenset(LOSSES.values())  # the library's classes; not those derived from them


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
    return type(loss) in OWN


_CALL = (
    "__call__(self, prediction, target, backend), which returns (loss, backward); a fourth "
    "argument, sample_weight=None, is for weights"
)
