"""What belongs to the images of a data set: labels, and weights of classes and of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array, require_unmasked
from fastcnn._options import number
from fastcnn._types import Array

__all__ = [
    "balanced_weights",
    "class_labels",
    "class_weights_of",
    "numbers",
    "sample_weights",
    "shares",
]

ClassWeights = Array | dict[int, float] | str | None


def numbers(y: ArrayLike, where: str) -> Array:
    """Return targets as an array of real numbers."""
    target = as_array(y, where)
    if target.dtype.kind not in "biuf":
        raise TypeError(f"{where}: expected real numbers, got {target.dtype}")
    return target


# ---------------------------------------------------------------------- classes
def class_labels(y: ArrayLike, count: int, classes: int, dtype: np.dtype[Any], where: str) -> Array:
    """Return integer labels (count,) as int64, or probabilities (count, classes) in the dtype."""
    labels = as_array(y, where)
    if labels.shape == (count, classes) and labels.dtype.kind in "biuf":
        return _probabilities(labels, dtype, where)
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"{where}: expected integer labels ({count},) or probabilities "
            f"({count}, {classes}), got {labels.dtype} of shape {labels.shape}{_hint(labels)}"
        )
    if labels.shape != (count,):
        flat = "; flatten them: y.ravel()" if labels.size == count else ""
        raise ValueError(
            f"{where}: expected labels of shape ({count},), one an image, or probabilities "
            f"({count}, {classes}), got {labels.shape}{flat}"
        )
    low, high = labels.min(), labels.max()
    if low < 0 or high >= classes:
        hint = "; two classes take two outputs" if classes == 1 else ""
        raise ValueError(
            f"{where}: expected labels from 0 to {classes - 1} for a model with {classes} "
            f"outputs, got {low if low < 0 else high}{hint}"
        )
    return labels.astype(np.int64)


def _hint(labels: Array) -> str:
    """Return how to make integers of labels that are none, or nothing."""
    kind = labels.dtype.kind
    if labels.ndim == 2 and labels.shape[1] > 1:
        return ""  # probabilities, of another number of classes
    if kind in "UST" or (kind == "O" and any(isinstance(v, (str, bytes)) for v in labels.flat)):
        return "; number them: names, y = np.unique(y, return_inverse=True)"
    if kind in "bfO":
        return "; if they are whole numbers, convert them: np.asarray(y, dtype=int)"
    return ""


def _probabilities(labels: Array, dtype: np.dtype[Any], where: str) -> Array:
    table = labels.astype(dtype)
    sums = table.sum(axis=1, dtype=np.float64)
    if not np.all(table >= 0) or not np.all(np.abs(sums - 1.0) <= 1e-3):
        raise ValueError(f"{where}: expected probabilities, each row adding up to 1, got others")
    return table


# ---------------------------------------------------------------------- weights of classes
def class_weights_of(given: object, where: str) -> ClassWeights:
    """Return class weights as float64 (C,), {class: weight}, "balanced" or None."""
    if given is None:
        return None
    if isinstance(given, str):
        if given != "balanced":
            raise ValueError(
                f'{where}: expected numbers, {{class: weight}} or "balanced", got {given!r:.80}'
            )
        return given
    if isinstance(given, Mapping):
        weights = {}
        for label, weight in given.items():
            if isinstance(label, bool) or not isinstance(label, (int, np.integer)) or label < 0:
                raise TypeError(
                    f"{where}: expected integers from 0 for the classes, got {label!r:.80}"
                )
            weights[int(label)] = number(weight, f"{where}[{label}]", 0.0)
        return weights
    require_unmasked(given, where)
    try:
        array = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty((0, 0))
    if array.ndim != 1 or not np.all(np.isfinite(array) & (array >= 0)):
        raise ValueError(
            f"{where}: expected one finite non-negative number a class, got {given!r:.100}"
        )
    return array


def balanced_weights(targets: Array, classes: int) -> Array:
    """Return n / (classes that occur * count) for each class, and 1 for one that does not.

    targets: labels (n,), or probabilities (n, classes), whose sums are the counts.
    """
    if targets.ndim == 1:
        counts = np.bincount(targets, minlength=classes).astype(np.float64)
    else:
        counts = targets.sum(axis=0, dtype=np.float64)
    there = counts > 0
    weights = np.ones(classes)
    weights[there] = len(targets) / (np.count_nonzero(there) * counts[there])
    return weights


# ---------------------------------------------------------------------- weights of samples
def sample_weights(
    given: ArrayLike | None, count: int, dtype: np.dtype[Any], where: str
) -> Array | None:
    """Return one finite non-negative weight a sample, in the dtype, or None."""
    if given is None:
        return None
    weights = as_array(given, where)
    if weights.dtype.kind not in "biuf":
        raise TypeError(f"{where}: expected real numbers, got {weights.dtype}")
    if weights.shape != (count,):
        raise ValueError(
            f"{where}: expected shape ({count},), one number an image, got {weights.shape}"
        )
    with np.errstate(over="ignore"):
        weights = weights.astype(dtype)
    if not np.all((weights >= 0) & (weights < np.inf)):
        raise ValueError(f"{where}: expected finite numbers of at least 0, got others")
    if not weights.any():
        raise ValueError(f"{where}: expected a number above zero, got zero for every image")
    return weights


def shares(target: Array, class_weights: Array | None, sample_weight: Array | None) -> Array:
    """Return how much each sample counts: its weight times that of its class, in float64."""
    weights = np.ones(len(target))
    if class_weights is not None:
        weights = class_weights.astype(np.float64)
        weights = weights[target] if target.ndim == 1 else (weights * target).sum(axis=1)
    return weights if sample_weight is None else weights * sample_weight
