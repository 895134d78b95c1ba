"""Convolution + batch normalization + ReLU + max-pool, without the convolution's result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastcnn._checks import float_arrays
from fastcnn._types import Array, Padding, Size2D
from fastcnn.fast._batch_norm import check_batch
from fastcnn.fast._batch_norm_relu_max_pool2d import BatchNormReluMaxPool2D
from fastcnn.fast._conv2d_relu_max_pool2d import Conv2DReluMaxPool2D, _Pooled, _pooled_of
from fastcnn.fast._recompute import noting, otherwise

__all__ = ["Conv2DBatchNormReluMaxPool2D", "sees_few"]

_DOUBLE = np.dtype(np.float64)
_FEW_NUMBERS = 9  # of a filter, as in a first layer's 3x3 of one channel


def sees_few(w_shape: tuple[int, ...], dtype: np.dtype[Any], groups: int) -> bool:
    """Return whether convolution and norm can do without the convolution's result.

    The moments of the few numbers that a filter sees tell its statistics, for less than it takes
    to write the result and to read it again (benchmarks/paths.py). In double they are exact
    enough for float32.
    """
    return groups == 1 and dtype == np.float32 and math.prod(w_shape[:3]) <= _FEW_NUMBERS


class Conv2DBatchNormReluMaxPool2D(Conv2DReluMaxPool2D, BatchNormReluMaxPool2D):
    """max_pool2d(relu(batch_norm(conv2d(x, w, b), gamma, beta))) and the gradients.

    Of filters that see few numbers, whose moments tell the statistics beforehand: then the
    convolution is _conv2d_relu_max_pool2d with the norm in its weights.
    """

    def _conv2d_batch_norm_relu_max_pool2d(
        self,
        x: Array,
        w: Array,
        gamma: Array,
        beta: Array,
        b: Array | None = None,
        *,
        epsilon: float = 1e-5,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
        pool_size: Size2D = 2,
        pool_stride: Size2D | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        """Return y, argmax, mean and variance; argmax as of _conv2d_relu_max_pool2d."""
        x, w, b, gamma, beta = float_arrays("conv2d", x=x, w=w, b=b, gamma=gamma, beta=beta)
        pooled = _pooled_of(x, w, stride, padding, dilation, groups, pool_size, pool_stride)
        check_batch("batch_norm", (len(x), *pooled.convolved, w.shape[3]))
        mean, variance = self._empty(gamma.shape, w.dtype), self._empty(gamma.shape, w.dtype)
        folded, shift = self._empty(w.shape, w.dtype), self._empty(gamma.shape, w.dtype)
        bias = self._zeros(gamma.shape, w.dtype) if b is None else b
        moments, fits = self._moments(x, w, pooled), [True]
        self._run(
            noting,
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
            len(x) * math.prod(pooled.convolved),
            self._room(3 * len(gamma), _DOUBLE),
        )
        algorithm = self._algorithm(x, w, pooled)
        if algorithm == "plain":
            y, argmax = self._op_after_op(x, folded, shift, pooled)
        else:
            y, argmax = self._fused(x, folded, shift, pooled, algorithm)

        def op_by_op() -> tuple[Array, ...]:
            z = self._eager.conv2d(x, w, b, **pooled.options)
            result: tuple[Array, ...] = self._eager._batch_norm_relu_max_pool2d(
                z, gamma, beta, epsilon=epsilon, **_pool(pooled)
            )
            return result

        self._run(otherwise, fits, op_by_op, y, argmax, mean, variance)
        return y, argmax, mean, variance

    def _moments(self, x: Array, w: Array, pooled: _Pooled) -> Array:
        """Return the sums over all patches: of their numbers, and of products of two."""
        numbers = w.shape[0] * w.shape[1] * w.shape[2]
        moments = self._empty((1 + numbers, numbers), _DOUBLE)
        kernel = self._load(moments).conv_norm_block
        sizes = (*pooled.convolved, *w.shape[:2], *pooled.window)
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

    def _conv2d_batch_norm_relu_max_pool2d_backward(
        self,
        dy: Array,
        argmax: Array,
        x: Array,
        w: Array,
        gamma: Array,
        mean: Array,
        variance: Array,
        b: Array | None = None,
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
        """Return (dx, dw, db, dgamma, dbeta).

        Where x needs a gradient, the convolution is computed again.
        """
        x, w, b, gamma = float_arrays("conv2d_backward", x=x, w=w, b=b, gamma=gamma)
        pooled = _pooled_of(x, w, stride, padding, dilation, groups, pool_size, pool_stride)
        if not input_gradient:
            gradients = self._gradients_from_moments(
                dy, argmax, x, w, b, gamma, mean, variance, epsilon, pooled
            )
            return None, *gradients
        z = self.conv2d(x, w, b, **pooled.options)
        dz, dgamma, dbeta = self._batch_norm_relu_max_pool2d_backward(
            dy, argmax, z, gamma, mean, variance, epsilon=epsilon, **_pool(pooled)
        )
        dx, dw, db = self.conv2d_backward(dz, x, w, **pooled.options, input_gradient=input_gradient)
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
        pooled: _Pooled,
    ) -> tuple[Array, Array, Array, Array]:
        path, *_ = self._gradient_paths(x, w, pooled, False)
        _, dw_norm, dbeta = self._gradients_by(path, dy, argmax, x, w, pooled, False)
        dw, db, dgamma = (self._empty(array.shape, w.dtype) for array in (w, gamma, gamma))
        bias = self._zeros(gamma.shape, w.dtype) if b is None else b
        moments, fits = self._moments(x, w, pooled), [True]
        self._run(
            noting,
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
            len(x) * math.prod(pooled.convolved),
            self._room(5 * len(gamma), _DOUBLE),
        )

        def op_by_op() -> tuple[Array, ...]:
            z = self._eager.conv2d(x, w, b, **pooled.options)
            dz, *of_norm = self._eager._batch_norm_relu_max_pool2d_backward(
                dy, argmax, z, gamma, mean, variance, epsilon=epsilon, **_pool(pooled)
            )
            _, *of_convolution = self._eager.conv2d_backward(
                dz, x, w, **pooled.options, input_gradient=False
            )
            return *of_convolution, *of_norm

        self._run(otherwise, fits, op_by_op, dw, db, dgamma, dbeta)
        return dw, db, dgamma, dbeta


def _pool(pooled: _Pooled) -> dict[str, Any]:
    return {"pool_size": pooled.pool[:2], "pool_stride": pooled.pool[2:]}
