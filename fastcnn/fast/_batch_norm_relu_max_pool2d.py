"""Batch normalization + ReLU + max-pool on the compiled kernels: fused, or one after another."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from fastcnn._checks import by_shape, float_arrays
from fastcnn._options import output_size, pair, size2d
from fastcnn._types import Array, Size2D
from fastcnn.fast import _wide
from fastcnn.fast._activations import Activations
from fastcnn.fast._batch_norm import BatchNorm, check_batch
from fastcnn.fast._pool2d import Pool2D

__all__ = ["BatchNormReluMaxPool2D", "drop_dead", "mark_dead"]


class _Windows(NamedTuple):
    """The windows of a pool."""

    output: tuple[int, int]
    size: tuple[int, int]
    stride: tuple[int, int]

    @property
    def places(self) -> int:
        return self.size[0] * self.size[1]

    @property
    def side_by_side(self) -> bool:
        return all(
            stride == size or count == 1
            for stride, size, count in zip(self.stride, self.size, self.output, strict=True)
        )


@by_shape
def _windows(x: Array, pool_size: Size2D, pool_stride: Size2D | None) -> _Windows:
    op = "max_pool2d"
    size = pair(size2d(pool_size, f"{op}: pool_size"))
    stride = size if pool_stride is None else pair(size2d(pool_stride, f"{op}: stride"))
    output = output_size(x.shape[1:3], f"{op}: x", size, stride)
    return _Windows(output, size, stride)


def mark_dead(argmax: Array, y: Array, places: int) -> None:
    """Note where ReLU left nothing: no place of the window won."""
    argmax[y == 0] = places


def drop_dead(alive: Array, winners: Array, dy: Array, argmax: Array, places: int) -> None:
    """Write dy without the gradients of such windows, and argmax with a place for them."""
    lives = argmax < places
    np.copyto(alive, np.where(lives, dy, dy.dtype.type(0)))
    np.multiply(argmax, lives, out=winners)


class BatchNormReluMaxPool2D(BatchNorm, Pool2D, Activations):
    """relu(batch_norm(x, gamma, beta)), with a max-pool behind it or not, and the gradients."""

    def _batch_norm_relu(
        self, x: Array, gamma: Array, beta: Array, *, epsilon: float = 1e-5
    ) -> tuple[Array, Array, Array, Array]:
        """Return y, its mask (0 where y is above 0 or NaN, else 1), mean and variance."""
        return self._batch_norm_relu_max_pool2d(x, gamma, beta, epsilon=epsilon, pool_size=1)

    def _batch_norm_relu_max_pool2d(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        *,
        epsilon: float = 1e-5,
        pool_size: Size2D = 2,
        pool_stride: Size2D | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        """Return y, argmax, mean and variance; argmax as of _conv2d_relu_max_pool2d."""
        x, gamma, beta = float_arrays("batch_norm", x=x, gamma=gamma, beta=beta)
        windows = _windows(x, pool_size, pool_stride)
        check_batch("batch_norm", x.shape)
        kernels = self._load(x)
        if x.shape[3] % self._lanes_of_channels(x):
            z, mean, variance = self.batch_norm(x, gamma, beta, epsilon=epsilon)
            y, argmax = self.max_pool2d(self.relu(z), windows.size, stride=windows.stride)
            self._run(mark_dead, argmax, y, windows.places)
            return y, argmax, mean, variance
        mean, variance = self._empty(gamma.shape, x.dtype), self._empty(gamma.shape, x.dtype)
        workspace = self._tables(kernels.batch_norm, x, 3, 3)
        self._run(
            kernels.batch_norm.batch_norm_statistics,
            mean,
            variance,
            x.reshape(-1),
            gamma,
            beta,
            epsilon,
            *workspace,
            self._team(x),
        )
        y = self._empty((x.shape[0], *windows.output, x.shape[3]), x.dtype)
        argmax = self._empty(y.shape, np.dtype(np.uint8))
        self._run(
            kernels.batch_norm_block.batch_norm_block,
            y,
            argmax,
            x,
            workspace[2],
            *windows.size,
            *windows.stride,
            self._team(x),
            workspace[1],
            partial(
                _wide.batch_norm_relu_max_pool2d,
                mean=mean,
                variance=variance,
                gamma=gamma,
                beta=beta,
                epsilon=epsilon,
            ),
        )
        return y, argmax, mean, variance

    def _lanes_of_channels(self, x: Array) -> int:
        """Return of what the channels must be a multiple for the fused kernels."""
        lanes: int = self._load(x).batch_norm_block.lanes()
        return lanes

    def _batch_norm_relu_backward(
        self,
        dy: Array,
        argmax: Array,
        x: Array,
        gamma: Array,
        mean: Array,
        variance: Array,
        *,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array]:
        """Return (dx, dgamma, dbeta) as batch_norm_backward does."""
        return self._batch_norm_relu_max_pool2d_backward(
            dy, argmax, x, gamma, mean, variance, epsilon=epsilon, pool_size=1
        )

    def _batch_norm_relu_max_pool2d_backward(
        self,
        dy: Array,
        argmax: Array,
        x: Array,
        gamma: Array,
        mean: Array,
        variance: Array,
        *,
        epsilon: float = 1e-5,
        pool_size: Size2D = 2,
        pool_stride: Size2D | None = None,
    ) -> tuple[Array, Array, Array]:
        """Return (dx, dgamma, dbeta) as batch_norm_backward does, from the winners' gradients."""
        x, gamma = float_arrays("batch_norm_backward", x=x, gamma=gamma)
        windows = _windows(x, pool_size, pool_stride)
        kernel = self._load(x).batch_norm_block
        if x.shape[3] % self._lanes_of_channels(x) or not windows.side_by_side:
            alive, winners = self._empty(dy.shape, dy.dtype), self._empty(dy.shape, argmax.dtype)
            self._run(drop_dead, alive, winners, dy, argmax, windows.places)
            dz = self.max_pool2d_backward(
                alive,
                winners,
                x.shape,
                windows.size,
                stride=windows.stride,
            )
            return self.batch_norm_backward(dz, x, gamma, mean, variance, epsilon=epsilon)
        dx = self._empty(x.shape, x.dtype)
        dgamma, dbeta = self._empty(gamma.shape, x.dtype), self._empty(gamma.shape, x.dtype)
        parts = kernel.parts(x.shape[0] * windows.output[0], windows.output[1])
        self._run(
            kernel.batch_norm_block_backward,
            dx,
            dgamma,
            dbeta,
            dy,
            argmax,
            x,
            gamma,
            mean,
            variance,
            epsilon,
            *windows.size,
            self._empty((parts, 2, x.shape[3]), x.dtype),
            self._empty((3, x.shape[3]), x.dtype),
            self._team(x),
            _wide.batch_norm_relu_max_pool2d_backward,
        )
        return dx, dgamma, dbeta
