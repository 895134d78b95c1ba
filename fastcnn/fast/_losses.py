"""Losses on the compiled kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array
from fastcnn._checks import float_arrays, rank, same_shape, shape
from fastcnn._options import integer_or_none, number, shown
from fastcnn._types import Array
from fastcnn.fast._memory_bound import MemoryBound

__all__ = ["Losses", "check_weights", "integer_labels", "require_labels"]


class _Samples(NamedTuple):
    """The checked arguments of a cross-entropy, as the kernels take them: a row a place."""

    labels: Array | None  # (rows,) int64, or else
    targets: Array | None  # (rows, C)
    class_weights: Array | None
    sample_weights: Array | None
    places: int  # rows of a sample
    label_smoothing: float
    total_weight: float  # with ignored labels the kernels count it
    ignores: bool
    ignore_label: int


def _samples(
    check: Callable[..., None],
    op: str,
    name: str,
    values: ArrayLike,
    labels: ArrayLike,
    label_smoothing: float,
    class_weights: ArrayLike | None,
    sample_weights: ArrayLike | None,
    ignore_label: int | None,
) -> tuple[Array, _Samples]:
    """Return `values` (logits or probabilities) and the samples, checked."""
    labels = as_array(labels, f"{op}: labels")
    values = as_array(values, f"{op}: {name}")
    soft = labels.ndim == max(values.ndim, 2)
    array, targets, class_weights, sample_weights = float_arrays(
        op,
        **{name: values},
        labels=labels if soft else None,
        class_weights=class_weights,
        sample_weights=sample_weights,
    )
    if array.ndim < 2:
        rank(array, f"{op}: {name}", "N, C")
    if array.size == 0:
        raise ValueError(
            f"{op}: {name}: expected at least one sample and one class, got shape {array.shape}"
        )
    smoothing = number(label_smoothing, f"{op}: label_smoothing", 0, 1)
    ignored = integer_or_none(ignore_label, f"{op}: ignore_label")
    places, classes = array.shape[:-1], array.shape[-1]
    check_weights(op, "class_weights", class_weights, (classes,))
    check_weights(op, "sample_weights", sample_weights, places[:1])
    if soft:
        if ignored is not None:
            raise ValueError(f"{op}: ignore_label: expected None with probabilities, got {ignored}")
        same_shape(targets, f"{op}: labels", name, array)
        check(_require_probabilities, op, targets)
        integers, targets = None, _rows(targets)
    else:
        where = f"{op}: labels"
        integers = integer_labels(where, labels, places)
        check(require_labels, where, integers, labels, classes, ignored)
    total = 0.0
    if ignored is None:
        total = _total_weight(places, integers, targets, class_weights, sample_weights)
        if not total > 0:
            raise ValueError(f"{op}: labels: expected weights with a sum above 0, got {total}")
    return array, _Samples(
        integers,
        targets,
        class_weights,
        sample_weights,
        math.prod(places[1:]),
        smoothing,
        total,
        ignored is not None,
        ignored or 0,
    )


def check_weights(op: str, name: str, weights: Array | None, expected: tuple[int, ...]) -> None:
    """Refuse weights of another shape, and those that are negative or not finite."""
    if weights is None:
        return
    shape(weights, f"{op}: {name}", expected)
    if not np.all((weights >= 0) & (weights < np.inf)):
        raise ValueError(
            f"{op}: {name}: expected finite weights of at least 0, got {shown(weights)}"
        )


def _require_probabilities(op: str, targets: Array) -> None:
    if not np.all((targets >= 0) & (targets < np.inf)):
        raise ValueError(f"{op}: labels: expected finite probabilities of at least 0")


def integer_labels(where: str, labels: Array, places: tuple[int, ...]) -> Array:
    """Return integer labels as int64, one for each row of logits."""
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"{where}: expected integers {places} or probabilities, one more a class, "
            f"got dtype {labels.dtype} with shape {labels.shape}"
        )
    shape(labels, where, places, "one for each row of logits")
    integers = np.ascontiguousarray(labels, np.int64)
    return integers if integers.ndim == 1 else integers.reshape(-1)


def require_labels(
    where: str, integers: Array, labels: Array, classes: int, ignored: int | None
) -> None:
    """Refuse labels that are neither classes nor ignored; `integers` are they as int64."""
    if integers.view(np.uint64).max() < classes:  # so are no negative ones
        return
    wrong = (labels < 0) | (labels >= classes)
    if ignored is not None:
        wrong &= labels != ignored
    if wrong.any():
        place = np.unravel_index(int(np.argmax(wrong)), labels.shape)
        at = ", ".join(map(str, place))
        raise ValueError(
            f"{where}: expected integers from 0 to {classes - 1}, got {labels[place]} at {at}"
        )


def _total_weight(
    places: tuple[int, ...],
    labels: Array | None,
    targets: Array | None,
    class_weights: Array | None,
    sample_weights: Array | None,
) -> float:
    """Return what the loss is divided by."""
    count = math.prod(places)
    if sample_weights is None and class_weights is None:
        return float(count)
    weights: Any = np.ones(count)
    if sample_weights is not None:
        weights = np.repeat(sample_weights.astype(np.float64), count // places[0])
    if class_weights is not None:
        of_classes = class_weights.astype(np.float64)
        if labels is not None:
            weights = weights * of_classes[labels]
        elif targets is not None:
            weights = weights * np.sum(of_classes * targets, axis=1)
    return float(np.sum(weights))


def _rows(array: Array) -> Array:
    """Return (rows, C) of (N, ..., C)."""
    return array if array.ndim == 2 else array.reshape(-1, array.shape[-1])


class Losses(MemoryBound):
    """The losses and their gradients."""

    def softmax_cross_entropy(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        label_smoothing: float = 0.0,
        class_weights: ArrayLike | None = None,
        sample_weights: ArrayLike | None = None,
        ignore_label: int | None = None,
    ) -> tuple[float, Array]:
        x, samples = _samples(
            self._check,
            "softmax_cross_entropy",
            "logits",
            logits,
            labels,
            label_smoothing,
            class_weights,
            sample_weights,
            ignore_label,
        )
        return self._cross_entropy(x, samples, gradient=False)

    def _cross_entropy(self, x: Array, samples: _Samples, *, gradient: bool) -> tuple[float, Array]:
        """Return (loss, probabilities), or (loss, dlogits) for a dloss of 1."""
        result = self._empty(x.shape, x.dtype)
        rows = _rows(x)
        costs = self._empty(rows.shape[:1], np.dtype(np.float64))
        kernel = self._load(x).losses.softmax_cross_entropy
        loss: float = self._run(
            kernel, _rows(result), costs, rows, *samples, gradient, self._team(x)
        )
        return loss, result

    # Fused; see _fusions.py.
    def _cross_entropy_with_gradient(
        self,
        logits: Array,
        labels: Array,
        *,
        label_smoothing: float = 0.0,
        ignore_label: int | None = None,
    ) -> tuple[float, Array]:
        """Return (loss, dlogits) of softmax_cross_entropy without weights."""
        op = "softmax_cross_entropy"
        x, samples = _samples(
            self._check, op, "logits", logits, labels, label_smoothing, None, None, ignore_label
        )
        return self._cross_entropy(x, samples, gradient=True)

    def softmax_cross_entropy_backward(
        self,
        dloss: float,
        probabilities: ArrayLike,
        labels: ArrayLike,
        *,
        label_smoothing: float = 0.0,
        class_weights: ArrayLike | None = None,
        sample_weights: ArrayLike | None = None,
        ignore_label: int | None = None,
    ) -> Array:
        op = "softmax_cross_entropy_backward"
        dloss = number(dloss, f"{op}: dloss")
        y, samples = _samples(
            self._check,
            op,
            "probabilities",
            probabilities,
            labels,
            label_smoothing,
            class_weights,
            sample_weights,
            ignore_label,
        )
        dlogits = self._empty(y.shape, y.dtype)
        kernel = self._load(y).losses.softmax_cross_entropy_backward
        self._run(kernel, _rows(dlogits), dloss, _rows(y), *samples, self._team(y))
        return dlogits

    def mean_squared_error(self, prediction: ArrayLike, target: ArrayLike) -> float:
        prediction, target = _same("mean_squared_error", prediction, target)
        losses = self._load(prediction).losses
        parts = self._empty((losses.number_of_parts(prediction.size),), np.dtype(np.float64))
        loss: float = self._run(
            losses.mean_squared_error,
            parts,
            prediction.reshape(-1),
            target.reshape(-1),
            self._team(prediction),
        )
        return loss

    def mean_squared_error_backward(
        self, dloss: float, prediction: ArrayLike, target: ArrayLike
    ) -> Array:
        op = "mean_squared_error_backward"
        dloss = number(dloss, f"{op}: dloss")
        prediction, target = _same(op, prediction, target)
        dprediction = self._empty(prediction.shape, prediction.dtype)
        self._run(
            self._load(prediction).losses.mean_squared_error_backward,
            dprediction.reshape(-1),
            dloss,
            prediction.reshape(-1),
            target.reshape(-1),
            self._team(prediction),
        )
        return dprediction


def _same(op: str, prediction: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    """Return the two arrays of a regression loss, checked."""
    a, b = float_arrays(op, prediction=prediction, target=target)
    same_shape(b, f"{op}: target", "prediction", a)
    if a.size == 0:
        raise ValueError(f"{op}: prediction: expected at least one value, got shape {a.shape}")
    return a, b
