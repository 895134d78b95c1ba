"""Images of another size on the compiled kernels."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, rank, shape
from fastcnn._options import (
    COORDINATES,
    RESIZE_METHODS,
    ROUNDINGS,
    choice,
    flag,
    number,
    pair,
    scale2d,
    size2d,
)
from fastcnn._types import Array, Scale2D, Size2D
from fastcnn.fast._pool2d import _shape4
from fastcnn.fast._resample import Resample, Rule, seen_by

__all__ = ["Resize2D"]


def _rules(
    op: str,
    method: Any,
    coordinates: Any,
    rounding: Any,
    scale: Any,
    coefficient: Any,
    exclude_outside: Any,
) -> tuple[Rule, Rule]:
    """Return the checked options, for each axis."""
    method = choice(method, f"{op}: method", RESIZE_METHODS)
    coordinates = choice(coordinates, f"{op}: coordinates", COORDINATES)
    rounding = choice(rounding, f"{op}: rounding", ROUNDINGS)
    scale = scale2d(scale, f"{op}: scale")
    coefficient = number(coefficient, f"{op}: cubic_coefficient")
    inside = flag(exclude_outside, f"{op}: exclude_outside")
    scales = scale if isinstance(scale, tuple) else (scale, scale)
    vertical, horizontal = (
        Rule(method, coordinates, rounding, one, coefficient, inside) for one in scales
    )
    return vertical, horizontal


class Resize2D(Resample):
    """resize2d and its gradient."""

    def resize2d(
        self,
        x: ArrayLike,
        size: Size2D,
        *,
        method: str = "nearest",
        coordinates: str = "half_pixel",
        rounding: str = "round_prefer_floor",
        scale: Scale2D | None = None,
        cubic_coefficient: float = -0.75,
        exclude_outside: bool = False,
    ) -> Array:
        op = "resize2d"
        (x,) = float_arrays(op, x=x)
        rank(x, f"{op}: x", "N, H, W, C")
        if 0 in x.shape[1:]:
            raise ValueError(
                f"{op}: x: expected at least one pixel and one channel, got shape {x.shape}"
            )
        rows, columns = pair(size2d(size, f"{op}: size"))
        vertical, horizontal = _rules(
            op, method, coordinates, rounding, scale, cubic_coefficient, exclude_outside
        )
        n, height, width, channels = x.shape
        y = self._result(op, "size", (n, rows, columns, channels), x.dtype)
        if y.size:
            down, right = seen_by(rows, height, vertical), seen_by(columns, width, horizontal)
            self._resample(y, x, down, right, narrow=method == "bilinear")
        return y

    def resize2d_backward(
        self,
        dy: ArrayLike,
        x_shape: tuple[int, ...],
        size: Size2D,
        *,
        method: str = "nearest",
        coordinates: str = "half_pixel",
        rounding: str = "round_prefer_floor",
        scale: Scale2D | None = None,
        cubic_coefficient: float = -0.75,
        exclude_outside: bool = False,
    ) -> Array:
        op = "resize2d_backward"
        (dy,) = float_arrays(op, dy=dy)
        n, height, width, channels = _shape4(op, x_shape)
        rows, columns = pair(size2d(size, f"{op}: size"))
        vertical, horizontal = _rules(
            op, method, coordinates, rounding, scale, cubic_coefficient, exclude_outside
        )
        shape(dy, f"{op}: dy", (n, rows, columns, channels), "that of resize2d's result")
        dx = self._result(op, "x_shape", (n, height, width, channels), dy.dtype)
        if dx.size:
            down = seen_by(rows, height, vertical, backward=True)
            right = seen_by(columns, width, horizontal, backward=True)
            self._resample(dx, dy, down, right)
        return dx
