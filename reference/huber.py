"""The Huber loss (Huber, 1964) of arrays of any shape with at least one value."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, finite, positive, rounded, silent
from ._losses import alike


@silent
def huber(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    delta: float = 1.0,
    sample_weights: ArrayLike | None = None,
) -> float:
    """Return the mean of d**2 / 2 where |d| <= delta, of delta * (|d| - delta / 2) elsewhere.

    d = prediction - target; delta is finite and above 0. Weights and errors as in
    mean_absolute_error.
    """
    _, prediction, target, share, size = alike(
        "huber", "prediction", prediction, target, sample_weights
    )
    delta = positive("huber", "delta", delta)
    d = np.abs(prediction - target)
    cost = np.where(d > delta, delta * (d - delta / 2), d * d / 2)
    return float(np.sum(share * cost) / size)


@silent
def huber_backward(
    dloss: float,
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    delta: float = 1.0,
    sample_weights: ArrayLike | None = None,
) -> Array:
    """Return dprediction, the share in the mean times d, but no further than delta from 0.

    dloss is a finite number. Errors as in huber.
    """
    op = "huber_backward"
    dloss = finite(op, "dloss", dloss)
    dtype, prediction, target, share, size = alike(
        op, "prediction", prediction, target, sample_weights
    )
    delta = positive(op, "delta", delta)
    d = prediction - target
    slope = np.where(np.abs(d) > delta, delta * np.sign(d), d)
    return rounded(dloss * share * slope / size, dtype)
