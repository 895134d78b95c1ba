"""Batch normalization in float64, by NumPy: of float32 numbers whose squares float32 cannot hold.

The kernels sum up in float32, and find out afterwards where that was too narrow: a sum that is not
finite, a variance near the ends of the range (_kernels/_narrow.pxd). Then they call these, which
are the formulas and nothing else, and write the channels that it holds for: the others keep the
bits that they have in other company. It is rare, and need not be fast.

x and what is shaped like it may be flat; vectors hold a number for each channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn._types import Array

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "batch_norm_relu_max_pool2d",
    "batch_norm_relu_max_pool2d_backward",
    "group_norm",
    "group_norm_backward",
]

_silent = np.errstate(all="ignore")


def _rows(x: Any, channels: int) -> Array:
    return np.asarray(x).reshape(-1, channels).astype(np.float64)


def _factor_fits(gamma: Array, spread: Array) -> Array:
    scale = np.abs(gamma) / np.sqrt(spread)
    fits: Array = (gamma == 0) | ((scale > 1e-37) & (scale < 1e38))
    return fits


def _narrow(spread: Array, gamma: Any, mean: Array, beta: Any) -> Array:
    """Return of which channels `too_narrow` is true."""
    gamma, beta = np.asarray(gamma, np.float64), np.asarray(beta, np.float64)
    fits = (spread > 1e-14) & (spread < 1e30) & (np.abs(mean) < 1e30) & (np.abs(beta) < 1e30)
    fits &= np.abs(gamma) / np.sqrt(spread) * np.abs(mean) < 1e38
    narrow: Array = ~(fits & _factor_fits(gamma, spread))
    return narrow


def _write(out: Any, values: Array, channels: Array) -> None:
    out = np.asarray(out).reshape(-1, len(channels))
    out[:, channels] = values.reshape(out.shape)[:, channels]


@_silent
def batch_norm_inference(
    y: Any,
    x: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    variance: Any,
    epsilon: float,
    channels: Array | None = None,
) -> None:
    """Write y, of these channels or of those that need it."""
    mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    if channels is None:
        channels = _narrow(variance + epsilon, gamma, mean, beta)
    scale = np.asarray(gamma, np.float64) / np.sqrt(variance + epsilon)
    _write(y, (_rows(x, len(mean)) - mean) * scale + np.asarray(beta, np.float64), channels)


@_silent
def batch_norm(
    y: Any, mean: Any, variance: Any, x: Any, gamma: Any, beta: Any, epsilon: float
) -> Array:
    """Write y, mean and variance; return which channels."""
    rows = _rows(x, len(gamma))
    exact = rows.mean(axis=0)
    squares = ((rows - exact) ** 2).mean(axis=0)
    channels: Array = _narrow(squares + epsilon, gamma, exact, beta) | ~np.isfinite(variance)
    _write(mean, exact, channels)
    _write(variance, squares, channels)
    batch_norm_inference(y, x, gamma, beta, exact, squares, epsilon, channels)
    return channels


@_silent
def batch_norm_relu_max_pool2d(
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
    h, w, down, right = window
    z = np.empty_like(x)
    channels = batch_norm(z, mean, variance, x, gamma, beta, epsilon)
    z = z[..., channels]
    rows, columns = (np.arange(np.asarray(y).shape[axis]) for axis in (1, 2))
    best = z[:, down * rows][:, :, right * columns]
    winners = np.zeros(best.shape, np.uint8)
    for place in range(1, h * w):
        top, left = divmod(place, w)
        there = z[:, top + down * rows][:, :, left + right * columns]
        won = ~(there <= best) & (best == best)  # larger, or the first NaN
        best[won], winners[won] = there[won], place
    dead = best <= 0
    best[dead], winners[dead] = 0, h * w
    np.asarray(y)[..., channels], np.asarray(argmax)[..., channels] = best, winners


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
    gradients, spread = _rows(dy, len(gamma)), variance + epsilon
    root = np.sqrt(spread)
    normal = (_rows(x, len(gamma)) - mean) / root
    sums = np.sum(gradients * normal, axis=0), np.sum(gradients, axis=0)
    channels = ~((spread > 1e-14) & (spread < 1e16) & _factor_fits(gamma, spread))
    for total, found in zip(sums, (dgamma, dbeta), strict=True):
        channels |= ~(np.abs(gamma / root / len(normal) * total) < 1e30) | ~np.isfinite(found)
    slope = np.abs(gamma / spread / len(normal) * sums[0])
    channels |= ~((slope == 0) | (slope > 1e-37))
    _write(dgamma, sums[0], channels)
    _write(dbeta, sums[1], channels)
    if through_statistics:
        gradients = gradients - sums[1] / len(normal) - normal * (sums[0] / len(normal))
    _write(dx, gamma / root * gradients, channels)


def batch_norm_relu_max_pool2d_backward(
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


# ---------------------------------------------------------------------- group normalization
def _normalized(x: Any, groups: int, epsilon: float) -> tuple[Array, Array]:
    """Return x (N, P, C) as (N, P, G, C // G), normalized, and what it was divided by."""
    x = np.asarray(x, np.float64)
    x = x.reshape(*x.shape[:2], groups, -1)
    x = x - x.mean(axis=(1, 3), keepdims=True)
    root = np.sqrt((x**2).mean(axis=(1, 3), keepdims=True) + epsilon)
    return x / root, root


@_silent
def group_norm(
    y: Any, x: Any, gamma: Any, beta: Any, groups: int, epsilon: float, narrow: Any
) -> None:
    """Write y of the samples that are narrow."""
    samples = np.asarray(narrow) != 0
    normal, _ = _normalized(np.asarray(x)[samples], groups, epsilon)
    normal = normal.reshape(*normal.shape[:2], -1)
    np.asarray(y)[samples] = normal * np.asarray(gamma, np.float64) + np.asarray(beta)


@_silent
def group_norm_backward(
    dx: Any,
    dgamma: Any,
    dbeta: Any,
    dy: Any,
    x: Any,
    gamma: Any,
    groups: int,
    epsilon: float,
    narrow: Any,
) -> None:
    """Write dx of the samples that are narrow, and the other gradients, which are sums over all."""
    samples = np.asarray(narrow) != 0
    normal, root = _normalized(x, groups, epsilon)
    dy = np.asarray(dy, np.float64)
    np.asarray(dgamma)[...] = np.sum(dy * normal.reshape(dy.shape), axis=(0, 1))
    np.asarray(dbeta)[...] = np.sum(dy, axis=(0, 1))
    g = (dy * np.asarray(gamma, np.float64)).reshape(normal.shape)
    offset, slope = (np.mean(each, axis=(1, 3), keepdims=True) for each in (g, g * normal))
    np.asarray(dx)[samples] = ((g - offset - normal * slope) / root).reshape(dy.shape)[samples]
