"""Batch normalization on the compiled kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, rank, same_shape, shape
from fastcnn._options import number
from fastcnn._types import Array
from fastcnn.fast import _wide
from fastcnn.fast._memory_bound import MemoryBound

__all__ = ["BatchNorm", "check_batch"]


def _check(op: str, x: Array, **vectors: Array) -> None:
    rank(x, f"{op}: x", "N, C", "N, H, W, C")
    if 0 in x.shape[1:]:
        raise ValueError(
            f"{op}: x: expected at least one value a sample and channel, got shape {x.shape}"
        )
    for name, vector in vectors.items():
        shape(vector, f"{op}: {name}", x.shape[-1:], "one for each channel of x")


def check_batch(op: str, x_shape: tuple[int, ...]) -> None:
    """Refuse a batch that has no statistics."""
    values = math.prod(x_shape[:-1])
    if values < 2:
        raise ValueError(
            f"{op}: x: expected at least two values a channel to take statistics of, got "
            f"{values} with shape {x_shape}; drop a last batch of one or choose another batch size"
        )


class BatchNorm(MemoryBound):
    """batch_norm in training and inference, and the gradients."""

    def _tables(self, kernel: Any, x: Array, sums: int, rows: int) -> tuple[Array, Array, Array]:
        """Return room for the partial sums, their totals and the per-channel tables."""
        parts, width = kernel.sizes(x.size, x.shape[-1])
        return (
            self._empty((parts, sums, width), x.dtype),
            self._empty((3, width), np.dtype(np.float64)),
            self._empty((rows, width), x.dtype),
        )

    def batch_norm(
        self, x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, *, epsilon: float = 1e-5
    ) -> tuple[Array, Array, Array]:
        op = "batch_norm"
        x, gamma, beta = float_arrays(op, x=x, gamma=gamma, beta=beta)
        _check(op, x, gamma=gamma, beta=beta)
        epsilon = number(epsilon, f"{op}: epsilon", 0, open_low=True)
        check_batch(op, x.shape)
        y = self._empty(x.shape, x.dtype)
        mean, variance = self._empty(gamma.shape, x.dtype), self._empty(gamma.shape, x.dtype)
        kernel = self._load(x).batch_norm
        self._run(
            kernel.batch_norm,
            y.reshape(-1),
            mean,
            variance,
            x.reshape(-1),
            gamma,
            beta,
            epsilon,
            *self._tables(kernel, x, 3, 3),
            self._team(x),
            _wide.batch_norm,
        )
        return y, mean, variance

    def batch_norm_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array]:
        return self._gradients("batch_norm_backward", dy, x, gamma, mean, variance, epsilon)

    def batch_norm_inference(
        self,
        x: ArrayLike,
        gamma: ArrayLike,
        beta: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        epsilon: float = 1e-5,
    ) -> Array:
        op = "batch_norm_inference"
        x, gamma, beta, mean, variance = float_arrays(
            op, x=x, gamma=gamma, beta=beta, mean=mean, variance=variance
        )
        _check(op, x, gamma=gamma, beta=beta, mean=mean, variance=variance)
        epsilon = number(epsilon, f"{op}: epsilon", 0, open_low=True)
        y = self._empty(x.shape, x.dtype)
        if y.size:
            kernel = self._load(x).batch_norm
            _, _, table = self._tables(kernel, x, 0, 3)
            self._run(
                kernel.batch_norm_inference,
                y.reshape(-1),
                x.reshape(-1),
                gamma,
                beta,
                mean,
                variance,
                epsilon,
                table,
                self._team(x),
                _wide.batch_norm_inference,
            )
        return y

    def batch_norm_inference_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array]:
        return self._gradients(
            "batch_norm_inference_backward", dy, x, gamma, mean, variance, epsilon
        )

    def _gradients(
        self,
        op: str,
        dy: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        epsilon: float,
    ) -> tuple[Array, Array, Array]:
        dy, x, gamma, mean, variance = float_arrays(
            op, dy=dy, x=x, gamma=gamma, mean=mean, variance=variance
        )
        _check(op, x, gamma=gamma, mean=mean, variance=variance)
        same_shape(dy, f"{op}: dy", "x", x)
        epsilon = number(epsilon, f"{op}: epsilon", 0, open_low=True)
        if op == "batch_norm_backward":
            check_batch(op, x.shape)
        dx = self._empty(x.shape, x.dtype)
        if dx.size == 0:
            return dx, self._zeros(gamma.shape, x.dtype), self._zeros(gamma.shape, x.dtype)
        dgamma, dbeta = self._empty(gamma.shape, x.dtype), self._empty(gamma.shape, x.dtype)
        kernel = self._load(x).batch_norm
        self._run(
            getattr(kernel, op),
            dx.reshape(-1),
            dgamma,
            dbeta,
            dy.reshape(-1),
            x.reshape(-1),
            gamma,
            mean,
            variance,
            epsilon,
            *self._tables(kernel, x, 2, 4),
            self._team(x),
            _wide.batch_norm_backward,
        )
        return dx, dgamma, dbeta
