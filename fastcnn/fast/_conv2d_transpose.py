"""Transposed convolution: the kernels of conv2d, which goes the other way.

What it computes is conv2d's gradient with respect to its input; its own gradients are conv2d and
the gradient of conv2d's weights. The input there is the output here, and the channels there are
the filters here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import (
    by_shape,
    fits_memory,
    flag,
    float_arrays,
    integer,
    pads,
    pair,
    rank,
    shape,
    too_large,
)
from fastcnn._types import Array, Padding, Size2D
from fastcnn.fast._add import Add
from fastcnn.fast._conv2d import Conv2D
from fastcnn.fast._conv_rules import Geometry

__all__ = ["Conv2DTranspose"]


@by_shape
def _geometry(
    op: str,
    x: Array,
    w: Array,
    stride: Size2D,
    padding: Padding,
    output_padding: Size2D,
    groups: int,
) -> tuple[Geometry, tuple[int, int, int, int]]:
    """Return the convolution that goes the other way, and the shape of its input."""
    rank(op, "x", x, "N, H, W, C")
    rank(op, "w", w, "R, S, K // groups, C")
    groups = integer(op, "groups", groups)
    size, kernel, channels = x.shape[1:3], w.shape[:2], x.shape[3]
    if 0 in x.shape[1:]:
        raise ValueError(
            f"{op}: x: expected at least one pixel and one channel, got shape {x.shape}"
        )
    if 0 in w.shape:
        raise ValueError(
            f"{op}: w: expected at least one channel, filter, row and column, got shape {w.shape}"
        )
    if channels % groups:
        raise ValueError(
            f"{op}: groups: expected a divisor of the {channels} channels of x, got {groups}"
        )
    if w.shape[3] != channels:
        raise ValueError(
            f"{op}: w: expected shape (R, S, K // groups, C) with C = {channels} for x of shape "
            f"{x.shape}, got {w.shape}"
        )
    steps, extra = pair(op, "stride", stride), pair(op, "output_padding", output_padding, 0)
    same = isinstance(padding, str) and padding == "same"
    sides = pads(op, padding, (size[0] * steps[0], size[1] * steps[1]), kernel, steps)
    output = []
    for axis in range(2):
        n, k, s, more, pad = size[axis], kernel[axis], steps[axis], extra[axis], sum(sides[axis])
        if same and more:
            raise ValueError(
                f'{op}: output_padding: expected 0 with padding "same", whose output is the '
                f"input times the stride, got {more}"
            )
        if more >= s:
            raise ValueError(
                f"{op}: output_padding: expected less than the stride of {s}, got {more}"
            )
        output.append(n * s if same else (n - 1) * s + k - pad + more)
        if output[-1] < 1:
            raise ValueError(
                f"{op}: x: expected a {('height', 'width')[axis]} that leaves an output of at "
                f"least 1, got {n}: ({n} - 1) * {s} + {k} - {pad} + {more} = {output[-1]}"
            )
    y_shape = (x.shape[0], output[0], output[1], w.shape[2] * groups)
    fits_memory(op, "stride", (max(y_shape[0], 1), *y_shape[1:]))
    # As in conv2d, a stride that is never taken may be of any size.
    window = (
        steps[0] if size[0] > 1 else 1,
        steps[1] if size[1] > 1 else 1,
        sides[0][0],
        sides[1][0],
        1,
        1,
    )
    return Geometry((size[0], size[1]), window, groups), y_shape


class Conv2DTranspose(Conv2D, Add):
    """conv2d_transpose and its gradients."""

    def conv2d_transpose(
        self,
        x: ArrayLike,
        w: ArrayLike,
        b: ArrayLike | None = None,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        output_padding: Size2D = 0,
        groups: int = 1,
    ) -> Array:
        op = "conv2d_transpose"
        x, w, b = float_arrays(op, x=x, w=w, b=b)
        geometry, y_shape = _geometry(op, x, w, stride, padding, output_padding, groups)
        if b is not None:
            rank(op, "b", b, "K")
            shape(op, "b", b, y_shape[3:], "one for each filter of w")
        if x.size == 0:
            return self._empty(y_shape, x.dtype)
        try:
            y = self._input_gradient(x, y_shape, w, geometry)
        except MemoryError:
            raise MemoryError(too_large(op, "stride", y_shape)) from None
        if b is not None:
            flat, pixels = y.reshape(-1), y.size // len(b)
            add = self._load(y).add.add_repeated
            self._run(add, flat, flat, b[np.newaxis], pixels, self._team(y))
        return y

    def conv2d_transpose_backward(
        self,
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
        op = "conv2d_transpose_backward"
        dy, x, w = float_arrays(op, dy=dy, x=x, w=w)
        flag(op, "input_gradient", input_gradient)
        flag(op, "weight_gradient", weight_gradient)
        geometry, y_shape = _geometry(op, x, w, stride, padding, output_padding, groups)
        shape(op, "dy", dy, y_shape, "that of conv2d_transpose's result")
        dx: Array | None = None
        dw: Array | None = None
        db: Array | None = None
        if input_gradient:
            dx = self._empty(x.shape, x.dtype)
            self._convolve(dx, dy, w, None, geometry)
        if weight_gradient:
            db = self._added_up(dy, 1, y_shape[3]).reshape(-1)
            gradients: Any = (self._zeros(w.shape, w.dtype), None)
            if x.size:
                gradients = self._weight_gradients(x, dy, w, geometry)
            dw = gradients[0]
        return dx, dw, db
