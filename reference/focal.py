"""The focal loss of logits that say yes or no (Lin et al., 2017, arXiv:1708.02002)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, finite, fraction, not_negative, rounded, silent
from ._losses import alike, check_fractions, sigmoid_of
from .binary_cross_entropy import costs, slopes


@silent
def focal(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    sample_weights: ArrayLike | None = None,
) -> float:
    """Return the mean of a * m**gamma times the binary cross-entropy.

    m = t * (1 - p) + (1 - t) * p, p = sigmoid(logits), is the probability of what is not true, and
    a = alpha * t + (1 - alpha) * (1 - t), or 1 where alpha is None. alpha from 0 to 1, gamma finite
    and of at least 0. Arrays, weights and errors as in binary_cross_entropy.
    """
    op = "focal"
    _, logits, target, share, size = alike(op, "logits", logits, target, sample_weights)
    check_fractions(op, target)
    balance, gamma = _balance(op, alpha, target), not_negative(op, "gamma", gamma)
    factor = balance * _miss(logits, target) ** gamma
    # Where a factor vanishes so does the cost, though its logarithm be infinite.
    cost = np.where(factor == 0, 0.0, factor * costs(logits, target))
    return float(np.sum(share * cost) / size)


@silent
def focal_backward(
    dloss: float,
    logits: ArrayLike,
    target: ArrayLike,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    sample_weights: ArrayLike | None = None,
) -> Array:
    """Return dlogits: of the product m**gamma * cost, by the rule for products.

    The derivative of m is (1 - 2 t) p (1 - p). dloss is a finite number. Errors as in focal.
    """
    op = "focal_backward"
    dloss = finite(op, "dloss", dloss)
    dtype, logits, target, share, size = alike(op, "logits", logits, target, sample_weights)
    check_fractions(op, target)
    balance, gamma = _balance(op, alpha, target), not_negative(op, "gamma", gamma)
    m = _miss(logits, target)
    # Over m, and times m**gamma below: m**(gamma - 1) by itself may be infinite.
    slope = (1 - 2 * target) * (sigmoid_of(logits) * sigmoid_of(-logits) / m)
    slope = gamma * slope * costs(logits, target) + slopes(logits, target)
    slope = np.where(m == 0, 0.0, balance * m**gamma * slope)
    return rounded(dloss * share * slope / size, dtype)


def _miss(x: Array, t: Array) -> Array:
    miss: Array = t * sigmoid_of(-x) + (1 - t) * sigmoid_of(x)
    return miss


def _balance(op: str, alpha: float | None, t: Array) -> Array:
    if alpha is None:
        return np.ones(t.shape)
    alpha = fraction(op, "alpha", alpha, one=True)
    return alpha * t + (1 - alpha) * (1 - t)
