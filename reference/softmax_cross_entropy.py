"""The cross-entropy of softmax(logits) with labels. N batch, C classes.

Label smoothing: Szegedy et al., 2016, arXiv:1512.00567. Weighted means divide by the sum of
the weights. Of images it is that of all pixels, each a row of C logits.
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
    integer,
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
    ignore_label: int | None = None,
) -> tuple[float, Array]:
    """Return (loss, probabilities), a Python float and an array of the shape of logits.

    logits (N, C), or (N, ..., C) with a row of C at each place; labels without the last axis are
    integers from 0 to C - 1, or of the logits' shape probabilities t; class_weights (C,) and
    sample_weights (N,). With t' = t * (1 - a) + a / C one place costs
    -sum over c of class_weights[c] * t'[c] * log softmax(logits)[c]; the loss is the sum of
    costs times sample_weights, divided by the sum of sample_weights times class_weights[label]
    (for probabilities: times sum of class_weights * t). A place whose label is ignore_label
    counts for nothing, in both sums; the loss is 0 where that leaves nothing. float32 or float64
    and N at least 1.

    TypeError for other or mixed dtypes; ValueError for shapes that do not fit, labels out of
    range, smoothing outside [0, 1], an ignore_label with probabilities, weights that are negative
    or not finite or, without ignore_label, add up to zero.
    """
    op = "softmax_cross_entropy"
    dtype, logits, target = _arguments(
        op,
        "logits",
        logits,
        labels,
        label_smoothing,
        class_weights,
        sample_weights,
        ignore_label,
    )
    loss = 0.0
    probabilities = np.zeros(logits.shape)
    for place in np.ndindex(logits.shape[:-1]):
        # Shifted so that the largest exponent is 0: nothing overflows, the sum is at least 1.
        shifted = logits[place] - np.max(logits[place])
        total = np.sum(np.exp(shifted))
        probabilities[place] = np.exp(shifted) / total
        log_probabilities = shifted - np.log(total)
        # Only the classes that count: 0 * log(0) is 0 here, as entropy has it.
        counted = target[place] != 0
        loss -= float(np.sum(target[place][counted] * log_probabilities[counted]))
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
    ignore_label: int | None = None,
) -> Array:
    """Return dlogits for a finite number dloss and the probabilities that forward returned.

    With g[n] the share of each class in the loss (weights, smoothing and mean included),
    dlogits[n] = dloss * (probabilities[n] * sum(g[n]) - g[n]) at each place. Errors as in
    softmax_cross_entropy.
    """
    op = "softmax_cross_entropy_backward"
    dloss = finite(op, "dloss", dloss)
    dtype, probabilities, target = _arguments(
        op,
        "probabilities",
        probabilities,
        labels,
        label_smoothing,
        class_weights,
        sample_weights,
        ignore_label,
    )
    dlogits = np.zeros(probabilities.shape)
    for n in np.ndindex(probabilities.shape[:-1]):
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
    ignore_label: int | None,
) -> tuple[np.dtype[Any], Array, Array]:
    """Return the dtype, `values` (N, ..., C) and targets like it with every weight worked in."""
    labels = as_array(op, "labels", labels)
    rank = max(as_array(op, name, values).ndim, 2)
    soft = labels.ndim == rank
    dtype = float_dtype(
        op,
        **{name: values},
        labels=labels if soft else None,
        class_weights=class_weights,
        sample_weights=sample_weights,
    )
    values = array(op, name, values, dtype, ("N", *["P"] * (rank - 2), "C"))
    *places, C = values.shape
    if places[0] == 0:
        raise ValueError(f"{op}: {name}: expected at least one sample, got shape {values.shape}")
    smoothing = fraction(op, "label_smoothing", label_smoothing, one=True)
    if ignore_label is not None:
        ignore_label = integer(op, "ignore_label", ignore_label, -(2**62))
    class_weight = _weights(op, "class_weights", class_weights, dtype, C)
    sample_weight = _weights(op, "sample_weights", sample_weights, dtype, places[0])
    sample_weight = sample_weight.reshape(-1, *[1] * (rank - 1))
    if soft:
        if ignore_label is not None:
            raise ValueError(
                f"{op}: ignore_label: expected None with probabilities, got {ignore_label}"
            )
        target = array(op, "labels", labels, dtype, values.shape)
        _check_not_negative(op, "labels", "probabilities", target)
    else:
        target = _one_hot(op, labels, tuple(places), C, ignore_label)
    weight = np.ones(())
    if not (soft and class_weights is None):
        weight = np.sum(class_weight * target, axis=-1, keepdims=True)
    total = np.sum(sample_weight * np.broadcast_to(weight, (*places, 1)))
    smooth = target * (1 - smoothing) + smoothing / C
    if ignore_label is not None:
        if total == 0:
            return dtype, values, np.zeros(values.shape)
        smooth[labels == ignore_label] = 0
    elif not total > 0:
        raise ValueError(f"{op}: labels: expected weights with a sum above 0, got {total}")
    return dtype, values, class_weight * smooth * sample_weight / total


def _one_hot(
    op: str, labels: Array, places: tuple[int, ...], C: int, ignore_label: int | None
) -> Array:
    """Return (*places, C) targets with a one at each label, with none where it is ignored."""
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"{op}: labels: expected integers {places} or probabilities {(*places, C)}, "
            f"got dtype {labels.dtype} with shape {labels.shape}"
        )
    check_shape(op, "labels", labels.shape, places)
    target = np.zeros((*places, C))
    for place in np.ndindex(places):
        if int(labels[place]) == ignore_label:
            continue
        if not 0 <= labels[place] < C:
            raise ValueError(
                f"{op}: labels: expected integers from 0 to {C - 1}, got {labels[place]} at {place}"
            )
        target[(*place, labels[place])] = 1
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
