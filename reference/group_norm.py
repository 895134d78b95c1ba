"""Group normalization: groups of channels by the mean and variance of each sample.

N samples, P pixels of each (1 for x (N, C), else H * W), C channels, G groups of C // G channels
that lie side by side. Sources: Wu and He, "Group Normalization", 2018, arXiv:1803.08494; with G = C
it is instance normalization: Ulyanov, Vedaldi and Lempitsky, 2016, arXiv:1607.08022.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, array, as_array, float_dtype, integer, positive, rounded, silent


@silent
def group_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    groups: int,
    epsilon: float = 1e-5,
) -> Array:
    """Return y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, shaped like x.

    x (N, C) or (N, H, W, C), float32 or float64; gamma and beta (C,), ones and zeros where they
    are None. Mean and biased variance are over the pixels and channels of a group in one sample.
    TypeError for other or mixed dtypes; ValueError for shapes that do not fit, groups that do not
    divide the channels and an epsilon that is not above zero.
    """
    op = "group_norm"
    dtype = float_dtype(op, x=x, gamma=gamma, beta=beta)
    x, shape = _with_pixels(op, x, dtype)
    channels = shape[-1:]
    gamma = np.ones(channels) if gamma is None else array(op, "gamma", gamma, dtype, channels)
    beta = np.zeros(channels) if beta is None else array(op, "beta", beta, dtype, channels)
    size = _channels_of_a_group(op, channels[0], groups)
    epsilon = positive(op, "epsilon", epsilon)

    x_hat = np.empty_like(x)
    for n in range(len(x)):
        for start in range(0, channels[0], size):
            group = x[n, :, start : start + size]
            mean = np.mean(group)
            variance = np.mean((group - mean) ** 2)
            x_hat[n, :, start : start + size] = (group - mean) / np.sqrt(variance + epsilon)
    return rounded((gamma * x_hat + beta).reshape(shape), dtype)


@silent
def group_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    *,
    groups: int,
    epsilon: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """Return (dx, dgamma, dbeta) of dy, shaped like x. Errors as in group_norm.

    Of a group, with g = gamma * dy: dx = (g - mean(g) - x_hat * mean(g * x_hat)) / s, where x_hat =
    (x - mean) / s and s = sqrt(variance + epsilon). The two last terms come through mean and
    variance.
    """
    op = "group_norm_backward"
    dtype = float_dtype(op, dy=dy, x=x, gamma=gamma)
    x, shape = _with_pixels(op, x, dtype)
    channels = shape[-1:]
    gamma = np.ones(channels) if gamma is None else array(op, "gamma", gamma, dtype, channels)
    dy = array(op, "dy", dy, dtype, shape).reshape(x.shape)
    size = _channels_of_a_group(op, channels[0], groups)
    epsilon = positive(op, "epsilon", epsilon)

    dx, x_hat = np.empty_like(x), np.empty_like(x)
    for n in range(len(x)):
        for start in range(0, channels[0], size):
            cut = (n, slice(None), slice(start, start + size))
            mean = np.mean(x[cut])
            s = np.sqrt(np.mean((x[cut] - mean) ** 2) + epsilon)
            x_hat[cut] = (x[cut] - mean) / s
            g = gamma[start : start + size] * dy[cut]
            dx[cut] = (g - np.mean(g) - x_hat[cut] * np.mean(g * x_hat[cut])) / s
    dgamma, dbeta = np.sum(dy * x_hat, axis=(0, 1)), np.sum(dy, axis=(0, 1))
    return rounded(dx.reshape(shape), dtype), rounded(dgamma, dtype), rounded(dbeta, dtype)


def _with_pixels(op: str, x: ArrayLike, dtype: np.dtype[Any]) -> tuple[Array, tuple[int, ...]]:
    """Return x as (N, P, C), and its shape."""
    rank = as_array(op, "x", x).ndim
    if rank not in (2, 4):
        raise ValueError(
            f"{op}: x: expected an array of rank 2 (N, C) or 4 (N, H, W, C), "
            f"got rank {rank} with shape {np.shape(x)}"
        )
    x = array(op, "x", x, dtype, ("N", "C") if rank == 2 else ("N", "H", "W", "C"))
    pixels = x.shape[1] * x.shape[2] if rank == 4 else 1
    return x.reshape(len(x), pixels, x.shape[-1]), x.shape


def _channels_of_a_group(op: str, channels: int, groups: Any) -> int:
    number = integer(op, "groups", groups, 1)
    if channels % number:
        raise ValueError(f"{op}: groups: expected a divisor of {channels} channels, got {number}")
    return channels // number
