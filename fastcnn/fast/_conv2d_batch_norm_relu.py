"""1x1 convolution + batch normalization + ReLU of few channels, without the convolution's result.

As in front of a depthwise convolution: what such a layer reads is far smaller than what it gives.
The moments of its input tell the statistics beforehand, so that forward is one product with the
norm in its weights, and backward reads no more than the upstream gradient and what ReLU gave.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays
from fastcnn._options import number
from fastcnn._types import Array
from fastcnn.fast._conv2d_batch_norm_relu_max_pool2d import Conv2DBatchNormReluMaxPool2D
from fastcnn.fast._recompute import noting, otherwise

__all__ = ["LANES", "Conv2DBatchNormRelu", "is_expansion"]

_DOUBLE = np.dtype(np.float64)
# Filters and pixels for a channel: fewer would take longer for the moments, and for what is made of
# them, than they save (benchmarks/fusions.py).
_FILTERS = 3
_PIXELS = 128
_MOST_CHANNELS = 128
LANES = 16  # of which the channels must be a multiple, on every instruction set


def is_expansion(x: tuple[int, ...], w: tuple[int, ...]) -> bool:
    """Whether moments pay for a 1x1 convolution of stride 1 with x and w of these shapes."""
    channels, filters = w[2:]
    pays = filters >= _FILTERS * channels and math.prod(x[:3]) >= _PIXELS * channels
    return pays and channels <= _MOST_CHANNELS and filters % LANES == 0 and w[:2] == (1, 1)


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
        kernels, table = self._load(x), self._empty((channels + 1, filters), w.dtype)
        mean, variance, moments, fits = self._fold(table, x, w, b, gamma, beta, epsilon)
        y = self._empty((*x.shape[:3], filters), x.dtype)
        size = kernels.pointwise_norm.workspace_size(pixels, channels, filters, threads)
        self._run(
            kernels.pointwise_norm.pointwise_norm,
            y,
            x,
            table[:-1],
            table[-1],
            self._room(size, x.dtype),
            threads,
        )

        def op_by_op() -> tuple[Array, ...]:
            z = self._eager.conv2d(x, w, b)
            z, *statistics = self._eager.batch_norm(z, gamma, beta, epsilon=epsilon)
            return self._eager.relu(z), *statistics

        self._run(otherwise, fits, op_by_op, y, mean, variance)
        return y, mean, variance, moments

    def _fold(
        self,
        table: Array,
        x: Array,
        w: Array,
        b: Array | None,
        gamma: Array,
        beta: Array,
        epsilon: float,
    ) -> tuple[Array, Array, Array, list[bool]]:
        """Return the statistics, the moments, and whether float32 will hold what goes to table.

        table (C + 1, K) gets the weights of convolution and norm in one, then their bias.
        """
        (channels, filters), threads = w.shape[2:], self.num_threads
        moments, fits = self._empty((1 + channels, channels), _DOUBLE), [True]
        pixels = math.prod(x.shape[:3])
        double = self._load(moments)
        size = double.pointwise_moments.workspace_size(pixels, channels, threads)
        self._run(double.pointwise_moments.moments, moments, x, self._room(size, _DOUBLE), threads)
        mean, variance = self._empty(gamma.shape, w.dtype), self._empty(gamma.shape, w.dtype)
        self._run(
            noting,
            fits,
            double.conv_norm_block.fold,
            mean,
            variance,
            table[:-1].reshape(w.shape),
            table[-1],
            moments,
            w,
            self._zeros(gamma.shape, w.dtype) if b is None else b,
            gamma,
            beta,
            epsilon,
            pixels,
            self._room(3 * filters, _DOUBLE),
        )
        return mean, variance, moments, fits

    def _conv2d_batch_norm_relu_backward(
        self,
        dy: ArrayLike,
        y: ArrayLike,
        x: ArrayLike,
        w: ArrayLike,
        gamma: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        moments: Array,
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
        channels, filters = w.shape[2:]
        pixels, threads = math.prod(x.shape[:3]), self.num_threads
        kernel, fits = self._load(x).pointwise_norm, [True]
        parts, size = kernel.sizes(pixels, channels, filters, threads)
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
        )
        norm = gamma, mean, variance, epsilon
        others = self._from_products(dx, products, totals, center, x, w, norm, moments, fits)

        def op_by_op() -> tuple[Array, ...]:
            z = self._eager.conv2d(x, w, b)
            return self._back_op_by_op(dy, y, z, x, w, norm, input_gradient)

        self._run(otherwise, fits, op_by_op, *(() if dx is None else (dx,)), *others)
        return dx, *others

    def _from_products(
        self,
        dx: Array | None,
        products: Array,
        totals: Array,
        center: Array,
        x: Array,
        w: Array,
        norm: tuple[Array, Array, Array, float],
        moments: Array,
        fits: list[bool],
    ) -> tuple[Array, Array, Array, Array]:
        """Return the gradients of w, b, gamma and beta; add to dx what it lacks.

        norm: gamma, the statistics and epsilon. fits: whether float32 has held all so far.
        """
        (gamma, mean, variance, epsilon), channels = norm, x.shape[3]
        kernel, pixels = self._load(x).pointwise_norm, math.prod(x.shape[:3])
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
            self._empty((3 * channels + 4, w.shape[3]), _DOUBLE),
        )
        if dx is not None:
            room = self._empty((channels, kernel.pitch(channels)), x.dtype)
            call, threads = kernel.pointwise_norm_rest, self.num_threads
            self._run(call, dx, x, center, away, offset, room, threads)
        return dw, db, dgamma, dbeta

    def _back_op_by_op(
        self,
        dy: Array,
        y: Array,
        z: Array,
        x: Array,
        w: Array,
        norm: tuple[Array, Array, Array, float],
        input_gradient: bool,
    ) -> tuple[Array, ...]:
        """Return the gradients of x, if it has one, w, b, gamma and beta; z: the convolution's."""
        (gamma, mean, variance, epsilon), eager = norm, self._eager
        dead = (y == 0).astype(np.uint8)
        dz, *of_norm = eager._batch_norm_relu_backward(
            dy, dead, z, gamma, mean, variance, epsilon=epsilon
        )
        *of_convolution, db = eager.conv2d_backward(dz, x, w, input_gradient=input_gradient)
        return *(each for each in of_convolution if each is not None), db, *of_norm
