"""Valid calls of losses and of optimizers' steps; tests/calls.py has the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backend import Array

if TYPE_CHECKING:
    from calls import Arguments, Draw


def softmax_of(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def _softmax_cross_entropy(draw: Draw) -> Arguments:
    n, c = draw.rows, draw.channels
    return {
        "logits": 3 * draw.normal(n, c),
        "labels": draw.rng.integers(0, c, n),
        "label_smoothing": 0.1,
        "class_weights": draw.uniform(c),
        "sample_weights": draw.uniform(n),
        "ignore_label": (None, 1)[int(draw.rng.integers(2))],
    }


def _softmax_cross_entropy_backward(draw: Draw) -> Arguments:
    arguments = _softmax_cross_entropy(draw)
    probabilities = softmax_of(arguments.pop("logits")).astype(draw.dtype)
    return {"dloss": 1.5, "probabilities": probabilities, **arguments}


def _mean_squared_error(draw: Draw) -> Arguments:
    return {"prediction": draw.normal(*draw.shape), "target": draw.normal(*draw.shape)}


def _mean_squared_error_backward(draw: Draw) -> Arguments:
    return {"dloss": 1.5, **_mean_squared_error(draw)}


def _sgd_step(draw: Draw) -> Arguments:
    return {
        "w": draw.normal(*draw.shape),
        "dw": draw.normal(*draw.shape),
        "velocity": draw.normal(*draw.shape),
        "learning_rate": 0.05,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.01,
    }


def _adam_step(draw: Draw) -> Arguments:
    return {
        "w": draw.normal(*draw.shape),
        "dw": draw.normal(*draw.shape),
        "m": draw.normal(*draw.shape),
        "v": draw.uniform(*draw.shape),
        "step": 3,
        "learning_rate": 0.01,
        "beta1": 0.85,
        "beta2": 0.99,
        "epsilon": 1e-6,
        "weight_decay": 0.1,
        "decoupled": True,
    }


STEPS: dict[str, Callable[[Draw], Arguments]] = {
    "softmax_cross_entropy": _softmax_cross_entropy,
    "softmax_cross_entropy_backward": _softmax_cross_entropy_backward,
    "mean_squared_error": _mean_squared_error,
    "mean_squared_error_backward": _mean_squared_error_backward,
    "sgd_step": _sgd_step,
    "adam_step": _adam_step,
}
