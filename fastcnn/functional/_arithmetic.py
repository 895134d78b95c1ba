"""Normalization, products with weights, and what joins arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.functional._call import backend_of, on_batch, with_names

__all__ = ["add", "batch_norm", "concat", "cross_entropy", "dropout", "linear", "multiply"]


@with_names()
def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    *,
    epsilon: float = 1e-5,
    mean: ArrayLike | None = None,
    variance: ArrayLike | None = None,
    backend: str | Backend = "fast",
) -> Array:
    """Normalize each channel, by the statistics of the batch unless some are given.

    x is (N, C), (N, H, W, C) or one image (H, W, C); gamma, beta, mean and variance are (C,).
    Giving a mean without a variance, or the reverse, is a ValueError.
    """
    if (mean is None) != (variance is None):
        missing = "mean" if mean is None else "variance"
        raise ValueError(
            f"batch_norm: {missing}: expected mean and variance together, got None for one"
        )

    def op(batch: Array) -> Array:
        if mean is None or variance is None:
            return backend_of(backend).batch_norm(batch, gamma, beta, epsilon=epsilon)[0]
        return backend_of(backend).batch_norm_inference(
            batch, gamma, beta, mean, variance, epsilon=epsilon
        )

    return on_batch("batch_norm", op, x, (3, 4, 2))


@with_names()
def linear(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    backend: str | Backend = "fast",
) -> Array:
    """Return x @ w + b for x (N, C) or one vector (C,), w (C, K) and b (K,) or None."""
    return on_batch("linear", lambda rows: backend_of(backend).linear(rows, w, b), x, (1, 2))


@with_names()
def add(a: ArrayLike, b: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return a + b, of shapes that broadcast as in NumPy."""
    return backend_of(backend).add(a, b)


@with_names()
def multiply(a: ArrayLike, b: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return a * b, of shapes that broadcast as in NumPy."""
    return backend_of(backend).multiply(a, b)


@with_names()
def concat(xs: Sequence[ArrayLike], axis: int = -1, *, backend: str | Backend = "fast") -> Array:
    """Return a list of arrays joined along an axis, the channels by default."""
    return backend_of(backend).concat(xs, axis)


@with_names()
def dropout(
    x: ArrayLike, mask: ArrayLike, *, rate: float = 0.5, backend: str | Backend = "fast"
) -> Array:
    """Return x / (1 - rate) where the mask, alike or with axes of length 1, is True, else 0."""
    if np.ndim(mask) == 0:
        raise TypeError(
            f"dropout: mask: expected an array of bool of x's shape, True where x is kept, got "
            f"{mask!r:.80}; rng.random(x.shape) >= rate is one, rng = np.random.default_rng()"
        )
    return backend_of(backend).dropout(x, mask, rate=rate)


@with_names()
def cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    class_weights: ArrayLike | None = None,
    sample_weights: ArrayLike | None = None,
    ignore_label: int | None = None,
    backend: str | Backend = "fast",
) -> float:
    """Return the mean cross-entropy of softmax(logits) (N, C) with the labels (N,).

    Or of each pixel, (N, H, W, C) with (N, H, W); one whose label is ignore_label doesn't count.
    """
    options: dict[str, Any] = {"class_weights": class_weights, "sample_weights": sample_weights}
    options |= {"label_smoothing": label_smoothing, "ignore_label": ignore_label}
    return backend_of(backend).softmax_cross_entropy(logits, labels, **options)[0]
