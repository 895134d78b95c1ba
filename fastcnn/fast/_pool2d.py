"""Pooling on the compiled kernels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array
from fastcnn._checks import float_arrays, rank, shape
from fastcnn._options import (
    Pads,
    argmax_dtype,
    check_pool,
    flag,
    integer,
    output_size,
    padding2d,
    pads_of,
    pair,
    shown,
    size2d,
)
from fastcnn._types import Array, Padding, Size2D
from fastcnn.fast._resample import Pixels, Resample, windows_of

__all__ = ["Pool2D"]

Shape4 = tuple[int, int, int, int]


class _Geometry(NamedTuple):
    """The checked options of a pooling."""

    x_shape: Shape4
    y_shape: Shape4
    window: tuple[int, int]
    stride: tuple[int, int]
    pads: Pads
    dilation: tuple[int, int]

    @property
    def options(self) -> tuple[int, int, int, int, int, int]:
        """The options as the kernels take them."""
        return (*self.window, *self.stride, self.pads[0][0], self.pads[1][0])

    def argmax_dtype(self, op: str) -> np.dtype[Any]:
        """Return the dtype that holds every place of the window."""
        places = self.window[0] * self.window[1]
        if places > 2**31:
            raise ValueError(
                f"{op}: pool_size: expected a window of at most {2**31} places, got {places}"
            )
        return argmax_dtype(self.window)


def _geometry(
    op: str,
    x_shape: Shape4,
    pool_size: Size2D,
    stride: Size2D | None,
    padding: Padding,
    ceil_mode: bool,
    dilation: Size2D,
) -> _Geometry:
    window = pair(size2d(pool_size, f"{op}: pool_size"))
    strides = window if stride is None else pair(size2d(stride, f"{op}: stride"))
    ceil_mode = flag(ceil_mode, f"{op}: ceil_mode")
    n, height, width, channels = x_shape
    if channels == 0:
        raise ValueError(f"{op}: x: expected at least one channel, got shape {x_shape}")
    dilations = pair(size2d(dilation, f"{op}: dilation"))
    padding = padding2d(padding, f"{op}: padding")
    pads = pads_of(padding, (height, width), window, strides, dilations)
    check_pool((height, width), op, window, pads, dilations)
    size = output_size((height, width), f"{op}: x", window, strides, pads, dilations, ceil_mode)
    return _Geometry(x_shape, (n, *size, channels), window, strides, pads, dilations)


def _shape4(op: str, x_shape: Any) -> Shape4:
    """Return the checked shape of an array that is not there."""
    if not isinstance(x_shape, (tuple, list)):
        raise TypeError(f"{op}: x_shape: expected a tuple (N, H, W, C), got {shown(x_shape)}")
    if len(x_shape) != 4:
        raise ValueError(f"{op}: x_shape: expected four sizes (N, H, W, C), got {shown(x_shape)}")
    n, h, w, c = (integer(size, f"{op}: x_shape", int(i > 0)) for i, size in enumerate(x_shape))
    return n, h, w, c


class Pool2D(Resample):
    """The poolings and their gradients."""

    def max_pool2d(
        self,
        x: ArrayLike,
        pool_size: Size2D = 2,
        *,
        stride: Size2D | None = None,
        padding: Padding = 0,
        dilation: Size2D = 1,
        ceil_mode: bool = False,
    ) -> tuple[Array, Array]:
        op = "max_pool2d"
        (x,) = float_arrays(op, x=x)
        rank(x, f"{op}: x", "N, H, W, C")
        geometry = _geometry(op, x.shape, pool_size, stride, padding, ceil_mode, dilation)
        argmax = self._empty(geometry.y_shape, geometry.argmax_dtype(op))
        y = self._empty(geometry.y_shape, x.dtype)
        if y.size:
            kernel = self._load(x).max_pool2d.max_pool2d
            self._run(kernel, y, argmax, x, *geometry.options, *geometry.dilation, self._team(x))
        return y, argmax

    def _max_pool2d_values(
        self,
        x: Array,
        pool_size: Size2D = 2,
        *,
        stride: Size2D | None = None,
        padding: Padding = 0,
        dilation: Size2D = 1,
        ceil_mode: bool = False,
    ) -> Array:
        """Return max_pool2d(x) without the places of its winners."""
        op = "max_pool2d"
        geometry = _geometry(op, x.shape, pool_size, stride, padding, ceil_mode, dilation)
        y = self._empty(geometry.y_shape, x.dtype)
        if y.size:
            kernel = self._load(x).max_pool2d.max_pool2d
            self._run(kernel, y, None, x, *geometry.options, *geometry.dilation, self._team(x))
        return y

    def max_pool2d_backward(
        self,
        dy: ArrayLike,
        argmax: ArrayLike,
        x_shape: tuple[int, ...],
        pool_size: Size2D = 2,
        *,
        stride: Size2D | None = None,
        padding: Padding = 0,
        dilation: Size2D = 1,
        ceil_mode: bool = False,
    ) -> Array:
        op = "max_pool2d_backward"
        (dy,) = float_arrays(op, dy=dy)
        x_shape = _shape4(op, x_shape)
        geometry = _geometry(op, x_shape, pool_size, stride, padding, ceil_mode, dilation)
        shape(dy, f"{op}: dy", geometry.y_shape, "that of max_pool2d's result")
        argmax = as_array(argmax, f"{op}: argmax")
        dtype = geometry.argmax_dtype(op)
        if argmax.dtype.newbyteorder("=") != dtype:
            raise TypeError(f"{op}: argmax: expected dtype {dtype}, got {argmax.dtype}")
        shape(argmax, f"{op}: argmax", geometry.y_shape, "that of max_pool2d's result")
        dx = self._empty(geometry.x_shape, dy.dtype)
        if dx.size:
            kernel = self._load(dy).max_pool2d.max_pool2d_backward
            argmax = np.require(argmax, dtype, ("C", "A"))
            self._run(
                _scatter,
                kernel,
                dx,
                dy,
                argmax,
                *geometry.options,
                *geometry.dilation,
                self._team(dx),
            )
        return dx

    def avg_pool2d(
        self,
        x: ArrayLike,
        pool_size: Size2D = 2,
        *,
        stride: Size2D | None = None,
        padding: Padding = 0,
        dilation: Size2D = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
    ) -> Array:
        op = "avg_pool2d"
        (x,) = float_arrays(op, x=x)
        rank(x, f"{op}: x", "N, H, W, C")
        geometry = _geometry(op, x.shape, pool_size, stride, padding, ceil_mode, dilation)
        bottom_right = _counted_pads(op, geometry, count_include_pad)
        y = self._empty(geometry.y_shape, x.dtype)
        if y.size and geometry.dilation != (1, 1):
            counted = bottom_right != (-1, -1)
            self._resample(y, x, *_pixels(geometry, counted), means=not counted)
        elif y.size:
            kernel = self._load(x).avg_pool2d.avg_pool2d
            self._run(kernel, y, x, *geometry.options, *bottom_right, self._team(x))
        return y

    def avg_pool2d_backward(
        self,
        dy: ArrayLike,
        x_shape: tuple[int, ...],
        pool_size: Size2D = 2,
        *,
        stride: Size2D | None = None,
        padding: Padding = 0,
        dilation: Size2D = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
    ) -> Array:
        op = "avg_pool2d_backward"
        (dy,) = float_arrays(op, dy=dy)
        x_shape = _shape4(op, x_shape)
        geometry = _geometry(op, x_shape, pool_size, stride, padding, ceil_mode, dilation)
        bottom_right = _counted_pads(op, geometry, count_include_pad)
        shape(dy, f"{op}: dy", geometry.y_shape, "that of avg_pool2d's result")
        dx = self._empty(geometry.x_shape, dy.dtype)
        if dx.size and geometry.dilation != (1, 1):
            pixels = _pixels(geometry, bottom_right != (-1, -1), backward=True)
            self._resample(dx, dy, *pixels)
        elif dx.size:
            kernel = self._load(dy).avg_pool2d.avg_pool2d_backward
            self._run(kernel, dx, dy, *geometry.options, *bottom_right, self._team(dx))
        return dx

    def global_avg_pool2d(self, x: ArrayLike) -> Array:
        op = "global_avg_pool2d"
        (x,) = float_arrays(op, x=x)
        rank(x, f"{op}: x", "N, H, W, C")
        if 0 in x.shape[1:]:
            raise ValueError(
                f"{op}: x: expected at least one pixel and one channel, got shape {x.shape}"
            )
        n, height, width, channels = x.shape
        y = self._empty((n, channels), x.dtype)
        if y.size:
            kernels = self._load(x).avg_pool2d
            partial = self._empty(
                (n, *kernels.sizes(height * width, channels)), np.dtype(np.float64)
            )
            self._run(kernels.global_avg_pool2d, y, partial, x.reshape(n, -1), self._team(x))
        return y

    def global_avg_pool2d_backward(self, dy: ArrayLike, x_shape: tuple[int, ...]) -> Array:
        op = "global_avg_pool2d_backward"
        (dy,) = float_arrays(op, dy=dy)
        n, height, width, channels = _shape4(op, x_shape)
        shape(dy, f"{op}: dy", (n, channels), "that of global_avg_pool2d's result")
        dx = self._empty((n, height, width, channels), dy.dtype)
        if dx.size:
            kernel = self._load(dy).avg_pool2d.global_avg_pool2d_backward
            self._run(kernel, dx, dy, self._team(dx))
        return dx


def _scatter(kernel: Any, dx: Array, *arguments: Any) -> None:
    """Run max_pool2d_backward's kernel, which finds out whether its argmax is one."""
    wrong = kernel(dx, *arguments)
    if wrong:
        raise ValueError(
            "max_pool2d_backward: argmax: expected places inside the window and the image, "
            f"got {wrong} outside"
        )


def _counted_pads(op: str, geometry: _Geometry, count_include_pad: bool) -> tuple[int, int]:
    """Return (bottom, right) padding if pads are counted, else (-1, -1)."""
    if flag(count_include_pad, f"{op}: count_include_pad"):
        return geometry.pads[0][1], geometry.pads[1][1]
    return -1, -1


def _pixels(geometry: _Geometry, counted: bool, *, backward: bool = False) -> tuple[Pixels, Pixels]:
    """Return what windows with dilation are made of, down and to the right; counted: pads are."""
    down, right = (
        windows_of(
            geometry.y_shape[1 + axis],
            geometry.x_shape[1 + axis],
            geometry.window[axis],
            geometry.stride[axis],
            geometry.dilation[axis],
            geometry.pads[axis],
            counted=counted,
            backward=backward,
        )
        for axis in range(2)
    )
    return down, right
