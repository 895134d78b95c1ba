"""Transposed convolution: each pixel lays a filter on the output, times its value.

It is what the gradient of a convolution with respect to its input does with its filters, and here
a layer's forward pass. N batch, H W input height and width, C channels in, K filters, R S kernel
height and width, P Q output height and width. Channel c feeds the filters of its group,
c // (C // groups). Source: Dumoulin and Visin, arXiv:1603.07285.
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
from ._shapes import Pads, pads


@silent
def conv2d_transpose(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    stride: Size2D = 1,
    padding: Padding = 0,
    output_padding: Size2D = 0,
    groups: int = 1,
) -> Array:
    """Return y (N, P, Q, K) of x (N, H, W, C), w (R, S, K // groups, C) and b (K,) or None.

    Pixel (h, w) adds x[n, h, w, c] * w[:, :, :, c] to the filters of c's group, from row h*stride -
    top and column w*stride - left on; what would lie outside of y is left out. P = (H - 1) * stride
    + R - pads + output_padding, Q alike; with "same" P = H * stride. float32 or float64.
    TypeError for other or mixed dtypes, ValueError for shapes and options that do not fit.
    """
    op = "conv2d_transpose"
    dtype = float_dtype(op, x=x, w=w, b=b)
    x = array(op, "x", x, dtype, ("N", "H", "W", "C"))
    w = array(op, "w", w, dtype, ("R", "S", "K // groups", "C"))
    place = _places(op, x, w, stride, padding, output_padding, groups)
    N, P, Q, K = place.y_shape
    b = zeros(op, (K,)) if b is None else array(op, "b", b, dtype, (K,))

    y_padded = zeros(op, place.padded, "stride")
    _, H, W, C = x.shape
    for n in range(N):
        for i in range(H):
            for j in range(W):
                rows, columns = place.window(i, j)
                for c in range(C):
                    filters = place.filters(c)
                    y_padded[n, rows, columns, filters] += x[n, i, j, c] * w[:, :, :, c]
    (top, _), (left, _) = place.pads
    return rounded(y_padded[:, top : top + P, left : left + Q] + b, dtype)


@silent
def conv2d_transpose_backward(
    dy: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    *,
    stride: Size2D = 1,
    padding: Padding = 0,
    output_padding: Size2D = 0,
    groups: int = 1,
    input_gradient: bool = True,
    weight_gradient: bool = True,
) -> tuple[Array | None, Array | None, Array | None]:
    """Return (dx, dw, db), shaped like x, w and (K,), of dy (N, P, Q, K).

    A pixel sees the gradient of what it was laid on: through its filter (dx), and times its value
    in that filter (dw). dx is None where `input_gradient` is False, dw and db where
    `weight_gradient` is. Errors as in conv2d_transpose.
    """
    op = "conv2d_transpose_backward"
    dtype = float_dtype(op, dy=dy, x=x, w=w)
    x = array(op, "x", x, dtype, ("N", "H", "W", "C"))
    w = array(op, "w", w, dtype, ("R", "S", "K // groups", "C"))
    place = _places(op, x, w, stride, padding, output_padding, groups)
    dy = array(op, "dy", dy, dtype, place.y_shape)
    input_gradient = flag(op, "input_gradient", input_gradient)
    weight_gradient = flag(op, "weight_gradient", weight_gradient)
    _, P, Q, _ = place.y_shape
    (top, _), (left, _) = place.pads
    dy_padded = zeros(op, place.padded, "stride")
    dy_padded[:, top : top + P, left : left + Q] = dy

    dx = np.zeros(x.shape)
    dw = np.zeros(w.shape)
    N, H, W, C = x.shape
    for n in range(N):
        for i in range(H):
            for j in range(W):
                rows, columns = place.window(i, j)
                for c in range(C):
                    seen = dy_padded[n, rows, columns, place.filters(c)]
                    dx[n, i, j, c] = np.sum(seen * w[:, :, :, c])
                    dw[:, :, :, c] += x[n, i, j, c] * seen
    return (
        rounded(dx, dtype) if input_gradient else None,
        rounded(dw, dtype) if weight_gradient else None,
        rounded(np.sum(dy, axis=(0, 1, 2)), dtype) if weight_gradient else None,
    )


class _Places(NamedTuple):
    """Where a pixel's filters are laid: the checked options of one call."""

    y_shape: tuple[int, int, int, int]
    padded: tuple[int, int, int, int]
    pads: Pads
    kernel: tuple[int, int]
    stride: tuple[int, int]
    group_channels: int
    group_filters: int

    def window(self, i: int, j: int) -> tuple[slice, slice]:
        """Return the rows and columns of the padded output that pixel (i, j) is laid on."""
        first, left = i * self.stride[0], j * self.stride[1]
        return slice(first, first + self.kernel[0]), slice(left, left + self.kernel[1])

    def filters(self, c: int) -> slice:
        """Return the filters that channel c feeds."""
        first = c // self.group_channels * self.group_filters
        return slice(first, first + self.group_filters)


def _places(
    op: str,
    x: Array,
    w: Array,
    stride: Size2D,
    padding: Padding,
    output_padding: Size2D,
    groups: int,
) -> _Places:
    """Check the options of a transposed convolution; return what they mean for these arrays."""
    N, H, W, C = x.shape
    R, S, group_filters, channels = w.shape
    strides = pair(op, "stride", stride)
    extra = pair(op, "output_padding", output_padding, 0)
    groups = integer(op, "groups", groups, 1)
    if C % groups:
        raise ValueError(f"{op}: groups: expected a divisor of the {C} channels of x, got {groups}")
    if channels != C:
        raise ValueError(
            f"{op}: w: expected filters of the {C} channels of x, got {channels} with shape "
            f"{w.shape}"
        )
    # "same" is that of the convolution whose input is the output here.
    sides = pads(op, padding, (H * strides[0], W * strides[1]), (R, S), strides)
    whole: list[int] = []
    for axis, n, k, s, more, side in zip(
        ("height", "width"), (H, W), (R, S), strides, extra, sides, strict=True
    ):
        same = isinstance(padding, str) and padding == "same"
        if same and more:
            raise ValueError(
                f'{op}: output_padding: expected 0 with padding "same", whose output is the '
                f"input times the stride, got {more}"
            )
        if more >= s:
            raise ValueError(
                f"{op}: output_padding: expected less than the stride of {s}, got {more}"
            )
        size = n * s if same else (n - 1) * s + k - sum(side) + more
        if size < 1:
            raise ValueError(
                f"{op}: x: expected an output {axis} of at least 1, got "
                f"({n} - 1) * {s} + {k} - {sum(side)} + {more} = {size}"
            )
        whole.append(size)
    K = group_filters * groups
    padded = (N, whole[0] + sum(sides[0]), whole[1] + sum(sides[1]), K)
    if padded[1] * padded[2] * K >= 2**60:
        raise ValueError(
            f"{op}: stride: expected a result that fits in memory, got one of shape "
            f"{(N, *whole, K)}"
        )
    return _Places(
        (N, whole[0], whole[1], K), padded, sides, (R, S), strides, C // groups, group_filters
    )
