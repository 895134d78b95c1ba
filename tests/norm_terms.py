"""The terms of the norms of single samples, for tests/exponents.py, which says what they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcnn.backend import Array

Arguments = dict[str, Any]


def _rows(call: Arguments, x: Array) -> Array:
    """Return x as (rows before, numbers of a row, rows behind)."""
    if "groups" not in call:
        lead = x.shape[: call["axis"] % x.ndim]
        return x.reshape(*lead, -1)
    n, groups = len(x), call["groups"]
    return x.reshape(n, -1, groups, x.shape[-1] // groups)


def _over(call: Arguments, x: Array, reduce: Any) -> Array:
    """Return what `reduce` makes of each row, shaped to meet x."""
    axes = (1, 3) if "groups" in call else -1
    rows = _rows(call, x)
    return np.asarray(np.broadcast_to(reduce(rows, axis=axes, keepdims=True), rows.shape)).reshape(
        x.shape
    )


def _sizes(call: Arguments) -> tuple[Array, Array]:
    """Return 1 / s and the largest of a row's (x - mean) / s."""
    x = call["x"]
    away = np.abs(x - _over(call, x, np.mean))
    scale = 1 / np.sqrt(_over(call, away**2, np.mean) + call["epsilon"])
    return scale, _over(call, away, np.max) * scale


def _norm(call: Arguments, expected: tuple[Any, ...], largest: float) -> tuple[Array, ...]:
    return (np.abs(call["gamma"]) * _sizes(call)[1] + np.abs(call["beta"]),)


def _norm_backward(call: Arguments, expected: tuple[Any, ...], largest: float) -> tuple[Array, ...]:
    scale, normal = _sizes(call)
    dy, shape = np.abs(call["dy"]), call["gamma"].shape
    g = np.abs(call["gamma"]) * dy
    dx = (g + _over(call, g, np.mean) + normal * _over(call, g * normal, np.mean)) * scale
    axes = tuple(range(dy.ndim - len(shape)))
    return dx, np.sum(dy * normal, axis=axes), np.sum(dy, axis=axes)


def _windows(values: Array, before: int, behind: int) -> Array:
    """Return the sums over windows of channels."""
    pads = [(0, 0)] * (values.ndim - 1) + [(before, behind)]
    padded, channels = np.pad(values, pads), values.shape[-1]
    return np.asarray(sum(padded[..., i : i + channels] for i in range(before + behind + 1)))


def _response_backward(
    call: Arguments, expected: tuple[Any, ...], largest: float
) -> tuple[Array, ...]:
    dy, x, size, beta = np.abs(call["dy"]), np.abs(call["x"]), call["size"], call["beta"]
    factor, before, behind = call["alpha"] / size, (size - 1) // 2, size // 2
    base = call["k"] + factor * _windows(x**2, before, behind)
    slope = dy * x / base**beta * (factor / base)
    return (dy / base**beta + 2 * beta * x * _windows(slope, behind, before),)


NORM_TERMS: dict[str, Callable[[Arguments, tuple[Any, ...], float], tuple[Array, ...]]] = {
    "layer_norm": _norm,
    "layer_norm_backward": _norm_backward,
    "group_norm": _norm,
    "group_norm_backward": _norm_backward,
    "local_response_norm_backward": _response_backward,
}
