"""The mean squared error of arrays of any shape with at least one value."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, arrays_alike, finite, rounded, silent


@silent
def mean_squared_error(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return the mean of (prediction - target)**2 over all elements, a Python float.

    Both of one shape and dtype, float32 or float64. TypeError for other or mixed dtypes,
    ValueError for shapes that differ and for empty arrays.
    """
    _, difference = _difference("mean_squared_error", prediction, target)
    return float(np.sum(difference * difference) / difference.size)


@silent
def mean_squared_error_backward(dloss: float, prediction: ArrayLike, target: ArrayLike) -> Array:
    """Return dprediction = dloss * 2 * (prediction - target) / size, for a finite number dloss.

    Errors as in mean_squared_error.
    """
    dtype, difference = _difference("mean_squared_error_backward", prediction, target)
    dloss = finite("mean_squared_error_backward", "dloss", dloss)
    return rounded(dloss * 2 * difference / difference.size, dtype)


def _difference(
    op: str, prediction: ArrayLike, target: ArrayLike
) -> tuple[np.dtype[np.float32] | np.dtype[np.float64], Array]:
    dtype, [prediction, target] = arrays_alike(op, prediction=prediction, target=target)
    if prediction.size == 0:
        raise ValueError(
            f"{op}: prediction: expected at least one value, got shape {prediction.shape}"
        )
    return dtype, prediction - target
