"""Convolution + bias + ReLU + max-pool: fused, or op after op."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastcnn._checks import by_shape, float_arrays
from fastcnn._options import output_size, pair, size2d
from fastcnn._types import Array, Padding, Size2D
from fastcnn.fast._activations import Activations
from fastcnn.fast._batch_norm_relu_max_pool2d import drop_dead, mark_dead
from fastcnn.fast._conv2d import Conv2D
from fastcnn.fast._conv_rules import Geometry, geometry_of
from fastcnn.fast._pool2d import Pool2D

__all__ = ["Conv2DReluMaxPool2D"]

# Channels and filters from which a path is the fastest (benchmarks/paths.py): Winograd's, from
# eight of both and 16 of either on; op after op, by Winograd's algorithm, where no tile of it holds
# whole windows, with fewer channels where these are large; op after op in both gradients, where
# windows at every output leave many winners.
_FEWEST_CHANNELS = 8
_FEWEST_OF_EITHER = 16
_FEWEST_INSTEAD = 24
_FEWEST_OF_LARGE_WINDOWS = 16
_FEWEST_CROWDED = 80
_LARGEST_PLACE = 2**31 - 1  # in an image, that a gradient's list of winners tells
_ANY_ACTIVATION = ("few", "winograd")  # kernels that take any in place of ReLU
# Lanes for a filter from which neighbouring windows fill vectors better than filters do.
_LANES_A_FILTER = 1.25


class _Pooled(NamedTuple):
    """The options of convolution and pool, as the kernels take them."""

    output: tuple[int, int]
    pool: tuple[int, int, int, int]  # window and strides
    window: tuple[int, int, int, int, int, int]  # strides, pads (top, left), dilations
    groups: int
    convolved: tuple[int, int]  # size of the convolution's output
    options: dict[str, Any]  # of the convolution, as they were given

    @property
    def places(self) -> int:
        return self.pool[0] * self.pool[1]


@by_shape
def _pooled_of(
    x: Array,
    w: Array,
    stride: Size2D,
    padding: Padding,
    dilation: Size2D,
    groups: int,
    pool_size: Size2D,
    pool_stride: Size2D | None,
) -> _Pooled:
    geometry, op = geometry_of("conv2d", x, w, stride, padding, dilation, groups), "max_pool2d"
    size = pair(size2d(pool_size, f"{op}: pool_size"))
    strides = size if pool_stride is None else pair(size2d(pool_stride, f"{op}: stride"))
    output = output_size(geometry.output, f"{op}: x", size, strides)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return _Pooled(
        output, (*size, *strides), geometry.window, geometry.groups, geometry.output, options
    )


def _padded_size(x: Array, w: Array, pooled: _Pooled) -> int:
    """Return how many numbers a padded image holds."""
    size: int = x.shape[3]
    for axis in range(2):
        seen = (pooled.convolved[axis] - 1) * pooled.window[axis] + w.shape[axis]
        size *= max(x.shape[1 + axis] + pooled.window[2 + axis], seen)
    return size


def _tiles_workspace(kernel: Any, y: Array, w: Array, threads: int, kept: bool = False) -> int:
    """Return how many numbers of workspace Winograd's kernel takes for a pooled y."""
    n, p, q, _ = y.shape
    size: int = kernel.workspace_size(n, 2 * p, 2 * q, *w.shape[2:], threads, kept)
    return size


