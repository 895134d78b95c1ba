"""Losses: a Python float, and the gradient of what was predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import ArrayLike

from fastcnn._contract.op import Op
from fastcnn._types import Array, Shape

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

    def mean_absolute_error(
        self,
        prediction: ArrayLike,
        target: ArrayLike,
        *,
        sample_weights: ArrayLike | None = None,
    ) -> float:
        """Return the mean of |prediction - target|, a Python float.

        Here and in what follows sample_weights (N,) makes it a weighted mean over the first axis,
        divided by their sum.
        """

    def mean_absolute_error_backward(
        self,
        dloss: float,
        prediction: ArrayLike,
        target: ArrayLike,
        *,
        sample_weights: ArrayLike | None = None,
    ) -> Array:
        """Return dprediction; where the two are equal it is 0."""

    def huber(
        self,
        prediction: ArrayLike,
        target: ArrayLike,
        *,
        delta: float = 1.0,
        sample_weights: ArrayLike | None = None,
    ) -> float:
        """Return the mean of d**2 / 2 where |d| <= delta, of delta * (|d| - delta / 2) elsewhere.

        d = prediction - target; delta above 0.
        """

    def huber_backward(
        self,
        dloss: float,
        prediction: ArrayLike,
        target: ArrayLike,
        *,
        delta: float = 1.0,
        sample_weights: ArrayLike | None = None,
    ) -> Array:
        """Return dprediction, the mean's share times d, but for delta * sign(d) beyond delta."""

    def binary_cross_entropy(
        self,
        logits: ArrayLike,
        target: ArrayLike,
        *,
        pos_weight: float | Sequence[float] | None = None,
        sample_weights: ArrayLike | None = None,
    ) -> float:
        """Return the mean of -(w * t * log(p) + (1 - t) * log(1 - p)), p = sigmoid(logits).

        target t, of the logits' shape, from 0 to 1. pos_weight w: of at least 0, one number, or
        one for each of the last axis; 1 by default.
        """

    def binary_cross_entropy_backward(
        self,
        dloss: float,
        logits: ArrayLike,
        target: ArrayLike,
        *,
        pos_weight: float | Sequence[float] | None = None,
        sample_weights: ArrayLike | None = None,
    ) -> Array:
        """Return dlogits, the mean's share times (1 - t) * p - w * t * (1 - p)."""

    def focal(
        self,
        logits: ArrayLike,
        target: ArrayLike,
        *,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        sample_weights: ArrayLike | None = None,
    ) -> float:
        """Return the mean of a * (1 - q)**gamma times the binary cross-entropy.

        As there p = sigmoid(logits) and target t is from 0 to 1; q = t * p + (1 - t) * (1 - p) is
        the probability of what is true, and a = alpha * t + (1 - alpha) * (1 - t), or 1 where
        alpha is None. alpha from 0 to 1, gamma of at least 0. (Lin et al., 2017,
        arXiv:1708.02002.)
        """

    def focal_backward(
        self,
        dloss: float,
        logits: ArrayLike,
        target: ArrayLike,
        *,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        sample_weights: ArrayLike | None = None,
    ) -> Array:
        """Return dlogits."""

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
        """Return (loss, probabilities): 1 less the mean of soft Dice over samples and channels.

        logits (N, ..., C), probabilities p = sigmoid or softmax of them by `activation`; target t
        of their shape, from 0 to 1, or for softmax integers below C without the last axis. With
        sums over the places of a sample, of one channel, its Dice is
        (2 * sum(p * t) + smooth) / (sum(p) + sum(t) + smooth), smooth above 0 (Milletari et al.,
        2016, arXiv:1606.04797, without squares). Places of integers that are ignore_label are in
        no sum.
        """

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
        """Return dlogits."""


def _a_number(*arrays: Shape, **options: Any) -> Sequence[Shape]:
    return ((),)


def _and_probabilities(logits: Shape, *others: Shape, **options: Any) -> Sequence[Shape]:
    return (), logits


ROWS = {
    "softmax_cross_entropy": Op(("loss", "probabilities"), ("logits",), _and_probabilities),
    "mean_squared_error": Op(("loss",), ("prediction",), _a_number),
    "mean_absolute_error": Op(("loss",), ("prediction",), _a_number),
    "huber": Op(("loss",), ("prediction",), _a_number),
    "binary_cross_entropy": Op(("loss",), ("logits",), _a_number),
    "focal": Op(("loss",), ("logits",), _a_number),
    "dice": Op(("loss", "probabilities"), ("logits",), _and_probabilities),
}
