"""Measures of a model's answers that are reported but not trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array
from fastcnn._types import Array

__all__ = ["accuracy", "correct"]


def hits(logits: Array, labels: Array) -> int:
    """Return what `correct` does, of arrays that were checked."""
    truth = labels if labels.ndim == 1 else labels.argmax(axis=1)
    return int(np.count_nonzero(logits.argmax(axis=1) == truth))


def correct(logits: ArrayLike, labels: ArrayLike) -> int:
    """Return how many rows have their largest value at their label.

    logits (N, C); labels (N,) integers, or (N, C) probabilities whose largest one counts.
    ValueError for other shapes.
    """
    return _correct("correct", as_array(logits, "correct: logits"), labels)


def accuracy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of rows, at least one, that have their largest value at their label."""
    rows = as_array(logits, "accuracy: logits")
    right = _correct("accuracy", rows, labels)
    if len(rows) == 0:
        raise ValueError(f"accuracy: logits: expected at least one row, got shape {rows.shape}")
    return right / len(rows)


def _correct(who: str, logits: Array, labels: ArrayLike) -> int:
    truth = as_array(labels, f"{who}: labels")
    if logits.ndim != 2 or logits.shape[1] == 0:
        hint = "; np.mean(a == b) compares labels" if logits.ndim == 1 else ""
        raise ValueError(
            f"{who}: logits: expected shape (n, classes), a number for each class, got "
            f"{logits.shape}{hint}"
        )
    if truth.shape not in (logits.shape[:1], logits.shape):
        raise ValueError(
            f"{who}: labels: expected shape {logits.shape[:1]}, or {logits.shape} for "
            f"probabilities, got {truth.shape}"
        )
    return hits(logits, truth)
