"""Losses that are differentiated; tests/gradients.py has the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

WEIGHTS = np.array([1.0, 0.0, 2.0, 0.5])
TARGET = np.round(np.random.default_rng(0).random((4, 3, 2, 5)), 1)  # 0 and 1 among them
LABELS = np.random.default_rng(1).integers(-1, 5, TARGET.shape[:-1])


def _numbers(rng: np.random.Generator) -> list[Any]:
    """Predictions far from what they meet at a kink: a target, and delta away from it."""
    apart = rng.choice([-2.0, -1.25, -0.5, 0.5, 1.25, 2.0], TARGET.shape)
    return [TARGET + apart + 0.2 * rng.random(TARGET.shape)]


def _logits(rng: np.random.Generator) -> list[Any]:
    return [2 * rng.standard_normal(TARGET.shape)]


def loss_cases(case: Callable[..., Any]) -> list[Any]:
    """Return the cases, each made by `case`, the class of all of them."""

    def of(op: str, draw: Any, target: Any = TARGET, **options: Any) -> Any:
        def forward(backend: Any, x: Any) -> Any:
            return getattr(backend, op)(x, target, **options)

        def backward(backend: Any, dy: Any, result: Any, x: Any) -> list[Any]:
            saved = result[1] if isinstance(result, tuple) else x
            return [getattr(backend, f"{op}_backward")(dy, saved, target, **options)]

        told = {k: v for k, v in options.items() if not isinstance(v, np.ndarray)}
        return case(op, draw, forward, backward, {**told, "weighted": "sample_weights" in options})

    return [
        of(op, draw, **options, **weights)
        for weights in ({}, {"sample_weights": WEIGHTS})
        for op, draw, options in (
            ("mean_absolute_error", _numbers, {}),
            ("huber", _numbers, {}),
            ("huber", _numbers, {"delta": 0.25}),
            ("binary_cross_entropy", _logits, {}),
            ("binary_cross_entropy", _logits, {"pos_weight": 2.5}),
            ("binary_cross_entropy", _logits, {"pos_weight": (0.0, 1.0, 2.0, 0.5, 3.0)}),
            ("focal", _logits, {}),
            ("focal", _logits, {"alpha": None, "gamma": 0.5}),
            ("focal", _logits, {"gamma": 0.0}),
            ("dice", _logits, {}),
            ("dice", _logits, {"activation": "softmax", "smooth": 0.1}),
            ("dice", _logits, {"target": LABELS % 5, "activation": "softmax"}),
            ("dice", _logits, {"target": LABELS, "activation": "softmax", "ignore_label": -1}),
        )
    ]
