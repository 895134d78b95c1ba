"""The cross-entropy of softmax(logits) with labels. N batch, C classes.

Label smoothing: Szegedy et al., 2016, arXiv:1512.00567. Weighted means divide by the sum of
the weights.
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
    fraction,
    rounded,
    silent,
)


@silent
def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    class_weights: ArrayLike | None = None,
    sample_weights: ArrayLike | None = None,
) -> tuple[float, Array]:
    """Return (loss, probabilities), a Python float and an array (N, C), of logits (N, C).

    labels (N,) are integers from 0 to C - 1, or (N, C) probabilities; class_weights (C,) and
    sample_weights (N,). With t' = t * (1 - a) + a / C one sample costs
    -sum over c of class_weights[c] * t'[c] * log softmax(logits)[c]; the loss is the sum of
    costs times sample_weights, divided by the sum of sample_weights times class_weights[label]
    (for probabilities: times sum of class_weights * t). float32 or float64 and N at least 1.

    TypeError for other or mixed dtypes; ValueError for shapes that do not fit, labels out of
    range, smoothing outside [0, 1], weights that are negative or not finite or add up to zero.
    """
    op = "softmax_cross_entropy"
    dtype, logits, target = _arguments(
        op, "logits", logits, labels, label_smoothing, class_weights, sample_weights
    )
    N, C = logits.shape
    loss = 0.0
    probabilities = np.zeros((N, C))
    for n in range(N):
        # Shifted so that the largest exponent is 0: nothing overflows, the sum is at least 1.
        shifted = logits[n] - np.max(logits[n])
        total = np.sum(np.exp(shifted))
        probabilities[n] = np.exp(shifted) / total
        log_probabilities = shifted - np.log(total)
        # Only the classes that count: 0 * log(0) is 0 here, as entropy has it.
        counted = target[n] != 0
        loss -= float(np.sum(target[n][counted] * log_probabilities[counted]))
    return loss, rounded(probabilities, dtype)


@silent
def softmax_cross_entropy_backward(
    dloss: float,
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    class_weights: ArrayLike | None = None,
    sample_weights: ArrayLike | None = None,
) -> Array:
    """Return dlogits (N, C) for a finite number dloss and the probabilities that forward returned.

    With g[n] the share of each class in the loss (weights, smoothing and mean included),
    dlogits[n] = dloss * (probabilities[n] * sum(g[n]) - g[n]). Errors as in
    softmax_cross_entropy.
    """
    op = "softmax_cross_entropy_backward"
    dloss = finite(op, "dloss", dloss)
    dtype, probabilities, target = _arguments(
        op, "probabilities", probabilities, labels, label_smoothing, class_weights, sample_weights
    )
    dlogits = np.zeros(probabilities.shape)
    for n in range(len(probabilities)):
        dlogits[n] = dloss * (probabilities[n] * np.sum(target[n]) - target[n])
    return rounded(dlogits, dtype)


def _arguments(
    op: str,
    name: str,
    values: ArrayLike,
    labels: ArrayLike,
    label_smoothing: float,
    class_weights: ArrayLike | None,
    sample_weights: ArrayLike | None,
) -> tuple[np.dtype[Any], Array, Array]:
    """Return the dtype, `values` (N, C) and the targets (N, C) with every weight worked in."""
    labels = as_array(op, "labels", labels)
    soft = labels.ndim == 2
    dtype = float_dtype(
        op,
        **{name: values},
        labels=labels if soft else None,
        class_weights=class_weights,
        sample_weights=sample_weights,
    )
    values = array(op, name, values, dtype, ("N", "C"))
    N, C = values.shape
    if N == 0:
        raise ValueError(f"{op}: {name}: expected at least one sample, got shape {values.shape}")
    smoothing = fraction(op, "label_smoothing", label_smoothing, one=True)
    class_weight = _weights(op, "class_weights", class_weights, dtype, C)
    sample_weight = _weights(op, "sample_weights", sample_weights, dtype, N)
    if soft:
        target = array(op, "labels", labels, dtype, (N, C))
        _check_not_negative(op, "labels", "probabilities", target)
        if class_weights is None:
            weight = sample_weight
        else:
            weight = sample_weight * np.sum(class_weight * target, axis=1)
    else:
        target = _one_hot(op, labels, N, C)
        weight = sample_weight * np.sum(class_weight * target, axis=1)
    total = np.sum(weight)
    if not total > 0:
        raise ValueError(f"{op}: labels: expected weights with a sum above 0, got {total}")
    smooth = target * (1 - smoothing) + smoothing / C
    return dtype, values, class_weight * smooth * sample_weight[:, None] / total


def _one_hot(op: str, labels: Array, N: int, C: int) -> Array:
    """Return (N, C) targets with a one at each label."""
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"{op}: labels: expected integers (N,) or probabilities (N, C), "
            f"got dtype {labels.dtype} with shape {labels.shape}"
        )
    check_shape(op, "labels", labels.shape, (N,))
    target = np.zeros((N, C))
    for n in range(N):
        if not 0 <= labels[n] < C:
            raise ValueError(
                f"{op}: labels: expected integers from 0 to {C - 1}, got {labels[n]} at {n}"
            )
        target[n, labels[n]] = 1
    return target


def _weights(
    op: str, name: str, weights: ArrayLike | None, dtype: np.dtype[Any], length: int
) -> Array:
    """Return weights of the given length, ones where there are none."""
    if weights is None:
        return np.ones(length)
    weights = array(op, name, weights, dtype, (length,))
    _check_not_negative(op, name, "weights", weights)
    return weights


def _check_not_negative(op: str, name: str, what: str, values: Array) -> None:
    for place, value in np.ndenumerate(values):
        if not 0 <= value < np.inf:
            raise ValueError(
                f"{op}: {name}: expected finite {what} of at least 0, got {value} at {place}"
            )
