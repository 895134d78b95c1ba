"""Layer normalization: each row by its own mean and variance.

A row is what the axes from `axis` to the last hold for one place on the axes before them; D values
a row. Source: Ba, Kiros and Hinton, "Layer Normalization", 2016, arXiv:1607.06450.
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
    positive,
    rounded,
    shown,
    silent,
)


@silent
def layer_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
) -> Array:
    """Return y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, shaped like x.

    x of rank 2 or more, float32 or float64; gamma and beta of shape x.shape[axis:], ones and zeros
    where they are None. Mean and biased variance are of each row. TypeError for other or mixed
    dtypes; ValueError for shapes that do not fit, an axis that is the first or none of x's, and an
    epsilon that is not above zero.
    """
    op = "layer_norm"
    dtype = float_dtype(op, x=x, gamma=gamma, beta=beta)
    x, shape = _with_rows(op, x, dtype, axis)
    gamma = np.ones(shape) if gamma is None else array(op, "gamma", gamma, dtype, shape)
    beta = np.zeros(shape) if beta is None else array(op, "beta", beta, dtype, shape)
    epsilon = positive(op, "epsilon", epsilon)

    y = np.empty_like(x)
    for at in np.ndindex(x.shape[: x.ndim - len(shape)]):
        mean = np.mean(x[at])
        variance = np.mean((x[at] - mean) ** 2)
        y[at] = gamma * (x[at] - mean) / np.sqrt(variance + epsilon) + beta
    return rounded(y, dtype)


@silent
def layer_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """Return (dx, dgamma, dbeta) of dy, shaped like x. Errors as in layer_norm.

    Of a row, with g = gamma * dy: dx = (g - mean(g) - x_hat * mean(g * x_hat)) / s, where x_hat =
    (x - mean) / s and s = sqrt(variance + epsilon). The two last terms come through mean and
    variance.
    """
    op = "layer_norm_backward"
    dtype = float_dtype(op, dy=dy, x=x, gamma=gamma)
    x, shape = _with_rows(op, x, dtype, axis)
    gamma = np.ones(shape) if gamma is None else array(op, "gamma", gamma, dtype, shape)
    dy = array(op, "dy", dy, dtype, x.shape)
    epsilon = positive(op, "epsilon", epsilon)

    dx, dgamma, dbeta = np.empty_like(x), np.zeros(shape), np.zeros(shape)
    for at in np.ndindex(x.shape[: x.ndim - len(shape)]):
        mean = np.mean(x[at])
        s = np.sqrt(np.mean((x[at] - mean) ** 2) + epsilon)
        x_hat = (x[at] - mean) / s
        g = gamma * dy[at]
        dx[at] = (g - np.mean(g) - x_hat * np.mean(g * x_hat)) / s
        dgamma += dy[at] * x_hat
        dbeta += dy[at]
    return rounded(dx, dtype), rounded(dgamma, dtype), rounded(dbeta, dtype)


def _with_rows(
    op: str, x: ArrayLike, dtype: np.dtype[Any], axis: Any
) -> tuple[Array, tuple[int, ...]]:
    """Return x and the shape of a row; the first axis alone may be empty."""
    rank = as_array(op, "x", x).ndim
    if rank < 2:
        raise ValueError(
            f"{op}: x: expected an array of rank 2 or more, got rank {rank} with shape "
            f"{np.shape(x)}"
        )
    first = integer(op, "axis", axis, -rank)
    if first >= rank or first % rank == 0:
        raise ValueError(
            f"{op}: axis: expected an axis of x of rank {rank} that is not the first, got "
            f"{shown(axis)}"
        )
    check_shape(op, "x", np.shape(x), ("N", *map("D{}".format, range(1, rank))))
    x = array(op, "x", x, dtype, None)
    return x, x.shape[first % rank :]
