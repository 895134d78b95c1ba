"""Valid calls of the losses of distances, of yes and no, and of overlaps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from step_calls import softmax_of

if TYPE_CHECKING:
    from calls import Arguments, Draw


def _distance(draw: Draw) -> Arguments:
    return {
        "prediction": 2 * draw.normal(*draw.shape),
        "target": draw.normal(*draw.shape),
        "sample_weights": draw.uniform(draw.images),
    }


def _huber(draw: Draw) -> Arguments:
    return {**_distance(draw), "delta": 0.75}


def _yes_or_no(draw: Draw) -> Arguments:
    """Half of the targets are certain."""
    certain = draw.rng.random(draw.shape) < 0.5
    target = np.where(certain, draw.rng.integers(0, 2, draw.shape), draw.rng.random(draw.shape))
    return {
        "logits": 3 * draw.normal(*draw.shape),
        "target": target.astype(draw.dtype),
        "sample_weights": draw.uniform(draw.images),
    }


def _binary_cross_entropy(draw: Draw) -> Arguments:
    return {**_yes_or_no(draw), "pos_weight": tuple(draw.rng.uniform(0, 3, draw.channels))}


def _focal(draw: Draw) -> Arguments:
    return {**_yes_or_no(draw), "alpha": 0.3, "gamma": 1.5}


def _dice(draw: Draw) -> Arguments:
    """Numbers of each channel, or integers of which some are ignored."""
    arguments = {**_yes_or_no(draw), "smooth": 0.5}
    if draw.rng.random() < 0.5:
        return {**arguments, "activation": "sigmoid", "ignore_label": None}
    labels = draw.rng.integers(-1, draw.channels, draw.shape[:-1])
    return {**arguments, "target": labels, "activation": "softmax", "ignore_label": -1}


def _dice_backward(draw: Draw) -> Arguments:
    arguments = _dice(draw)
    x = arguments.pop("logits")
    p: Any = softmax_of(x) if arguments["activation"] == "softmax" else 1 / (1 + np.exp(-x))
    return {"dloss": 1.5, "probabilities": p.astype(draw.dtype), **arguments}


def _backward(build: Callable[[Draw], Arguments]) -> Callable[[Draw], Arguments]:
    return lambda draw: {"dloss": 1.5, **build(draw)}


LOSSES: dict[str, Callable[[Any], Any]] = {
    "mean_absolute_error": _distance,
    "mean_absolute_error_backward": _backward(_distance),
    "huber": _huber,
    "huber_backward": _backward(_huber),
    "binary_cross_entropy": _binary_cross_entropy,
    "binary_cross_entropy_backward": _backward(_binary_cross_entropy),
    "focal": _focal,
    "focal_backward": _backward(_focal),
    "dice": _dice,
    "dice_backward": _dice_backward,
}
