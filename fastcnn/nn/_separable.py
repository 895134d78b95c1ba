"""Separable convolution: each channel by itself, then all channels of each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn._options import integer, output_size, pads_of, pair
from fastcnn._types import Array, Padding, Shape, Size2D
from fastcnn.backend import Backend
from fastcnn.nn._conv import _Conv
from fastcnn.nn._initializers import INITIALIZERS
from fastcnn.nn._module import Backward
from fastcnn.nn._variable import Parameter


class SeparableConv2D(_Conv):
    """A depthwise convolution and a 1x1 convolution behind it: (H, W, C) -> (P, Q, filters).

    As in Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions" (2017), and as in
    Keras: the first has no bias, and nothing lies between the two. filters: number of output
    channels. kernel_size, stride, padding, dilation: of the depthwise convolution, as in Conv2D.
    depth_multiplier: its filters a channel. The other options are those of Conv2D.

    Parameters: depthwise_weight (R, S, 1, C * depth_multiplier), pointwise_weight (1, 1, C *
    depth_multiplier, filters), bias (filters,).
    """

    depthwise_weight: Parameter
    pointwise_weight: Parameter
    _hint = "; the number of input channels is found by build"

    def __init__(
        self,
        filters: int,
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
        self.filters = integer(filters, "SeparableConv2D: filters")
        self.depth_multiplier = integer(depth_multiplier, "SeparableConv2D: depth_multiplier")

    def declare(self, input_shape: Shape) -> Shape:
        self._groups = self._channels(input_shape)
        sizes, kernel = input_shape[:2], pair(self.kernel_size)
        strides, dilations = pair(self.stride), pair(self.dilation)
        pads = pads_of(self.padding, sizes, kernel, strides, dilations)
        height, width = output_size(sizes, "SeparableConv2D", kernel, strides, pads, dilations)
        between, filters = self._groups * self.depth_multiplier, self.filters
        area = kernel[0] * kernel[1]
        shape = (*kernel, 1, between)
        self.depthwise_weight = self._weight(
            "depthwise_weight", shape, area, area * self.depth_multiplier
        )
        shape = (1, 1, between, filters)
        self.pointwise_weight = self._weight("pointwise_weight", shape, between, filters)
        if self.use_bias:
            self.bias = self.declare_parameter("bias", (filters,), lambda rng: np.zeros(filters))
        return height, width, filters

    def _weight(self, name: str, shape: Shape, fan_in: int, fan_out: int) -> Parameter:
        draw = INITIALIZERS[self.initializer]
        return self.declare_parameter(name, shape, lambda rng: draw(rng, shape, fan_in, fan_out))

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
        depthwise, pointwise, bias = self.depthwise_weight, self.pointwise_weight, self.bias
        options = self._call_options()
        between = backend.conv2d(x, depthwise._data, None, **options)
        y = backend.conv2d(between, pointwise._data, None if bias is None else bias._data)

        def backward(dy: Array) -> Array | None:
            asked: Any = {"weight_gradient": not self._frozen}
            d_between, pointwise.grad, db = backend.conv2d_backward(
                dy, between, pointwise._data, **asked
            )
            if bias is not None:
                bias.grad = db
            assert d_between is not None
            dx, depthwise.grad, _ = backend.conv2d_backward(
                d_between, x, depthwise._data, **options, input_gradient=input_gradient, **asked
            )
            return dx

        if self._activation is None:
            return y, backward
        y, activation_backward = self._activation.forward(y, backend, training=training)
        return y, lambda dy: backward(activation_backward(dy))
