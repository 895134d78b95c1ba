"""The binary cross-entropy of logits, each of which says yes or no by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, finite, is_sequence, not_negative, rounded, silent
from ._losses import alike, check_fractions, sigmoid_of, softplus_of


@silent
def binary_cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    pos_weight: float | Sequence[float] | None = None,
    sample_weights: ArrayLike | None = None,
) -> float:
    """Return the mean of -(w * t * log(p) + (1 - t) * log(1 - p)), p = sigmoid(logits).

    logits and target t of any one shape, with at least one value, and one dtype, float32 or
    float64; t from 0 to 1. pos_weight w: a finite number of at least 0, or as many as the last
    axis has. sample_weights (N,) for the first axis: each sample's mean times its weight, divided
    by the sum of these. TypeError for other or mixed dtypes, ValueError for shapes that differ and
    for numbers that are none of these.
    """
    op = "binary_cross_entropy"
    _, logits, target, share, size = alike(op, "logits", logits, target, sample_weights)
    check_fractions(op, target)
    weight = _pos_weight(op, pos_weight, logits)
    return float(np.sum(share * costs(logits, target, weight)) / size)


def costs(x: Array, t: Array, pos_weight: Array | float = 1.0) -> Array:
    """Return what each number costs; log(p) is -softplus(-x). 0 * log(0) is 0 here."""
    yes, no = pos_weight * t, 1 - t
    of_yes: Array = np.where(yes == 0, 0.0, yes * softplus_of(-x))
    of_no: Array = np.where(no == 0, 0.0, no * softplus_of(x))
    return of_yes + of_no


@silent
def binary_cross_entropy_backward(
    dloss: float,
    logits: ArrayLike,
    target: ArrayLike,
    *,
    pos_weight: float | Sequence[float] | None = None,
    sample_weights: ArrayLike | None = None,
) -> Array:
    """Return dlogits, the share in the mean times (1 - t) * p - w * t * (1 - p).

    dloss is a finite number. Errors as in binary_cross_entropy.
    """
    op = "binary_cross_entropy_backward"
    dloss = finite(op, "dloss", dloss)
    dtype, logits, target, share, size = alike(op, "logits", logits, target, sample_weights)
    check_fractions(op, target)
    weight = _pos_weight(op, pos_weight, logits)
    return rounded(dloss * share * slopes(logits, target, weight) / size, dtype)


def slopes(x: Array, t: Array, pos_weight: Array | float = 1.0) -> Array:
    """Return the derivative of each number's cost."""
    slope: Array = (1 - t) * sigmoid_of(x) - pos_weight * t * sigmoid_of(-x)
    return slope


def _pos_weight(op: str, value: Any, logits: Array) -> Array:
    if value is None:
        return np.ones(())
    if not is_sequence(value):
        return np.array(not_negative(op, "pos_weight", value))
    weights = np.array([not_negative(op, "pos_weight", each) for each in value])
    if not len(weights) or logits.shape[-1:] != weights.shape:
        raise ValueError(
            f"{op}: pos_weight: expected a number, or as many as the last axis of the logits of "
            f"shape {logits.shape} has, got {len(weights)} of them"
        )
    return weights
