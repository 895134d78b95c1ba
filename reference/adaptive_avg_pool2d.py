"""Adaptive average pooling: as many windows as are asked for, as even as whole pixels allow.

N batch, H W input height and width, C channels, P Q output height and width. The windows are those
of PyTorch: output p is the mean of the rows floor(p * H / P) to ceil((p + 1) * H / P), columns
alike. They may overlap, and where an output is larger than its input, each holds one pixel or two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, Size2D, array, float_dtype, pair, rounded, shape4, silent, zeros


@silent
def adaptive_avg_pool2d(x: ArrayLike, output_size: Size2D) -> Array:
    """Return y (N, P, Q, C) of x (N, H, W, C), float32 or float64; `output_size` is (P, Q).

    TypeError for other dtypes, ValueError for shapes and sizes that do not fit.
    """
    op = "adaptive_avg_pool2d"
    dtype = float_dtype(op, x=x)
    x = array(op, "x", x, dtype, ("N", "H", "W", "C"))
    P, Q = pair(op, "output_size", output_size)
    N, H, W, C = x.shape
    if N == 0 and P * Q * C >= 2**60:
        raise ValueError(
            f"{op}: output_size: expected a result that fits in memory, "
            f"got one of shape {(N, P, Q, C)}"
        )

    y = zeros(op, (N, P, Q, C), "output_size")
    for n in range(N):
        for p in range(P):
            for q in range(Q):
                window = x[n, _pixels(p, P, H), _pixels(q, Q, W)]
                y[n, p, q] = np.sum(window, axis=(0, 1)) / (window.shape[0] * window.shape[1])
    return rounded(y, dtype)


@silent
def adaptive_avg_pool2d_backward(
    dy: ArrayLike, x_shape: tuple[int, ...], output_size: Size2D
) -> Array:
    """Return dx of shape `x_shape`: each gradient of dy (N, P, Q, C) is shared by its window.

    Errors as in adaptive_avg_pool2d.
    """
    op = "adaptive_avg_pool2d_backward"
    dtype = float_dtype(op, dy=dy)
    N, H, W, C = shape4(op, "x_shape", x_shape)
    P, Q = pair(op, "output_size", output_size)
    dy = array(op, "dy", dy, dtype, (N, P, Q, C))

    dx = zeros(op, (N, H, W, C), "x_shape")
    for n in range(N):
        for p in range(P):
            for q in range(Q):
                rows, columns = _pixels(p, P, H), _pixels(q, Q, W)
                places = (rows.stop - rows.start) * (columns.stop - columns.start)
                dx[n, rows, columns] += dy[n, p, q] / places
    return rounded(dx, dtype)


def _pixels(p: int, size: int, length: int) -> slice:
    """Return the window of output p of `size`, along an axis of this length."""
    return slice(p * length // size, -(-(p + 1) * length // size))
