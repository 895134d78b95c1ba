"""Valid calls of the norms of single samples; tests/calls.py has the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calls import Arguments, Draw


def _layer_norm(draw: Draw) -> Arguments:
    axis = (-1, 1, 2)[int(draw.rng.integers(3))]
    row = draw.shape[axis:]
    return {
        "x": 3 + 2 * draw.normal(*draw.shape),
        "gamma": draw.normal(*row),
        "beta": draw.normal(*row),
        "axis": axis,
        "epsilon": 1e-3,
    }


def _group_norm(draw: Draw) -> Arguments:
    c = draw.channels
    divisors = [groups for groups in range(1, c + 1) if c % groups == 0]
    return {
        "x": 3 + 2 * draw.normal(*draw.shape),
        "gamma": draw.normal(c),
        "beta": draw.normal(c),
        "groups": divisors[int(draw.rng.integers(len(divisors)))],
        "epsilon": 1e-3,
    }


def _local_response_norm(draw: Draw) -> Arguments:
    beta = (0.75, 0.5, 0.9)[int(draw.rng.integers(3))]
    size = int(draw.rng.integers(1, 9))
    return {"x": draw.normal(*draw.shape), "size": size, "alpha": 0.5, "beta": beta, "k": 2.0}


def _backward(forward: Callable[[Draw], Arguments]) -> Callable[[Draw], Arguments]:
    def build(draw: Draw) -> Arguments:
        arguments = forward(draw)
        if "gamma" in arguments:
            del arguments["beta"]
        return {"dy": draw.normal(*draw.shape), **arguments}

    return build


NORMS: dict[str, Callable[[Any], Any]] = {
    "layer_norm": _layer_norm,
    "layer_norm_backward": _backward(_layer_norm),
    "group_norm": _group_norm,
    "group_norm_backward": _backward(_group_norm),
    "local_response_norm": _local_response_norm,
    "local_response_norm_backward": _backward(_local_response_norm),
}
