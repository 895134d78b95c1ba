"""The block of a convolutional network: convolution, bias, ReLU and max-pool, one after another.

N batch, H W input height and width, C channels in, K filters, R S kernel height and width,
P Q height and width of the pooled output.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, Padding, Size2D, array, flag, float_dtype, silent, winners
from .activations import relu
from .conv2d import conv2d, conv2d_backward
from .conv2d import places as conv_places
from .pool2d import max_pool2d, max_pool2d_backward
from .pool2d import places as pool_places

Shape4 = tuple[int, int, int, int]


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
    max_pool2d; the pool has no padding and at most 255 places.
    """
    op = "conv_block"
    dtype = float_dtype(op, x=x, w=w, b=b)
    options: dict[str, Any] = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }
    z_shape, _, places = _shapes(op, dtype, x, w, options, pool_size, pool_stride)
    if b is not None:
        array(op, "b", b, dtype, z_shape[3:])
    z = conv2d(x, w, b, **options)
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
    dtype = float_dtype(op, dy=dy, x=x, w=w)
    options: dict[str, Any] = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }
    z_shape, y_shape, places = _shapes(op, dtype, x, w, options, pool_size, pool_stride)
    flag(op, "input_gradient", input_gradient)
    dy = array(op, "dy", dy, dtype, y_shape)
    chosen = winners(op, argmax, y_shape, places)

    dead = chosen == places
    dz = max_pool2d_backward(
        np.where(dead, 0, dy).astype(dtype),
        np.where(dead, 0, chosen).astype(np.uint8),
        z_shape,
        pool_size,
        stride=pool_stride,
    )
    dx, dw, db = conv2d_backward(dz, x, w, **options, input_gradient=input_gradient)
    assert dw is not None
    assert db is not None
    return dx, dw, db


def _shapes(
    op: str,
    dtype: np.dtype[Any],
    x: ArrayLike,
    w: ArrayLike,
    options: dict[str, Any],
    pool_size: Size2D,
    pool_stride: Size2D | None,
) -> tuple[Shape4, Shape4, int]:
    """Return the shapes of the convolution and of the result, and the places of a pool window."""
    image = array(op, "x", x, dtype, ("N", "H", "W", "C"))
    filters = array(op, "w", w, dtype, ("R", "S", "C // groups", "K"))
    z_shape = conv_places(op, image, filters, **options).y_shape
    pool = pool_places(op, z_shape, pool_size, pool_stride, 0, False, "pool_stride")
    count = pool.window[0] * pool.window[1]
    if count > 255:
        raise ValueError(f"{op}: pool_size: expected a window of at most 255 places, got {count}")
    return z_shape, pool.y_shape, count
