"""How a loss calls its op; and how losses are called, of which one's own may return anything."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn._loss import Loss, LossBackward
from fastcnn._types import Array
from fastcnn.backend import Backend

__all__ = ["called", "weighted"]


def weighted(
    op: str,
    prediction: Array,
    target: Array,
    backend: Backend,
    sample_weight: Array | None,
    **options: Any,
) -> tuple[float, LossBackward]:
    """Call a loss that is an op which takes sample_weights; return (loss, backward)."""
    if sample_weight is not None:
        if not sample_weight.any():  # no mean of nothing: the batch counts for nothing
            return 0.0, lambda: np.zeros_like(prediction)
        options["sample_weights"] = sample_weight.astype(prediction.dtype, copy=False)
    result: Any = getattr(backend, op)(prediction, target, **options)
    loss, saved = result if isinstance(result, tuple) else (result, prediction)
    back = f"{op}_backward"  # which a tracer has not
    return loss, lambda: getattr(backend, back)(1.0, saved, target, **options)


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
