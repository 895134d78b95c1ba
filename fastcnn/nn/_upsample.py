"""Layers that make images larger: upsampling and transposed convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn._types import Array, Padding, Size2D
from fastcnn.backend import Backend
from fastcnn.nn._conv import ConvBase
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._options import (
    Shape,
    choice,
    image_shape,
    integer,
    pads_of,
    pair,
    size2d,
)


class UpSample2D(Module):
    """Images made larger by a whole factor: (H, W, C) -> (H * factor, W * factor, C).

    factor: a number or (height, width). method: "nearest" repeats each pixel, "bilinear"
    interpolates between pixel centres.
    """

    def __init__(
        self, factor: Size2D = 2, *, method: str = "nearest", name: str | None = None
    ) -> None:
        super().__init__(name=name)
        self.factor = size2d(factor, "UpSample2D: factor")
        self.method = choice(method, "UpSample2D: method", ("nearest", "bilinear"))

    def declare(self, input_shape: Shape) -> Shape:
        height, width, channels = image_shape("UpSample2D", input_shape)
        rows, columns = pair(self.factor)
        return height * rows, width * columns, channels

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        x_shape, factor, method = x.shape, self.factor, self.method
        return (
            backend.upsample2d(x, factor, method=method),
            lambda dy: backend.upsample2d_backward(dy, x_shape, factor, method=method),
        )


class Conv2DTranspose(ConvBase):
    """Each pixel lays `filters` filters on the output: (H, W, C) -> (P, Q, filters).

    The adjoint of a convolution, which makes images larger by its stride: P = (H - 1) * stride +
    kernel - padding + output_padding, and H * stride with padding "same"; Q alike.

    filters: number of output channels. kernel_size, stride: a number or (height, width). padding:
    as in Conv2D, what is cut off. output_padding: a number or a pair, less than the stride, rows
    and columns more at the end; 0 with "same". groups: divides the input channels and the filters.
    activation, in_channels, initializer: as in Conv2D.

    Parameters: weight (R, S, filters // groups, C), bias (filters,).
    """

    _op = "conv2d_transpose"
    _hint = "; the number of input channels is found by build"

    def __init__(
        self,
        filters: int,
        kernel_size: Size2D,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        output_padding: Size2D = 0,
        groups: int = 1,
        use_bias: bool = True,
        activation: str | None = None,
        in_channels: int | None = None,
        initializer: str = "glorot_uniform",
        name: str | None = None,
    ) -> None:
        super().__init__(
            kernel_size, stride, padding, use_bias, activation, in_channels, initializer, name
        )
        who = "Conv2DTranspose"
        self.filters = integer(filters, f"{who}: filters")
        self.output_padding = size2d(output_padding, f"{who}: output_padding", 0)
        self.groups = integer(groups, f"{who}: groups")
        if self.filters % self.groups:
            raise ValueError(
                f"{who}: groups: expected a divisor of {self.filters} filters, got {self.groups}"
            )
        for more, step in zip(pair(self.output_padding), pair(self.stride), strict=True):
            if more >= step:
                raise ValueError(
                    f"{who}: output_padding: expected less than the stride of {step}, got {more}"
                )
            if more and self.padding == "same":
                raise ValueError(
                    f'{who}: output_padding: expected 0 with padding "same", whose output is the '
                    f"input times the stride, got {more}"
                )

    def declare(self, input_shape: Shape) -> Shape:
        who = "Conv2DTranspose"
        channels = self._channels(input_shape)
        if channels % self.groups:
            raise ValueError(
                f"{who}: groups: expected a divisor of {channels} input channels, got {self.groups}"
            )
        rows, columns = pair(self.kernel_size)
        fan_in = rows * columns * channels // self.groups
        fan_out = rows * columns * self.filters // self.groups
        shape = (rows, columns, self.filters // self.groups, channels)
        height, width = self._output_size(input_shape)
        self._declare_parameters(shape, self.filters, fan_in, fan_out)
        return height, width, self.filters

    def _output_size(self, input_shape: Shape) -> tuple[int, int]:
        kernel, steps, more = pair(self.kernel_size), pair(self.stride), pair(self.output_padding)
        if self.padding == "same":
            return input_shape[0] * steps[0], input_shape[1] * steps[1]
        pads = pads_of(self.padding, input_shape[:2], kernel, steps, (1, 1))
        result = []
        for axis, name in enumerate(("height", "width")):
            n, k, s = input_shape[axis], kernel[axis], steps[axis]
            size = (n - 1) * s + k - sum(pads[axis]) + more[axis]
            if size < 1:
                raise ValueError(
                    f"Conv2DTranspose: padding: expected one that leaves an output {name} of at "
                    f"least 1, got ({n} - 1) * {s} + {k} - {sum(pads[axis])} padding + "
                    f"{more[axis]} = {size} for input {input_shape}"
                )
            result.append(size)
        return result[0], result[1]

    def _call_options(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "output_padding": self.output_padding,
            "groups": self.groups,
        }
