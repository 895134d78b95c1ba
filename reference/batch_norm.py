"""Batch normalization: each channel by its mean and variance.

N batch, H W height and width, C channels, M values a channel: N for x (N, C), else N * H * W.
Source: Ioffe and Szegedy, "Batch Normalization", 2015, arXiv:1502.03167.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, array, as_array, float_dtype, positive, rounded, silent


@silent
def batch_norm(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, *, epsilon: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Return (y, mean, variance): y = gamma * (x - mean) / sqrt(variance + epsilon) + beta.

    x (N, C) or (N, H, W, C), gamma and beta (C,), float32 or float64; mean and the biased
    variance (C,) are of this batch, over all axes but the last. TypeError for other or mixed
    dtypes; ValueError for shapes that do not fit, an epsilon that is not above zero, and fewer
    than two values a channel.
    """
    op = "batch_norm"
    dtype = float_dtype(op, x=x, gamma=gamma, beta=beta)
    x, (gamma, beta) = _with_channels(op, x, dtype, gamma=gamma, beta=beta)
    epsilon = positive(op, "epsilon", epsilon)
    axes = _batch_axes(op, x)

    mean = np.mean(x, axis=axes)
    # In two passes: E[x^2] - E[x]^2 cancels where the mean is large.
    variance = np.mean((x - mean) ** 2, axis=axes)
    y = gamma * (x - mean) / np.sqrt(variance + epsilon) + beta
    return rounded(y, dtype), rounded(mean, dtype), rounded(variance, dtype)


@silent
def batch_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    *,
    epsilon: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """Return (dx, dgamma, dbeta) of dy, shaped like x, for mean and variance of this batch.

    dx = gamma / sqrt(variance + epsilon) * (dy - dbeta / M - x_hat * dgamma / M): the two last
    terms come through the mean and the variance. Errors as in batch_norm.
    """
    op = "batch_norm_backward"
    dtype = float_dtype(op, dy=dy, x=x, gamma=gamma, mean=mean, variance=variance)
    x, (gamma, mean, variance) = _with_channels(
        op, x, dtype, gamma=gamma, mean=mean, variance=variance
    )
    dy = array(op, "dy", dy, dtype, x.shape)
    epsilon = positive(op, "epsilon", epsilon)
    axes = _batch_axes(op, x)
    M = x.size // x.shape[-1]

    x_hat = (x - mean) / np.sqrt(variance + epsilon)
    dgamma = np.sum(dy * x_hat, axis=axes)
    dbeta = np.sum(dy, axis=axes)
    dx = gamma / np.sqrt(variance + epsilon) * (dy - dbeta / M - x_hat * dgamma / M)
    return rounded(dx, dtype), rounded(dgamma, dtype), rounded(dbeta, dtype)


@silent
def batch_norm_inference(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    *,
    epsilon: float = 1e-5,
) -> Array:
    """Return y, shaped like x, with the given mean and variance (C,), those of training.

    x (N, C) or (N, H, W, C); N may be zero. Other errors as in batch_norm.
    """
    op = "batch_norm_inference"
    dtype = float_dtype(op, x=x, gamma=gamma, beta=beta, mean=mean, variance=variance)
    x, (gamma, beta, mean, variance) = _with_channels(
        op, x, dtype, gamma=gamma, beta=beta, mean=mean, variance=variance
    )
    epsilon = positive(op, "epsilon", epsilon)
    return rounded(gamma * (x - mean) / np.sqrt(variance + epsilon) + beta, dtype)


@silent
def batch_norm_inference_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    *,
    epsilon: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """Return (dx, dgamma, dbeta) with mean and variance held constant.

    Shapes as in batch_norm_backward, errors as in batch_norm_inference.
    """
    op = "batch_norm_inference_backward"
    dtype = float_dtype(op, dy=dy, x=x, gamma=gamma, mean=mean, variance=variance)
    x, (gamma, mean, variance) = _with_channels(
        op, x, dtype, gamma=gamma, mean=mean, variance=variance
    )
    dy = array(op, "dy", dy, dtype, x.shape)
    epsilon = positive(op, "epsilon", epsilon)
    axes = tuple(range(x.ndim - 1))

    x_hat = (x - mean) / np.sqrt(variance + epsilon)
    dgamma = np.sum(dy * x_hat, axis=axes)
    dbeta = np.sum(dy, axis=axes)
    dx = gamma / np.sqrt(variance + epsilon) * dy
    return rounded(dx, dtype), rounded(dgamma, dtype), rounded(dbeta, dtype)


def _with_channels(
    op: str, x: ArrayLike, dtype: np.dtype[Any], **vectors: ArrayLike
) -> tuple[Array, list[Array]]:
    """Return x, of rank 2 or 4, and the vectors, one value a channel of it."""
    rank = as_array(op, "x", x).ndim
    if rank not in (2, 4):
        raise ValueError(
            f"{op}: x: expected an array of rank 2 (N, C) or 4 (N, H, W, C), "
            f"got rank {rank} with shape {np.shape(x)}"
        )
    x = array(op, "x", x, dtype, ("N", "C") if rank == 2 else ("N", "H", "W", "C"))
    channels = x.shape[-1:]
    return x, [array(op, name, value, dtype, channels) for name, value in vectors.items()]


def _batch_axes(op: str, x: Array) -> tuple[int, ...]:
    """Return the axes that statistics are over; ValueError where they hold fewer than two."""
    values = x.size // x.shape[-1]
    if values < 2:
        raise ValueError(
            f"{op}: x: expected at least two values a channel to take statistics of, got "
            f"{values} with shape {x.shape}; drop a last batch of one or choose another batch size"
        )
    return tuple(range(x.ndim - 1))
