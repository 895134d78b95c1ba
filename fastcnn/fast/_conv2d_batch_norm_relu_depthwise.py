"""1x1 convolution + batch normalization + ReLU + depthwise convolution, as MobileNets widen.

What lies between the convolutions is the largest array of such a network, by far. Here it is none:
a block of its rows is made where it is needed, forward and backward.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays
from fastcnn._options import number, output_size, pads_of, pair
from fastcnn._types import Array, Padding, Shape, Size2D
from fastcnn.fast._conv2d_batch_norm_relu import Conv2DBatchNormRelu
from fastcnn.fast._recompute import otherwise

__all__ = ["Conv2DBatchNormReluDepthwise", "spreads"]

_DOUBLE = np.dtype(np.float64)
_MOST_COLUMNS = 384  # MOST_PIXELS of _pixel_blocks.pxd
_WIDEST_ROW = 1 << 15  # numbers: a block is a row at least, and stays in the second cache


def spreads(y: Shape, v: Shape, z: Shape, strides: tuple[int, int]) -> bool:
    """Whether the op takes z, a depthwise convolution of y with v, of shapes like these.

    A row of y has at most one row of z beside it, as in each stride there is one.
    """
    stride, size = strides[0], y[1:3]
    narrow = y[2] <= _MOST_COLUMNS and y[2] * y[3] <= _WIDEST_ROW and v[2:] == (1, y[3])
    inside = all((n - 1) * stride < each for n, each in zip(z[1:3], size, strict=True))
    taken = stride == 1 or (strides == (2, 2) and min(*v[:2], *z[1:3]) > 1)
    return narrow and inside and taken and strides[1] == stride


def _window(
    x: Array, v: Array, stride: Size2D, padding: Padding
) -> tuple[tuple[int, int], tuple[int, int, int]]:
    """Return the size of the output, and stride, pads above and on the left, as the kernel does."""
    size, kernel, strides = x.shape[1:3], v.shape[:2], pair(stride)
    pads = pads_of(padding, size, kernel, strides)
    output = output_size(size, "conv2d: x", kernel, strides, pads)
    return output, (strides[0], pads[0][0], pads[1][0])


class Conv2DBatchNormReluDepthwise(Conv2DBatchNormRelu):
    """The op of a plan, for float32, that the table of fusions has for such layers."""

    def _conv2d_batch_norm_relu_depthwise(
        self,
        x: ArrayLike,
        w: ArrayLike,
        gamma: ArrayLike,
        beta: ArrayLike,
        v: ArrayLike,
        b: ArrayLike | None = None,
        c: Array | None = None,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array, Array, Array]:
        """Return z, the statistics (K,), the moments of x, and a table for the way back.

        y = relu(batch_norm(conv2d(x, w, b), gamma, beta)) is (N, H, W, K), z its depthwise
        convolution with v (R, S, 1, K), plus c (K,). Stride and padding are those of the latter.
        """
        op = "conv2d_batch_norm_relu_depthwise"
        x, w, b, gamma, beta, v = float_arrays(op, x=x, w=w, b=b, gamma=gamma, beta=beta, v=v)
        epsilon = number(epsilon, "batch_norm: epsilon", 0, open_low=True)
        (channels, filters), threads = w.shape[2:], self.num_threads
        options: dict[str, Any] = {"stride": stride, "padding": padding, "groups": filters}
        output, window = _window(x, v, stride, padding)
        table = self._empty((channels + 1, filters), x.dtype)
        mean, variance, moments, fits = self._fold(table, x, w, b, gamma, beta, epsilon)
        z = self._empty((len(x), *output, filters), x.dtype)
        kernel = self._load(x).pointwise_norm_depthwise
        room = self._room(kernel.workspace_size(*x.shape, filters, len(v), threads), x.dtype)
        self._run(kernel.pointwise_norm_depthwise, z, x, table, v, c, room, *window, threads)

        def op_by_op() -> tuple[Array, ...]:
            eager = self._eager
            y, *statistics = eager.batch_norm(eager.conv2d(x, w, b), gamma, beta, epsilon=epsilon)
            z = eager.conv2d(eager.relu(y), v, c, **options)
            return z, *statistics, np.full_like(table, np.nan)  # the way back sees it

        self._run(otherwise, fits, op_by_op, z, mean, variance, table)
        return z, mean, variance, moments, table

    def _conv2d_batch_norm_relu_depthwise_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        w: ArrayLike,
        gamma: ArrayLike,
        beta: ArrayLike,
        v: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        moments: Array,
        table: Array,
        b: ArrayLike | None = None,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        epsilon: float = 1e-5,
        input_gradient: bool = True,
    ) -> tuple[Array | None, ...]:
        """Return the gradients of x, w, b (0), gamma, beta, v and c, given that of z."""
        op = "conv2d_batch_norm_relu_depthwise_backward"
        dz, x, w, b, gamma, beta, v, mean, variance = float_arrays(
            op, dy=dy, x=x, w=w, b=b, gamma=gamma, beta=beta, v=v, mean=mean, variance=variance
        )
        (channels, filters), threads = w.shape[2:], self.num_threads
        options: dict[str, Any] = {"stride": stride, "padding": padding, "groups": filters}
        _, window = _window(x, v, stride, padding)
        kernel, fits = self._load(x).pointwise_norm_depthwise, [True]
        parts, size = kernel.sizes(*x.shape, filters, *v.shape[:2], threads)
        dx = self._empty(x.shape, x.dtype) if input_gradient else None
        dv, dc = self._empty(v.shape, v.dtype), self._empty(gamma.shape, v.dtype)
        products = self._empty((parts, channels, filters), x.dtype)
        totals, center = self._empty((parts, filters), _DOUBLE), self._room(channels, x.dtype)
        self._run(
            kernel.pointwise_norm_depthwise_backward,
            dx,
            products,
            totals,
            center,
            dv,
            dc,
            dz,
            x,
            table,
            v,
            w[0, 0],
            gamma,
            variance,
            epsilon,
            moments,
            self._room(filters, _DOUBLE),
            self._room(size, x.dtype),
            *window,
            threads,
        )
        norm = gamma, mean, variance, epsilon
        others = self._from_products(dx, products, totals, center, x, w, norm, moments, fits)

        def op_by_op() -> tuple[Array, ...]:
            eager = self._eager
            u = eager.conv2d(x, w, b)
            y = eager.relu(eager.batch_norm(u, gamma, beta, epsilon=epsilon)[0])
            dy, dv, dc = eager.conv2d_backward(dz, y, v, **options)
            return *self._back_op_by_op(dy, y, u, x, w, norm, input_gradient), dv, dc

        results = [*(() if dx is None else (dx,)), *others, dv, dc]
        self._run(_otherwise_both, fits, table, op_by_op, *results)
        return dx, *others, dv, dc


def _otherwise_both(fits: list[bool], table: Array, compute: Any, *results: Array) -> None:
    """Replace the results where the sums did not fit, of this way or of the one before."""
    fits[0] = fits[0] and not np.isnan(table[0, 0])
    otherwise(fits, compute, *results)
