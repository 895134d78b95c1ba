"""Which kernel computes a convolution's result and its gradients: another would be right, too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcnn import FastBackend
from fastcnn.fast._conv_rules import geometry_of

DEFAULTS: dict[str, Any] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}

# The shape of w, images of so many pixels a side, options; and what computes y, dx and dw.
CHOICES: list[tuple[tuple[int, ...], int, dict[str, Any], str, str, str]] = [
    ((3, 3, 1, 64), 8, {"groups": 64}, "depthwise", "depthwise", "depthwise"),
    ((3, 3, 2, 64), 8, {"groups": 32}, "grouped", "grouped", "grouped"),
    ((1, 1, 64, 32), 8, {}, "pointwise", "pointwise", "direct"),
    ((1, 1, 64, 32), 8, {"stride": 2}, "pointwise", "pointwise", "direct"),
    ((1, 1, 64, 32), 8, {"padding": 1}, "direct", "direct", "swapped"),
    ((3, 3, 64, 64), 12, {"padding": 1}, "winograd", "winograd", "winograd"),
    ((3, 3, 64, 64), 12, {"padding": 1, "stride": 2}, "direct", "direct", "direct"),
    ((3, 3, 64, 64), 12, {"padding": 1, "dilation": 2}, "direct", "direct", "direct"),
    ((3, 3, 64, 1), 12, {"padding": 1}, "winograd", "direct", "swapped"),
    ((3, 3, 1, 64), 12, {"padding": 1}, "direct", "winograd", "direct"),
    ((5, 5, 64, 64), 12, {"groups": 2}, "direct", "direct", "direct"),
]


@pytest.mark.parametrize(("w_shape", "size", "options", "y", "dx", "dw"), CHOICES)
def test_choices(
    w_shape: tuple[int, ...], size: int, options: dict[str, Any], y: str, dx: str, dw: str
) -> None:
    backend, groups = FastBackend(), options.get("groups", 1)
    x = np.zeros((1, size, size, w_shape[2] * groups), np.float32)
    w = np.zeros(w_shape, np.float32)
    given = (options.get(name, default) for name, default in DEFAULTS.items())
    geometry = geometry_of("conv2d", x, w, *given)
    chosen = [backend._algorithm_of(result, x.shape, w, geometry) for result in ("y", "dx", "dw")]
    if y == "grouped" and backend.isa == "baseline":  # whose vectors cannot spread a group's lanes
        y = dx = dw = "direct"
    assert chosen == [y, dx, dw]


@pytest.mark.parametrize("convolution", ["direct", "winograd"])
def test_what_is_asked_for(convolution: str) -> None:
    backend = FastBackend(convolution=convolution)
    x, w = np.zeros((1, 5, 5, 32), np.float32), np.zeros((3, 3, 32, 32), np.float32)
    geometry = geometry_of("conv2d", x, w, *DEFAULTS.values())
    for result in ("y", "dx", "dw"):
        assert backend._algorithm_of(result, x.shape, w, geometry) == convolution
