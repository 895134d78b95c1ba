"""Batch normalization + a residual + ReLU in one pass, as residual networks have them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays
from fastcnn._options import number
from fastcnn._types import Array
from fastcnn.fast._batch_norm_relu_conv2d import BatchNormReluConv2D
from fastcnn.fast._conv2d_batch_norm_relu import LANES
from fastcnn.fast._recompute import noting, otherwise, where_narrow

__all__ = ["BatchNormAddRelu", "is_residual"]

_DOUBLE = np.dtype(np.float64)


def is_residual(x: tuple[int, ...], r: tuple[int, ...]) -> bool:
    """Whether images of these shapes are added as they lie, and whole vectors of channels."""
    return x == r and len(x) == 4 and x[3] % LANES == 0


class BatchNormAddRelu(BatchNormReluConv2D):
    """The op of a plan that the table of fusions has for such a sum."""

    def _batch_norm_add_relu(
        self,
        x: ArrayLike,
        gamma: ArrayLike,
        beta: ArrayLike,
        r: ArrayLike,
        *,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array]:
        """Return y and the statistics (C,) of x; x and r are (N, H, W, C), as for `is_residual`."""
        op = "batch_norm_add_relu"
        x, gamma, beta, r = float_arrays(op, x=x, gamma=gamma, beta=beta, r=r)
        epsilon = number(epsilon, "batch_norm: epsilon", 0, open_low=True)
        kernels, threads = self._load(x), self._team(x)
        mean, variance, sums, table = self._statistics(x, gamma, beta, epsilon)
        y = self._empty(x.shape, x.dtype)
        self._run(kernels.batch_norm_add.batch_norm_add, y, x, r, table, threads)

        def op_by_op() -> tuple[Array, ...]:
            z, *statistics = self._eager.batch_norm(x, gamma, beta, epsilon=epsilon)
            return self._eager.relu(self._eager.add(z, r)), *statistics

        self._run(where_narrow, sums, op_by_op, y, mean, variance)
        return y, mean, variance

    def _batch_norm_add_relu_backward(
        self,
        dy: ArrayLike,
        y: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        epsilon: float = 1e-5,
    ) -> tuple[Array, ...]:
        """Return the gradients of x, gamma, beta and r."""
        op = "batch_norm_add_relu_backward"
        dy, y, x, gamma, mean, variance = float_arrays(
            op, dy=dy, y=y, x=x, gamma=gamma, mean=mean, variance=variance
        )
        kernel, threads, fits = self._load(x).batch_norm_add, self._team(x), [True]
        channels = x.shape[3]
        parts = kernel.parts(math.prod(x.shape[:3]), channels)
        dx, dr = self._empty(x.shape, x.dtype), self._empty(x.shape, x.dtype)
        dgamma, dbeta = self._room(channels, x.dtype), self._room(channels, x.dtype)
        self._run(
            noting,
            fits,
            kernel.batch_norm_add_backward,
            dx,
            dr,
            dgamma,
            dbeta,
            dy,
            y,
            x,
            gamma,
            mean,
            variance,
            epsilon,
            self._empty((parts, 2 * channels), _DOUBLE),
            self._empty((3, channels), x.dtype),
            self._empty((threads, 2 * channels), x.dtype),
            threads,
        )

        def op_by_op() -> tuple[Array, ...]:
            result: tuple[Array, ...] = self._eager.batch_norm_backward(
                dr, x, gamma, mean, variance, epsilon=epsilon
            )
            return result

        self._run(otherwise, fits, op_by_op, dx, dgamma, dbeta)
        return dx, dgamma, dbeta, dr
