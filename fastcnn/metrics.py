"""Measures of a model's answers that are reported but not trained on."""

from __future__ import annotations

import numpy as np

from fastcnn.backend import Array

__all__ = ["accuracy", "correct"]


def correct(logits: Array, labels: Array) -> int:
    """Return how many rows have their largest value at their label.

    logits (N, C); labels (N,) integers, or (N, C) probabilities whose largest one counts.
    """
    truth = labels if labels.ndim == 1 else labels.argmax(axis=1)
    return int(np.count_nonzero(logits.argmax(axis=1) == truth))


def accuracy(logits: Array, labels: Array) -> float:
    """Return the share of rows, at least one, that have their largest value at their label."""
    return correct(logits, labels) / len(logits)
