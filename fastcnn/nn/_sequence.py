"""Layers on sequences (L, C), which are images one pixel high: convolution and pools.

They call the ops on images: a row of pixels is what these go along.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn._options import (
    check_pool,
    flag,
    integer,
    output_size,
    pads_of,
    shown,
)
from fastcnn._types import Array, Padding, Shape
from fastcnn.backend import Backend
from fastcnn.nn._conv import ConvBase
from fastcnn.nn._module import Backward, Module

Padding1D = str | int | tuple[int, int]


# ---------------------------------------------------------------------- what the layers share
def _sequence_shape(input_shape: Shape, layer: str) -> tuple[int, int]:
    """Return (L, C), or say that the layer takes sequences."""
    if len(input_shape) != 2:
        raise ValueError(f"{layer}: expected an input of shape (L, C), got {input_shape}")
    return input_shape[0], input_shape[1]


def _padding1d(value: Any, where: str) -> Padding1D:
    """Return a padding in the form in which it was given."""
    if isinstance(value, str) and value in ("valid", "same"):
        return value
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return integer(value[0], where, 0), integer(value[1], where, 0)
    if isinstance(value, (str, tuple, list)):
        raise ValueError(
            f'{where}: expected a number, a (before, after) pair, "valid" or "same", got '
            f"{shown(value)}"
        )
    return integer(value, where, 0)


def _of_row(padding: Padding1D) -> Padding:
    """Return a padding as that of an image one pixel high."""
    if isinstance(padding, str):
        return padding
    return (0, 0), padding if isinstance(padding, tuple) else (padding, padding)


def _as_row(x: Array) -> Array:
    """Return sequences (N, L, C) as images (N, 1, L, C)."""
    return x.reshape(x.shape[0], 1, x.shape[1], x.shape[2])


def _as_sequences(y: Array, backward: Backward) -> tuple[Array, Backward]:
    """Return images (N, 1, L, C) as sequences, and the backward pass of what made them."""
    y_shape = y.shape

    def of_sequences(dy: Array) -> Array | None:
        dx = backward(dy.reshape(y_shape))
        return None if dx is None else dx.reshape(dx.shape[0], dx.shape[2], dx.shape[3])

    return y.reshape(y_shape[0], y_shape[2], y_shape[3]), of_sequences


# ---------------------------------------------------------------------- convolution
class Conv1D(ConvBase):
    """Cross-correlation of sequences with `filters` filters: (L, C) -> (P, filters).

    filters: number of output channels. kernel_size, stride, dilation: numbers. padding: a number,
    a pair (before, after), "valid" or "same". groups: divides the input channels and the filters.
    activation, in_channels, initializer: as in Conv2D.

    Parameters: weight (1, kernel_size, C // groups, filters), bias (filters,). The weight is that
    of a Conv2D on images one pixel high.
    """

    kernel_size: int
    stride: int
    padding: Padding1D
    _hint = "; the number of input channels is found by build"

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: Padding1D = 0,
        dilation: int = 1,
        groups: int = 1,
        use_bias: bool = True,
        activation: str | None = None,
        in_channels: int | None = None,
        initializer: str = "glorot_uniform",
        name: str | None = None,
    ) -> None:
        super().__init__(
            integer(kernel_size, "Conv1D: kernel_size"),
            integer(stride, "Conv1D: stride"),
            _padding1d(padding, "Conv1D: padding"),
            use_bias,
            activation,
            in_channels,
            initializer,
            name,
        )
        self.filters = integer(filters, "Conv1D: filters")
        self.dilation = integer(dilation, "Conv1D: dilation")
        self.groups = integer(groups, "Conv1D: groups")
        if self.filters % self.groups:
            raise ValueError(
                f"Conv1D: groups: expected a divisor of {self.filters} filters, got {self.groups}"
            )

    def _checked(self, input_shape: Shape) -> Shape:
        return _sequence_shape(input_shape, "Conv1D")

    def declare(self, input_shape: Shape) -> Shape:
        channels, options = self._channels(input_shape), self._call_options()
        if channels % self.groups:
            raise ValueError(
                f"Conv1D: groups: expected a divisor of {channels} input channels, got "
                f"{self.groups}"
            )
        kernel, stride, dilation = (1, self.kernel_size), options["stride"], options["dilation"]
        sizes = (1, input_shape[0])
        pads = pads_of(options["padding"], sizes, kernel, stride, dilation)
        _, length = output_size(sizes, "Conv1D", kernel, stride, pads, dilation)
        shape = (*kernel, channels // self.groups, self.filters)
        fan_out = self.kernel_size * self.filters // self.groups
        self._declare_parameters(shape, self.filters, self.kernel_size * shape[2], fan_out)
        return length, self.filters

    def _call_options(self) -> dict[str, Any]:
        return {
            "stride": (1, self.stride),
            "padding": _of_row(self.padding),
            "dilation": (1, self.dilation),
            "groups": self.groups,
        }

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        options: Any = {"training": training, "rng": rng, "input_gradient": input_gradient}
        return _as_sequences(*super().forward(_as_row(x), backend, **options))


# ---------------------------------------------------------------------- pools
class _Pool1D(Module):
    """What both window poolings share: their options and the length of the output."""

    def __init__(
        self,
        pool_size: int,
        stride: int | None,
        padding: Padding1D,
        dilation: int,
        ceil_mode: bool,
        name: str | None,
    ) -> None:
        super().__init__(name=name)
        who = type(self).__name__
        self.pool_size = integer(pool_size, f"{who}: pool_size")
        self.stride = None if stride is None else integer(stride, f"{who}: stride")
        self.padding = _padding1d(padding, f"{who}: padding")
        self.dilation = integer(dilation, f"{who}: dilation")
        self.ceil_mode = flag(ceil_mode, f"{who}: ceil_mode")

    def declare(self, input_shape: Shape) -> Shape:
        who = type(self).__name__
        length, channels = _sequence_shape(input_shape, who)
        sizes, window, dilation = (1, length), (1, self.pool_size), (1, self.dilation)
        stride = self._options_of_row()["stride"]
        pads = pads_of(_of_row(self.padding), sizes, window, stride, dilation)
        check_pool(sizes, who, window, pads, dilation)
        size = output_size(sizes, who, window, stride, pads, dilation, self.ceil_mode)
        return size[1], channels

    def _options_of_row(self) -> dict[str, Any]:
        return {
            "pool_size": (1, self.pool_size),
            "stride": (1, self.pool_size if self.stride is None else self.stride),
            "padding": _of_row(self.padding),
            "dilation": (1, self.dilation),
            "ceil_mode": self.ceil_mode,
        }


class MaxPool1D(_Pool1D):
    """The largest value of each window of a sequence: (L, C) -> (P, C).

    pool_size, stride, dilation: numbers; stride defaults to pool_size. padding: a number, a pair
    (before, after), "valid" or "same", at most half a window. ceil_mode: let the last window hang
    over the end.
    """

    def __init__(
        self,
        pool_size: int = 2,
        *,
        stride: int | None = None,
        padding: Padding1D = 0,
        dilation: int = 1,
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
        row, options = _as_row(x), self._options_of_row()
        row_shape = row.shape
        y, argmax = backend.max_pool2d(row, **options)
        return _as_sequences(
            y, lambda dy: backend.max_pool2d_backward(dy, argmax, row_shape, **options)
        )


class AvgPool1D(_Pool1D):
    """The mean value of each window of a sequence: (L, C) -> (P, C).

    Options as in MaxPool1D. count_include_pad: count padding as zeros; by default the mean is over
    what lies inside the sequence.
    """

    def __init__(
        self,
        pool_size: int = 2,
        *,
        stride: int | None = None,
        padding: Padding1D = 0,
        dilation: int = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(pool_size, stride, padding, dilation, ceil_mode, name)
        self.count_include_pad = flag(count_include_pad, "AvgPool1D: count_include_pad")

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        row, options = _as_row(x), self._options_of_row()
        options["count_include_pad"] = self.count_include_pad
        row_shape = row.shape
        return _as_sequences(
            backend.avg_pool2d(row, **options),
            lambda dy: backend.avg_pool2d_backward(dy, row_shape, **options),
        )


class GlobalAvgPool1D(Module):
    """The mean over a whole sequence: (L, C) -> (C,)."""

    def declare(self, input_shape: Shape) -> Shape:
        return (_sequence_shape(input_shape, "GlobalAvgPool1D")[1],)

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        row, x_shape = _as_row(x), x.shape
        row_shape = row.shape
        return (
            backend.global_avg_pool2d(row),
            lambda dy: backend.global_avg_pool2d_backward(dy, row_shape).reshape(x_shape),
        )
