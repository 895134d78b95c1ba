"""Valid calls of what moves numbers about, of reductions and of functions; see tests/calls.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backend import Array

if TYPE_CHECKING:
    from calls import Arguments, Draw

Build = Callable[[Any], Any]


# ---------------------------------------------------------------------- shapes
# Options leave the batch axis as it is, so that a batch may be called image by image.
def _reshape(draw: Draw) -> Arguments:
    n, h, w, c = draw.shape
    return {"x": draw.normal(n, h, w, c), "shape": (-1, h * w, c)}


def _reshape_backward(draw: Draw) -> Arguments:
    n, h, w, c = draw.shape
    return {"dy": draw.normal(n, h * w, c), "x_shape": draw.shape}


def _transpose(draw: Draw) -> Arguments:
    return {"x": draw.normal(*draw.shape), "axes": (0, 3, 1, -2)}


def _transpose_backward(draw: Draw) -> Arguments:
    n, h, w, c = draw.shape
    return {"dy": draw.normal(n, c, h, w), "axes": (0, 3, 1, -2)}


def _expand(draw: Draw) -> Arguments:
    n, h, w, c = draw.shape
    return {"x": draw.normal(n, h, 1, c), "shape": (w, 1)}


def _expand_backward(draw: Draw) -> Arguments:
    n, h, w, c = draw.shape
    return {"dy": draw.normal(*draw.shape), "x_shape": (n, h, 1, c), "shape": (w, 1)}


def _pads(draw: Draw) -> Arguments:
    mode = ("constant", "edge", "reflect")[int(draw.rng.integers(3))]
    most = [2, 2, 2] if mode != "reflect" else [min(2, size - 1) for size in draw.shape[1:]]
    return {"widths": ((0, 0), (1 * (most[0] > 0), most[0]), (most[1], 0), (0, most[2])),
            "mode": mode}  # fmt: skip


def _pad(draw: Draw) -> Arguments:
    return {"x": draw.normal(*draw.shape), **_pads(draw), "value": -0.5}


def _pad_backward(draw: Draw) -> Arguments:
    pads = _pads(draw)
    shape = (size + sum(ends) for size, ends in zip(draw.shape, pads["widths"], strict=True))
    return {"dy": draw.normal(*shape), "x_shape": draw.shape, **pads}


_BOUNDS: dict[str, Any] = {
    "starts": (None, -1, 0, 0),
    "stops": (None, None, None, 2**63 - 1),
    "steps": (1, -2, 2, None),
}


def _strided_slice(draw: Draw) -> Arguments:
    return {"x": draw.normal(*draw.shape), **_BOUNDS}


def _strided_slice_backward(draw: Draw) -> Arguments:
    n, h, w, c = draw.shape
    dy = draw.normal(n, (h + 1) // 2, (w + 1) // 2, c)
    return {"dy": dy, "x_shape": draw.shape, **_BOUNDS}


def _places(draw: Draw) -> tuple[int, ...]:
    last = draw.width - 1
    return (last, 0, -1, last // 2)


def _take(draw: Draw) -> Arguments:
    return {"x": draw.normal(*draw.shape), "indices": _places(draw), "axis": 2}


def _take_backward(draw: Draw) -> Arguments:
    n, h, _, c = draw.shape
    dy = draw.normal(n, h, 4, c)
    return {"dy": dy, "x_shape": draw.shape, "indices": _places(draw), "axis": 2}


def _mode(draw: Draw) -> str:
    return ("DCR", "CRD")[int(draw.rng.integers(2))]


def _deep(name: str) -> Build:
    def build(draw: Draw) -> Arguments:
        n, h, w, c = draw.shape
        return {name: draw.normal(n, h, w, 4 * c), "block": 2, "mode": _mode(draw)}

    return build


def _large(name: str) -> Build:
    def build(draw: Draw) -> Arguments:
        n, h, w, c = draw.shape
        return {name: draw.normal(n, 2 * h, 2 * w, c), "block": 2, "mode": _mode(draw)}

    return build


# ---------------------------------------------------------------------- reductions
def _axis(draw: Draw) -> dict[str, Any]:
    """Return the axes of pixels, in one or two pieces, or of channels."""
    axis = ((1, 2), (-1, 1), 3, (2, 3))[int(draw.rng.integers(4))]
    return {"axis": axis, "keepdims": bool(draw.rng.integers(2))}


def _left(draw: Draw, axis: Any, keepdims: bool) -> tuple[int, ...]:
    gone = {at % 4 for at in (axis if isinstance(axis, tuple) else (axis,))}
    sizes = enumerate(draw.shape)
    return tuple(1 if at in gone else n for at, n in sizes if keepdims or at not in gone)


def _reduction(draw: Draw) -> Arguments:
    return {"x": np.round(4 * draw.normal(*draw.shape)) / 4, **_axis(draw)}


def _spread(draw: Draw) -> Arguments:
    options = _axis(draw)
    return {"dy": draw.normal(*_left(draw, **options)), "x_shape": draw.shape, **options}


def _to_winner(draw: Draw) -> Arguments:
    forward = _reduction(draw)
    x = forward.pop("x")
    return {"dy": draw.normal(*_left(draw, **forward)), "x": x, **forward}


# ---------------------------------------------------------------------- arithmetic
def _whole_and_part(draw: Draw) -> Arguments:
    return {"a": draw.normal(*draw.shape), "b": draw.normal(draw.channels)}


def _quotient(draw: Draw) -> Arguments:
    return {"a": draw.normal(*draw.shape), "b": draw.uniform(draw.channels)}


def _power(draw: Draw) -> Arguments:
    return {"a": draw.uniform(*draw.shape), "b": draw.normal(draw.channels)}


def _subtract_backward(draw: Draw) -> Arguments:
    dy = draw.normal(*draw.shape)
    return {"dy": dy, "a_shape": draw.shape, "b_shape": (draw.channels,)}


def _backward(build: Build) -> Build:
    return lambda draw: {"dy": draw.normal(*draw.shape), **build(draw)}


def _matmul(draw: Draw) -> Arguments:
    n, h, w, c = draw.shape
    return {"a": draw.normal(n, 1, h, c), "b": draw.normal(2, c, w)}


def _matmul_backward(draw: Draw) -> Arguments:
    n, h, w, _ = draw.shape
    return {"dy": draw.normal(n, 2, h, w), **_matmul(draw)}


# ---------------------------------------------------------------------- functions
def _of(values: Callable[[Draw], Array]) -> Build:
    return lambda draw: {"x": values(draw)}


def _numbers(draw: Draw) -> Array:
    return 2 * draw.normal(*draw.shape)


def _positive(draw: Draw) -> Array:
    return draw.uniform(*draw.shape)


def _gradient(name: str, values: Callable[[Draw], Array]) -> Build:
    return lambda draw: {"dy": draw.normal(*draw.shape), name: values(draw)}


SHAPES: dict[str, Build] = {
    "reshape": _reshape,
    "reshape_backward": _reshape_backward,
    "transpose": _transpose,
    "transpose_backward": _transpose_backward,
    "expand": _expand,
    "expand_backward": _expand_backward,
    "pad": _pad,
    "pad_backward": _pad_backward,
    "strided_slice": _strided_slice,
    "strided_slice_backward": _strided_slice_backward,
    "take": _take,
    "take_backward": _take_backward,
    "depth_to_space": _deep("x"),
    "depth_to_space_backward": _large("dy"),
    "space_to_depth": _large("x"),
    "space_to_depth_backward": _deep("dy"),
    "reduce_sum": _reduction,
    "reduce_sum_backward": _spread,
    "reduce_mean": _reduction,
    "reduce_mean_backward": _spread,
    "reduce_max": _reduction,
    "reduce_max_backward": _to_winner,
    "reduce_min": _reduction,
    "reduce_min_backward": _to_winner,
    "subtract": _whole_and_part,
    "subtract_backward": _subtract_backward,
    "divide": _quotient,
    "divide_backward": _backward(_quotient),
    "power": _power,
    "power_backward": _backward(_power),
    "maximum": _whole_and_part,
    "maximum_backward": _backward(_whole_and_part),
    "minimum": _whole_and_part,
    "minimum_backward": _backward(_whole_and_part),
    "matmul": _matmul,
    "matmul_backward": _matmul_backward,
    "log_softmax": _of(_numbers),
    "log_softmax_backward": _gradient("y", lambda draw: -_positive(draw)),
    "exp": _of(_numbers),
    "exp_backward": _gradient("y", _positive),
    "log": _of(_positive),
    "log_backward": _gradient("x", _positive),
    "sqrt": _of(_positive),
    "sqrt_backward": _gradient("y", _positive),
    "abs": _of(_numbers),
    "abs_backward": _gradient("x", _numbers),
    "negative": _of(_numbers),
    "negative_backward": lambda draw: {"dy": draw.normal(*draw.shape)},
    "reciprocal": _of(_positive),
    "reciprocal_backward": _gradient("y", _numbers),
    "erf": _of(_numbers),
    "erf_backward": _gradient("x", _numbers),
}
