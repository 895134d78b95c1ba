"""The block of a convolutional network: convolution, bias, ReLU and max-pool, one after another.

N batch, H W input height and width, C channels in, K filters, R S kernel height and width,
P Q height and width of the pooled output.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, Padding, Size2D, as_array, check_shape, flag, float_dtype, pair, silent
from .activations import relu
from .conv2d import conv2d, conv2d_backward
from .pool2d import max_pool2d, max_pool2d_backward


@silent
def conv_block(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    stride: Size2D = 1,
    padding: Padding = 0,
    dilation: Size2D = 1,
    groups: int = 1,
    pool_size: Size2D = 2,
    pool_stride: Size2D | None = None,
) -> tuple[Array, Array]:
    """Return (y, argmax), both (N, P, Q, K): y = max_pool2d(relu(conv2d(x, w, b))).

    argmax, uint8, is the place r*S + s of the winner in its pool window, or the number of places
    where y is 0: ReLU lets no gradient pass there. Options and errors are those of conv2d and
    max_pool2d; the pool has at most 255 places.
    """
    places = _places("conv_block", pool_size)
    z = conv2d(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
    y, argmax = max_pool2d(relu(z), pool_size, stride=pool_stride)
    argmax[y == 0] = places
    return y, argmax


@silent
def conv_block_backward(
    dy: ArrayLike,
    argmax: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    *,
    stride: Size2D = 1,
    padding: Padding = 0,
    dilation: Size2D = 1,
    groups: int = 1,
    pool_size: Size2D = 2,
    pool_stride: Size2D | None = None,
    input_gradient: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Return (dx, dw, db), shaped like x, w and (K,).

    dy (N, P, Q, K) and argmax as conv_block returned it; dx is None where `input_gradient` is
    False. A place above the number of places in the pool window is a ValueError.
    """
    op = "conv_block_backward"
    places = _places(op, pool_size)
    flag(op, "input_gradient", input_gradient)
    dtype = float_dtype(op, dy=dy, x=x, w=w)
    winners = as_array(op, "argmax", argmax)
    if winners.dtype != np.uint8:
        raise TypeError(f"{op}: argmax: expected dtype uint8, got {winners.dtype}")
    if winners.size and winners.max() > places:
        raise ValueError(f"{op}: argmax: expected places up to {places}, got {winners.max()}")
    options: dict[str, Any] = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }
    # The shapes of what the forward pass went through, by going through it once more.
    z = conv2d(x, w, **options)
    dy_alive = np.array(dy, dtype)
    check_shape(op, "argmax", winners.shape, dy_alive.shape)
    dead = winners == places
    dy_alive[dead] = 0
    winners = np.where(dead, 0, winners).astype(np.uint8)
    dz = max_pool2d_backward(dy_alive, winners, z.shape, pool_size, stride=pool_stride)
    return conv2d_backward(dz, x, w, **options, input_gradient=input_gradient)


def _places(op: str, pool_size: Size2D) -> int:
    rows, columns = pair(op, "pool_size", pool_size)
    if rows * columns > 255:
        raise ValueError(
            f"{op}: pool_size: expected a window of at most 255 places, got {rows} x {columns}"
        )
    return rows * columns
