"""Convolution as the field means it: cross-correlation of images with filters.

N batch, H W input height and width, C channels in, K filters, R S kernel height and width,
P Q output height and width. Filter k sees the channels of its group, k // (K // groups).
Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998;
sizes with stride, padding and dilation: Dumoulin and Visin, arXiv:1603.07285.
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
    flag,
    float_dtype,
    integer,
    pair,
    rounded,
    silent,
    zeros,
)
from ._shapes import Pads, conv_size, pads


@silent
def conv2d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    stride: Size2D = 1,
    padding: Padding = 0,
    dilation: Size2D = 1,
    groups: int = 1,
) -> Array:
    """Return y (N, P, Q, K) of x (N, H, W, C), w (R, S, C // groups, K) and b (K,) or None.

    y[n,p,q,k] = b[k] + sum over r,s,c of x[n, p*stride + r*dilation - top,
    q*stride + s*dilation - left, c] * w[r,s,c,k], pads counting as zero, c running over the
    channels of k's group; P = (H + pads - (R-1)*dilation - 1) // stride + 1, Q alike.
    float32 or float64. TypeError for other or mixed dtypes, ValueError for shapes and options
    that do not fit.
    """
    dtype = float_dtype("conv2d", x=x, w=w, b=b)
    x = array("conv2d", "x", x, dtype, ("N", "H", "W", "C"))
    w = array("conv2d", "w", w, dtype, ("R", "S", "C // groups", "K"))
    place = _places("conv2d", x, w, stride, padding, dilation, groups)
    N, P, Q, K = place.y_shape
    b = zeros("conv2d", (K,)) if b is None else array("conv2d", "b", b, dtype, (K,))

    y = zeros("conv2d", (N, P, Q, K), "padding")
    x_padded = _pad("conv2d", x, place.pads)
    for n in range(N):
        for p in range(P):
            for q in range(Q):
                window = x_padded[n, place.rows(p), place.columns(q)]  # (R, S, C)
                for k in range(K):
                    x_k = window[:, :, place.channels(k)]
                    y[n, p, q, k] = np.sum(x_k * w[:, :, :, k]) + b[k]
    return rounded(y, dtype)


@silent
def conv2d_backward(
    dy: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    *,
    stride: Size2D = 1,
    padding: Padding = 0,
    dilation: Size2D = 1,
    groups: int = 1,
    input_gradient: bool = True,
    weight_gradient: bool = True,
) -> tuple[Array | None, Array | None, Array | None]:
    """Return (dx, dw, db), shaped like x, w and (K,), of dy (N, P, Q, K).

    Each output saw one window through one filter, so its gradient flows back into that window
    times the filter (dx) and into that filter times the window (dw). dx is None where
    `input_gradient` is False, dw and db where `weight_gradient` is. Errors as in conv2d.
    """
    op = "conv2d_backward"
    dtype = float_dtype(op, dy=dy, x=x, w=w)
    x = array(op, "x", x, dtype, ("N", "H", "W", "C"))
    w = array(op, "w", w, dtype, ("R", "S", "C // groups", "K"))
    place = _places(op, x, w, stride, padding, dilation, groups)
    dy = array(op, "dy", dy, dtype, place.y_shape)
    input_gradient = flag(op, "input_gradient", input_gradient)
    weight_gradient = flag(op, "weight_gradient", weight_gradient)
    N, P, Q, K = place.y_shape

    dw = np.zeros(w.shape)
    db = np.zeros(K)
    x_padded = _pad(op, x, place.pads)
    dx_padded = np.zeros(x_padded.shape)
    for n in range(N):
        for p in range(P):
            for q in range(Q):
                rows, columns = place.rows(p), place.columns(q)
                for k in range(K):
                    channels = place.channels(k)
                    if weight_gradient:
                        dw[:, :, :, k] += dy[n, p, q, k] * x_padded[n, rows, columns, channels]
                        db[k] += dy[n, p, q, k]
                    if input_gradient:
                        dx_padded[n, rows, columns, channels] += dy[n, p, q, k] * w[:, :, :, k]
    (top, _), (left, _) = place.pads
    dx = dx_padded[:, top : top + x.shape[1], left : left + x.shape[2]]
    return (
        rounded(dx, dtype) if input_gradient else None,
        rounded(dw, dtype) if weight_gradient else None,
        rounded(db, dtype) if weight_gradient else None,
    )


class _Places(NamedTuple):
    """Where windows and groups lie: the checked options of one call."""

    y_shape: tuple[int, int, int, int]
    pads: Pads
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    group_channels: int
    group_filters: int

    def rows(self, p: int) -> slice:
        """Return the rows of the padded image that output row p sees."""
        first = p * self.stride[0]
        return slice(first, first + (self.kernel[0] - 1) * self.dilation[0] + 1, self.dilation[0])

    def columns(self, q: int) -> slice:
        """Return the columns of the padded image that output column q sees."""
        first = q * self.stride[1]
        return slice(first, first + (self.kernel[1] - 1) * self.dilation[1] + 1, self.dilation[1])

    def channels(self, k: int) -> slice:
        """Return the channels that filter k sees."""
        first = k // self.group_filters * self.group_channels
        return slice(first, first + self.group_channels)


def _places(
    op: str,
    x: Array,
    w: Array,
    stride: Size2D,
    padding: Padding,
    dilation: Size2D,
    groups: int,
) -> _Places:
    """Check the options of a convolution and return what they mean for these arrays."""
    N, H, W, C = x.shape
    R, S, group_channels, K = w.shape
    stride = pair(op, "stride", stride)
    dilation = pair(op, "dilation", dilation)
    groups = integer(op, "groups", groups, 1)
    if C % groups or K % groups:
        raise ValueError(
            f"{op}: groups: expected a divisor of the {C} channels of x and of the {K} filters "
            f"of w, got {groups}"
        )
    if group_channels != C // groups:
        raise ValueError(
            f"{op}: w: expected {C // groups} channels a filter ({C} channels of x in {groups} "
            f"groups), got {group_channels} with shape {w.shape}"
        )
    sides = pads(op, padding, (H, W), (R, S), stride, dilation)
    P = conv_size(op, "height", H, R, stride[0], dilation[0], sides[0])
    Q = conv_size(op, "width", W, S, stride[1], dilation[1], sides[1])
    return _Places((N, P, Q, K), sides, (R, S), stride, dilation, group_channels, K // groups)


def _pad(op: str, x: Array, sides: Pads) -> Array:
    """Return x (N, H, W, C) in a frame of zeros."""
    N, H, W, C = x.shape
    (top, bottom), (left, right) = sides
    x_padded = zeros(op, (N, top + H + bottom, left + W + right, C), "padding")
    x_padded[:, top : top + H, left : left + W] = x
    return x_padded
