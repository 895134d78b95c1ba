"""Valid calls of recurrent ops, and how far results may be off; tests/calls.py has the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backend import Array

if TYPE_CHECKING:
    from calls import Arguments, Draw

UNITS = 3


def _lstm(draw: Draw) -> Arguments:
    n, steps, features = draw.images, draw.height, draw.channels
    units = UNITS + features % 7
    return {
        "x": draw.normal(n, steps, features),
        "w": draw.normal(features, 4 * units) / np.sqrt(np.asarray(features, draw.dtype)),
        "r": draw.normal(units, 4 * units) / np.sqrt(np.asarray(units, draw.dtype)),
        "b": draw.normal(4 * units),
        "h0": draw.normal(n, units),
        "c0": draw.normal(n, units),
        "reverse": bool(draw.rng.integers(2)),
    }


def _lstm_terms(call: Arguments, expected: tuple[Array, ...], largest: float) -> tuple[Array, ...]:
    """Return what roundings are of: sums are rounded as they are large, and each step adds some.

    Where they are so large that nothing is left of a gate, it may be anything from 0 to 1.
    """
    x, w, r, b, h0, c0 = (np.abs(call[name]) for name in ("x", "w", "r", "b", "h0", "c0"))
    sums = x.max() * w.sum(0).max() + max(1.0, h0.max()) * r.sum(0).max() + b.max()
    size = (1 + sums) * (1 + r.sum(0).max()) ** x.shape[1] * (1 + c0.max())
    return tuple(np.full(each.shape, size if sums < 1e4 else np.inf) for each in expected)


RECURRENT: dict[str, Callable[[Any], Any]] = {"lstm": _lstm}
RECURRENT_TERMS: dict[str, Callable[..., tuple[Array, ...]]] = {"lstm": _lstm_terms}
