"""The mean absolute error of arrays of any shape with at least one value."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, finite, rounded, silent
from ._losses import alike


@silent
def mean_absolute_error(
    prediction: ArrayLike, target: ArrayLike, *, sample_weights: ArrayLike | None = None
) -> float:
    """Return the mean of |prediction - target| over all elements, a Python float.

    Both of one shape and dtype, float32 or float64. sample_weights (N,) for the first axis: each
    sample's mean times its weight, divided by the sum of these. TypeError for other or mixed
    dtypes, ValueError for shapes that differ, for empty arrays, and for weights that are negative
    or not finite or all 0.
    """
    op = "mean_absolute_error"
    _, prediction, target, share, size = alike(op, "prediction", prediction, target, sample_weights)
    return float(np.sum(share * np.abs(prediction - target)) / size)


@silent
def mean_absolute_error_backward(
    dloss: float,
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    sample_weights: ArrayLike | None = None,
) -> Array:
    """Return dprediction, the share in the mean times the difference's sign, 0 for no difference.

    dloss is a finite number. Errors as in mean_absolute_error.
    """
    op = "mean_absolute_error_backward"
    dloss = finite(op, "dloss", dloss)
    dtype, prediction, target, share, size = alike(
        op, "prediction", prediction, target, sample_weights
    )
    return rounded(dloss * share * np.sign(prediction - target) / size, dtype)
