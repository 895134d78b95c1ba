"""Pooling: the largest or the mean value, of windows or of the whole image."""

from __future__ import annotations

import numpy as np

from fastcnn._options import (
    check_pool,
    flag,
    image_shape,
    output_size,
    padding2d,
    pads_of,
    pair,
    size2d,
)
from fastcnn._types import Array, Padding, Shape, Size2D
from fastcnn.backend import Backend
from fastcnn.nn._module import Backward, Module


class _Pool2D(Module):
    """What both window poolings share: their options and the shape of the output."""

    def __init__(
        self,
        pool_size: Size2D,
        stride: Size2D | None,
        padding: Padding,
        dilation: Size2D,
        ceil_mode: bool,
        name: str | None,
    ) -> None:
        super().__init__(name=name)
        who = type(self).__name__
        self.pool_size = size2d(pool_size, f"{who}: pool_size")
        self.stride = None if stride is None else size2d(stride, f"{who}: stride")
        self.padding = padding2d(padding, f"{who}: padding")
        self.dilation = size2d(dilation, f"{who}: dilation")
        self.ceil_mode = flag(ceil_mode, f"{who}: ceil_mode")

    def declare(self, input_shape: Shape) -> Shape:
        who = type(self).__name__
        channels = image_shape(input_shape, who)[2]
        sizes, window = input_shape[:2], pair(self.pool_size)
        strides = window if self.stride is None else pair(self.stride)
        dilation = pair(self.dilation)
        pads = pads_of(self.padding, sizes, window, strides, dilation)
        check_pool(sizes, who, window, pads, dilation)
        height, width = output_size(sizes, who, window, strides, pads, dilation, self.ceil_mode)
        return height, width, channels


class MaxPool2D(_Pool2D):
    """The largest value of each window: (H, W, C) -> (P, Q, C).

    pool_size, stride: a number or (height, width); stride defaults to pool_size. padding: as in
    Conv2D, at most half a window. dilation: the distance between the pixels of a window, as in
    Conv2D. ceil_mode: let the last window hang over the end.
    """

    def __init__(
        self,
        pool_size: Size2D = 2,
        *,
        stride: Size2D | None = None,
        padding: Padding = 0,
        dilation: Size2D = 1,
        ceil_mode: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(pool_size, stride, padding, dilation, ceil_mode, name)

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        y, argmax = backend.max_pool2d(
            x,
            self.pool_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            ceil_mode=self.ceil_mode,
        )
        x_shape = x.shape

        def backward(dy: Array) -> Array | None:
            return backend.max_pool2d_backward(
                dy,
                argmax,
                x_shape,
                self.pool_size,
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
                ceil_mode=self.ceil_mode,
            )

        return y, backward


class AvgPool2D(_Pool2D):
    """The mean value of each window: (H, W, C) -> (P, Q, C).

    Options as in MaxPool2D. count_include_pad: count padding as zeros; by default the mean is
    over the pixels inside the image.
    """

    def __init__(
        self,
        pool_size: Size2D = 2,
        *,
        stride: Size2D | None = None,
        padding: Padding = 0,
        dilation: Size2D = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(pool_size, stride, padding, dilation, ceil_mode, name)
        self.count_include_pad = flag(count_include_pad, "AvgPool2D: count_include_pad")

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        y = backend.avg_pool2d(
            x,
            self.pool_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
        )
        x_shape = x.shape

        def backward(dy: Array) -> Array | None:
            return backend.avg_pool2d_backward(
                dy,
                x_shape,
                self.pool_size,
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
                ceil_mode=self.ceil_mode,
                count_include_pad=self.count_include_pad,
            )

        return y, backward


class AdaptiveAvgPool2D(Module):
    """The mean value of each of as many windows as are asked for: (H, W, C) -> (P, Q, C).

    output_size: P and Q, a number or (height, width). The windows are those of PyTorch.
    """

    def __init__(self, output_size: Size2D, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.output_size = size2d(output_size, "AdaptiveAvgPool2D: output_size")

    def declare(self, input_shape: Shape) -> Shape:
        channels = image_shape(input_shape, "AdaptiveAvgPool2D")[2]
        return *pair(self.output_size), channels

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        x_shape, size = x.shape, self.output_size
        return (
            backend.adaptive_avg_pool2d(x, size),
            lambda dy: backend.adaptive_avg_pool2d_backward(dy, x_shape, size),
        )


class GlobalAvgPool2D(Module):
    """The mean over the whole image: (H, W, C) -> (C,)."""

    def declare(self, input_shape: Shape) -> Shape:
        return (image_shape(input_shape, "GlobalAvgPool2D")[2],)

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        x_shape = x.shape
        return (
            backend.global_avg_pool2d(x),
            lambda dy: backend.global_avg_pool2d_backward(dy, x_shape),
        )


class GlobalMaxPool2D(Module):
    """The largest value of the whole image: (H, W, C) -> (C,). One window of max_pool2d."""

    def declare(self, input_shape: Shape) -> Shape:
        return (image_shape(input_shape, "GlobalMaxPool2D")[2],)

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        x_shape = x.shape
        window = (x_shape[1], x_shape[2])
        y, argmax = backend.max_pool2d(x, window)

        y_shape = y.shape

        def backward(dy: Array) -> Array | None:
            return backend.max_pool2d_backward(dy.reshape(y_shape), argmax, x_shape, window)

        return y.reshape(len(y), y_shape[3]), backward
