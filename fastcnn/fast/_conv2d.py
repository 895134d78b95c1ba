"""Convolution on the compiled kernels: direct, Winograd's, or depthwise.

Depthwise is a convolution where every channel is a group. Winograd's F(4x4, 3x3) takes a quarter
of the multiplications and rounds more, within a bound of its own: see `FastBackend`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from fastcnn._checks import (
    by_shape,
    fits_memory,
    flag,
    float_arrays,
    integer,
    output_size,
    pads,
    pair,
    rank,
    shape,
    too_large,
)
from fastcnn._memory import empty, zeros
from fastcnn.backend import Array, Padding, Size2D
from fastcnn.fast._base import Base

__all__ = ["Conv2D"]

# When Winograd pays (benchmarks/paths.py): for each channel that a sum runs over it takes 36
# products a tile of 4x4 outputs instead of 9 an output, and the transforms cost as much as so many
# channels. Where tiles fit, 8 channels are enough. The weight gradient needs as many filters too:
# fewer leave the direct sum no lanes idle, for it may swap x and dy.
_TRANSFORMS = 24
_FEWEST_FILTERS = 8


class _Geometry(NamedTuple):
    """The checked options of a convolution, as the kernels take them."""

    output: tuple[int, int]
    window: tuple[int, int, int, int, int, int]  # strides, pads (top, left), dilations
    groups: int

    @property
    def strides(self) -> tuple[int, int]:
        return self.window[:2]

    @property
    def pads(self) -> tuple[int, int]:
        return self.window[2:4]


@by_shape
def _geometry(
    op: str,
    x: Array,
    w: Array,
    stride: Size2D,
    padding: Padding,
    dilation: Size2D,
    groups: int,
) -> _Geometry:
    rank(op, "x", x, "N, H, W, C")
    rank(op, "w", w, "R, S, C, K")
    groups = integer(op, "groups", groups)
    size, kernel, channels = x.shape[1:3], w.shape[:2], x.shape[3]
    if 0 in w.shape or channels == 0:
        raise ValueError(
            f"{op}: w: expected at least one channel, filter, row and column, "
            f"got w of shape {w.shape} for x of shape {x.shape}"
        )
    if channels % groups or w.shape[3] % groups:
        raise ValueError(
            f"{op}: groups: expected a divisor of the {channels} channels of x and of the "
            f"{w.shape[3]} filters of w, got {groups}"
        )
    if w.shape[2] * groups != channels:
        raise ValueError(
            f"{op}: w: expected shape (R, S, C // groups, K) with C // groups = "
            f"{channels // groups} for x of shape {x.shape} and groups = {groups}, got {w.shape}"
        )
    stride_h, stride_w = pair(op, "stride", stride)
    dilation_h, dilation_w = pair(op, "dilation", dilation)
    pad_h, pad_w = pads(op, padding, size, kernel, (stride_h, stride_w), (dilation_h, dilation_w))
    output = (
        output_size(op, "height", size[0], pad_h, kernel[0], stride_h, dilation_h),
        output_size(op, "width", size[1], pad_w, kernel[1], stride_w, dilation_w),
    )
    fits_memory(op, "padding", (x.shape[0], *output, w.shape[3]))
    # A stride that is never taken and a dilation between no taps may be of any size: as small
    # ones they mean the same, and no product of them overflows.
    window = (
        stride_h if output[0] > 1 else 1,
        stride_w if output[1] > 1 else 1,
        pad_h[0],
        pad_w[0],
        dilation_h if kernel[0] > 1 else 1,
        dilation_w if kernel[1] > 1 else 1,
    )
    return _Geometry(output, window, groups)


def _is_pointwise(x: Array, w: Array, geometry: _Geometry) -> bool:
    """Whether w is 1x1 and no output sees padding."""
    if w.shape[:2] != (1, 1) or geometry.groups > 1 or geometry.window[2:4] != (0, 0):
        return False
    axes = zip(geometry.output, geometry.strides, x.shape[1:3], strict=True)
    return all((outputs - 1) * stride < size for outputs, stride, size in axes)


def _sees_all(w: Array, geometry: _Geometry) -> bool:
    """Whether every input has a tap that may reach it, so that a kernel writes its gradient."""
    axes = zip(w.shape[:2], geometry.strides, geometry.window[4:], strict=True)
    return all(stride == 1 or (size >= stride and step == 1) for size, stride, step in axes)


def _points(outputs: int, short_tiles: bool) -> int:
    """Return the points of Winograd's tiles along a side: six for four outputs, four for two."""
    fours = (outputs + 1) // 4 if short_tiles else -(-outputs // 4)
    return 6 * fours + (4 if outputs > 4 * fours else 0)


