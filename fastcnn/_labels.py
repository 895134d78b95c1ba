"""What belongs to the images of a data set: labels, and weights of classes and of samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array, require_unmasked
from fastcnn._options import number
from fastcnn._types import Array, Shape

__all__ = [
    "balanced_weights",
    "class_labels",
    "class_weights_of",
    "fractions",
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
def class_labels(
    y: ArrayLike,
    count: int,
    output_shape: Shape,
    dtype: np.dtype[Any],
    where: str,
    ignore_label: int | None = None,
) -> Array:
    """Return labels of a model that gives logits (*places, classes), one at each place.

    They are integers (count, *places), or probabilities (count, *places, classes) in the dtype.
    Labels of images come as int64; those of pixels, of which there are many, as they are.
    """
    labels = as_array(y, where)
    classes, shape = output_shape[-1], (count, *output_shape[:-1])
    one, pixels = "one an image", len(shape) > 1
    if pixels:
        one = "one a pixel"
    if labels.shape == (*shape, classes) and labels.dtype.kind in "biuf":
        if ignore_label is not None:
            raise ValueError(
                f"{where}: expected integer labels {shape} with ignore_label={ignore_label}, got "
                f"{labels.dtype} of shape {labels.shape}"
            )
        return _probabilities(labels, dtype, where)
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"{where}: expected integer labels {shape} or probabilities "
            f"{(*shape, classes)}, got {labels.dtype} of shape {labels.shape}{_hint(labels)}"
        )
    if labels.shape != shape:
        hint = ""
        if labels.size == math.prod(shape):
            hint = "; take its last axis away: y[..., 0]" if pixels else "; flatten them: y.ravel()"
        raise ValueError(
            f"{where}: expected labels of shape {shape}, {one}, or probabilities "
            f"{(*shape, classes)}, got {labels.shape}{hint}"
        )
    low, high = labels.min(), labels.max()
    if low < 0 or high >= classes:
        wrong = (labels < 0) | (labels >= classes)
        if ignore_label is not None:
            wrong &= labels != ignore_label
        if wrong.any():
            raise _no_class(labels[wrong], classes, where, ignore_label, pixels)
    return labels if pixels else labels.astype(np.int64)


def _no_class(
    wrong: Array, classes: int, where: str, ignore_label: int | None, pixels: bool
) -> ValueError:
    """Return the error of integers that are no classes."""
    low, high = wrong.min(), wrong.max()
    hint, ignored = "", "" if ignore_label is None else f", or {ignore_label}, which is ignored,"
    if classes == 1:
        hint = "; two classes take two outputs, or binary_cross_entropy"
    elif pixels and ignore_label is None and low == high:
        hint = f"; if it marks what counts for nothing: losses.CrossEntropy(ignore_label={high})"
    return ValueError(
        f"{where}: expected labels from 0 to {classes - 1}{ignored} for a model with {classes} "
        f"outputs, got {low if low < 0 else high}{hint}"
    )


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
    sums = table.sum(axis=-1, dtype=np.float64)
    if not np.all(table >= 0) or not np.all(np.abs(sums - 1.0) <= 1e-3):
        raise ValueError(f"{where}: expected probabilities, each row adding up to 1, got others")
    return table


def fractions(
    y: ArrayLike, count: int, output_shape: Shape, dtype: np.dtype[Any], where: str
) -> Array:
    """Return targets of yes and no, numbers from 0 to 1 (count, *output_shape), in the dtype.

    A last axis of length 1 may be left out.
    """
    target, shape = numbers(y, where), (count, *output_shape)
    if shape[-1] == 1 and target.shape == shape[:-1]:
        target = target[..., np.newaxis]
    if target.shape != shape:
        raise ValueError(f"{where}: expected targets of shape {shape}, got {target.shape}")
    low, high = target.min(), target.max()
    if not (low >= 0 and high <= 1):  # nor is NaN
        hint = "; masks of bytes are y / 255 or y > 127" if target.dtype == np.uint8 else ""
        raise ValueError(
            f"{where}: expected numbers from 0, for no, to 1, for yes, got {low} to {high}{hint}"
        )
    return target.astype(dtype, copy=False)


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


def balanced_weights(targets: Array, classes: int, ignore_label: int | None = None) -> Array:
    """Return n / (classes that occur * count) for each class, and 1 for one that does not.

    targets: n labels, or probabilities of a row of classes each, whose sums are the counts. Labels
    that are ignored are not counted.
    """
    if targets.dtype.kind == "f":
        counts = targets.reshape(-1, classes).sum(axis=0, dtype=np.float64)
    else:  # an image at a time: pixels are many
        images = targets if targets.ndim > 1 else (targets,)
        counts = np.sum(
            [_counts(labels, classes, ignore_label) for labels in images], axis=0, dtype=np.float64
        )
    there = counts > 0
    total = targets.size / classes if targets.dtype.kind == "f" else counts.sum()
    weights = np.ones(classes)
    weights[there] = total / (np.count_nonzero(there) * counts[there])
    return weights


def _counts(labels: Array, classes: int, ignore_label: int | None) -> Array:
    """Return how many labels each class has."""
    counted = labels.ravel() if ignore_label is None else labels[labels != ignore_label]
    return np.bincount(counted, minlength=classes)


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


def shares(
    target: Array,
    class_weights: Array | None,
    sample_weight: Array | None,
    ignore_label: int | None = None,
) -> Array:
    """Return how much each sample counts, in float64.

    That is its weight times that of its class, or times the sum of those of its pixels' classes,
    but for what is ignored; without class weights they weigh 1.
    """
    if target.dtype.kind == "f":
        rows = target.reshape(len(target), -1, target.shape[-1])
        if class_weights is None:
            weights = np.full(len(target), float(rows.shape[1]))
        else:
            weights = (class_weights.astype(np.float64) * rows).sum(axis=(1, 2))
    elif target.ndim == 1:
        counted = np.ones(len(target)) if ignore_label is None else target != ignore_label
        weights = counted.astype(np.float64)
        if class_weights is not None:
            weights[weights > 0] = class_weights.astype(np.float64)[target[weights > 0]]
    elif class_weights is None:
        weights = np.full(len(target), float(math.prod(target.shape[1:])))
        if ignore_label is not None:
            axes = tuple(range(1, target.ndim))
            weights = np.count_nonzero(target != ignore_label, axis=axes).astype(np.float64)
    else:
        of_classes = class_weights.astype(np.float64)
        counts = [_counts(labels, len(of_classes), ignore_label) for labels in target]
        weights = np.array([float(np.sum(of_classes * each)) for each in counts])
    return weights if sample_weight is None else weights * sample_weight
