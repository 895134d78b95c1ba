"""The soft Dice loss, by NumPy behind the kernels of softmax and sigmoid."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array
from fastcnn._checks import float_arrays, same_shape
from fastcnn._options import choice, integer_or_none, number
from fastcnn._types import Array
from fastcnn.fast._activations import Activations
from fastcnn.fast._costs import require_fractions
from fastcnn.fast._losses import check_weights, integer_labels, require_labels
from fastcnn.fast._softmax import Softmax

__all__ = ["Dice"]

_NUMBERS = 1 << 16  # that are worked on at a time


class _Truth(NamedTuple):
    """Checked targets, places in one axis: numbers (N, places, C), or integers (N, places)."""

    target: Array
    ignore_label: int | None
    smooth: float
    share: Array  # (N,) of each sample in the mean


class Dice(Softmax, Activations):
    """The loss of overlaps, and its gradient."""

    def dice(
        self,
        logits: ArrayLike,
        target: ArrayLike,
        *,
        activation: str = "sigmoid",
        smooth: float = 1.0,
        sample_weights: ArrayLike | None = None,
        ignore_label: int | None = None,
    ) -> tuple[float, Array]:
        x, truth = self._overlapping(
            "dice", "logits", logits, target, activation, smooth, sample_weights, ignore_label
        )
        y: Array = getattr(self, activation)(x)
        loss: float = self._run(_loss, _places(y), truth)
        return loss, y

    def dice_backward(
        self,
        dloss: float,
        probabilities: ArrayLike,
        target: ArrayLike,
        *,
        activation: str = "sigmoid",
        smooth: float = 1.0,
        sample_weights: ArrayLike | None = None,
        ignore_label: int | None = None,
    ) -> Array:
        op = "dice_backward"
        dloss = number(dloss, f"{op}: dloss")
        p, truth = self._overlapping(
            op, "probabilities", probabilities, target, activation, smooth, sample_weights,
            ignore_label,
        )  # fmt: skip
        dlogits = self._empty(p.shape, p.dtype)
        self._run(_gradient_into, _places(dlogits), dloss, _places(p), truth, activation)
        return dlogits

    def _overlapping(
        self,
        op: str,
        name: str,
        values: ArrayLike,
        target: ArrayLike,
        activation: str,
        smooth: float,
        sample_weights: ArrayLike | None,
        ignore_label: int | None,
    ) -> tuple[Array, _Truth]:
        """Return `values` (logits or probabilities) and what they are compared with, checked."""
        choice(activation, f"{op}: activation", ("sigmoid", "softmax"))
        smooth = number(smooth, f"{op}: smooth", 0.0, open_low=True)
        ignored = integer_or_none(ignore_label, f"{op}: ignore_label")
        where = f"{op}: target"
        target, values = as_array(target, where), as_array(values, f"{op}: {name}")
        labels = activation == "softmax" and target.ndim == values.ndim - 1
        others = {} if labels else {"target": target}
        x, weights, *numbers = float_arrays(
            op, **{name: values}, sample_weights=sample_weights, **others
        )
        if ignored is not None and not labels:
            raise ValueError(
                f"{op}: ignore_label: expected None without integers for the target, got {ignored}"
            )
        if x.ndim < 2 or x.size == 0:
            raise ValueError(
                f"{op}: {name}: expected shape (N, ..., C) with at least one value, got {x.shape}"
            )
        check_weights(op, "sample_weights", weights, x.shape[:1])
        total = len(x) if weights is None else weights.sum(dtype=np.float64)
        if not total > 0:
            raise ValueError(f"{op}: sample_weights: expected a sum above 0, got {total}")
        share = np.ones(len(x)) if weights is None else weights.astype(np.float64)
        if labels:
            true = integer_labels(where, target, x.shape[:-1])
            self._check(require_labels, where, true, target, x.shape[-1], ignored)
            true = true.reshape(len(x), -1)
        else:
            same_shape(numbers[0], where, name, x)
            self._check(require_fractions, op, numbers[0])
            true = _places(numbers[0])
        return x, _Truth(true, ignored, smooth, share / total)


def _places(array: Array) -> Array:
    """Return (N, places, C) of (N, ..., C)."""
    return array.reshape(len(array), -1, array.shape[-1])


def _blocks(p: Array, truth: _Truth) -> Iterator[tuple[tuple[slice, slice], Array, Array]]:
    """Yield where a block lies and its p and t in double, 0 where a place is ignored.

    It is of several samples or of some places of one: as much as stays in a cache.
    """
    samples, places, classes = p.shape
    step = max(1, _NUMBERS // (places * classes))
    stride = max(1, _NUMBERS // (step * classes))
    for n, i in product(range(0, samples, step), range(0, places, stride)):
        at = slice(n, n + step), slice(i, i + stride)
        p_n, t_n = p[at].astype(np.float64), truth.target[at]
        if t_n.ndim == 2:
            counted = None if truth.ignore_label is None else (t_n != truth.ignore_label)[..., None]
            t_n = t_n[..., None] == np.arange(classes)
            if counted is not None:
                p_n, t_n = np.where(counted, p_n, 0), t_n & counted
        yield at, p_n, t_n.astype(np.float64)


def _overlap(p: Array, truth: _Truth) -> tuple[Array, Array]:
    """Return Dice, and what it is divided by, of each sample and channel (N, 1, C)."""
    both, ours, theirs = np.zeros((3, len(p), 1, p.shape[-1]))
    for (n, _), p_n, t_n in _blocks(p, truth):
        for total, each in ((both, p_n * t_n), (ours, p_n), (theirs, t_n)):
            total[n] += each.sum(axis=1, keepdims=True)
    whole = ours + theirs + truth.smooth
    return (2 * both + truth.smooth) / whole, whole


def _loss(p: Array, truth: _Truth) -> float:
    with np.errstate(all="ignore"):
        dice, _ = _overlap(p, truth)
        return float(np.sum(truth.share[:, None, None] * (1 - dice)) / p.shape[-1])


def _gradient_into(dx: Array, dloss: float, p: Array, truth: _Truth, activation: str) -> None:
    """Write the gradient by the logits; that by p is -(2 t - Dice) / whole, times a share.

    Where a place is ignored p is 0, and so is the gradient.
    """
    with np.errstate(all="ignore"):
        dice, whole = _overlap(p, truth)
        scale = dloss * truth.share[:, None, None] / p.shape[-1]
        for at, p_n, t_n in _blocks(p, truth):
            n = at[0]
            dp = scale[n] * (dice[n] - 2 * t_n) / whole[n]
            if activation == "sigmoid":
                dx[at] = dp * p_n * (1 - p_n)
            else:
                dx[at] = p_n * (dp - np.sum(dp * p_n, axis=-1, keepdims=True))
