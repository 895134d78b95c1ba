"""The soft Dice loss of images. N batch, C channels or classes; all axes between are places.

Milletari et al., 2016, arXiv:1606.04797, without the squares in the denominator.
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
    finite,
    float_dtype,
    integer,
    positive,
    rounded,
    shown,
    silent,
)
from ._losses import check_fractions, sigmoid_of, weights_of


@silent
def dice(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    activation: str = "sigmoid",
    smooth: float = 1.0,
    sample_weights: ArrayLike | None = None,
    ignore_label: int | None = None,
) -> tuple[float, Array]:
    """Return (loss, probabilities), a Python float and an array of the shape of logits.

    logits (N, ..., C), of which activation "sigmoid" or "softmax" makes probabilities p; target t
    of their shape, from 0 to 1, or for softmax integers from 0 to C - 1 without the last axis. The
    Dice of a sample and channel is (2 * sum(p * t) + smooth) / (sum(p) + sum(t) + smooth) with
    sums over its places, but for those whose integer is ignore_label; the loss is 1 less the mean
    over channels, and the mean of that over samples, weighted by sample_weights (N,). smooth is
    finite and above 0. float32 or float64.

    TypeError for other or mixed dtypes, ValueError for shapes that do not fit and for numbers that
    are none of these.
    """
    op = "dice"
    dtype, logits, t, counted, share = _arguments(
        op, "logits", logits, target, activation, smooth, sample_weights, ignore_label
    )
    if activation == "sigmoid":
        p = sigmoid_of(logits)
    else:
        e = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
        p = e / np.sum(e, axis=-1, keepdims=True)
    N, C = p.shape[0], p.shape[-1]
    loss = 0.0
    for n in range(N):
        for c in range(C):
            overlap, _ = _dice(p[n, ..., c], t[n, ..., c], counted[n], smooth)
            loss += float(share[n] * (1 - overlap) / C)
    return loss, rounded(p, dtype)


@silent
def dice_backward(
    dloss: float,
    probabilities: ArrayLike,
    target: ArrayLike,
    *,
    activation: str = "sigmoid",
    smooth: float = 1.0,
    sample_weights: ArrayLike | None = None,
    ignore_label: int | None = None,
) -> Array:
    """Return dlogits for a finite number dloss and the probabilities that forward returned.

    Dice = a / b has the derivative (2 * t - Dice) / b by each p. Errors as in dice.
    """
    op = "dice_backward"
    dloss = finite(op, "dloss", dloss)
    dtype, p, t, counted, share = _arguments(
        op, "probabilities", probabilities, target, activation, smooth, sample_weights, ignore_label
    )
    N, C = p.shape[0], p.shape[-1]
    dp = np.zeros(p.shape)
    for n in range(N):
        for c in range(C):
            overlap, b = _dice(p[n, ..., c], t[n, ..., c], counted[n], smooth)
            slope = (2 * t[n, ..., c] - overlap) / b
            dp[n, ..., c] = np.where(counted[n], -dloss * share[n] / C * slope, 0.0)
    if activation == "sigmoid":
        return rounded(dp * p * (1 - p), dtype)
    return rounded(p * (dp - np.sum(dp * p, axis=-1, keepdims=True)), dtype)


def _dice(p: Array, t: Array, counted: Array, smooth: float) -> tuple[float, float]:
    """Return the Dice of one channel of one sample, and what it is divided by."""
    both = np.sum((p * t)[counted])
    whole = np.sum(p[counted]) + np.sum(t[counted]) + smooth
    return float((2 * both + smooth) / whole), float(whole)


def _arguments(
    op: str,
    name: str,
    values: ArrayLike,
    target: ArrayLike,
    activation: str,
    smooth: float,
    sample_weights: ArrayLike | None,
    ignore_label: int | None,
) -> tuple[np.dtype[Any], Array, Array, Array, Array]:
    """Return the dtype, `values` and targets like them, the places that count, and shares (N,)."""
    if not isinstance(activation, str):
        raise TypeError(f"{op}: activation: expected a name, got {shown(activation)}")
    if activation not in ("sigmoid", "softmax"):
        raise ValueError(
            f'{op}: activation: expected "sigmoid" or "softmax", got {shown(activation)}'
        )
    positive(op, "smooth", smooth)
    if ignore_label is not None:
        ignore_label = integer(op, "ignore_label", ignore_label, -(2**62))
    target, values = as_array(op, "target", target), as_array(op, name, values)
    labels = activation == "softmax" and target.ndim == values.ndim - 1
    if ignore_label is not None and not labels:
        raise ValueError(
            f"{op}: ignore_label: expected None without integers for the target, got {ignore_label}"
        )
    dtype = float_dtype(
        op,
        **{name: values},
        target=None if labels else target,
        sample_weights=sample_weights,
    )
    if values.ndim < 2 or values.size == 0:
        raise ValueError(
            f"{op}: {name}: expected shape (N, ..., C) with at least one value, got {values.shape}"
        )
    values = array(op, name, values, dtype, None)
    N, C = values.shape[0], values.shape[-1]
    counted = np.ones(values.shape[:-1], np.bool_)
    if labels:
        if target.dtype.kind not in "iu":
            raise TypeError(
                f"{op}: target: expected integers {values.shape[:-1]}, or numbers from 0 to 1 "
                f"{values.shape}, got dtype {target.dtype} with shape {target.shape}"
            )
        check_shape(op, "target", target.shape, values.shape[:-1])
        one_hot = np.zeros(values.shape)
        for place, label in np.ndenumerate(target):
            if int(label) == ignore_label:
                counted[place] = False
            elif 0 <= label < C:
                one_hot[(*place, label)] = 1
            else:
                raise ValueError(
                    f"{op}: target: expected integers from 0 to {C - 1}, got {label} at {place}"
                )
        target = one_hot
    else:
        target = array(op, "target", target, dtype, values.shape)
        check_fractions(op, target)
    weights = np.ones(N)
    if sample_weights is not None:
        weights = weights_of(op, sample_weights, dtype, N)
    return dtype, values, target, counted, weights / np.sum(weights)
