"""Losses: a Python float, and the gradient of what was predicted."""

from __future__ import annotations

from typing import Protocol

from numpy.typing import ArrayLike

from fastcnn._contract.op import Op
from fastcnn._types import Array

__all__ = ["ROWS", "Losses"]


class Losses(Protocol):
    """See `fastcnn.backend.Backend`, whose rules hold for them."""

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
        """Return (loss, probabilities): the cross-entropy of softmax(logits) with the labels.

        logits (N, C), or (N, H, W, C) or of any other rank, a row of C at each place; labels
        without the last axis, integers below C, or of the logits' shape, probabilities t.
        One place costs -sum over c of class_weights[c] * t'[c] * log softmax(logits)[c],
        t' = t*(1-a) + a/C, a = label_smoothing. The loss is the sum of the costs times
        sample_weights (N,), divided by the sum of weights: of sample_weights times
        class_weights[label] (for probabilities: sum of class_weights * t). Without weights
        that is the mean. A place whose label is ignore_label costs and weighs nothing; with
        it, the loss is 0 where nothing weighs anything. (Labels must be integers with it.)
        The loss is a Python float; probabilities, of the logits' shape, serve backward.
        """

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
        """Return dlogits, of the probabilities' shape."""

    def mean_squared_error(self, prediction: ArrayLike, target: ArrayLike) -> float:
        """Return the mean of (prediction - target)**2, a Python float."""

    def mean_squared_error_backward(
        self, dloss: float, prediction: ArrayLike, target: ArrayLike
    ) -> Array:
        """Return dprediction = dloss * 2 * (prediction - target) / size."""


ROWS = {
    "softmax_cross_entropy": Op(
        ("loss", "probabilities"), ("logits",), lambda logits, *others, **options: ((), logits)
    ),
    "mean_squared_error": Op(("loss",), ("prediction",), lambda *arrays, **options: ((),)),
}