class Conv2DReluMaxPool2D(Conv2D, Pool2D, Activations):
    """max_pool2d(relu(conv2d(x, w, b))) and the gradients."""

    def _conv2d_relu_max_pool2d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
        pool_size: Size2D = 2,
        pool_stride: Size2D | None = None,
    ) -> tuple[Array, Array]:
        """Return y and argmax, uint8: the place of each winner in its pool window.

        Or it is the number of places, of which 255 are the most, where y is 0: ReLU lets no
        gradient pass there.
        """
        x, w, b = float_arrays("conv2d", x=x, w=w, b=b)
        pooled = _pooled_of(x, w, stride, padding, dilation, groups, pool_size, pool_stride)
        algorithm = self._algorithm(x, w, pooled)
        if algorithm == "plain":
            return self._op_after_op(x, w, b, pooled)
        return self._fused(x, w, b, pooled, algorithm)

    def _algorithm(self, x: Array, w: Array, pooled: _Pooled) -> str:
        """Return which kernel computes y, by shape alone, or "plain": op after op."""
        if pooled.groups > 1:
            return "plain"
        if self._is_few(x, w, pooled):
            return "few"
        if self._is_columns(x, w, pooled):
            return "columns"
        if self._is_winograd(w, pooled):
            return "winograd"
        geometry = Geometry(pooled.convolved, pooled.window, pooled.groups)
        c, k = w.shape[2:]
        fewest = _FEWEST_INSTEAD if pooled.places <= 4 else _FEWEST_OF_LARGE_WINDOWS
        if self.convolution == "auto" and c >= fewest and k >= _FEWEST_OF_EITHER:
            return "plain" if self._by_winograd("y", w, geometry) else "direct"
        return "direct"

    def _conv2d_pool_product(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        activation: str = "relu",
        parameters: tuple[float, float] = (0.0, 0.0),
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
        pool_size: Size2D = 2,
        pool_stride: Size2D | None = None,
    ) -> Array:
        """Return max_pool2d(activation(conv2d(x, w, b))) without the places of its winners."""
        pooled = _pooled_of(x, w, stride, padding, dilation, groups, pool_size, pool_stride)
        algorithm = self._algorithm(x, w, pooled)
        last = self._last(self._load(x), activation, parameters)
        if algorithm in _ANY_ACTIVATION or (activation == "relu" and algorithm != "plain"):
            return self._fused(x, w, b, pooled, algorithm, last)[0]
        joined: dict[str, Any] = {"activation": activation, "parameters": parameters}
        y = self._conv2d_product(x, w, b, **joined, **pooled.options)
        return self._max_pool2d_values(y, pool_size, stride=pool_stride)

    def _fused(
        self, x: Array, w: Array, b: Array | None, pooled: _Pooled, algorithm: str, last: Any = None
    ) -> tuple[Array, Array]:
        """Return (y, argmax) by one kernel; last: an activation in place of ReLU."""
        y = self._empty((x.shape[0], *pooled.output, w.shape[3]), x.dtype)
        argmax = self._empty(y.shape, np.dtype(np.uint8))
        if y.size == 0:
            return y, argmax
        kernels, threads, (r, s, c, k) = self._load(x), self.num_threads, w.shape
        arrays: tuple[Any, ...]
        pads, pool_strides = pooled.window[2:4], pooled.pool[2:]
        if algorithm == "few":
            bias = self._zeros(w.shape[3:], w.dtype) if b is None else b
            kernel = kernels.conv_block_few
            self._run(kernel.conv_block, y, argmax, x, w, bias, *pool_strides, threads, last)
        elif algorithm == "winograd":
            u = self._transformed(kernels.winograd, w, threads)
            size = _tiles_workspace(kernels.winograd, y, w, threads, u is not None)
            arrays = y, argmax, x, w, b, self._room(size, x.dtype)
            self._run(kernels.winograd.conv_block, *arrays, *pads, threads, u, last)
        elif algorithm == "columns":
            kernel = kernels.conv_block_columns
            strides = *pooled.window[:2], *pool_strides
            room = self._room(
                kernel.workspace_size(*pooled.output, r, s, *strides, threads), x.dtype
            )
            arrays = y, argmax, x, w, b, room
            self._run(kernel.conv_block, *arrays, *pooled.window[:4], *pool_strides, threads)
        else:
            kernel = kernels.conv_block
            size = kernels.conv2d.workspace_size(1, r * s, c, k)
            weights, packed = self._weights(size, kernels.conv2d.pack_weights, w, b, 1)
            size = kernel.workspace_size(k, *pooled.output, *pooled.pool, threads)
            arrays = y, argmax, x, w, b, weights, self._room(size, x.dtype)
            self._run(kernel.conv_block, *arrays, *pooled.window, *pooled.pool, threads, packed)
        return y, argmax

    def _is_few(self, x: Array, w: Array, pooled: _Pooled) -> bool:
        """Return whether the kernel for one channel and no padding computes it."""
        (p, q), (stride_h, stride_w) = pooled.output, pooled.pool[2:]
        return (
            w.shape[:3] == (3, 3, 1)
            and pooled.pool[:2] == (2, 2)
            and pooled.window == (1, 1, 0, 0, 1, 1)
            and (p - 1) * stride_h + 4 <= x.shape[1]
            and (q - 1) * stride_w + 4 <= x.shape[2]
            and w.shape[3] % self._lanes(x) == 0
            and self.convolution != "winograd"
        )

    def _is_columns(self, x: Array, w: Array, pooled: _Pooled) -> bool:
        """Return whether the kernel for one channel and few filters computes it."""
        stride, lanes, filters = pooled.window[1] * pooled.pool[3], self._lanes(x), w.shape[3]
        return (
            w.shape[2] == 1
            and -(-filters // lanes) * lanes >= _LANES_A_FILTER * filters
            and pooled.pool[:2] == (2, 2)
            and pooled.window[4:] == (1, 1)
            and w.shape[1] <= 32
            and stride <= 8
            and 4 * pooled.output[1] >= lanes
            and self.convolution != "winograd"
        )

    def _is_winograd(self, w: Array, pooled: _Pooled) -> bool:
        """Return whether Winograd's tiles, which hold windows of 2x2, compute it."""
        window = pooled.window
        fits = w.shape[:2] == (3, 3) and window[:2] == window[4:] == (1, 1)
        fits = fits and pooled.pool[:2] == (2, 2)
        fits = fits and all(
            s == 2 or n == 1 for s, n in zip(pooled.pool[2:], pooled.output, strict=True)
        )
        if self.convolution == "auto":
            c, k = w.shape[2:]
            return fits and min(c, k) >= _FEWEST_CHANNELS and max(c, k) >= _FEWEST_OF_EITHER
        return fits and self.convolution == "winograd"

    def _op_after_op(
        self, x: Array, w: Array, b: Array | None, pooled: _Pooled
    ) -> tuple[Array, Array]:
        y = self.relu(self.conv2d(x, w, b, **pooled.options))
        y, argmax = self.max_pool2d(y, pooled.pool[:2], stride=pooled.pool[2:])
        self._run(mark_dead, argmax, y, pooled.places)
        return y, argmax

    def _conv2d_relu_max_pool2d_backward(
        self,
        dy: Array,
        argmax: Array,
        x: Array,
        w: Array,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
        pool_size: Size2D = 2,
        pool_stride: Size2D | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array | None, Array, Array]:
        """Return (dx, dw, db) as conv2d_backward does, from the winners' gradients alone."""
        x, w = float_arrays("conv2d_backward", x=x, w=w)
        pooled = _pooled_of(x, w, stride, padding, dilation, groups, pool_size, pool_stride)
        if x.size == 0:
            dx = self._empty(x.shape, x.dtype) if input_gradient else None
            return dx, self._zeros(w.shape, x.dtype), self._zeros(w.shape[3:], x.dtype)
        path, *_ = self._gradient_paths(x, w, pooled, input_gradient)
        return self._gradients_by(path, dy, argmax, x, w, pooled, input_gradient)

    def _gradient_paths(
        self, x: Array, w: Array, pooled: _Pooled, input_gradient: bool
    ) -> list[str]:
        """Return what can compute the gradients; the first of them does, by shape alone."""
        if pooled.groups > 1 or pooled.window[4:] != (1, 1):
            return ["plain"]
        if w.shape[1] * w.shape[2] < self._lanes(x):
            fits = not input_gradient and w.shape[3] % self._lanes(x) == 0
            return ["few", "plain"] if fits else ["plain"]
        if _padded_size(x, w, pooled) > _LARGEST_PLACE:
            return ["plain"]
        geometry = Geometry(pooled.convolved, pooled.window, pooled.groups)
        crowded = pooled.pool[2:] == (1, 1) and min(w.shape[2:]) >= _FEWEST_CROWDED
        if input_gradient and crowded and self._by_winograd("dw", w, geometry):
            return ["plain", "sparse"]
        return ["sparse", "plain"]

    def _gradients_by(
        self,
        path: str,
        dy: Array,
        argmax: Array,
        x: Array,
        w: Array,
        pooled: _Pooled,
        input_gradient: bool,
    ) -> tuple[Array | None, Array, Array]:
        if path == "sparse":
            return self._sparse_backward(dy, argmax, x, w, pooled, input_gradient)
        if path == "few":
            return None, *self._few_backward(dy, argmax, x, w, pooled)
        return self._op_after_op_backward(dy, argmax, x, w, pooled, input_gradient)

    def _lanes(self, x: Array) -> int:
        """Return how many numbers a vector of the kernels holds."""
        lanes: int = self._load(x).conv_block_backward.lanes()
        return lanes

    def _few_backward(
        self, dy: Array, argmax: Array, x: Array, w: Array, pooled: _Pooled
    ) -> tuple[Array, Array]:
        dw, db = self._empty(w.shape, w.dtype), self._empty(w.shape[3:], w.dtype)
        kernel = self._load(x).conv_block_backward_few
        r, s, _, k = w.shape
        options = (*pooled.window[:4], *pooled.pool, self.num_threads)
        size = kernel.workspace_size(*x.shape, *pooled.output, k, r, s, *options)
        self._run(
            kernel.conv_block_backward_few,
            dw,
            db,
            dy,
            argmax,
            x,
            self._room(size, x.dtype),
            *options,
        )
        return dw, db

    def _sparse_backward(
        self, dy: Array, argmax: Array, x: Array, w: Array, pooled: _Pooled, input_gradient: bool
    ) -> tuple[Array | None, Array, Array]:
        dx = self._empty(x.shape, x.dtype) if input_gradient else None
        dw, db = self._empty(w.shape, w.dtype), self._empty(w.shape[3:], w.dtype)
        kernel = self._load(x).conv_block_backward
        r, s, _, k = w.shape
        options = (*pooled.window[:4], *pooled.pool, self.num_threads)
        numbers, places = kernel.workspace_size(*x.shape, *pooled.output, k, r, s, *options)
        self._run(
            kernel.conv_block_backward,
            dx,
            dw,
            db,
            dy,
            argmax,
            x,
            w,
            self._room(numbers, x.dtype),
            self._room(places, np.dtype(np.int32)),
            *options,
        )
        return dx, dw, db

    def _op_after_op_backward(
        self,
        dy: Array,
        argmax: Array,
        x: Array,
        w: Array,
        pooled: _Pooled,
        input_gradient: bool,
    ) -> tuple[Array | None, Array, Array]:
        alive, winners = self._empty(dy.shape, dy.dtype), self._empty(dy.shape, argmax.dtype)
        self._run(drop_dead, alive, winners, dy, argmax, pooled.places)
        dz = self.max_pool2d_backward(
            alive,
            winners,
            (x.shape[0], *pooled.convolved, w.shape[3]),
            pooled.pool[:2],
            stride=pooled.pool[2:],
        )
        dx, dw, db = self.conv2d_backward(dz, x, w, **pooled.options, input_gradient=input_gradient)
        assert dw is not None
        assert db is not None
        return dx, dw, db
