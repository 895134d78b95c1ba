"""What losses share that are a mean over numbers: weights of samples, targets from 0 to 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, array, arrays_alike, float_dtype


def alike(
    op: str, name: str, values: ArrayLike, target: ArrayLike, sample_weights: ArrayLike | None
) -> tuple[np.dtype[Any], Array, Array, Array, int]:
    """Return the dtype, `values` and target of one shape, and by what their costs become a mean.

    That is a weight for each, of samples that add up to 1, and the size of a sample, by which the
    sum is divided; or ones and the size of all without weights, where sums of integers are exact.
    """
    dtype = float_dtype(op, **{name: values}, target=target, sample_weights=sample_weights)
    _, [x, t] = arrays_alike(op, **{name: values}, target=target)
    if x.size == 0:
        raise ValueError(f"{op}: {name}: expected at least one value, got shape {x.shape}")
    if sample_weights is None:
        return dtype, x, t, np.ones(x.shape), x.size
    samples = x.shape[0] if x.ndim else 1
    weights = weights_of(op, sample_weights, dtype, samples)
    each = (weights / np.sum(weights)).reshape(x.shape[:1] + (1,) * (x.ndim - 1))
    return dtype, x, t, each, x.size // samples


def weights_of(op: str, weights: ArrayLike, dtype: np.dtype[Any], samples: int) -> Array:
    """Return weights of samples: finite, of at least 0, one of them above it."""
    weights = array(op, "sample_weights", weights, dtype, (samples,))
    if not np.all((weights >= 0) & (weights < np.inf)):
        raise ValueError(
            f"{op}: sample_weights: expected finite weights of at least 0, got {weights.min()} "
            f"to {weights.max()}"
        )
    if not np.sum(weights) > 0:
        raise ValueError(f"{op}: sample_weights: expected a sum above 0, got 0")
    return weights


def check_fractions(op: str, target: Array) -> None:
    """Refuse targets that are not from 0 to 1."""
    for place, value in np.ndenumerate(target):
        if not 0 <= value <= 1:
            raise ValueError(f"{op}: target: expected numbers from 0 to 1, got {value} at {place}")


def sigmoid_of(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), by exponents of at most 0: nothing overflows."""
    e = np.exp(-np.abs(x))
    return np.where(x > 0, 1 / (1 + e), e / (1 + e))


def softplus_of(x: Array) -> Array:
    """Return log(1 + exp(x)), which is -log(sigmoid(-x)), as stable as that."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
