"""Batch normalization in float64, by NumPy: of float32 numbers whose squares float32 cannot hold.

The kernels sum up in float32, and find out afterwards where that was too narrow: a sum that is not
finite, a variance near the ends of the range. Then they call these, which are the formulas and
nothing else. It is rare, and need not be fast.

x and what is shaped like it may be flat; vectors hold a number for each channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.backend import Array

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_block",
    "batch_norm_block_backward",
    "batch_norm_inference",
]

_silent = np.errstate(all="ignore")


def _rows(x: Any, channels: int) -> Array:
    return np.asarray(x).reshape(-1, channels).astype(np.float64)


@_silent
def batch_norm_inference(
    y: Any, x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, epsilon: float
) -> None:
    """Write y."""
    mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    scale = np.asarray(gamma, np.float64) / np.sqrt(variance + epsilon)
    rows = (_rows(x, len(mean)) - mean) * scale + np.asarray(beta, np.float64)
    y = np.asarray(y)
    y[...] = rows.reshape(y.shape)


@_silent
def batch_norm(
    y: Any, mean: Any, variance: Any, x: Any, gamma: Any, beta: Any, epsilon: float
) -> None:
    """Write y, mean and variance."""
    rows = _rows(x, len(gamma))
    exact = rows.mean(axis=0)
    squares = ((rows - exact) ** 2).mean(axis=0)
    np.asarray(mean)[...], np.asarray(variance)[...] = exact, squares
    batch_norm_inference(y, x, gamma, beta, exact, squares, epsilon)


@_silent
def batch_norm_block(
    y: Any,
    argmax: Any,
    x: Any,
    window: tuple[int, int, int, int],
    mean: Any,
    variance: Any,
    gamma: Any,
    beta: Any,
    epsilon: float,
) -> None:
    """Write y, argmax, mean and variance; the window is its height, width and strides."""
    y, argmax, x = np.asarray(y), np.asarray(argmax), np.asarray(x)
    h, w, down, right = window
    z = np.empty_like(x)
    batch_norm(z, mean, variance, x, gamma, beta, epsilon)
    y[...], argmax[...] = (
        z[:, : (y.shape[1] - 1) * down + 1 : down, : (y.shape[2] - 1) * right + 1 : right],
        0,
    )
    for place in range(1, h * w):
        top, left = divmod(place, w)
        rows = slice(top, top + (y.shape[1] - 1) * down + 1, down)
        columns = slice(left, left + (y.shape[2] - 1) * right + 1, right)
        won = ~(z[:, rows, columns] <= y) & (y == y)  # larger, or the first NaN
        y[won], argmax[won] = z[:, rows, columns][won], place
    dead = y <= 0
    y[dead], argmax[dead] = 0, h * w


@_silent
def batch_norm_backward(
    dx: Any,
    dgamma: Any,
    dbeta: Any,
    dy: Any,
    x: Any,
    gamma: Any,
    mean: Any,
    variance: Any,
    epsilon: float,
    through_statistics: bool = True,
) -> None:
    """Write the gradients, through mean and variance or with both held constant."""
    gamma, mean, variance = (np.asarray(v, np.float64) for v in (gamma, mean, variance))
    gradients, root = _rows(dy, len(gamma)), np.sqrt(variance + epsilon)
    normal = (_rows(x, len(gamma)) - mean) / root
    sums = np.sum(gradients * normal, axis=0), np.sum(gradients, axis=0)
    np.asarray(dgamma)[...], np.asarray(dbeta)[...] = sums
    if through_statistics:
        gradients = gradients - sums[1] / len(normal) - normal * (sums[0] / len(normal))
    dx = np.asarray(dx)
    dx[...] = (gamma / root * gradients).reshape(dx.shape)


def batch_norm_block_backward(
    dx: Any,
    dgamma: Any,
    dbeta: Any,
    dy: Any,
    argmax: Any,
    x: Any,
    window: tuple[int, int],
    *others: Any,
) -> None:
    """Write the gradients of windows that lie side by side; others: gamma and what follows."""
    dy, argmax = np.asarray(dy), np.asarray(argmax)
    dz = np.zeros_like(np.asarray(x))
    for place in range(window[0] * window[1]):
        top, left = divmod(place, window[1])
        at = dz[:, top :: window[0], left :: window[1]][:, : dy.shape[1], : dy.shape[2]]
        at[...] = np.where(argmax == place, dy, 0)
    batch_norm_backward(dx, dgamma, dbeta, dz, x, *others)
