"""The terms of losses of numbers of every exponent; tests/exponents.py has the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Call = dict[str, Any]
Terms = tuple[Any, ...]


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x > 0, 1 / (1 + e), e / (1 + e))


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _lost(largest: float) -> float:
    """Return the smallest normal number: a probability below it is not that precise."""
    return 4 / largest


def _share(call: Call, x: Any) -> Any:
    """Return the size of what each number's slope is multiplied with."""
    weights = call["sample_weights"]
    each = abs(call["dloss"]) * weights / np.sum(weights) / (x.size // len(x))
    return each.reshape(-1, *[1] * (x.ndim - 1))


def _binary_cross_entropy_backward(call: Call, _: Any, largest: float) -> Terms:
    x, t = call["logits"], call["target"]
    weight = np.array(call["pos_weight"])
    slope = (1 - t) * _sigmoid(x) + weight * t * _sigmoid(-x)
    return (_share(call, x) * (slope + _lost(largest)),)


def _focal_backward(call: Call, _: Any, largest: float) -> Terms:
    x, t, gamma = call["logits"], call["target"], call["gamma"]
    p, rest = _sigmoid(x), _sigmoid(-x)
    miss = t * rest + (1 - t) * p
    balance = call["alpha"] * t + (1 - call["alpha"]) * (1 - t)
    cost = t * _softplus(-x) + (1 - t) * _softplus(x)
    slope = (1 - t) * p + t * rest + gamma * cost * np.where(miss > 0, p * rest / miss, 0)
    return (_share(call, x) * (balance * miss**gamma * slope + _lost(largest)),)


def _dice(call: Call, expected: Terms, _: float) -> Terms:
    """1 less what may be next to 1; of logits far below the largest nothing is left."""
    return np.ones(()), np.ones(expected[1].shape)


def _dice_backward(call: Call, _: Any, __: float) -> Terms:
    p = call["probabilities"]
    weights = call["sample_weights"].reshape(-1, *[1] * (p.ndim - 1))
    axes = tuple(range(1, p.ndim - 1))
    whole = np.sum(p, axes, keepdims=True) + call["smooth"]  # and what targets add to it
    scale = abs(call["dloss"]) * weights / np.sum(weights) / p.shape[-1]
    slopes = np.broadcast_to(4 * scale / whole, p.shape)
    if call["activation"] == "sigmoid":
        return (slopes * p * (1 + p),)
    return (p * (slopes + np.sum(slopes * p, axis=-1, keepdims=True)),)


LOSS_TERMS: dict[str, Callable[[Call, Terms, float], Terms]] = {
    "binary_cross_entropy_backward": _binary_cross_entropy_backward,
    "focal_backward": _focal_backward,
    "dice": _dice,
    "dice_backward": _dice_backward,
}
