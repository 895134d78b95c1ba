"""Valid calls of the ops of networks with branches; tests/calls.py has the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calls import Arguments, Draw


def _conv2d_transpose(draw: Draw) -> Arguments:
    filters = max(68 - draw.channels, 1)
    return {
        "x": draw.normal(*draw.shape),
        "w": draw.normal(3, 2, filters, draw.channels),
        "b": draw.normal(filters),
        "stride": (1, 2),
        "padding": ((1, 0), (0, 1)),
        "output_padding": (0, 1),
        "groups": 1,
    }


def _conv2d_transpose_backward(draw: Draw) -> Arguments:
    arguments = _conv2d_transpose(draw)
    filters = len(arguments.pop("b"))
    n, h, w, _ = draw.shape
    return {
        "dy": draw.normal(n, h + 1, 2 * w, filters),
        **arguments,
        "input_gradient": True,
        "weight_gradient": True,
    }


def _add(draw: Draw) -> Arguments:
    return {"a": draw.normal(*draw.shape), "b": draw.normal(draw.channels)}


def _add_backward(draw: Draw) -> Arguments:
    dy = draw.normal(*draw.shape)
    return {"dy": dy, "a_shape": draw.shape, "b_shape": (draw.channels,)}


def _multiply(draw: Draw) -> Arguments:
    gate = draw.normal(draw.images, 1, 1, draw.channels)
    return {"a": gate, "b": draw.normal(*draw.shape)}


def _multiply_backward(draw: Draw) -> Arguments:
    return {"dy": draw.normal(*draw.shape), **_multiply(draw)}


def _prelu(draw: Draw) -> Arguments:
    return {"x": draw.normal(*draw.shape), "slope": draw.normal(draw.channels)}


def _prelu_backward(draw: Draw) -> Arguments:
    return {"dy": draw.normal(*draw.shape), **_prelu(draw)}


def _concat(draw: Draw) -> Arguments:
    xs = [draw.normal(*draw.shape), draw.normal(*draw.shape[:3], 3)]
    return {"xs": [*xs, draw.normal(*draw.shape)], "axis": -1}


def _concat_backward(draw: Draw) -> Arguments:
    *lead, channels = draw.shape
    shapes = [draw.shape, (*lead, 3), draw.shape]
    return {"dy": draw.normal(*lead, 2 * channels + 3), "shapes": shapes, "axis": -1}


def _upsample2d(draw: Draw) -> Arguments:
    method = ("nearest", "bilinear")[int(draw.rng.integers(2))]
    return {"x": draw.normal(*draw.shape), "factor": (2, 3), "method": method}


def _upsample2d_backward(draw: Draw) -> Arguments:
    arguments = _upsample2d(draw)
    n, h, w, c = arguments.pop("x").shape
    return {"dy": draw.normal(n, 2 * h, 3 * w, c), "x_shape": draw.shape, **arguments}


BRANCHES: dict[str, Callable[[Any], Any]] = {
    "conv2d_transpose": _conv2d_transpose,
    "conv2d_transpose_backward": _conv2d_transpose_backward,
    "add": _add,
    "add_backward": _add_backward,
    "multiply": _multiply,
    "multiply_backward": _multiply_backward,
    "prelu": _prelu,
    "prelu_backward": _prelu_backward,
    "concat": _concat,
    "concat_backward": _concat_backward,
    "upsample2d": _upsample2d,
    "upsample2d_backward": _upsample2d_backward,
}