class Conv2D(Base):
    """conv2d and its gradients."""

    def _is_depthwise(self, w: Array, groups: int) -> bool:
        """Whether each channel has one filter, and there are enough of them to fill a vector."""
        least: int = self._load(w).depthwise_conv2d.LEAST_CHANNELS
        return groups >= least and w.shape[2] == 1 and w.shape[3] == groups

    def _has_narrow_groups(self, w: Array, groups: int) -> bool:
        """Whether several groups, each of as many filters as channels, fill a vector."""
        depth, filters = w.shape[2:]
        takes: bool = self._load(w).grouped_conv2d.takes(filters, depth)
        return takes and groups > 1 and filters == groups * depth

    def _by_winograd(self, result: str, w: Array, geometry: _Geometry) -> bool:
        """Return whether Winograd's algorithm computes y, dx or dw.

        By the shape alone, of one image and the weights: a batch gives what its images give.
        """
        if self.convolution == "direct" or geometry.groups > 1 or w.shape[:2] != (3, 3):
            return False
        strides, dilations = geometry.strides, geometry.window[4:]
        if strides != (1, 1) or dilations != (1, 1):
            return False
        if self.convolution == "winograd":
            return True
        height, width = geometry.output
        channels, filters = w.shape[2:]
        if min(height, width) == 1 or (result == "dw" and filters < _FEWEST_FILTERS):
            return False
        short_tiles = result != "dw"
        products = _points(height, short_tiles) * _points(width, short_tiles)
        summed: int = filters if result == "dx" else channels
        return summed * (9 * height * width - products) >= _TRANSFORMS * products

    def _conv2d_algorithm(self, x: Array, w: Array, geometry: _Geometry) -> str:
        """Return which kernel computes a convolution, by shape alone."""
        if self._is_depthwise(w, geometry.groups):
            return "depthwise"
        if self._has_narrow_groups(w, geometry.groups):
            return "grouped"
        if _is_pointwise(x, w, geometry):
            return "pointwise"
        return "winograd" if self._by_winograd("y", w, geometry) else "direct"

    def conv2d(
        self,
        x: ArrayLike,
        w: ArrayLike,
        b: ArrayLike | None = None,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
    ) -> Array:
        x, w, b = float_arrays("conv2d", x=x, w=w, b=b)
        geometry = _geometry("conv2d", x, w, stride, padding, dilation, groups)
        if b is not None:
            rank("conv2d", "b", b, "K")
            shape("conv2d", "b", b, w.shape[3:], "one for each filter of w")
        y_shape = (x.shape[0], *geometry.output, w.shape[3])
        try:
            y = empty(y_shape, x.dtype)
        except MemoryError:
            raise MemoryError(too_large("conv2d", "padding", y_shape)) from None
        if y.size == 0:
            return y
        kernels, algorithm = self._load(x), self._conv2d_algorithm(x, w, geometry)
        r, s, c, k = w.shape
        if algorithm == "grouped":
            workspace = kernels.grouped_conv2d.workspace_size(r * s, c, k)
            kernels.grouped_conv2d.grouped_conv2d(
                y, x, w, b, empty((workspace,), x.dtype), *geometry.window, self.num_threads
            )
            return y
        if algorithm == "depthwise":
            kernels.depthwise_conv2d.depthwise_conv2d(
                y, x, w, b, *geometry.window, self.num_threads
            )
            return y
        if algorithm == "pointwise":
            workspace = kernels.pointwise_conv2d.workspace_size(c, k)
            kernels.pointwise_conv2d.pointwise_conv2d(
                y, x, w[0, 0], b, empty((workspace,), x.dtype), *geometry.strides, self.num_threads
            )
            return y
        if algorithm == "winograd":
            threads = self.num_threads  # asked once: another Python thread may change it meanwhile
            workspace = kernels.winograd.workspace_size(*y.shape[:3], c, k, threads)
            kernels.winograd.conv2d(
                y, x, w, b, empty((workspace,), x.dtype), *geometry.pads, threads
            )
            return y
        workspace = kernels.conv2d.workspace_size(groups, r * s, c, k // groups)
        kernels.conv2d.conv2d(
            y, x, w, b, empty((workspace,), x.dtype), *geometry.window, groups, self.num_threads
        )
        return y

    def conv2d_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        w: ArrayLike,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
        input_gradient: bool = True,
        weight_gradient: bool = True,
    ) -> tuple[Array | None, Array | None, Array | None]:
        dy, x, w = float_arrays("conv2d_backward", dy=dy, x=x, w=w)
        flag("conv2d_backward", "input_gradient", input_gradient)
        flag("conv2d_backward", "weight_gradient", weight_gradient)
        geometry = _geometry("conv2d_backward", x, w, stride, padding, dilation, groups)
        output = (x.shape[0], *geometry.output, w.shape[3])
        shape("conv2d_backward", "dy", dy, output, "that of conv2d's result")
        dx: Array | None = None
        dw: Array | None = None
        db: Array | None = None
        if x.size == 0:
            dx = empty(x.shape, x.dtype) if input_gradient else None
            if weight_gradient:
                dw, db = zeros(w.shape, x.dtype), zeros(w.shape[3:], x.dtype)
            return dx, dw, db
        to_input, to_weights = self._backward_input, self._backward_weights
        if self._is_depthwise(w, groups):
            to_input, to_weights = self._depthwise_backward_input, self._depthwise_backward_weights
        elif self._has_narrow_groups(w, groups):
            to_input, to_weights = self._grouped_backward_input, self._grouped_backward_weights
        if input_gradient:
            dx = to_input(dy, x, w, geometry)
        if weight_gradient:
            dw, db = to_weights(dy, x, w, geometry)
        return dx, dw, db

    def _backward_input(self, dy: Array, x: Array, w: Array, geometry: _Geometry) -> Array:
        r, s, c, k = w.shape
        if self._by_winograd("dx", w, geometry):
            return self._winograd_backward_input(dy, x, w, geometry)
        if _is_pointwise(x, w, geometry):
            dx: Array = empty(x.shape, x.dtype)
            pointwise = self._load(x).pointwise_conv2d
            workspace = pointwise.workspace_size(k, c)
            pointwise.pointwise_conv2d_backward_input(
                dx, dy, w[0, 0], empty((workspace,), x.dtype), *geometry.strides, self.num_threads
            )
            return dx
        make: Any = empty if _sees_all(w, geometry) else zeros
        dx = make(x.shape, x.dtype)
        kernel = self._load(x).conv2d
        workspace = kernel.workspace_size(geometry.groups, r * s, k // geometry.groups, c)
        kernel.conv2d_backward_input(
            dx,
            dy,
            w,
            empty((workspace,), x.dtype),
            *geometry.window,
            geometry.groups,
            self.num_threads,
        )
        return dx

    def _winograd_backward_input(self, dy: Array, x: Array, w: Array, geometry: _Geometry) -> Array:
        dx = empty(x.shape, x.dtype)
        kernel = self._load(x).winograd
        c, k = w.shape[2:]
        threads = self.num_threads
        workspace = kernel.workspace_size(*x.shape[:3], k, c, threads)
        kernel.conv2d_backward_input(
            dx, dy, w, empty((workspace,), x.dtype), *geometry.pads, threads
        )
        return dx

    def _backward_weights(
        self, dy: Array, x: Array, w: Array, geometry: _Geometry
    ) -> tuple[Array, Array]:
        dw, db = empty(w.shape, w.dtype), empty(w.shape[3:], w.dtype)
        if self._by_winograd("dw", w, geometry):
            self._winograd_backward_weights(dw, db, dy, x, geometry)
        elif self._swaps(x, w, geometry):
            self._swapped_backward_weights(dw, db, dy, x, geometry)
        else:
            self._direct_backward_weights(dw, db, dy, x, geometry)
        return dw, db

    def _direct_backward_weights(
        self, dw: Array, db: Array, dy: Array, x: Array, geometry: _Geometry
    ) -> None:
        kernel = self._load(x).conv2d_backward_weights
        n, height, width, _ = x.shape
        r, s, c, k = dw.shape
        options = (*geometry.window, geometry.groups, self.num_threads)
        workspace = kernel.workspace_size(
            n, height, width, c, *geometry.output, k // geometry.groups, r, s, *options
        )
        kernel.conv2d_backward_weights(dw, db, dy, x, empty((workspace,), x.dtype), *options)

    def _swaps(self, x: Array, w: Array, geometry: _Geometry) -> bool:
        """Whether x and dy change places: few filters would leave lanes idle."""
        if geometry.groups > 1 or geometry.strides != (1, 1):
            return False
        r, s, c, k = w.shape
        kernel = self._load(x).conv2d_backward_weights
        swaps: bool = kernel.swaps(*x.shape[1:3], c, *geometry.output, k, r, s)
        return swaps

    def _swapped_backward_weights(
        self, dw: Array, db: Array, dy: Array, x: Array, geometry: _Geometry
    ) -> None:
        kernel = self._load(x).conv2d_backward_weights
        n, height, width, c = x.shape
        r, s, _, k = dw.shape
        dilations, threads = geometry.window[4:], self.num_threads
        axes = zip((r, s), geometry.pads, dilations, strict=True)
        # Below zero where padding is more than the kernel reaches: that much of dy sees no input.
        swapped_pads = [(size - 1) * dilation - pad for size, pad, dilation in axes]
        options = (*geometry.strides, *swapped_pads, *dilations, 1, threads)
        workspace = kernel.workspace_size(n, *geometry.output, k, height, width, c, r, s, *options)
        swapped, sums_of_x = empty((r, s, k, c), x.dtype), empty((c,), x.dtype)
        kernel.conv2d_backward_weights(
            swapped, sums_of_x, x, dy, empty((workspace,), x.dtype), *options
        )
        workspace = kernel.swapped_workspace_size(dy.size, k)
        kernel.swap_back(dw, db, swapped, dy, empty((workspace,), x.dtype), threads)

    def _winograd_backward_weights(
        self, dw: Array, db: Array, dy: Array, x: Array, geometry: _Geometry
    ) -> None:
        kernel = self._load(x).winograd_backward_weights
        n, *output, k = dy.shape
        threads = self.num_threads
        workspace = kernel.workspace_size(n, x.shape[3], *output, k, threads)
        kernel.conv2d_backward_weights(
            dw, db, dy, x, empty((workspace,), x.dtype), *geometry.pads, threads
        )

    def _depthwise_backward_input(
        self, dy: Array, x: Array, w: Array, geometry: _Geometry
    ) -> Array:
        make: Any = empty if _sees_all(w, geometry) else zeros
        dx: Array = make(x.shape, x.dtype)
        self._load(x).depthwise_conv2d.depthwise_conv2d_backward_input(
            dx, dy, w, *geometry.window, self.num_threads
        )
        return dx

    def _depthwise_backward_weights(
        self, dy: Array, x: Array, w: Array, geometry: _Geometry
    ) -> tuple[Array, Array]:
        dw, db = empty(w.shape, w.dtype), empty(w.shape[3:], w.dtype)
        kernel = self._load(x).depthwise_conv2d_backward_weights
        n, p = dy.shape[:2]
        workspace = kernel.workspace_size(n * p, w.shape[0] * w.shape[1], w.shape[3])
        kernel.depthwise_conv2d_backward_weights(
            dw, db, dy, x, empty((workspace,), x.dtype), *geometry.window, self.num_threads
        )
        return dw, db

    def _grouped_backward_input(self, dy: Array, x: Array, w: Array, geometry: _Geometry) -> Array:
        make: Any = empty if _sees_all(w, geometry) else zeros
        dx: Array = make(x.shape, x.dtype)
        kernel = self._load(x).grouped_conv2d
        workspace = kernel.workspace_size(w.shape[0] * w.shape[1], *w.shape[2:])
        kernel.grouped_conv2d_backward_input(
            dx, dy, w, empty((workspace,), w.dtype), *geometry.window, self.num_threads
        )
        return dx

    def _grouped_backward_weights(
        self, dy: Array, x: Array, w: Array, geometry: _Geometry
    ) -> tuple[Array, Array]:
        dw, db = empty(w.shape, w.dtype), empty(w.shape[3:], w.dtype)
        kernel = self._load(x).grouped_conv2d
        n, p = dy.shape[:2]
        workspace = kernel.parts_size(n * p, w.shape[0] * w.shape[1], *w.shape[2:])
        kernel.grouped_conv2d_backward_weights(
            dw, db, dy, x, empty((workspace,), x.dtype), *geometry.window, self.num_threads
        )
        return dw, db
