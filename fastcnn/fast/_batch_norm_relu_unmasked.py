"""Batch normalization + ReLU in one pass, without a mask of what is alive."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays
from fastcnn._options import number
from fastcnn._types import Array
from fastcnn.fast._batch_norm_add_relu import BatchNormAddRelu
from fastcnn.fast._conv2d_batch_norm_relu import LANES
from fastcnn.fast._recompute import noting, otherwise, where_narrow

__all__ = ["BatchNormReluUnmasked", "is_whole"]

_DOUBLE = np.dtype(np.float64)


def is_whole(x: tuple[int, ...]) -> bool:
    """Whether images of this shape are of whole vectors of channels."""
    return len(x) == 4 and x[3] % LANES == 0


class BatchNormReluUnmasked(BatchNormAddRelu):
    """The op of a plan that the table of fusions has for such images."""

    def _batch_norm_relu_unmasked(
        self, x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, *, epsilon: float = 1e-5
    ) -> tuple[Array, Array, Array, Array]:
        """Return y, the statistics (C,) of x, and the table of its norm, which backward reads."""
        op = "batch_norm_relu_unmasked"
        x, gamma, beta = float_arrays(op, x=x, gamma=gamma, beta=beta)
        epsilon = number(epsilon, "batch_norm: epsilon", 0, open_low=True)
        mean, variance, sums, table = self._statistics(x, gamma, beta, epsilon)
        y = self._empty(x.shape, x.dtype)
        kernel = self._load(x).batch_norm_relu
        self._run(kernel.batch_norm_relu, y, x, table, self._team(x))

        def op_by_op() -> tuple[Array, ...]:
            z, *statistics = self._eager.batch_norm(x, gamma, beta, epsilon=epsilon)
            return self._eager.relu(z), *statistics

        self._run(where_narrow, sums, op_by_op, y, mean, variance)
        return y, mean, variance, table

    def _batch_norm_relu_unmasked_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike,
        beta: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        table: ArrayLike,
        *,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array]:
        """Return the gradients of x, gamma and beta."""
        op = "batch_norm_relu_unmasked_backward"
        dy, x, gamma, beta, mean, variance, table = float_arrays(
            op, dy=dy, x=x, gamma=gamma, beta=beta, mean=mean, variance=variance, table=table
        )
        kernel, threads, fits = self._load(x).batch_norm_relu, self._team(x), [True]
        channels = x.shape[3]
        parts = kernel.parts(math.prod(x.shape[:3]), channels)
        dx = self._empty(x.shape, x.dtype)
        dgamma, dbeta = self._room(channels, x.dtype), self._room(channels, x.dtype)
        self._run(
            noting,
            fits,
            kernel.batch_norm_relu_backward,
            dx,
            dgamma,
            dbeta,
            dy,
            x,
            table,
            gamma,
            variance,
            epsilon,
            self._empty((parts, 2 * channels), _DOUBLE),
            self._empty((3, channels), x.dtype),
            self._empty((threads, 2 * channels), x.dtype),
            threads,
        )

        def op_by_op() -> tuple[Array, ...]:
            eager = self._eager
            z, *_ = eager.batch_norm(x, gamma, beta, epsilon=epsilon)
            dz = eager.relu_backward(dy, eager.relu(z))
            of_norm: tuple[Array, ...] = eager.batch_norm_backward(
                dz, x, gamma, mean, variance, epsilon=epsilon
            )
            return of_norm

        self._run(otherwise, fits, op_by_op, dx, dgamma, dbeta)
        return dx, dgamma, dbeta
