"""Local response normalization: each number by the squares of the channels around it.

Source: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", 2012, section 3.3, with alpha divided by the size as PyTorch and ONNX have it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._checks import (
    Array,
    array,
    as_array,
    check_shape,
    float_dtype,
    integer,
    not_negative,
    positive,
    rounded,
    silent,
)


@silent
def local_response_norm(
    x: ArrayLike, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """Return y = x / (k + alpha / size * s)**beta, s the sum of x**2 over a window of channels.

    x of rank 2 or more, channels last, float32 or float64. The window of channel c holds those
    from c - (size - 1) // 2 to c + size // 2 that there are. TypeError for other dtypes,
    ValueError for other ranks, a size below 1, alpha or beta below 0 and a k that is not above 0.
    """
    op = "local_response_norm"
    dtype = float_dtype(op, x=x)
    _check_rank(op, x)
    x = array(op, "x", x, dtype, None)
    size, alpha, beta, k = _options(op, size, alpha, beta, k)

    y = np.empty_like(x)
    for c in range(x.shape[-1]):
        y[..., c] = x[..., c] / _base(x, c, size, alpha, k) ** beta
    return rounded(y, dtype)


@silent
def local_response_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    *,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
) -> Array:
    """Return dx of dy, shaped like x. Errors as in local_response_norm.

    With d_c the base of the power of channel c: y_c = x_c * d_c**-beta, and x_j is in d_c as
    alpha / size * x_j**2 wherever the window of c holds j.
    """
    op = "local_response_norm_backward"
    dtype = float_dtype(op, dy=dy, x=x)
    _check_rank(op, x)
    x = array(op, "x", x, dtype, None)
    dy = array(op, "dy", dy, dtype, x.shape)
    size, alpha, beta, k = _options(op, size, alpha, beta, k)

    dx = np.zeros_like(x)
    for c in range(x.shape[-1]):
        base = _base(x, c, size, alpha, k)
        dx[..., c] += dy[..., c] / base**beta
        # d(base**-beta) = -beta * base**-beta / base * d(base)
        slope = dy[..., c] * x[..., c] / base**beta * (alpha / size / base) * (-2 * beta)
        for j in _window(c, size, x.shape[-1]):
            dx[..., j] += slope * x[..., j]
    return rounded(dx, dtype)


def _window(c: int, size: int, channels: int) -> range:
    """Return the channels that the window of channel c holds."""
    return range(max(0, c - (size - 1) // 2), min(channels, c + size // 2 + 1))


def _base(x: Array, c: int, size: int, alpha: float, k: float) -> Any:
    """Return k + alpha / size * the sum of squares in the window of channel c."""
    total = np.zeros(x.shape[:-1])
    for j in _window(c, size, x.shape[-1]):
        total += x[..., j] ** 2
    return k + alpha / size * total


def _check_rank(op: str, x: ArrayLike) -> None:
    rank = as_array(op, "x", x).ndim
    if rank < 2:
        raise ValueError(
            f"{op}: x: expected an array of rank 2 or more, got rank {rank} with shape "
            f"{np.shape(x)}"
        )
    check_shape(op, "x", np.shape(x), ("N", *map("D{}".format, range(1, rank))))


def _options(op: str, size: Any, alpha: Any, beta: Any, k: Any) -> tuple[int, float, float, float]:
    return (
        integer(op, "size", size, 1),
        not_negative(op, "alpha", alpha),
        not_negative(op, "beta", beta),
        positive(op, "k", k),
    )
