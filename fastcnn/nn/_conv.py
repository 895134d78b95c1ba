"""Convolutions, over all channels and over each channel by itself."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fastcnn._options import (
    choice,
    flag,
    image_shape,
    integer,
    output_size,
    padding2d,
    pads_of,
    pair,
    size2d,
)
from fastcnn._types import Array, Padding, Shape, Size2D
from fastcnn.backend import Backend
from fastcnn.nn._activation import activation_named
from fastcnn.nn._initializers import INITIALIZERS
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._variable import Parameter


class ConvBase(Module):
    """What all convolutions share: options, the two parameters, forward and backward."""

    weight: Parameter
    bias: Parameter | None
    _hidden = Module._hidden | {"_activation"}
    _op: ClassVar[str] = "conv2d"

    def __init__(
        self,
        kernel_size: Size2D,
        stride: Size2D,
        padding: Padding,
        use_bias: bool,
        activation: str | None,
        in_channels: int | None,
        initializer: str,
        name: str | None,
    ) -> None:
        super().__init__(name=name)
        who = type(self).__name__
        self.kernel_size = size2d(kernel_size, f"{who}: kernel_size")
        self.stride = size2d(stride, f"{who}: stride")
        self.padding = padding2d(padding, f"{who}: padding")
        self.use_bias = flag(use_bias, f"{who}: use_bias")
        self._activation = activation_named(activation, f"{who}: activation")
        self.activation = activation
        self.in_channels = (
            None if in_channels is None else integer(in_channels, f"{who}: in_channels")
        )
        self.initializer = choice(initializer, f"{who}: initializer", INITIALIZERS)
        self.bias = None

    def _checked(self, input_shape: Shape) -> Shape:
        """Return the shape of an input, which the layer takes."""
        return image_shape(input_shape, type(self).__name__)

    def _channels(self, input_shape: Shape) -> int:
        """Return the input's channels, checked."""
        who = type(self).__name__
        channels = self._checked(input_shape)[-1]
        if self.in_channels not in (None, channels):
            raise ValueError(
                f"{who}: in_channels: expected {self.in_channels} channels, got an input of "
                f"shape {input_shape}"
            )
        return channels

    def _declare_parameters(self, shape: Shape, filters: int, fan_in: int, fan_out: int) -> None:
        draw = INITIALIZERS[self.initializer]
        self.weight = self.declare_parameter(
            "weight", shape, lambda rng: draw(rng, shape, fan_in, fan_out)
        )
        if self.use_bias:
            self.bias = self.declare_parameter("bias", (filters,), lambda rng: np.zeros(filters))

    def _call_options(self) -> dict[str, Any]:
        """Return the options of `_op`."""
        raise NotImplementedError

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        self._require_built()
        weight, bias, options = self.weight, self.bias, self._call_options()
        b = None if bias is None else bias._data
        y = getattr(backend, self._op)(x, weight._data, b, **options)

        def backward(dy: Array) -> Array | None:
            op_backward = getattr(backend, f"{self._op}_backward")
            dx: Array | None
            dx, weight.grad, db = op_backward(
                dy,
                x,
                weight._data,
                **options,
                input_gradient=input_gradient,
                weight_gradient=not self._frozen,
            )
            if bias is not None:
                bias.grad = db
            return dx

        if self._activation is None:
            return y, backward
        y, activation_backward = self._activation.forward(y, backend, training=training)
        return y, lambda dy: backward(activation_backward(dy))


class _Conv(ConvBase):
    """What both cross-correlations share."""

    def __init__(
        self,
        kernel_size: Size2D,
        stride: Size2D,
        padding: Padding,
        dilation: Size2D,
        use_bias: bool,
        activation: str | None,
        in_channels: int | None,
        initializer: str,
        name: str | None,
    ) -> None:
        super().__init__(
            kernel_size, stride, padding, use_bias, activation, in_channels, initializer, name
        )
        self.dilation = size2d(dilation, f"{type(self).__name__}: dilation")

    def _filters_and_groups(self, channels: int) -> tuple[int, int]:
        raise NotImplementedError

    def _call_options(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self._groups,
        }

    def declare(self, input_shape: Shape) -> Shape:
        channels = self._channels(input_shape)
        filters, self._groups = self._filters_and_groups(channels)
        sizes, kernel = input_shape[:2], pair(self.kernel_size)
        strides, dilations = pair(self.stride), pair(self.dilation)
        pads = pads_of(self.padding, sizes, kernel, strides, dilations)
        who, (rows, columns) = type(self).__name__, kernel
        height, width = output_size(sizes, who, kernel, strides, pads, dilations)
        fan_in = rows * columns * channels // self._groups
        # An input pixel feeds the filters of its own group only.
        fan_out = rows * columns * filters // self._groups
        shape = (rows, columns, channels // self._groups, filters)
        self._declare_parameters(shape, filters, fan_in, fan_out)
        return height, width, filters


class Conv2D(_Conv):
    """Cross-correlation with `filters` filters: (H, W, C) -> (P, Q, filters).

    filters: number of output channels. kernel_size, stride, dilation: a number or (height,
    width). padding: a number, a pair, ((top, bottom), (left, right)), "valid" or "same".
    groups: divides the input channels and the filters. activation: a name such as "relu", or
    None. in_channels: checked against the input where given. initializer: "glorot_uniform" or
    "he_normal"; biases start at zero.

    Parameters: weight (R, S, C // groups, filters), bias (filters,).
    """

    _hint = "; the number of input channels is found by build"

    def __init__(
        self,
        filters: int,
        kernel_size: Size2D,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
        use_bias: bool = True,
        activation: str | None = None,
        in_channels: int | None = None,
        initializer: str = "glorot_uniform",
        name: str | None = None,
    ) -> None:
        super().__init__(
            kernel_size,
            stride,
            padding,
            dilation,
            use_bias,
            activation,
            in_channels,
            initializer,
            name,
        )
        self.filters = integer(filters, "Conv2D: filters")
        self.groups = integer(groups, "Conv2D: groups")
        if self.filters % self.groups:
            raise ValueError(
                f"Conv2D: groups: expected a divisor of {self.filters} filters, got {self.groups}"
            )

    def _filters_and_groups(self, channels: int) -> tuple[int, int]:
        if channels % self.groups:
            raise ValueError(
                f"Conv2D: groups: expected a divisor of {channels} input channels, got "
                f"{self.groups}"
            )
        return self.filters, self.groups


class DepthwiseConv2D(_Conv):
    """Cross-correlation of each channel by itself: (H, W, C) -> (P, Q, C * depth_multiplier).

    depth_multiplier: filters a channel; the other options are those of Conv2D.

    Parameters: weight (R, S, 1, C * depth_multiplier), bias (C * depth_multiplier,).
    """

    def __init__(
        self,
        kernel_size: Size2D,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        depth_multiplier: int = 1,
        use_bias: bool = True,
        activation: str | None = None,
        in_channels: int | None = None,
        initializer: str = "glorot_uniform",
        name: str | None = None,
    ) -> None:
        super().__init__(
            kernel_size,
            stride,
            padding,
            dilation,
            use_bias,
            activation,
            in_channels,
            initializer,
            name,
        )
        self.depth_multiplier = integer(depth_multiplier, "DepthwiseConv2D: depth_multiplier")

    def _filters_and_groups(self, channels: int) -> tuple[int, int]:
        return channels * self.depth_multiplier, channels
