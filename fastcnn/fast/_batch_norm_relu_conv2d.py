"""Batch normalization + ReLU + 1x1 convolution, without what lies between them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays
from fastcnn._options import number
from fastcnn._types import Array
from fastcnn.fast._conv2d_batch_norm_relu import LANES, Conv2DBatchNormRelu
from fastcnn.fast._recompute import noting, otherwise, where_narrow

__all__ = ["BatchNormReluConv2D", "is_projection"]

_DOUBLE = np.dtype(np.float64)
_MOST_WEIGHTS = 1 << 16  # more are read again too often (benchmarks/fusions.py)


def is_projection(w: tuple[int, ...]) -> bool:
    """Whether a 1x1 convolution of stride 1 with w of this shape takes what it reads as it is."""
    pointwise = w[:2] == (1, 1) and w[2] % LANES == 0
    return pointwise and w[2] * w[3] <= _MOST_WEIGHTS


class BatchNormReluConv2D(Conv2DBatchNormRelu):
    """The op of a plan that the table of fusions has for such layers."""

    def _statistics(
        self, x: Array, gamma: Array, beta: Array, epsilon: float
    ) -> tuple[Array, Array, Array, Array]:
        """Return mean and variance, and the sums and the table that batch_norm_statistics fills."""
        kernel = self._load(x).batch_norm
        mean, variance = self._empty(gamma.shape, x.dtype), self._empty(gamma.shape, x.dtype)
        partial, sums, table = self._tables(kernel, x, 3, 3)
        self._run(
            kernel.batch_norm_statistics,
            mean,
            variance,
            x.reshape(-1),
            gamma,
            beta,
            epsilon,
            partial,
            sums,
            table,
            self._team(x),
        )
        return mean, variance, sums, table

    def _batch_norm_relu_conv2d(
        self,
        x: ArrayLike,
        gamma: ArrayLike,
        beta: ArrayLike,
        w: ArrayLike,
        b: ArrayLike | None = None,
        *,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array, Array]:
        """Return y, the statistics (C,) of x, and the table of its norm, which backward reads.

        x is (N, H, W, C), w (1, 1, C, K), as `is_projection` wants it.
        """
        op = "batch_norm_relu_conv2d"
        x, gamma, beta, w, b = float_arrays(op, x=x, gamma=gamma, beta=beta, w=w, b=b)
        epsilon = number(epsilon, "batch_norm: epsilon", 0, open_low=True)
        kernels, threads = self._load(x), self.num_threads
        mean, variance, sums, table = self._statistics(x, gamma, beta, epsilon)
        y = self._empty((*x.shape[:3], w.shape[3]), x.dtype)
        size = kernels.norm_pointwise.workspace_size(math.prod(x.shape[:3]), *w.shape[2:], threads)
        self._run(
            kernels.norm_pointwise.norm_pointwise,
            y,
            x,
            table,
            w[0, 0],
            b,
            self._room(size, x.dtype),
            threads,
        )

        def op_by_op() -> tuple[Array, ...]:
            z, *statistics = self._eager.batch_norm(x, gamma, beta, epsilon=epsilon)
            return self._eager.conv2d(self._eager.relu(z), w, b), *statistics

        self._run(where_narrow, sums, op_by_op, y, mean, variance)
        return y, mean, variance, table

    def _batch_norm_relu_conv2d_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike,
        beta: ArrayLike,
        w: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        table: ArrayLike,
        *,
        epsilon: float = 1e-5,
    ) -> tuple[Array, ...]:
        """Return the gradients of x, gamma, beta, w and b."""
        op = "batch_norm_relu_conv2d_backward"
        dy, x, gamma, beta, w, mean, variance, table = float_arrays(
            op,
            dy=dy,
            x=x,
            gamma=gamma,
            beta=beta,
            w=w,
            mean=mean,
            variance=variance,
            table=table,
        )
        channels, filters = w.shape[2:]
        kernel, threads, fits = self._load(x).norm_pointwise, self.num_threads, [True]
        parts, size = kernel.sizes(math.prod(x.shape[:3]), channels, filters, threads)
        dx, dw = self._empty(x.shape, x.dtype), self._empty(w.shape, x.dtype)
        db, dgamma = self._room(filters, x.dtype), self._room(channels, x.dtype)
        dbeta = self._room(channels, x.dtype)
        self._run(
            noting,
            fits,
            kernel.norm_pointwise_backward,
            dx,
            dw[0, 0],
            db,
            dgamma,
            dbeta,
            dy,
            x,
            table,
            w[0, 0],
            gamma,
            variance,
            epsilon,
            self._empty((parts, filters, channels), x.dtype),
            self._empty((parts, 2 * channels + filters), _DOUBLE),
            self._empty((3, channels), x.dtype),
            self._room(size, x.dtype),
            threads,
        )

        def op_by_op() -> tuple[Array, ...]:
            eager = self._eager
            z, *_ = eager.batch_norm(x, gamma, beta, epsilon=epsilon)
            y = eager.relu(z)
            da, *of_convolution = eager.conv2d_backward(dy, y, w)
            dz = eager.relu_backward(da, y)
            of_norm = eager.batch_norm_backward(dz, x, gamma, mean, variance, epsilon=epsilon)
            return *of_norm, *of_convolution

        results = (dx, dgamma, dbeta, dw, db)
        self._run(otherwise, fits, op_by_op, *results)
        return results
