"""Images of another size, by the nearest pixel, or by linear or cubic interpolation.

N batch, H W input height and width, C channels, P Q output height and width. Places are those of
ONNX's Resize, the cubic kernel is that of R. Keys, "Cubic Convolution Interpolation for Digital
Image Processing" (1981).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ._checks import (
    Array,
    Scale2D,
    Size2D,
    array,
    choice,
    finite,
    flag,
    float_dtype,
    is_sequence,
    pair,
    positive,
    rounded,
    shape4,
    shown,
    silent,
    zeros,
)

Pixels = list[tuple[int, float]]  # of one output: the pixels it is made of, and their weights

HALF = Fraction(1, 2)


@silent
def resize2d(
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
    """Return y (N, P, Q, C) of x (N, H, W, C), float32 or float64; `size` is (P, Q).

    TypeError for other dtypes, ValueError for shapes and options that do not fit.
    """
    op = "resize2d"
    dtype = float_dtype(op, x=x)
    x = array(op, "x", x, dtype, ("N", "H", "W", "C"))
    P, Q = pair(op, "size", size)
    rules = _rules(op, method, coordinates, rounding, scale, cubic_coefficient, exclude_outside)
    N, H, W, C = x.shape
    if N == 0 and P * Q * C >= 2**60:
        raise ValueError(
            f"{op}: size: expected a result that fits in memory, got one of shape {(N, P, Q, C)}"
        )

    y = zeros(op, (N, P, Q, C), "size")
    if N == 0:
        return rounded(y, dtype)
    rows = [_pixels(p, P, H, rules.vertical) for p in range(P)]
    columns = [_pixels(q, Q, W, rules.horizontal) for q in range(Q)]
    for n in range(N):
        for p in range(P):
            for q in range(Q):
                for h, weight_h in rows[p]:
                    for w, weight_w in columns[q]:
                        y[n, p, q] += weight_h * weight_w * x[n, h, w]
    return rounded(y, dtype)


@silent
def resize2d_backward(
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
    """Return dx of shape `x_shape`: each gradient goes to the pixels that its output saw.

    dy (N, P, Q, C). Errors as in resize2d.
    """
    op = "resize2d_backward"
    dtype = float_dtype(op, dy=dy)
    N, H, W, C = shape4(op, "x_shape", x_shape)
    P, Q = pair(op, "size", size)
    rules = _rules(op, method, coordinates, rounding, scale, cubic_coefficient, exclude_outside)
    dy = array(op, "dy", dy, dtype, (N, P, Q, C))

    dx = zeros(op, (N, H, W, C), "x_shape")
    if N == 0:
        return rounded(dx, dtype)
    rows = [_pixels(p, P, H, rules.vertical) for p in range(P)]
    columns = [_pixels(q, Q, W, rules.horizontal) for q in range(Q)]
    for n in range(N):
        for p in range(P):
            for q in range(Q):
                for h, weight_h in rows[p]:
                    for w, weight_w in columns[q]:
                        dx[n, h, w] += weight_h * weight_w * dy[n, p, q]
    return rounded(dx, dtype)


class _Rule(NamedTuple):
    """The checked options, for one axis."""

    method: str
    coordinates: str
    rounding: str
    scale: float | None
    a: float
    exclude_outside: bool


class _Rules(NamedTuple):
    vertical: _Rule
    horizontal: _Rule


def _rules(
    op: str,
    method: Any,
    coordinates: Any,
    rounding: Any,
    scale: Any,
    coefficient: Any,
    exclude_outside: Any,
) -> _Rules:
    """Check the options and return what they are for each axis."""
    method = choice(op, "method", method, ("nearest", "bilinear", "cubic"))
    coordinates = choice(
        op,
        "coordinates",
        coordinates,
        (
            "half_pixel",
            "pytorch_half_pixel",
            "half_pixel_symmetric",
            "align_corners",
            "asymmetric",
        ),
    )
    rounding = choice(
        op, "rounding", rounding, ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    )
    scales: list[float | None] = [None, None]
    if is_sequence(scale):
        if len(scale) != 2:
            raise ValueError(
                f"{op}: scale: expected a number or a (height, width) pair, got {shown(scale)}"
            )
        scales = [positive(op, "scale", each) for each in scale]
    elif scale is not None:
        scales = [positive(op, "scale", scale)] * 2
    a = finite(op, "cubic_coefficient", coefficient)
    inside = flag(op, "exclude_outside", exclude_outside)
    vertical, horizontal = (_Rule(method, coordinates, rounding, one, a, inside) for one in scales)
    return _Rules(vertical, horizontal)


def _pixels(p: int, size: int, length: int, rule: _Rule) -> Pixels:
    """Return what output p of `size` is made of, of `length` pixels along an axis."""
    place = _place(p, size, length, rule)
    if rule.method == "nearest":
        return [(_rounded(min(max(place, 0), length - 1), rule.rounding), 1.0)]
    if rule.method == "bilinear":
        place = min(max(place, 0), length - 1)
        before = math.floor(place)
        weight = float(place - before)
        taps = [(before, 1 - weight), (before + 1, weight)]
    else:
        # One pixel further out, and all that a place sees is the pixel at the rim.
        place = min(max(place, -2), length + 1)
        before = math.floor(place)
        t = float(place - before)
        taps = [(before + i, _keys(i - t, rule.a)) for i in (-1, 0, 1, 2)] if t else [(before, 1.0)]
        if rule.exclude_outside:
            inside = [(i, weight) for i, weight in taps if 0 <= i < length]
            total = sum(weight for _, weight in inside)
            # Far outside there is none, and the place sees the pixel at the rim.
            taps = [(i, weight / total) for i, weight in inside] if total else [(before, 1.0)]
    return [(min(max(i, 0), length - 1), weight) for i, weight in taps if weight != 0]


def _place(p: int, size: int, length: int, rule: _Rule) -> Fraction | float:
    """Return where output p lies among the pixels, whose centres are 0, 1, 2 and so on."""
    if rule.coordinates == "align_corners":
        return Fraction(p * (length - 1), size - 1) if size > 1 else 0.0
    if rule.coordinates == "pytorch_half_pixel" and size == 1:
        return 0.0
    # The zero of outputs and that of pixels, from which both are counted.
    zero, middle = HALF, HALF
    if rule.coordinates == "asymmetric":
        zero, middle = Fraction(0), Fraction(0)
    elif rule.coordinates == "half_pixel_symmetric":
        zero, middle = HALF - Fraction(size, 2), HALF - Fraction(length, 2)
    if rule.scale is None:
        return (p + zero) * Fraction(length, size) - middle
    quotient = float(p + zero) / rule.scale
    return (float(np.float32(quotient)) if rule.method == "nearest" else quotient) - middle


def _rounded(place: Fraction | float, rounding: str) -> int:
    """Return the pixel that "nearest" takes."""
    before = math.floor(place)
    rest = place - before
    if rounding == "floor":
        return before
    if rounding == "ceil":
        return before + (rest > 0)
    return before + (rest > HALF if rounding == "round_prefer_floor" else rest >= HALF)


def _keys(distance: float, a: float) -> float:
    """Return the weight of a pixel at a distance below 2 from a place (Keys, equation 15)."""
    t = abs(distance)
    if t <= 1:
        return 1 - t * t * ((a + 3) - (a + 2) * t)
    return a * (t - 1) * (t - 2) * (t - 2)
