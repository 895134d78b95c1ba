"""Batch normalization + ReLU + max-pool on the compiled kernels: fused, or one after another."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import as_array, float_arrays, output_size, pair, positive, rank, shape
from fastcnn.backend import Array, Size2D
from fastcnn.fast import _wide
from fastcnn.fast._activations import Activations
from fastcnn.fast._batch_norm import BatchNorm, _check_batch
from fastcnn.fast._batch_norm import _check as _check_norm
from fastcnn.fast._pool2d import Pool2D

__all__ = ["BatchNormBlock"]


class _Windows(NamedTuple):
    """The checked windows of a pool."""

    output: tuple[int, int]
    size: tuple[int, int]
    stride: tuple[int, int]

    @property
    def places(self) -> int:
        return self.size[0] * self.size[1]

    @property
    def side_by_side(self) -> bool:
        return all(
            step == size or count == 1
            for step, size, count in zip(self.stride, self.size, self.output, strict=True)
        )


def _windows(op: str, x: Array, pool_size: Size2D, pool_stride: Size2D | None) -> _Windows:
    size = pair(op, "pool_size", pool_size)
    stride = size if pool_stride is None else pair(op, "pool_stride", pool_stride)
    if size[0] * size[1] > 255:
        raise ValueError(
            f"{op}: pool_size: expected a window of at most 255 places, got {size[0]} x {size[1]}"
        )
    output = (
        output_size(op, "height", x.shape[1], (0, 0), size[0], stride[0]),
        output_size(op, "width", x.shape[2], (0, 0), size[1], stride[1]),
    )
    return _Windows(output, size, stride)


def mark_dead(argmax: Array, y: Array, places: int) -> None:
    """Note where ReLU left nothing: no place of the window won."""
    argmax[y == 0] = places


def drop_dead(alive: Array, winners: Array, dy: Array, argmax: Array, places: int) -> None:
    """Write dy without the gradients of such windows, and argmax with a place for them."""
    lives = argmax < places
    np.copyto(alive, np.where(lives, dy, dy.dtype.type(0)))
    np.multiply(argmax, lives, out=winners)


def _require_places(op: str, argmax: Array, places: int) -> None:
    if argmax.max() > places:
        raise ValueError(f"{op}: argmax: expected places up to {places}, got {argmax.max()}")


class BatchNormBlock(BatchNorm, Pool2D, Activations):
    """batch_norm_block and its gradients."""

    def batch_norm_block(
        self,
        x: ArrayLike,
        gamma: ArrayLike,
        beta: ArrayLike,
        *,
        epsilon: float = 1e-5,
        pool_size: Size2D = 1,
        pool_stride: Size2D | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        op = "batch_norm_block"
        x, gamma, beta = float_arrays(op, x=x, gamma=gamma, beta=beta)
        rank(op, "x", x, "N, H, W, C")
        _check_norm(op, x, gamma=gamma, beta=beta)
        epsilon = positive(op, "epsilon", epsilon)
        windows = _windows(op, x, pool_size, pool_stride)
        _check_batch(op, x)
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
                _wide.batch_norm_block,
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

    def batch_norm_block_backward(
        self,
        dy: ArrayLike,
        argmax: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        epsilon: float = 1e-5,
        pool_size: Size2D = 1,
        pool_stride: Size2D | None = None,
    ) -> tuple[Array, Array, Array]:
        op = "batch_norm_block_backward"
        dy, x, gamma, mean, variance = float_arrays(
            op, dy=dy, x=x, gamma=gamma, mean=mean, variance=variance
        )
        rank(op, "x", x, "N, H, W, C")
        _check_norm(op, x, gamma=gamma, mean=mean, variance=variance)
        epsilon = positive(op, "epsilon", epsilon)
        windows = _windows(op, x, pool_size, pool_stride)
        _check_batch(op, x)
        output = (x.shape[0], *windows.output, x.shape[3])
        shape(op, "dy", dy, output, "that of batch_norm_block's result")
        places = as_array(op, "argmax", argmax)
        if places.dtype != np.uint8:
            raise TypeError(f"{op}: argmax: expected an array of uint8, got {places.dtype}")
        shape(op, "argmax", places, output, "that of batch_norm_block's result")
        places = np.ascontiguousarray(places)
        self._check(_require_places, op, places, windows.places)
        kernel = self._load(x).batch_norm_block
        if x.shape[3] % self._lanes_of_channels(x) or not windows.side_by_side:
            alive, winners = self._empty(dy.shape, dy.dtype), self._empty(dy.shape, places.dtype)
            self._run(drop_dead, alive, winners, dy, places, windows.places)
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
            places,
            x,
            gamma,
            mean,
            variance,
            epsilon,
            *windows.size,
            self._empty((parts, 2, x.shape[3]), x.dtype),
            self._empty((3, x.shape[3]), x.dtype),
            self._team(x),
            _wide.batch_norm_block_backward,
        )
        return dx, dgamma, dbeta
