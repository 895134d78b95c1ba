"""Convolution on the compiled kernels: direct, Winograd's, or depthwise.

Depthwise is a convolution where every channel is a group. Winograd's F(4x4, 3x3) takes a quarter
of the multiplications and rounds more, within a bound of its own: see `FastBackend`.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, rank, shape, too_large
from fastcnn._memory import empty
from fastcnn._options import flag
from fastcnn._types import Array, Padding, Shape, Size2D
from fastcnn.fast._conv_rules import ConvRules, Geometry, geometry_of, sees_all

__all__ = ["Conv2D"]


def _transform(u: Array, w: Array, kernel: Any, threads: int) -> None:
    """Leave the weights in u as Winograd's kernel reads them."""
    size = kernel.workspace_size(1, 1, 1, *w.shape[2:], threads, True)
    kernel.transform_all_weights(u, w, empty((size,), w.dtype), threads)


class Conv2D(ConvRules):
    """conv2d and its gradients."""

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
        geometry = geometry_of("conv2d", x, w, stride, padding, dilation, groups)
        if b is not None:
            rank(b, "conv2d: b", "K")
            shape(b, "conv2d: b", w.shape[3:], "one for each filter of w")
        y_shape = (x.shape[0], *geometry.output, w.shape[3])
        try:
            y = self._empty(y_shape, x.dtype)
        except MemoryError:
            raise MemoryError(too_large(y_shape, "conv2d: padding")) from None
        self._convolve(y, x, w, b, geometry)
        return y

    def _conv2d_product(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        r: Array | None = None,
        *,
        activation: str | None = None,
        parameters: tuple[float, float] = (0.0, 0.0),
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
    ) -> Array:
        """Return conv2d(x, w, b), r added to it, and an activation of that, in one write."""
        geometry = geometry_of("conv2d", x, w, stride, padding, dilation, groups)
        y = self._empty((x.shape[0], *geometry.output, w.shape[3]), x.dtype)
        last = self._last(self._load(x), activation, parameters)
        self._convolve(y, x, w, b, geometry, last, r)
        return y

    def _convolve(
        self,
        y: Array,
        x: Array,
        w: Array,
        b: Array | None,
        geometry: Geometry,
        *last: Any,
    ) -> None:
        """Write a convolution to y; last: an activation, and a residual before it."""
        if y.size == 0:
            return
        kernels, algorithm = self._load(x), self._algorithm_of("y", x.shape, w, geometry)
        groups, (r, s, c, k) = geometry.groups, w.shape
        threads = self.num_threads  # asked once: another Python thread may change it meanwhile
        options: tuple[Any, ...]
        if algorithm == "depthwise":
            call = kernels.depthwise_conv2d.depthwise_conv2d
            self._run(call, y, x, w, b, *geometry.window, threads, *last)
        elif algorithm == "grouped":
            kernel = kernels.grouped_conv2d
            size = kernel.workspace_size(r * s, c, k)
            room, packed = self._weights(size, kernel.pack_weights, w)
            options = (*geometry.window, threads, packed, *last)
            self._run(kernel.grouped_conv2d, y, x, w, b, room, *options)
        elif algorithm == "pointwise":
            kernel, w = kernels.pointwise_conv2d, w[0, 0]
            room, packed = self._weights(kernel.workspace_size(c, k), kernel.pack_weights, w, b)
            options = (*geometry.strides, threads, packed, *last)
            self._run(kernel.pointwise_conv2d, y, x, w, b, room, *options)
        elif algorithm == "winograd":
            kernel = kernels.winograd
            u = self._transformed(kernel, w, threads)
            size = kernel.workspace_size(*y.shape[:3], c, k, threads, u is not None)
            options = (*geometry.pads, threads, u, *last)
            self._run(kernel.conv2d, y, x, w, b, self._room(size, x.dtype), *options)
        else:
            kernel = kernels.conv2d
            size = kernel.workspace_size(groups, r * s, c, k // groups)
            room, packed = self._weights(size, kernel.pack_weights, w, b, groups)
            options = (*geometry.window, groups, threads, packed, *last)
            self._run(kernel.conv2d, y, x, w, b, room, *options)

    def _transformed(self, kernel: Any, w: Array, threads: int) -> Array | None:
        """Return weights as Winograd's kernel reads them, where they stay; else None."""
        c, k = w.shape[2:]
        return self._kept(kernel.kept_size(c, k), _transform, w, kernel, threads)

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
        flag(input_gradient, "conv2d_backward: input_gradient")
        flag(weight_gradient, "conv2d_backward: weight_gradient")
        geometry = geometry_of("conv2d_backward", x, w, stride, padding, dilation, groups)
        output = (x.shape[0], *geometry.output, w.shape[3])
        shape(dy, "conv2d_backward: dy", output, "that of conv2d's result")
        if x.size == 0:
            dx = self._empty(x.shape, x.dtype) if input_gradient else None
            if not weight_gradient:
                return dx, None, None
            return dx, self._zeros(w.shape, x.dtype), self._zeros(w.shape[3:], x.dtype)
        return self._both_gradients(dy, x, w, geometry, input_gradient, weight_gradient)

    def _both_gradients(
        self,
        dy: Array,
        x: Array,
        w: Array,
        geometry: Geometry,
        input_gradient: bool,
        weight_gradient: bool,
        more: Array | None = None,
    ) -> tuple[Array | None, Array | None, Array | None]:
        dx = self._room_for(x.shape, w, geometry) if input_gradient else None
        dw, db = self._weight_gradients(dy, x, w, geometry) if weight_gradient else (None, None)
        if dx is not None:  # last: what reads it next finds some of it in the caches
            self._correlate_back(dx, dy, w, geometry, more)
        return dx, dw, db

    def _conv2d_branch(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
    ) -> Array:
        """Return conv2d of the same, where others read x, too."""
        options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
        return self.conv2d(x, w, b, groups=groups, **options)

    def _conv2d_branch_backward(
        self,
        dy: Array,
        x: Array,
        w: Array,
        more: Array | None = None,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
        input_gradient: bool = True,
        weight_gradient: bool = True,
    ) -> tuple[Array | None, Array | None, Array | None]:
        """Return (dx, dw, db); more, the gradient of x by those others so far, is added to dx."""
        options = (stride, padding, dilation, groups)
        geometry = geometry_of("conv2d_branch_backward", x, w, *options)
        return self._both_gradients(dy, x, w, geometry, input_gradient, weight_gradient, more)

    def _input_gradient(self, dy: Array, x_shape: Shape, w: Array, geometry: Geometry) -> Array:
        dx = self._room_for(x_shape, w, geometry)
        self._correlate_back(dx, dy, w, geometry)
        return dx

    def _room_for(self, x_shape: Shape, w: Array, geometry: Geometry) -> Array:
        """Return an array for the gradient of x: zeros where a kernel does not write all of it."""
        pointwise = self._algorithm_of("dx", x_shape, w, geometry) == "pointwise"
        writes_all = pointwise or sees_all(w, geometry)
        return (self._empty if writes_all else self._zeros)(x_shape, w.dtype)

    def _correlate_back(
        self, dx: Array, dy: Array, w: Array, geometry: Geometry, more: Array | None = None
    ) -> None:
        """Write the gradient of x, and what is added to it."""
        x_shape, kernels = dx.shape, self._load(dy)
        algorithm = self._algorithm_of("dx", x_shape, w, geometry)
        groups, (r, s, c, k), threads = geometry.groups, w.shape, self.num_threads
        options: tuple[Any, ...]
        if algorithm == "depthwise":
            call = kernels.depthwise_conv2d.depthwise_conv2d_backward_input
            self._run(call, dx, dy, w, *geometry.window, threads)
        elif algorithm == "grouped":
            kernel = kernels.grouped_conv2d
            room = self._room(kernel.workspace_size(r * s, c, k), dy.dtype)
            call = kernel.grouped_conv2d_backward_input
            self._run(call, dx, dy, w, room, *geometry.window, threads)
        elif algorithm == "pointwise":
            kernel = kernels.pointwise_conv2d
            room = self._room(kernel.workspace_size(k, c), dy.dtype)
            call = kernel.pointwise_conv2d_backward_input
            self._run(call, dx, dy, w[0, 0], room, *geometry.strides, threads)
        elif algorithm == "winograd":
            kernel = kernels.winograd
            room = self._room(kernel.workspace_size(*x_shape[:3], k, c, threads), dy.dtype)
            options = (*geometry.pads, threads, more)
            self._run(kernel.conv2d_backward_input, dx, dy, w, room, *options)
            return
        else:
            kernel = kernels.conv2d
            room = self._room(kernel.workspace_size(groups, r * s, k // groups, c), dy.dtype)
            options = (*geometry.window, groups, threads)
            self._run(kernel.conv2d_backward_input, dx, dy, w, room, *options)
        if more is not None:
            self._run(kernels.add.add, *(each.reshape(-1) for each in (dx, dx, more)), threads)

    def _weight_gradients(
        self, dy: Array, x: Array, w: Array, geometry: Geometry
    ) -> tuple[Array, Array]:
        dw, db = self._empty(w.shape, w.dtype), self._empty(w.shape[3:], w.dtype)
        algorithm = self._algorithm_of("dw", x.shape, w, geometry)
        self._correlate(algorithm, dw, db, dy, x, geometry)
        return dw, db

    def _correlate(
        self, algorithm: str, dw: Array, db: Array, dy: Array, x: Array, geometry: Geometry
    ) -> None:
        """Write the gradients of weights and bias by one of the algorithms."""
        kernels, threads = self._load(x), self.num_threads
        (n, p, q, k), (r, s, c, _) = dy.shape, dw.shape
        options: tuple[Any, ...] = (*geometry.window, threads)
        if algorithm == "depthwise":
            kernel = kernels.depthwise_conv2d_backward_weights
            room = self._room(kernel.workspace_size(n * p, r * s, k), x.dtype)
            call = kernel.depthwise_conv2d_backward_weights
        elif algorithm == "grouped":
            kernel = kernels.grouped_conv2d
            room = self._room(kernel.parts_size(n * p, r * s, c, k), x.dtype)
            call = kernel.grouped_conv2d_backward_weights
        elif algorithm == "winograd":
            kernel, options = kernels.winograd_backward_weights, (*geometry.pads, threads)
            room = self._room(kernel.workspace_size(n, c, p, q, k, threads), x.dtype)
            call = kernel.conv2d_backward_weights
        elif algorithm == "swapped":
            self._correlate_swapped(dw, db, dy, x, geometry)
            return
        else:
            kernel, groups = kernels.conv2d_backward_weights, geometry.groups
            options = (*geometry.window, groups, threads)
            size = kernel.workspace_size(*x.shape, p, q, k // groups, r, s, *options)
            room, call = self._room(size, x.dtype), kernel.conv2d_backward_weights
        self._run(call, dw, db, dy, x, room, *options)

    def _correlate_swapped(
        self, dw: Array, db: Array, dy: Array, x: Array, geometry: Geometry
    ) -> None:
        """Do it with x and dy in each other's place, and the taps from the other end."""
        kernel = self._load(x).conv2d_backward_weights
        n, height, width, c = x.shape
        r, s, _, k = dw.shape
        dilations, threads = geometry.window[4:], self.num_threads
        axes = zip((r, s), geometry.pads, dilations, strict=True)
        # Below zero where padding is more than the kernel reaches: that much of dy sees no input.
        pads = [(size - 1) * dilation - pad for size, pad, dilation in axes]
        options = (*geometry.strides, *pads, *dilations, 1, threads)
        size = kernel.workspace_size(n, *geometry.output, k, height, width, c, r, s, *options)
        swapped, sums_of_x = self._empty((r, s, k, c), x.dtype), self._room(c, x.dtype)
        room = self._room(size, x.dtype)
        self._run(kernel.conv2d_backward_weights, swapped, sums_of_x, x, dy, room, *options)
        room = self._room(kernel.swapped_workspace_size(dy.size, k), x.dtype)
        self._run(kernel.swap_back, dw, db, swapped, dy, room, threads)
