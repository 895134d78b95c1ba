"""Upsampling: images made larger by a whole factor, by repetition or by linear interpolation.

N batch, H W input height and width, C channels, P Q output height and width.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from ._checks import (
    Array,
    Size2D,
    array,
    float_dtype,
    pair,
    rounded,
    shape4,
    shown,
    silent,
    zeros,
)


@silent
def upsample2d(x: ArrayLike, factor: Size2D, *, method: str = "nearest") -> Array:
    """Return y (N, P, Q, C) of x (N, H, W, C), P = H * factor, Q alike, float32 or float64.

    "nearest" repeats each pixel. "bilinear" gives output p the value of x at (p + 1/2) / factor -
    1/2, between two pixels by linear interpolation, before the first and behind the last the
    value of these. TypeError for other dtypes, ValueError for shapes and options that do not fit.
    """
    op = "upsample2d"
    dtype = float_dtype(op, x=x)
    x = array(op, "x", x, dtype, ("N", "H", "W", "C"))
    fh, fw = pair(op, "factor", factor)
    _check(op, method)
    N, H, W, C = x.shape
    _fits(op, (N, H * fh, W * fw, C))

    y = zeros(op, (N, H * fh, W * fw, C), "factor")
    for n in range(N):
        for p in range(H * fh):
            for q in range(W * fw):
                for h, weight_h in _pixels(p, fh, H, method):
                    for w, weight_w in _pixels(q, fw, W, method):
                        y[n, p, q] += weight_h * weight_w * x[n, h, w]
    return rounded(y, dtype)


@silent
def upsample2d_backward(
    dy: ArrayLike, x_shape: tuple[int, ...], factor: Size2D, *, method: str = "nearest"
) -> Array:
    """Return dx of shape `x_shape`: each gradient goes to the pixels that its output saw.

    dy (N, P, Q, C). Errors as in upsample2d.
    """
    op = "upsample2d_backward"
    dtype = float_dtype(op, dy=dy)
    N, H, W, C = shape4(op, "x_shape", x_shape)
    fh, fw = pair(op, "factor", factor)
    _check(op, method)
    dy = array(op, "dy", dy, dtype, (N, H * fh, W * fw, C))

    dx = zeros(op, (N, H, W, C))
    for n in range(N):
        for p in range(H * fh):
            for q in range(W * fw):
                for h, weight_h in _pixels(p, fh, H, method):
                    for w, weight_w in _pixels(q, fw, W, method):
                        dx[n, h, w] += weight_h * weight_w * dy[n, p, q]
    return rounded(dx, dtype)


def _pixels(p: int, factor: int, size: int, method: str) -> list[tuple[int, float]]:
    """Return the pixels that output p sees along an axis of this size, and their weights."""
    if method == "nearest":
        return [(p // factor, 1.0)]
    # Where p lies in x, in half steps of the output: (p + 1/2) / factor - 1/2, times 2 * factor.
    place = min(max(2 * p + 1 - factor, 0), 2 * factor * (size - 1))
    before, rest = divmod(place, 2 * factor)
    if rest == 0:
        return [(before, 1.0)]
    weight = rest / (2 * factor)
    return [(before, 1 - weight), (before + 1, weight)]


def _check(op: str, method: Any) -> None:
    if not isinstance(method, str):
        raise TypeError(f'{op}: method: expected "nearest" or "bilinear", got {shown(method)}')
    if method not in ("nearest", "bilinear"):
        raise ValueError(f'{op}: method: expected "nearest" or "bilinear", got {shown(method)}')


def _fits(op: str, y_shape: tuple[int, ...]) -> None:
    """Raise ValueError where no array can be so high and wide, of however few images."""
    if y_shape[0] == 0 and y_shape[1] * y_shape[2] * y_shape[3] >= 2**60:
        raise ValueError(
            f"{op}: factor: expected a result that fits in memory, got one of shape {y_shape}"
        )
