"""What may be off in sums over what was repeated and others; tests/exponents.py has the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import reference
from fastcnn.backend import Array

if TYPE_CHECKING:
    from calls import Arguments

# Whose terms are what they make of absolute values.
SUMS = ("reduce_sum", "reduce_mean", "pad_backward", "take_backward", "expand_backward")
SUMS += ("matmul", "matmul_backward")


def _subtract(call: Arguments, _: Any, largest: float) -> tuple[Array, ...]:
    dy = np.abs(call["dy"])
    return reference.add_backward(dy, call["a_shape"], call["b_shape"])


def _divide(call: Arguments, _: Any, largest: float) -> tuple[Array, ...]:
    absolute = (np.abs(call[name]) for name in ("dy", "a", "b"))
    da, db = reference.divide_backward(*absolute)
    return da, np.abs(db)


def _power(call: Arguments, _: Any, largest: float) -> tuple[Array, ...]:
    dy, a, b = np.abs(call["dy"]), call["a"], call["b"]
    da, _ = reference.power_backward(dy, a, b)  # a is as large as the result
    terms = dy * a**b * np.abs(np.log(a))
    return np.abs(da), reference.add_backward(terms, a.shape, b.shape)[1]


def _winner(op: str) -> Callable[..., tuple[Array, ...]]:
    def terms(call: Arguments, _: Any, largest: float) -> tuple[Array, ...]:
        result: tuple[Array, ...] = getattr(reference, op)(**{**call, "dy": np.abs(call["dy"])})
        return result

    return terms


def _log_softmax(call: Arguments, expected: tuple[Any, ...], largest: float) -> tuple[Array, ...]:
    """The logarithm of the sum has the roundings of a sum that is 1 at least."""
    return (np.abs(expected[0]) + 1,)


def _log_softmax_backward(call: Arguments, _: Any, largest: float) -> tuple[Array, ...]:
    dy = np.abs(call["dy"])
    return (dy + np.exp(call["y"]) * np.sum(dy, axis=-1, keepdims=True),)


REPEATED: dict[str, Callable[..., tuple[Array, ...]]] = {
    "subtract_backward": _subtract,
    "divide_backward": _divide,
    "power_backward": _power,
    "maximum_backward": _winner("maximum_backward"),
    "minimum_backward": _winner("minimum_backward"),
    "where_backward": _winner("where_backward"),
    "log_softmax": _log_softmax,
    "log_softmax_backward": _log_softmax_backward,
}
