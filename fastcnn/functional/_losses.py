"""The losses by themselves: a number for a batch."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from fastcnn.backend import Backend
from fastcnn.functional._call import backend_of, with_names

__all__ = ["binary_cross_entropy", "dice", "focal", "huber", "mean_absolute_error"]


@with_names()
def mean_absolute_error(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    sample_weights: ArrayLike | None = None,
    backend: str | Backend = "fast",
) -> float:
    """Return the mean of |prediction - target|."""
    return backend_of(backend).mean_absolute_error(
        prediction, target, sample_weights=sample_weights
    )


@with_names()
def huber(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    delta: float = 1.0,
    sample_weights: ArrayLike | None = None,
    backend: str | Backend = "fast",
) -> float:
    """Return the mean of d**2 / 2 where |d| <= delta, of delta * (|d| - delta / 2) elsewhere.

    d = prediction - target.
    """
    return backend_of(backend).huber(prediction, target, delta=delta, sample_weights=sample_weights)


@with_names()
def binary_cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    pos_weight: float | Sequence[float] | None = None,
    sample_weights: ArrayLike | None = None,
    backend: str | Backend = "fast",
) -> float:
    """Return the mean cross-entropy of sigmoid(logits) with the target, numbers from 0 to 1.

    pos_weight weighs what a yes costs: a number, or one for each of the last axis.
    """
    return backend_of(backend).binary_cross_entropy(
        logits, target, pos_weight=pos_weight, sample_weights=sample_weights
    )


@with_names()
def focal(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    sample_weights: ArrayLike | None = None,
    backend: str | Backend = "fast",
) -> float:
    """Return the mean binary cross-entropy, each times (1 - q)**gamma and alpha or 1 - alpha.

    q is the probability of what is true.
    """
    return backend_of(backend).focal(
        logits, target, alpha=alpha, gamma=gamma, sample_weights=sample_weights
    )


@with_names()
def dice(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    activation: str = "sigmoid",
    smooth: float = 1.0,
    sample_weights: ArrayLike | None = None,
    ignore_label: int | None = None,
    backend: str | Backend = "fast",
) -> float:
    """Return 1 less the mean soft Dice of sigmoid(logits) or softmax(logits) with the target."""
    return backend_of(backend).dice(
        logits,
        target,
        activation=activation,
        smooth=smooth,
        sample_weights=sample_weights,
        ignore_label=ignore_label,
    )[0]
