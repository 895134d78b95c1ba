"""Valid calls of what picks and rounds, and how they are differentiated; see tests/calls.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from gradients import Case, normal

from fastcnn.backend import Array

if TYPE_CHECKING:
    from calls import Arguments, Draw


def _steps(draw: Draw, *shape: int) -> Array:
    """Numbers of which many are equal, halves among them."""
    return np.round(4 * draw.normal(*shape)) / 2


def _pair(draw: Draw) -> Arguments:
    return {"a": _steps(draw, *draw.shape), "b": _steps(draw, draw.channels)}


def _condition(draw: Draw) -> Array:
    n, h, w, _ = draw.shape
    return np.maximum(_steps(draw, n, h, w, 1), 0)


def _where(draw: Draw) -> Arguments:
    pair = {"a": draw.normal(*draw.shape), "b": draw.normal(draw.channels)}
    return {"condition": _condition(draw), **pair}


def _where_backward(draw: Draw) -> Arguments:
    shapes = {"a_shape": draw.shape, "b_shape": (draw.channels,)}
    return {"dy": draw.normal(*draw.shape), "condition": _condition(draw), **shapes}


def _number(draw: Draw) -> Arguments:
    return {"x": _steps(draw, *draw.shape)}


CHOICES: dict[str, Callable[[Any], Any]] = {
    "equal": _pair,
    "less": _pair,
    "where": _where,
    "where_backward": _where_backward,
    **dict.fromkeys(("floor", "ceil", "round", "sign"), _number),
}


def picked(condition: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...]) -> Case:
    """Return a case of where, which is differentiated by a and b."""
    chosen = np.random.default_rng(3).integers(0, 2, condition).astype(np.float64)
    return Case(
        "where",
        normal(a, b),
        lambda backend, a, b: backend.where(chosen, a, b),
        lambda backend, dy, y, a, b: backend.where_backward(dy, chosen, a.shape, b.shape),
        {"condition": condition},
    )
