"""Resampling on the compiled kernel: outputs whose rows and columns are weighted sums of others.

What an output is made of stands in lists of pixels and weights for each axis. They depend on sizes
and options alone, and are made once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastcnn._types import Array
from fastcnn.fast._memory_bound import MemoryBound

__all__ = ["Pixels", "Resample", "Rule", "seen_by", "windows", "windows_of"]

_MOST_KNOWN = 128  # axes, of which a network has few


class Pixels(NamedTuple):
    """Output p is made of `places[starts[p] : starts[p + 1]]`, with their weights, none of them 0.

    The arrays are shared by all who ask: nobody writes to them.
    """

    starts: Array
    places: Array
    weights: Array


class Rule(NamedTuple):
    """How resize2d finds the pixels of an axis; see `fastcnn._contract.resizing`."""

    method: str
    coordinates: str
    rounding: str
    scale: float | None
    cubic_coefficient: float
    exclude_outside: bool


@lru_cache(maxsize=_MOST_KNOWN)
def seen_by(size: int, length: int, rule: Rule, *, backward: bool = False) -> Pixels:
    """Return the pixels, of `length`, that each of `size` outputs of resize2d is made of.

    backward: the outputs that each pixel is seen by.
    """
    before, rest = _places(size, length, rule)
    if rule.method == "nearest":
        taps, weights = _nearest(before, rest, rule.rounding)[:, None], np.ones((size, 1))
    elif rule.method == "bilinear":
        taps, weights = before[:, None] + np.arange(2), np.stack([1 - rest, rest], axis=1)
    else:
        around = np.arange(-1, 3)
        taps, weights = before[:, None] + around, _keys(around - rest[:, None], rule)
        weights[rest == 0] = around == 0
        if rule.exclude_outside:
            weights = _inside(taps, weights, length)
    return _listed(np.clip(taps, 0, length - 1), weights, length, backward)


@lru_cache(maxsize=_MOST_KNOWN)
def windows(size: int, length: int, *, backward: bool = False) -> Pixels:
    """Return the pixels, of `length`, in each of `size` windows of adaptive pooling.

    Their weights are 1. backward: the windows that hold each pixel, whose weights are one by the
    number of a window's pixels.
    """
    p = np.arange(size)
    first, end = p * length // size, -(-(p + 1) * length // size)
    widths = end - first
    taps = first[:, None] + np.arange(widths.max())
    weights = np.where(taps < end[:, None], (1 / widths if backward else np.ones(size))[:, None], 0)
    return _listed(np.minimum(taps, length - 1), weights, length, backward)


@lru_cache(maxsize=_MOST_KNOWN)
def windows_of(
    size: int,
    length: int,
    kernel: int,
    stride: int,
    dilation: int,
    pads: tuple[int, int],
    *,
    counted: bool,
    backward: bool = False,
) -> Pixels:
    """Return the pixels, of `length`, in each of `size` windows of avg_pool2d.

    Their weights are 1; backward, or where pads are counted, one by the number of what is counted.
    """
    first = np.arange(size) * stride - pads[0]
    begin = -(np.minimum(first, 0) // dilation)  # the window's first place in the image
    end = np.minimum(kernel, -((first - length) // dilation))
    widths = end - begin
    divisor = np.minimum(kernel, -((first - length - pads[1]) // dilation)) if counted else widths
    places = begin[:, None] + np.arange(widths.max())
    taps = first[:, None] + places * dilation
    share = 1 / divisor if counted or backward else np.ones(size)
    weights = np.where(places < end[:, None], share[:, None], 0)
    return _listed(np.minimum(taps, length - 1), weights, length, backward)


def _listed(taps: Array, weights: Array, length: int, backward: bool) -> Pixels:
    """Return lists of what is given in a row for each output."""
    seen = weights != 0
    outputs, places = np.nonzero(seen)[0], taps[seen]
    flat, count = weights[seen], len(taps)
    if backward:
        order = np.argsort(places, kind="stable")
        outputs, places, flat, count = places[order], outputs[order], flat[order], length
    starts = np.searchsorted(outputs, np.arange(count + 1))
    return Pixels(starts.astype(np.intp), places.astype(np.intp), flat)


def _places(size: int, length: int, rule: Rule) -> tuple[Array, Array]:
    """Return the pixels before the outputs' places, and how far these lie behind them: 0 to 1.

    Where sizes alone say it a place is a quotient of integers, so that its rest is as exact.
    """
    # Further out than these, a place sees the pixel at the rim alone.
    low, high = (-2, length + 1) if rule.method == "cubic" else (0, length - 1)
    p = np.arange(size)
    under = size
    if rule.coordinates == "align_corners":
        over, under = p * (length - 1), max(size - 1, 1)
    elif rule.coordinates == "pytorch_half_pixel" and size == 1:
        over = p
    elif rule.scale is not None:
        return _scaled(p, size, length, rule, rule.scale, low, high)
    elif rule.coordinates == "asymmetric":
        over = p * length
    else:
        over, under = (2 * p + 1) * length - size, 2 * size
    before, rest = np.divmod(np.clip(over, low * under, high * under), under)
    return before, rest / under


def _scaled(
    p: Array, size: int, length: int, rule: Rule, scale: float, low: int, high: int
) -> tuple[Array, Array]:
    with np.errstate(all="ignore"):
        half = middle = 0.0 if rule.coordinates == "asymmetric" else 0.5
        if rule.coordinates == "half_pixel_symmetric":
            half, middle = 0.5 - size / 2, 0.5 - length / 2
        quotient = (p + half) / scale
        if rule.method == "nearest":
            quotient = quotient.astype(np.float32).astype(np.float64)
        place = np.clip(quotient - middle, low, high)
    before = np.floor(place)
    return before.astype(np.intp), place - before


def _nearest(before: Array, rest: Array, rounding: str) -> Any:
    if rounding == "floor":
        return before
    if rounding == "ceil":
        return before + (rest > 0)
    return before + (rest > 0.5 if rounding == "round_prefer_floor" else rest >= 0.5)


def _inside(taps: Array, weights: Array, length: int) -> Array:
    """Return weights of pixels inside the image alone, which add up to 1."""
    weights = np.where((taps >= 0) & (taps < length), weights, 0)
    total = weights.sum(axis=1, keepdims=True)
    weights[total[:, 0] == 0] = np.arange(-1, 3) == 0  # far outside: the pixel at the rim
    return weights / np.where(total == 0, 1, total)


def _keys(distance: Array, rule: Rule) -> Array:
    """Return the weights of pixels at distances of at most 2 from a place (Keys, equation 15)."""
    a, t = rule.cubic_coefficient, np.abs(distance)
    with np.errstate(all="ignore"):  # of a coefficient next to the largest number
        near = 1 - t * t * ((a + 3) - (a + 2) * t)
        return np.where(t <= 1, near, a * (t - 1) * (t - 2) * (t - 2))


class Resample(MemoryBound):
    """What the ops have in common that resample."""

    def _resample(
        self,
        y: Array,
        x: Array,
        down: Pixels,
        right: Pixels,
        *,
        narrow: bool = False,
        means: bool = False,
    ) -> None:
        """Write y, made of x; narrow, means: see resample2d.pyx."""
        kernel = self._load(x).resample2d.resample2d
        team = self._team(y if y.size > x.size else x)
        self._run(kernel, y, x, *down, *right, narrow, means, team)
