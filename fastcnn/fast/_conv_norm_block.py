"""Convolution + batch normalization + ReLU + max-pool: without the convolution's result, or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._blocks import Array, Padding, Size2D, sees_few
from fastcnn._checks import flag, float_arrays, positive, rank, shape
from fastcnn.fast._batch_norm_block import BatchNormBlock
from fastcnn.fast._conv_block import ConvBlock, _Block, _check

__all__ = ["ConvNormBlock"]

_DOUBLE = np.dtype(np.float64)


def _check_vectors(op: str, x: Array, w: Array, block: _Block, **vectors: Array | None) -> None:
    for name, vector in vectors.items():
        if vector is not None:
            rank(op, name, vector, "K")
            shape(op, name, vector, w.shape[3:], "one for each filter of w")
    values = len(x) * math.prod(block.convolved)
    if values < 2:
        raise ValueError(
            f"{op}: x: expected at least two outputs a filter to take statistics of, got {values} "
            f"with shape {x.shape}; drop a last batch of one or choose another batch size"
        )


class ConvNormBlock(ConvBlock, BatchNormBlock):
    """conv_norm_block and its gradients.

    Few numbers that an output sees have few moments, which tell the statistics beforehand: then
    the convolution is conv_block with the norm in its weights.
    """

    def conv_norm_block(
        self,
        x: ArrayLike,
        w: ArrayLike,
        b: ArrayLike | None,
        gamma: ArrayLike,
        beta: ArrayLike,
        *,
        epsilon: float = 1e-5,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
        pool_size: Size2D = 2,
        pool_stride: Size2D | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        op = "conv_norm_block"
        x, w, b, gamma, beta = float_arrays(op, x=x, w=w, b=b, gamma=gamma, beta=beta)
        block = _check(op, x, w, stride, padding, dilation, groups, pool_size, pool_stride)
        epsilon = positive(op, "epsilon", epsilon)
        _check_vectors(op, x, w, block, b=b, gamma=gamma, beta=beta)
        if not sees_few(w, block.groups) or x.size == 0:
            z = self.conv2d(x, w, b, **block.options)
            return self.batch_norm_block(z, gamma, beta, epsilon=epsilon, **_pool(block))
        return self._block_from_moments(x, w, b, gamma, beta, epsilon, block)

    def _block_from_moments(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        gamma: Array,
        beta: Array,
        epsilon: float,
        block: _Block,
    ) -> tuple[Array, Array, Array, Array]:
        mean, variance = self._empty(gamma.shape, w.dtype), self._empty(gamma.shape, w.dtype)
        folded, shift = self._empty(w.shape, w.dtype), self._empty(gamma.shape, w.dtype)
        bias = self._zeros(gamma.shape, w.dtype) if b is None else b
        moments, fits = self._moments(x, w, block), [True]
        self._run(
            _noting,
            fits,
            self._load(moments).conv_norm_block.fold,
            mean,
            variance,
            folded,
            shift,
            moments,
            w,
            bias,
            gamma,
            beta,
            epsilon,
            len(x) * math.prod(block.convolved),
            self._room(3 * len(gamma), _DOUBLE),
        )
        algorithm = self._algorithm(x, w, block)
        if algorithm == "plain":
            y, argmax = self._plain_block(x, folded, shift, block)
        else:
            y, argmax = self._fused_block(x, folded, shift, block, algorithm)

        def op_by_op() -> tuple[Array, ...]:
            z = self._eager.conv2d(x, w, b, **block.options)
            result: tuple[Array, ...] = self._eager.batch_norm_block(
                z, gamma, beta, epsilon=epsilon, **_pool(block)
            )
            return result

        self._run(_otherwise, fits, op_by_op, y, argmax, mean, variance)
        return y, argmax, mean, variance

    def _moments(self, x: Array, w: Array, block: _Block) -> Array:
        """Return the sums over all patches: of their numbers, and of products of two."""
        numbers = w.shape[0] * w.shape[1] * w.shape[2]
        moments = self._empty((1 + numbers, numbers), _DOUBLE)
        kernel = self._load(moments).conv_norm_block
        sizes = (*block.convolved, *w.shape[:2], *block.window)
        size, offsets = kernel.workspace_size(*x.shape, *sizes, self.num_threads)
        self._run(
            kernel.moments,
            moments,
            x,
            self._room(size, _DOUBLE),
            self._room(offsets, np.dtype(np.intp)),
            *sizes,
            self.num_threads,
        )
        return moments

    def conv_norm_block_backward(
        self,
        dy: ArrayLike,
        argmax: ArrayLike,
        x: ArrayLike,
        w: ArrayLike,
        b: ArrayLike | None,
        gamma: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        epsilon: float = 1e-5,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
        pool_size: Size2D = 2,
        pool_stride: Size2D | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array | None, Array, Array, Array, Array]:
        op = "conv_norm_block_backward"
        dy, x, w, b, gamma, mean, variance = float_arrays(
            op, dy=dy, x=x, w=w, b=b, gamma=gamma, mean=mean, variance=variance
        )
        block = _check(op, x, w, stride, padding, dilation, groups, pool_size, pool_stride)
        epsilon = positive(op, "epsilon", epsilon)
        flag(op, "input_gradient", input_gradient)
        _check_vectors(op, x, w, block, b=b, gamma=gamma, mean=mean, variance=variance)
        places = self._winners(op, dy, argmax, x, w, block)
        if not input_gradient and sees_few(w, block.groups) and x.size:
            gradients = self._gradients_from_moments(
                dy, places, x, w, b, gamma, mean, variance, epsilon, block
            )
            return None, *gradients
        z = self.conv2d(x, w, b, **block.options)
        dz, dgamma, dbeta = self.batch_norm_block_backward(
            dy, places, z, gamma, mean, variance, epsilon=epsilon, **_pool(block)
        )
        dx, dw, db = self.conv2d_backward(dz, x, w, **block.options, input_gradient=input_gradient)
        assert dw is not None
        assert db is not None
        return dx, dw, db, dgamma, dbeta

    def _gradients_from_moments(
        self,
        dy: Array,
        argmax: Array,
        x: Array,
        w: Array,
        b: Array | None,
        gamma: Array,
        mean: Array,
        variance: Array,
        epsilon: float,
        block: _Block,
    ) -> tuple[Array, Array, Array, Array]:
        path, *_ = self._gradient_paths(x, w, block, False)
        _, dw_norm, dbeta = self._block_gradients(path, dy, argmax, x, w, block, False)
        dw, db, dgamma = (self._empty(array.shape, w.dtype) for array in (w, gamma, gamma))
        bias = self._zeros(gamma.shape, w.dtype) if b is None else b
        moments, fits = self._moments(x, w, block), [True]
        self._run(
            _noting,
            fits,
            self._load(moments).conv_norm_block.gradients,
            dw,
            db,
            dgamma,
            dw_norm,
            dbeta,
            moments,
            w,
            bias,
            gamma,
            mean,
            variance,
            epsilon,
            len(x) * math.prod(block.convolved),
            self._room(5 * len(gamma), _DOUBLE),
        )

        def op_by_op() -> tuple[Array, ...]:
            z = self._eager.conv2d(x, w, b, **block.options)
            dz, *of_norm = self._eager.batch_norm_block_backward(
                dy, argmax, z, gamma, mean, variance, epsilon=epsilon, **_pool(block)
            )
            _, *of_convolution = self._eager.conv2d_backward(
                dz, x, w, **block.options, input_gradient=False
            )
            return *of_convolution, *of_norm

        self._run(_otherwise, fits, op_by_op, dw, db, dgamma, dbeta)
        return dw, db, dgamma, dbeta


# Where sums in float32 are beyond it, which shows in the midst, all is computed again.
def _noting(fits: list[bool], kernel: Any, *arguments: Any) -> None:
    fits[0] = kernel(*arguments)


def _otherwise(fits: list[bool], compute: Callable[[], tuple[Array, ...]], *results: Array) -> None:
    if not fits[0]:
        for result, array in zip(results, compute(), strict=True):
            np.copyto(result, array)


def _pool(block: _Block) -> dict[str, Any]:
    return {"pool_size": block.pool[:2], "pool_stride": block.pool[2:]}
