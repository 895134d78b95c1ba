"""Convolution on the compiled kernels: direct, Winograd's, or depthwise.

Depthwise is a convolution where every channel is a group. Winograd's F(4x4, 3x3) takes a quarter
of the multiplications and rounds more, within a bound of its own: see `FastBackend`.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from fastcnn._checks import flag, float_arrays, rank, shape, too_large
from fastcnn._memory import empty
from fastcnn._types import Array, Padding, Size2D
from fastcnn.fast._conv_rules import ConvRules, Geometry, geometry_of, is_pointwise, sees_all

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
            rank("conv2d", "b", b, "K")
            shape("conv2d", "b", b, w.shape[3:], "one for each filter of w")
        y_shape = (x.shape[0], *geometry.output, w.shape[3])
        try:
            y = self._empty(y_shape, x.dtype)
        except MemoryError:
            raise MemoryError(too_large("conv2d", "padding", y_shape)) from None
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
        parameter: float = 0.0,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
    ) -> Array:
        """Return conv2d(x, w, b), r added to it, and an activation of that, in one write."""
        geometry = geometry_of("conv2d", x, w, stride, padding, dilation, groups)
        y = self._empty((x.shape[0], *geometry.output, w.shape[3]), x.dtype)
        loop = self._loop(self._load(x), activation, parameter)
        self._convolve(y, x, w, b, geometry, *loop, r)
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
        """Write a convolution to y; last: an activation, its number, and a residual before it."""
        if y.size == 0:
            return
        kernels, algorithm = self._load(x), self._conv2d_algorithm(x, w, geometry)
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
        flag("conv2d_backward", "input_gradient", input_gradient)
        flag("conv2d_backward", "weight_gradient", weight_gradient)
        geometry = geometry_of("conv2d_backward", x, w, stride, padding, dilation, groups)
        output = (x.shape[0], *geometry.output, w.shape[3])
        shape("conv2d_backward", "dy", dy, output, "that of conv2d's result")
        dx: Array | None = None
        dw: Array | None = None
        db: Array | None = None
        if x.size == 0:
            dx = self._empty(x.shape, x.dtype) if input_gradient else None
            if weight_gradient:
                dw, db = self._zeros(w.shape, x.dtype), self._zeros(w.shape[3:], x.dtype)
            return dx, dw, db
        if input_gradient:
            dx = self._input_gradient(dy, x.shape, w, geometry)
        if weight_gradient:
            dw, db = self._weight_gradients(dy, x, w, geometry)
        return dx, dw, db

    def _input_gradient(
        self, dy: Array, x_shape: tuple[int, ...], w: Array, geometry: Geometry
    ) -> Array:
        if self._is_depthwise(w, geometry.groups):
            return self._depthwise_backward_input(dy, x_shape, w, geometry)
        if self._has_narrow_groups(w, geometry.groups):
            return self._grouped_backward_input(dy, x_shape, w, geometry)
        return self._backward_input(dy, x_shape, w, geometry)

    def _weight_gradients(
        self, dy: Array, x: Array, w: Array, geometry: Geometry
    ) -> tuple[Array, Array]:
        if self._is_depthwise(w, geometry.groups):
            return self._depthwise_backward_weights(dy, x, w, geometry)
        if self._has_narrow_groups(w, geometry.groups):
            return self._grouped_backward_weights(dy, x, w, geometry)
        return self._backward_weights(dy, x, w, geometry)

    def _backward_input(
        self, dy: Array, x_shape: tuple[int, ...], w: Array, geometry: Geometry
    ) -> Array:
        r, s, c, k = w.shape
        if self._by_winograd("dx", w, geometry):
            return self._winograd_backward_input(dy, x_shape, w, geometry)
        if is_pointwise(x_shape, w, geometry):
            dx: Array = self._empty(x_shape, dy.dtype)
            pointwise = self._load(dy).pointwise_conv2d
            workspace = pointwise.workspace_size(k, c)
            self._run(
                pointwise.pointwise_conv2d_backward_input,
                dx,
                dy,
                w[0, 0],
                self._room(workspace, dy.dtype),
                *geometry.strides,
                self.num_threads,
            )
            return dx
        make = self._empty if sees_all(w, geometry) else self._zeros
        dx = make(x_shape, dy.dtype)
        kernel = self._load(dy).conv2d
        workspace = kernel.workspace_size(geometry.groups, r * s, k // geometry.groups, c)
        self._run(
            kernel.conv2d_backward_input,
            dx,
            dy,
            w,
            self._room(workspace, dy.dtype),
            *geometry.window,
            geometry.groups,
            self.num_threads,
        )
        return dx

    def _winograd_backward_input(
        self, dy: Array, x_shape: tuple[int, ...], w: Array, geometry: Geometry
    ) -> Array:
        dx = self._empty(x_shape, dy.dtype)
        kernel = self._load(dy).winograd
        c, k = w.shape[2:]
        threads = self.num_threads
        workspace = kernel.workspace_size(*x_shape[:3], k, c, threads)
        self._run(
            kernel.conv2d_backward_input,
            dx,
            dy,
            w,
            self._room(workspace, dy.dtype),
            *geometry.pads,
            threads,
        )
        return dx

    def _backward_weights(
        self, dy: Array, x: Array, w: Array, geometry: Geometry
    ) -> tuple[Array, Array]:
        dw, db = self._empty(w.shape, w.dtype), self._empty(w.shape[3:], w.dtype)
        if self._by_winograd("dw", w, geometry):
            self._winograd_backward_weights(dw, db, dy, x, geometry)
        elif self._swaps(x, w, geometry):
            self._swapped_backward_weights(dw, db, dy, x, geometry)
        else:
            self._direct_backward_weights(dw, db, dy, x, geometry)
        return dw, db

    def _direct_backward_weights(
        self, dw: Array, db: Array, dy: Array, x: Array, geometry: Geometry
    ) -> None:
        kernel = self._load(x).conv2d_backward_weights
        n, height, width, _ = x.shape
        r, s, c, k = dw.shape
        options = (*geometry.window, geometry.groups, self.num_threads)
        workspace = kernel.workspace_size(
            n, height, width, c, *geometry.output, k // geometry.groups, r, s, *options
        )
        self._run(
            kernel.conv2d_backward_weights, dw, db, dy, x, self._room(workspace, x.dtype), *options
        )

    def _swapped_backward_weights(
        self, dw: Array, db: Array, dy: Array, x: Array, geometry: Geometry
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
        swapped, sums_of_x = self._empty((r, s, k, c), x.dtype), self._room(c, x.dtype)
        self._run(
            kernel.conv2d_backward_weights,
            swapped,
            sums_of_x,
            x,
            dy,
            self._room(workspace, x.dtype),
            *options,
        )
        workspace = kernel.swapped_workspace_size(dy.size, k)
        self._run(kernel.swap_back, dw, db, swapped, dy, self._room(workspace, x.dtype), threads)

    def _winograd_backward_weights(
        self, dw: Array, db: Array, dy: Array, x: Array, geometry: Geometry
    ) -> None:
        kernel = self._load(x).winograd_backward_weights
        n, *output, k = dy.shape
        threads = self.num_threads
        workspace = kernel.workspace_size(n, x.shape[3], *output, k, threads)
        self._run(
            kernel.conv2d_backward_weights,
            dw,
            db,
            dy,
            x,
            self._room(workspace, x.dtype),
            *geometry.pads,
            threads,
        )

    def _depthwise_backward_input(
        self, dy: Array, x_shape: tuple[int, ...], w: Array, geometry: Geometry
    ) -> Array:
        make = self._empty if sees_all(w, geometry) else self._zeros
        dx = make(x_shape, dy.dtype)
        self._run(
            self._load(dy).depthwise_conv2d.depthwise_conv2d_backward_input,
            dx,
            dy,
            w,
            *geometry.window,
            self.num_threads,
        )
        return dx

    def _depthwise_backward_weights(
        self, dy: Array, x: Array, w: Array, geometry: Geometry
    ) -> tuple[Array, Array]:
        dw, db = self._empty(w.shape, w.dtype), self._empty(w.shape[3:], w.dtype)
        kernel = self._load(x).depthwise_conv2d_backward_weights
        n, p = dy.shape[:2]
        workspace = kernel.workspace_size(n * p, w.shape[0] * w.shape[1], w.shape[3])
        self._run(
            kernel.depthwise_conv2d_backward_weights,
            dw,
            db,
            dy,
            x,
            self._room(workspace, x.dtype),
            *geometry.window,
            self.num_threads,
        )
        return dw, db

    def _grouped_backward_input(
        self, dy: Array, x_shape: tuple[int, ...], w: Array, geometry: Geometry
    ) -> Array:
        make = self._empty if sees_all(w, geometry) else self._zeros
        dx = make(x_shape, dy.dtype)
        kernel = self._load(dy).grouped_conv2d
        workspace = kernel.workspace_size(w.shape[0] * w.shape[1], *w.shape[2:])
        self._run(
            kernel.grouped_conv2d_backward_input,
            dx,
            dy,
            w,
            self._room(workspace, w.dtype),
            *geometry.window,
            self.num_threads,
        )
        return dx

    def _grouped_backward_weights(
        self, dy: Array, x: Array, w: Array, geometry: Geometry
    ) -> tuple[Array, Array]:
        dw, db = self._empty(w.shape, w.dtype), self._empty(w.shape[3:], w.dtype)
        kernel = self._load(x).grouped_conv2d
        n, p = dy.shape[:2]
        workspace = kernel.parts_size(n * p, w.shape[0] * w.shape[1], *w.shape[2:])
        self._run(
            kernel.grouped_conv2d_backward_weights,
            dw,
            db,
            dy,
            x,
            self._room(workspace, x.dtype),
            *geometry.window,
            self.num_threads,
        )
        return dw, db
