"""Layers that make images of another size: resizing, upsampling and transposed convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn._options import (
    COORDINATES,
    RESIZE_METHODS,
    ROUNDINGS,
    choice,
    flag,
    image_shape,
    integer,
    number,
    output_padding2d,
    pair,
    scale2d,
    size2d,
    transposed_size,
)
from fastcnn._types import Array, Padding, Scale2D, Shape, Size2D
from fastcnn.backend import Backend
from fastcnn.nn._conv import ConvBase
from fastcnn.nn._module import Backward, Module


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
        height, width, channels = image_shape(input_shape, "UpSample2D")
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


class Resize2D(Module):
    """Images of another size, by interpolation: (H, W, C) -> (P, Q, C).

    size: P and Q, a number or (height, width). scale: instead of a size, a number or (height,
    width) by which images become larger, P = floor(H * scale); beside a size, the ratio by which
    places are worked out. method: "nearest", "bilinear" or "cubic". coordinates, rounding,
    cubic_coefficient, exclude_outside: see `fastcnn.backend.Backend.resize2d`.
    """

    _hint = "; size or scale says how large images become"

    def __init__(
        self,
        size: Size2D | None = None,
        *,
        scale: Scale2D | None = None,
        method: str = "nearest",
        coordinates: str = "half_pixel",
        rounding: str = "round_prefer_floor",
        cubic_coefficient: float = -0.75,
        exclude_outside: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.size = None if size is None else size2d(size, "Resize2D: size")
        self.scale = scale2d(scale, "Resize2D: scale")
        if self.size is None and self.scale is None:
            raise ValueError("Resize2D: size: expected a size or a scale, got neither")
        self.method = choice(method, "Resize2D: method", RESIZE_METHODS)
        self.coordinates = choice(coordinates, "Resize2D: coordinates", COORDINATES)
        self.rounding = choice(rounding, "Resize2D: rounding", ROUNDINGS)
        self.cubic_coefficient = number(cubic_coefficient, "Resize2D: cubic_coefficient")
        self.exclude_outside = flag(exclude_outside, "Resize2D: exclude_outside")

    def declare(self, input_shape: Shape) -> Shape:
        height, width, channels = image_shape(input_shape, "Resize2D")
        return *self._size((height, width)), channels

    def _size(self, image: tuple[int, int]) -> tuple[int, int]:
        """Return the size that an image becomes."""
        if self.size is not None:
            return pair(self.size)
        scales = self.scale if isinstance(self.scale, tuple) else (self.scale,) * 2
        # In float32, as files have scales: ten times 0.7 is 7.
        sizes = [np.float32(n) * np.float32(each) for n, each in zip(image, scales, strict=True)]
        if not all(1 <= size <= 2**62 for size in sizes):
            raise ValueError(
                f"Resize2D: scale: expected one that leaves at least one pixel of an image of "
                f"{image[0]} x {image[1]}, got {self.scale}"
            )
        return int(sizes[0]), int(sizes[1])

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
        size, options = self._size((x_shape[1], x_shape[2])), self._call_options()
        return (
            backend.resize2d(x, size, **options),
            lambda dy: backend.resize2d_backward(dy, x_shape, size, **options),
        )

    def _call_options(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "coordinates": self.coordinates,
            "rounding": self.rounding,
            "scale": self.scale,
            "cubic_coefficient": self.cubic_coefficient,
            "exclude_outside": self.exclude_outside,
        }


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
        self.output_padding = output_padding2d(
            output_padding, f"{who}: output_padding", pair(self.stride), self.padding
        )
        self.groups = integer(groups, f"{who}: groups")
        if self.filters % self.groups:
            raise ValueError(
                f"{who}: groups: expected a divisor of {self.filters} filters, got {self.groups}"
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
        height, width = transposed_size(
            input_shape[:2],
            who,
            self.padding,
            (rows, columns),
            pair(self.stride),
            pair(self.output_padding),
        )
        self._declare_parameters(shape, self.filters, fan_in, fan_out)
        return height, width, self.filters

    def _call_options(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "output_padding": self.output_padding,
            "groups": self.groups,
        }
