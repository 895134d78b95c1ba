"""Transposed convolution: the kernels of conv2d, which goes the other way.

What it computes is conv2d's gradient with respect to its input; its own gradients are conv2d and
the gradient of conv2d's weights. The input there is the output here, and the channels there are
the filters here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import by_shape, fits_memory, float_arrays, rank, shape, too_large
from fastcnn._options import (
    flag,
    integer,
    output_padding2d,
    padding2d,
    pads_of,
    pair,
    size2d,
    transposed_size,
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
    rank(x, f"{op}: x", "N, H, W, C")
    rank(w, f"{op}: w", "R, S, K // groups, C")
    groups = integer(groups, f"{op}: groups")
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
    strides, where = pair(size2d(stride, f"{op}: stride")), f"{op}: output_padding"
    padding = padding2d(padding, f"{op}: padding")
    extra = pair(output_padding2d(output_padding, where, strides, padding))
    output = transposed_size(size, f"{op}: x", padding, kernel, strides, extra)
    pads = pads_of(padding, output, kernel, strides)
    y_shape = (x.shape[0], *output, w.shape[2] * groups)
    fits_memory((max(y_shape[0], 1), *y_shape[1:]), f"{op}: stride")
    # As in conv2d, a stride that is never taken may be of any size.
    window = (
        strides[0] if size[0] > 1 else 1,
        strides[1] if size[1] > 1 else 1,
        pads[0][0],
        pads[1][0],
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
            rank(b, f"{op}: b", "K")
            shape(b, f"{op}: b", y_shape[3:], "one for each filter of w")
        if x.size == 0:
            return self._empty(y_shape, x.dtype)
        try:
            y = self._input_gradient(x, y_shape, w, geometry)
        except MemoryError:
            raise MemoryError(too_large(y_shape, f"{op}: stride")) from None
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
        flag(input_gradient, f"{op}: input_gradient")
        flag(weight_gradient, f"{op}: weight_gradient")
        geometry, y_shape = _geometry(op, x, w, stride, padding, output_padding, groups)
        shape(dy, f"{op}: dy", y_shape, "that of conv2d_transpose's result")
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
