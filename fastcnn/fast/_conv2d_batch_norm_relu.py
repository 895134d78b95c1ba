"""1x1 convolution + batch normalization + ReLU of few channels, without the convolution's result.

As in front of a depthwise convolution: what such a layer reads is far smaller than what it gives.
The moments of its input tell the statistics beforehand, so that forward is one product with the
norm in its weights, and backward reads no more than the upstream gradient and what ReLU gave.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays
from fastcnn._options import number
from fastcnn._types import Array, Padding, Shape, Size2D
from fastcnn.fast._conv2d_batch_norm_relu_max_pool2d import Conv2DBatchNormReluMaxPool2D
from fastcnn.fast._conv_rules import Geometry, geometry_of
from fastcnn.fast._recompute import noting, otherwise

__all__ = ["LANES", "Conv2DBatchNormRelu", "is_expansion", "spreads_at_once"]

_DOUBLE = np.dtype(np.float64)
# Filters and pixels for a channel: fewer would take longer for the moments, and for what is made of
# them, than they save (benchmarks/fusions.py).
_FILTERS = 3
_PIXELS = 128
_MOST_CHANNELS = 128
_MOST_COLUMNS = 384  # MOST_PIXELS of _pixel_blocks.pxd
LANES = 16  # of which the channels must be a multiple, on every instruction set


def is_expansion(x: tuple[int, ...], w: tuple[int, ...]) -> bool:
    """Whether moments pay for a 1x1 convolution of stride 1 with x and w of these shapes."""
    channels, filters = w[2:]
    pays = filters >= _FILTERS * channels and math.prod(x[:3]) >= _PIXELS * channels
    return pays and channels <= _MOST_CHANNELS and filters % LANES == 0 and w[:2] == (1, 1)


def spreads_at_once(y: Shape, v: Shape, z: Shape, strides: tuple[int, int]) -> bool:
    """Whether gradients go through z, a depthwise convolution of y with v, and the layer before it.

    A row of y is one block of its kernel at most, and has at most one row of z beside it, as in
    each stride there is one.
    """
    stride = strides[0]
    narrow = y[2] <= _MOST_COLUMNS and v[2:] == (1, y[3])
    inside = all((n - 1) * stride < size for n, size in zip(z[1:3], y[1:3], strict=True))
    taken = stride == 1 or (strides == (2, 2) and min(*v[:2], *z[1:3]) > 1)
    return narrow and inside and taken and strides[1] == stride


class _Depthwise(NamedTuple):
    """A depthwise convolution with v, and where its gradients are left."""

    dv: Array
    db: Array
    v: Array
    geometry: Geometry

    def arguments(self) -> tuple[Any, ...]:
        """Return it as the kernel takes it."""
        return self.dv, self.db, self.v, self.geometry.strides[0], *self.geometry.pads


class Conv2DBatchNormRelu(Conv2DBatchNormReluMaxPool2D):
    """The op of a plan, for float32, that the table of fusions has for such layers."""

    def _conv2d_batch_norm_relu(
        self,
        x: ArrayLike,
        w: ArrayLike,
        gamma: ArrayLike,
        beta: ArrayLike,
        b: ArrayLike | None = None,
        *,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array, Array]:
        """Return y, the statistics (K,), and the moments of x (1 + C, C), in float64.

        x is (N, H, W, C), w (1, 1, C, K), of shapes as `is_expansion` wants them.
        """
        op = "conv2d_batch_norm_relu"
        x, w, b, gamma, beta = float_arrays(op, x=x, w=w, b=b, gamma=gamma, beta=beta)
        epsilon = number(epsilon, "batch_norm: epsilon", 0, open_low=True)
        channels, filters = w.shape[2:]
        pixels, threads = math.prod(x.shape[:3]), self.num_threads
        moments, fits = self._empty((1 + channels, channels), _DOUBLE), [True]
        kernels, double = self._load(x), self._load(moments)
        size = double.pointwise_moments.workspace_size(pixels, channels, threads)
        self._run(double.pointwise_moments.moments, moments, x, self._room(size, _DOUBLE), threads)
        mean, variance = self._empty(gamma.shape, w.dtype), self._empty(gamma.shape, w.dtype)
        folded, shift = self._empty(w.shape, w.dtype), self._empty(gamma.shape, w.dtype)
        self._run(
            noting,
            fits,
            double.conv_norm_block.fold,
            mean,
            variance,
            folded,
            shift,
            moments,
            w,
            self._zeros(gamma.shape, w.dtype) if b is None else b,
            gamma,
            beta,
            epsilon,
            pixels,
            self._room(3 * filters, _DOUBLE),
        )
        y = self._empty((*x.shape[:3], filters), x.dtype)
        size = kernels.pointwise_norm.workspace_size(pixels, channels, filters, threads)
        self._run(
            kernels.pointwise_norm.pointwise_norm,
            y,
            x,
            folded[0, 0],
            shift,
            self._room(size, x.dtype),
            threads,
        )

        def op_by_op() -> tuple[Array, ...]:
            z = self._eager.conv2d(x, w, b)
            z, *statistics = self._eager.batch_norm(z, gamma, beta, epsilon=epsilon)
            return self._eager.relu(z), *statistics

        self._run(otherwise, fits, op_by_op, y, mean, variance)
        return y, mean, variance, moments

    def _conv2d_batch_norm_relu_backward(
        self,
        dy: ArrayLike,
        y: ArrayLike,
        x: ArrayLike,
        w: ArrayLike,
        gamma: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        moments: ArrayLike,
        b: ArrayLike | None = None,
        *,
        epsilon: float = 1e-5,
        input_gradient: bool = True,
    ) -> tuple[Array | None, Array, Array, Array, Array]:
        """Return the gradients of x, w, b, gamma and beta; that of b is 0."""
        op = "conv2d_batch_norm_relu_backward"
        dy, y, x, w, b, gamma, mean, variance = float_arrays(
            op, dy=dy, y=y, x=x, w=w, b=b, gamma=gamma, mean=mean, variance=variance
        )
        norm = gamma, mean, variance, epsilon
        return self._through_expansion(dy, y, x, w, b, norm, moments, input_gradient)

    def _conv2d_batch_norm_relu_depthwise_backward(
        self,
        dz: ArrayLike,
        y: ArrayLike,
        v: ArrayLike,
        x: ArrayLike,
        w: ArrayLike,
        gamma: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        moments: ArrayLike,
        b: ArrayLike | None = None,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        groups: int = 1,
        epsilon: float = 1e-5,
        input_gradient: bool = True,
    ) -> tuple[Array | None, ...]:
        """Return the same, then the gradients of v and of its bias, given that of z.

        z is the depthwise convolution of y with v, for which `spreads_at_once` holds.
        """
        op = "conv2d_batch_norm_relu_depthwise_backward"
        dz, y, v, x, w, b, gamma, mean, variance = float_arrays(
            op, dz=dz, y=y, v=v, x=x, w=w, b=b, gamma=gamma, mean=mean, variance=variance
        )
        geometry = geometry_of(op, y, v, stride, padding, 1, groups)
        norm = gamma, mean, variance, epsilon
        dv, dc = self._empty(v.shape, v.dtype), self._empty(gamma.shape, v.dtype)
        behind = _Depthwise(dv, dc, v, geometry)
        found = self._through_expansion(dz, y, x, w, b, norm, moments, input_gradient, behind)
        return *found, dv, dc

    def _through_expansion(
        self,
        dy: Array,
        y: Array,
        x: Array,
        w: Array,
        b: Array | None,
        norm: tuple[Array, Array, Array, float],
        moments: ArrayLike,
        input_gradient: bool,
        behind: _Depthwise | None = None,
    ) -> tuple[Array | None, Array, Array, Array, Array]:
        """Return the gradients of x, w, b, gamma and beta; dy is that of y, or of what is behind.

        The gradients of a depthwise convolution behind y are left where it says.
        """
        gamma, mean, variance, epsilon = norm
        channels, filters = w.shape[2:]
        pixels, threads = math.prod(x.shape[:3]), self.num_threads
        kernel, fits = self._load(x).pointwise_norm, [True]
        rows, last = (0, 0), ()
        if behind is not None:
            rows, last = (y.shape[2], math.prod(behind.v.shape[:2])), behind.arguments()
        parts, size = kernel.sizes(pixels, channels, filters, threads, *rows)
        dx = self._empty(x.shape, x.dtype) if input_gradient else None
        products = self._empty((parts, channels, filters), x.dtype)
        totals, center = self._empty((parts, filters), _DOUBLE), self._room(channels, x.dtype)
        self._run(
            kernel.pointwise_norm_backward,
            dx,
            products,
            totals,
            center,
            dy,
            y,
            x,
            w[0, 0],
            gamma,
            variance,
            epsilon,
            moments,
            self._room(filters, _DOUBLE),
            self._room(size, x.dtype),
            threads,
            *last,
        )
        dw, db = self._empty(w.shape, w.dtype), self._zeros(gamma.shape, w.dtype)
        dgamma, dbeta = self._empty(gamma.shape, w.dtype), self._empty(gamma.shape, w.dtype)
        away, offset = self._empty((channels, channels), x.dtype), self._room(channels, x.dtype)
        self._run(
            noting,
            fits,
            self._load(totals).pointwise_moments.gradients,
            dw[0, 0],
            dgamma,
            dbeta,
            away,
            offset,
            products,
            totals,
            moments,
            center,
            w[0, 0],
            gamma,
            mean,
            variance,
            epsilon,
            pixels,
            self._empty((3 * channels + 4, filters), _DOUBLE),
        )
        if dx is not None:
            self._run(
                kernel.pointwise_norm_rest,
                dx,
                x,
                center,
                away,
                offset,
                self._empty((channels, kernel.pitch(channels)), x.dtype),
                threads,
            )

        def op_by_op() -> tuple[Array, ...]:
            eager, d = self._eager, dy
            if behind is not None:
                d = eager._input_gradient(dy, y.shape, behind.v, behind.geometry)
            z, dead = eager.conv2d(x, w, b), (y == 0).astype(np.uint8)
            dz, *of_norm = eager._batch_norm_relu_backward(
                d, dead, z, gamma, mean, variance, epsilon=epsilon
            )
            *of_convolution, db = eager.conv2d_backward(dz, x, w, input_gradient=input_gradient)
            return *(each for each in of_convolution if each is not None), db, *of_norm

        results = [each for each in (dx, dw, db, dgamma, dbeta) if each is not None]
        self._run(otherwise, fits, op_by_op, *results)
        return dx, dw, db, dgamma, dbeta
