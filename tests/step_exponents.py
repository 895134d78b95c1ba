"""The terms of steps of numbers of every exponent; tests/exponents.py has the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backend import Array

if TYPE_CHECKING:
    from calls import Arguments

__all__ = ["STEP_TERMS", "limited"]


def limited(terms: Array, largest: float) -> Array:
    """Return the terms of sums in the dtype; infinite where the sum need not fit."""
    return np.where(terms < largest, terms, np.inf)


# A gradient with its decay, a velocity and a mean of squares are numbers of the dtype: where one is
# beyond it, so is its weight, or it stays where it is.
def _sgd_step(call: Arguments, expected: tuple[Any, ...], largest: float) -> tuple[Array, ...]:
    w, dw, velocity = (np.abs(call[name]) for name in ("w", "dw", "velocity"))
    g = dw + call["weight_decay"] * w
    v = call["momentum"] * velocity + g
    moved = g + call["momentum"] * v if call["nesterov"] else v
    step = call["learning_rate"] * moved
    fits = np.maximum(moved, step) < largest
    return w + np.where(fits, step, np.inf), limited(v, largest)


def _adam_step(call: Arguments, expected: tuple[Any, ...], largest: float) -> tuple[Array, ...]:
    w, dw, m = (np.abs(call[name]) for name in ("w", "dw", "m"))
    rate, decay = call["learning_rate"], call["weight_decay"]
    beta1, step = call["beta1"], call["step"]
    g = limited(dw if call["decoupled"] else dw + decay * w, largest)
    kept = 1 + rate * decay if call["decoupled"] else 1
    v = expected[2]
    root = np.sqrt(v / (1 - call["beta2"] ** step)) + call["epsilon"]
    smallest = float(np.finfo(np.float32).tiny)  # what m may lose where it vanishes
    moved = rate * (beta1 * m + (1 - beta1) * g + smallest) / (1 - beta1**step) / root
    return kept * w + np.where(np.isfinite(limited(v, largest)), moved, np.inf), beta1 * m + g, v


STEP_TERMS: dict[str, Callable[..., tuple[Array, ...]]] = {
    "sgd_step": _sgd_step,
    "adam_step": _adam_step,
}
