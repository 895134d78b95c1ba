"""The block of a network with batch normalization: convolution, norm, ReLU and max-pool.

N batch, H W input height and width, C channels in, K filters, R S kernel height and width,
P Q height and width of the pooled output.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._checks import (
    Array,
    Padding,
    Size2D,
    array,
    flag,
    float_dtype,
    positive,
    rounded,
    silent,
    winners,
)
from .batch_norm import batch_axes
from .batch_norm_block import batch_norm_block, batch_norm_block_backward, windows
from .conv2d import conv2d, conv2d_backward, places


@silent
def conv_norm_block(
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
    """Return (y, argmax, mean, variance): batch_norm_block(conv2d(x, w, b), gamma, beta).

    x (N, H, W, C), w (R, S, C // groups, K), b (K,) or None, gamma and beta (K,); y and argmax
    (N, P, Q, K), mean and variance (K,). Errors are those of the two.
    """
    op = "conv_norm_block"
    dtype = float_dtype(op, x=x, w=w, b=b, gamma=gamma, beta=beta)
    options: dict[str, Any] = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }
    pool: dict[str, Any] = {"pool_size": pool_size, "pool_stride": pool_stride}
    positive(op, "epsilon", epsilon)
    z, *_ = _convolved(op, dtype, x, w, b, options, pool)
    gamma, beta = (
        array(op, name, vector, dtype, z.shape[3:])
        for name, vector in (("gamma", gamma), ("beta", beta))
    )
    y, argmax, mean, variance = batch_norm_block(z, gamma, beta, epsilon=epsilon, **pool)
    return rounded(y, dtype), argmax, rounded(mean, dtype), rounded(variance, dtype)


@silent
def conv_norm_block_backward(
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
    """Return (dx, dw, db, dgamma, dbeta), shaped like x, w and (K,).

    dy (N, P, Q, K); argmax, mean and variance as conv_norm_block returned them. dx is None where
    `input_gradient` is False.
    """
    op = "conv_norm_block_backward"
    dtype = float_dtype(op, dy=dy, x=x, w=w, b=b, gamma=gamma, mean=mean, variance=variance)
    options: dict[str, Any] = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }
    pool: dict[str, Any] = {"pool_size": pool_size, "pool_stride": pool_stride}
    positive(op, "epsilon", epsilon)
    flag(op, "input_gradient", input_gradient)
    z, y_shape, count = _convolved(op, dtype, x, w, b, options, pool)
    gamma, mean, variance = (
        array(op, name, vector, dtype, z.shape[3:])
        for name, vector in (("gamma", gamma), ("mean", mean), ("variance", variance))
    )
    dz, dgamma, dbeta = batch_norm_block_backward(
        array(op, "dy", dy, dtype, y_shape),
        winners(op, argmax, y_shape, count),
        z,
        gamma,
        mean,
        variance,
        epsilon=epsilon,
        **pool,
    )
    images = array(op, "x", x, dtype, ("N", "H", "W", "C"))
    filters = array(op, "w", w, dtype, ("R", "S", "C // groups", "K"))
    dx, dw, db = conv2d_backward(dz, images, filters, **options, input_gradient=input_gradient)
    assert dw is not None
    assert db is not None
    dx = None if dx is None else rounded(dx, dtype)
    dw, db, dgamma, dbeta = (rounded(gradient, dtype) for gradient in (dw, db, dgamma, dbeta))
    return dx, dw, db, dgamma, dbeta


def _convolved(
    op: str,
    dtype: np.dtype[Any],
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    options: dict[str, Any],
    pool: dict[str, Any],
) -> tuple[Array, tuple[int, ...], int]:
    """Return the convolution, the shape of the result and the places of a pool window.

    The convolution is in float64: nothing between the ops of a block is rounded.
    """
    images = array(op, "x", x, dtype, ("N", "H", "W", "C"))
    filters = array(op, "w", w, dtype, ("R", "S", "C // groups", "K"))
    shape = places(op, images, filters, **options).y_shape
    y_shape, count = windows(op, shape, **pool)
    bias = None if b is None else array(op, "b", b, dtype, shape[3:])
    z = conv2d(images, filters, bias, **options)
    batch_axes(op, z)
    return z, y_shape, count
