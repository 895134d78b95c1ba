"""Valid calls of the ops that resample rows and columns, and the terms of their sums.

The other calls are in tests/calls.py, the other terms in tests/exponents.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import reference
from fastcnn.backend import Array

if TYPE_CHECKING:
    from calls import Arguments, Draw

METHODS = ("nearest", "bilinear", "cubic")
COORDINATES = (
    *("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric"),
)
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def _one_of(draw: Draw, choices: tuple[Any, ...]) -> Any:
    return choices[int(draw.rng.integers(len(choices)))]


def _resize2d(draw: Draw) -> Arguments:
    return {
        "x": draw.normal(*draw.shape),
        "size": (7, 3),
        "method": _one_of(draw, METHODS),
        "coordinates": _one_of(draw, COORDINATES),
        "rounding": _one_of(draw, ROUNDINGS),
        "scale": _one_of(draw, (None, 1.5, (1.7, 0.6))),
        "cubic_coefficient": _one_of(draw, (-0.75, -0.5)),
        "exclude_outside": _one_of(draw, (False, True)),
    }


def _resize2d_backward(draw: Draw) -> Arguments:
    arguments = _resize2d(draw)
    n, _, _, c = arguments.pop("x").shape
    return {"dy": draw.normal(n, 7, 3, c), "x_shape": draw.shape, **arguments}


def _adaptive_avg_pool2d(draw: Draw) -> Arguments:
    return {"x": draw.normal(*draw.shape), "output_size": (2, 3)}


def _adaptive_avg_pool2d_backward(draw: Draw) -> Arguments:
    dy = draw.normal(draw.images, 2, 3, draw.channels)
    return {"dy": dy, "x_shape": draw.shape, "output_size": (2, 3)}


RESAMPLING: dict[str, Callable[[Any], Any]] = {
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "adaptive_avg_pool2d_backward": _adaptive_avg_pool2d_backward,
    "resize2d": _resize2d,
    "resize2d_backward": _resize2d_backward,
}


def _resized_terms(call: Arguments, _: Any, largest: float) -> tuple[Array, ...]:
    """Return the terms of resize2d or its gradient: some weights of "cubic" are below 0."""
    shape, dy = call.get("x_shape", np.shape(call.get("x"))), call.get("dy")
    rows, columns = (_weights_of(call, axis, shape[1 + axis]) for axis in range(2))
    if dy is not None:
        return (np.einsum("ph,npqc,qw->nhwc", rows, np.abs(dy), columns),)
    return (np.einsum("ph,nhwc,qw->npqc", rows, np.abs(call["x"]), columns),)


def _weights_of(call: Arguments, axis: int, length: int) -> Array:
    """Return the absolute weights (outputs, pixels) of an axis: what becomes of single pixels."""
    names = ("method", "coordinates", "rounding", "cubic_coefficient", "exclude_outside")
    scale = call["scale"]
    if scale is not None:
        scale = (scale[axis] if isinstance(scale, tuple) else scale, 1.0)
    pixels = np.eye(length)[None, :, None]
    options = {name: call[name] for name in names}
    weights = reference.resize2d(pixels, (call["size"][axis], 1), scale=scale, **options)
    return np.abs(weights[0, :, 0])


def _pooled_terms(call: Arguments, _: Any, largest: float) -> tuple[Array, ...]:
    """Return the terms of adaptive_avg_pool2d or its gradient, whose weights are above 0."""
    if "dy" in call:
        given = np.abs(call["dy"]), call["x_shape"], call["output_size"]
        return (reference.adaptive_avg_pool2d_backward(*given),)
    return (reference.adaptive_avg_pool2d(np.abs(call["x"]), call["output_size"]),)


RESAMPLED_TERMS: dict[str, Callable[..., tuple[Array, ...]]] = {
    "adaptive_avg_pool2d": _pooled_terms,
    "adaptive_avg_pool2d_backward": _pooled_terms,
    "resize2d": _resized_terms,
    "resize2d_backward": _resized_terms,
}
