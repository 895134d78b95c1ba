"""Pooling: the largest value or the mean of each window, and the mean of a whole image.

N batch, H W input height and width, C channels, R S window height and width, P Q output height
and width. A window is cut to the pixels inside the image: that is what "pads count as
-infinity" comes to for the maximum, and the mean is over these pixels unless pads are counted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ._checks import (
    Array,
    Padding,
    Size2D,
    array,
    as_array,
    check_shape,
    flag,
    float_dtype,
    pair,
    rounded,
    shape4,
    silent,
    zeros,
)
from ._shapes import Pads, pads
from ._shapes import pool_size as windows_that_fit


@silent
def max_pool2d(
    x: ArrayLike,
    pool_size: Size2D = 2,
    *,
    stride: Size2D | None = None,
    padding: Padding = 0,
    dilation: Size2D = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """Return (y, argmax), both (N, P, Q, C), of x (N, H, W, C), float32 or float64.

    argmax is the place r*S + s of the winner in its window, uint8 for windows of up to 256
    places, else int32. The first maximum in row-major order wins, the first NaN over every
    number. A window's pixels are `dilation` apart. TypeError for other dtypes, ValueError for
    shapes and options that do not fit.
    """
    op = "max_pool2d"
    dtype = float_dtype(op, x=x)
    x = array(op, "x", x, dtype, ("N", "H", "W", "C"))
    place = _places(op, x.shape, pool_size, stride, padding, ceil_mode, dilation)
    N, P, Q, C = place.y_shape

    y = zeros(op, place.y_shape)
    argmax = np.zeros(place.y_shape, _argmax_dtype(op, place))
    for n in range(N):
        for p in range(P):
            for q in range(Q):
                rows, columns = place.rows(p), place.columns(q)
                for c in range(C):
                    window = x[n, rows, columns, c]
                    # NumPy's argmax is the first maximum, or the first NaN if there is one.
                    r, s = divmod(int(np.argmax(window)), window.shape[1])
                    y[n, p, q, c] = window[r, s]
                    h, w = rows.start + r * rows.step, columns.start + s * columns.step
                    argmax[n, p, q, c] = place.number(p, q, h, w)
    return rounded(y, dtype), argmax


@silent
def max_pool2d_backward(
    dy: ArrayLike,
    argmax: ArrayLike,
    x_shape: tuple[int, ...],
    pool_size: Size2D = 2,
    *,
    stride: Size2D | None = None,
    padding: Padding = 0,
    dilation: Size2D = 1,
    ceil_mode: bool = False,
) -> Array:
    """Return dx of shape `x_shape`: each gradient goes to its window's winner, sums add up.

    dy (N, P, Q, C) and argmax as max_pool2d returned it: another dtype is a TypeError, a place
    outside the window or the image a ValueError.
    """
    op = "max_pool2d_backward"
    dtype = float_dtype(op, dy=dy)
    x_shape = shape4(op, "x_shape", x_shape)
    place = _places(op, x_shape, pool_size, stride, padding, ceil_mode, dilation)
    dy = array(op, "dy", dy, dtype, place.y_shape)
    argmax = as_array(op, "argmax", argmax)
    expected = _argmax_dtype(op, place)
    if argmax.dtype.newbyteorder("=") != expected:
        raise TypeError(f"{op}: argmax: expected dtype {expected}, got {argmax.dtype}")
    check_shape(op, "argmax", argmax.shape, place.y_shape)
    N, P, Q, C = place.y_shape

    dx = zeros(op, place.x_shape)
    for n in range(N):
        for p in range(P):
            for q in range(Q):
                rows, columns = place.rows(p), place.columns(q)
                for c in range(C):
                    number = int(argmax[n, p, q, c])
                    h, w = place.pixel(p, q, number)
                    if not (rows.start <= h < rows.stop and columns.start <= w < columns.stop):
                        raise ValueError(
                            f"{op}: argmax: expected places inside the window and the image, "
                            f"got {number} at {(n, p, q, c)}"
                        )
                    dx[n, h, w, c] += dy[n, p, q, c]
    return rounded(dx, dtype)


@silent
def avg_pool2d(
    x: ArrayLike,
    pool_size: Size2D = 2,
    *,
    stride: Size2D | None = None,
    padding: Padding = 0,
    dilation: Size2D = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Array:
    """Return y (N, P, Q, C), the mean of each window of x (N, H, W, C), float32 or float64.

    The mean is over the pixels inside the image; with `count_include_pad` the declared padding
    counts as zeros, though not what hangs over it (`ceil_mode`). Errors as in max_pool2d.
    """
    op = "avg_pool2d"
    dtype = float_dtype(op, x=x)
    x = array(op, "x", x, dtype, ("N", "H", "W", "C"))
    place = _places(op, x.shape, pool_size, stride, padding, ceil_mode, dilation)
    count_include_pad = flag(op, "count_include_pad", count_include_pad)
    N, P, Q, _ = place.y_shape

    y = zeros(op, place.y_shape)
    for n in range(N):
        for p in range(P):
            for q in range(Q):
                window = x[n, place.rows(p), place.columns(q)]
                y[n, p, q] = np.sum(window, axis=(0, 1)) / place.divisor(p, q, count_include_pad)
    return rounded(y, dtype)


@silent
def avg_pool2d_backward(
    dy: ArrayLike,
    x_shape: tuple[int, ...],
    pool_size: Size2D = 2,
    *,
    stride: Size2D | None = None,
    padding: Padding = 0,
    dilation: Size2D = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Array:
    """Return dx of shape `x_shape`: each gradient of dy (N, P, Q, C) is shared evenly.

    Errors as in max_pool2d.
    """
    op = "avg_pool2d_backward"
    dtype = float_dtype(op, dy=dy)
    x_shape = shape4(op, "x_shape", x_shape)
    place = _places(op, x_shape, pool_size, stride, padding, ceil_mode, dilation)
    dy = array(op, "dy", dy, dtype, place.y_shape)
    count_include_pad = flag(op, "count_include_pad", count_include_pad)
    N, P, Q, _ = place.y_shape

    dx = zeros(op, place.x_shape)
    for n in range(N):
        for p in range(P):
            for q in range(Q):
                share = dy[n, p, q] / place.divisor(p, q, count_include_pad)
                dx[n, place.rows(p), place.columns(q)] += share
    return rounded(dx, dtype)


@silent
def global_avg_pool2d(x: ArrayLike) -> Array:
    """Return y (N, C), the mean over height and width of x (N, H, W, C), float32 or float64."""
    dtype = float_dtype("global_avg_pool2d", x=x)
    x = array("global_avg_pool2d", "x", x, dtype, ("N", "H", "W", "C"))
    N, H, W, C = x.shape
    y = zeros("global_avg_pool2d", (N, C))
    for n in range(N):
        y[n] = np.sum(x[n], axis=(0, 1)) / (H * W)
    return rounded(y, dtype)


@silent
def global_avg_pool2d_backward(dy: ArrayLike, x_shape: tuple[int, ...]) -> Array:
    """Return dx of shape `x_shape` (N, H, W, C): dy (N, C) / (H * W) at every pixel."""
    op = "global_avg_pool2d_backward"
    dtype = float_dtype(op, dy=dy)
    N, H, W, C = shape4(op, "x_shape", x_shape)
    dy = array(op, "dy", dy, dtype, (N, C))
    dx = zeros(op, (N, H, W, C))
    for n in range(N):
        dx[n] = dy[n] / float(H * W)
    return rounded(dx, dtype)


class _Places(NamedTuple):
    """Where the windows lie: the checked options of one call. h and w count image pixels."""

    x_shape: tuple[int, int, int, int]
    y_shape: tuple[int, int, int, int]
    pads: Pads
    window: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]

    def rows(self, p: int) -> slice:
        """Return the rows of the image in the windows of output row p."""
        return self._inside(p, 0)

    def columns(self, q: int) -> slice:
        """Return the columns of the image in the windows of output column q."""
        return self._inside(q, 1)

    def _inside(self, p: int, axis: int) -> slice:
        step = self.dilation[axis]
        first = p * self.stride[axis] - self.pads[axis][0]
        end = first + (self.window[axis] - 1) * step + 1
        if first < 0:  # the window's first pixel in the image
            first -= first // step * step
        return slice(first, min(end, self.x_shape[1 + axis]), step)

    def number(self, p: int, q: int, h: int, w: int) -> int:
        """Return the place r*S + s that pixel (h, w) has in the window of output (p, q)."""
        r = h - (p * self.stride[0] - self.pads[0][0])
        s = w - (q * self.stride[1] - self.pads[1][0])
        return r // self.dilation[0] * self.window[1] + s // self.dilation[1]

    def pixel(self, p: int, q: int, number: int) -> tuple[int, int]:
        """Return (h, w) of a place: the inverse of `number`."""
        r, s = divmod(number, self.window[1])
        return (
            p * self.stride[0] - self.pads[0][0] + r * self.dilation[0],
            q * self.stride[1] - self.pads[1][0] + s * self.dilation[1],
        )

    def divisor(self, p: int, q: int, include_pad: bool) -> float:
        """Return how many values the mean of the window of output (p, q) is over."""
        if not include_pad:
            _, H, W, _ = self.x_shape
            rows, columns = self.rows(p).indices(H), self.columns(q).indices(W)
            return float(len(range(*rows)) * len(range(*columns)))
        return self._counted(p, 0) * self._counted(q, 1)

    def _counted(self, p: int, axis: int) -> float:
        """Return how many places of a window lie in the image and its padding, along an axis."""
        before, after = self.pads[axis]
        room = before + self.x_shape[1 + axis] + after - p * self.stride[axis]
        return float(min(self.window[axis], -(-room // self.dilation[axis])))


def _places(
    op: str,
    x_shape: tuple[int, ...],
    pool_size: Size2D,
    stride: Size2D | None,
    padding: Padding,
    ceil_mode: bool,
    dilation: Size2D,
) -> _Places:
    """Check the options of a pooling and return what they mean for this image."""
    N, H, W, C = x_shape
    window = pair(op, "pool_size", pool_size)
    strides = window if stride is None else pair(op, "stride", stride)
    ceil_mode = flag(op, "ceil_mode", ceil_mode)
    steps = pair(op, "dilation", dilation)
    sides = pads(op, padding, (H, W), window, strides, steps)
    P, Q = (
        windows_that_fit(op, axis, n, k, s, d, side, ceil_mode)
        for axis, n, k, s, d, side in zip(
            ("height", "width"), (H, W), window, strides, steps, sides, strict=True
        )
    )
    return _Places((N, H, W, C), (N, P, Q, C), sides, window, strides, steps)


def _argmax_dtype(op: str, place: _Places) -> np.dtype[np.uint8] | np.dtype[np.int32]:
    """Return the dtype that holds every place of a window; ValueError where int32 does not."""
    places = place.window[0] * place.window[1]
    if places > 2**31:
        raise ValueError(
            f"{op}: pool_size: expected a window of at most {2**31} places, got {places}"
        )
    return np.dtype(np.uint8) if places <= 256 else np.dtype(np.int32)
