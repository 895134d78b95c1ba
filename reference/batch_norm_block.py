"""What stands behind a convolution with batch normalization: the norm, ReLU and a max-pool.

N batch, H W height and width, C channels, P Q height and width of the pooled output.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, Size2D, array, float_dtype, positive, silent, winners
from .activations import relu
from .batch_norm import batch_axes, batch_norm, batch_norm_backward
from .pool2d import max_pool2d, max_pool2d_backward, places

Shape4 = tuple[int, int, int, int]


@silent
def batch_norm_block(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    *,
    epsilon: float = 1e-5,
    pool_size: Size2D = 1,
    pool_stride: Size2D | None = None,
) -> tuple[Array, Array, Array, Array]:
    """Return (y, argmax, mean, variance): y = max_pool2d(relu(batch_norm(x, gamma, beta))).

    x (N, H, W, C); y and argmax (N, P, Q, C); mean and variance (C,). argmax, uint8, is the place
    r*S + s of the winner in its pool window, or the number of places where y is 0: ReLU lets no
    gradient pass there. Errors are those of batch_norm and max_pool2d; the pool has no padding
    and at most 255 places.
    """
    op = "batch_norm_block"
    dtype = float_dtype(op, x=x, gamma=gamma, beta=beta)
    image = array(op, "x", x, dtype, ("N", "H", "W", "C"))
    for name, vector in (("gamma", gamma), ("beta", beta)):
        array(op, name, vector, dtype, image.shape[3:])
    positive(op, "epsilon", epsilon)
    _, count = windows(op, image.shape, pool_size, pool_stride)
    batch_axes(op, image)
    z, mean, variance = batch_norm(x, gamma, beta, epsilon=epsilon)
    y, argmax = max_pool2d(relu(z), pool_size, stride=pool_stride)
    argmax[y == 0] = count
    return y, argmax, mean, variance


@silent
def batch_norm_block_backward(
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
    """Return (dx, dgamma, dbeta), shaped like x, (C,) and (C,).

    dy (N, P, Q, C); argmax, mean and variance as batch_norm_block returned them. A place above
    the number of places in the pool window is a ValueError.
    """
    op = "batch_norm_block_backward"
    dtype = float_dtype(op, dy=dy, x=x, gamma=gamma, mean=mean, variance=variance)
    image = array(op, "x", x, dtype, ("N", "H", "W", "C"))
    for name, vector in (("gamma", gamma), ("mean", mean), ("variance", variance)):
        array(op, name, vector, dtype, image.shape[3:])
    positive(op, "epsilon", epsilon)
    y_shape, count = windows(op, image.shape, pool_size, pool_stride)
    batch_axes(op, image)
    dy = array(op, "dy", dy, dtype, y_shape)
    chosen = winners(op, argmax, y_shape, count)

    dead = chosen == count
    dz = max_pool2d_backward(
        np.where(dead, 0, dy).astype(dtype),
        np.where(dead, 0, chosen).astype(np.uint8),
        image.shape,
        pool_size,
        stride=pool_stride,
    )
    return batch_norm_backward(dz, x, gamma, mean, variance, epsilon=epsilon)


def windows(
    op: str, x_shape: tuple[int, ...], pool_size: Size2D, pool_stride: Size2D | None
) -> tuple[Shape4, int]:
    """Return the shape of the result, and the places of a pool window."""
    n, height, width, channels = x_shape
    shape = (n, height, width, channels)
    pool = places(op, shape, pool_size, pool_stride, 0, False, "pool_stride")
    count = pool.window[0] * pool.window[1]
    if count > 255:
        raise ValueError(f"{op}: pool_size: expected a window of at most 255 places, got {count}")
    return pool.y_shape, count
