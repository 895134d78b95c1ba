"""What a metric is, and what a batch's predictions answer."""

from __future__ import annotations

import math

import numpy as np

from fastcnn._types import Array
from fastcnn.nn._repr import OptionsRepr

__all__ = ["Answers", "Metric", "MetricLike"]


class Answers:
    """The predictions of a batch beside its targets, for metrics to look at.

    prediction, target: as a loss is given them. binary: each number of the prediction is the logit
    of a yes by itself; else a row of them has one class. What the labels say to ignore is left out.
    """

    def __init__(
        self,
        prediction: Array,
        target: Array,
        *,
        binary: bool = False,
        ignore_label: int | None = None,
    ) -> None:
        self.prediction, self.target, self.binary = prediction, target, binary
        self._ignore_label = ignore_label
        self._labels: tuple[Array, Array] | None = None
        self._counts: dict[float, Array] = {}

    @property
    def classes(self) -> int:
        """How many classes, or answers to yes or no, a row has."""
        return int(self.prediction.shape[-1])

    def labels(self, threshold: float = 0.5) -> tuple[Array, Array]:
        """Return (predicted, true): classes, or truth values in rows of yes and no.

        threshold: the probability above which an answer is yes.
        """
        if self.binary:
            rows = self.prediction.reshape(-1, self.classes)
            logit = math.log(threshold / (1 - threshold))
            return rows > logit, self.target.reshape(rows.shape) > 0.5
        if self._labels is None:
            counted, true = self._counted()
            predicted = self.prediction.argmax(axis=-1)
            self._labels = predicted.ravel() if counted is None else predicted[counted], true
        return self._labels

    def rows(self) -> tuple[Array, Array]:
        """Return (logits (n, classes), true classes (n,))."""
        counted, true = self._counted()
        prediction = self.prediction
        rows = prediction.reshape(-1, self.classes) if counted is None else prediction[counted]
        return rows, true

    def _counted(self) -> tuple[Array | None, Array]:
        """Return where labels are not ignored, None for everywhere, and the classes there."""
        target = self.target
        if target.ndim == self.prediction.ndim:  # probabilities, of which the largest counts
            target = target.argmax(axis=-1)
        if self._ignore_label is None:
            return None, target.ravel()
        counted = target != self._ignore_label
        return counted, target[counted]

    def counts(self, threshold: float = 0.5) -> Array:
        """Return (3, classes) counts: of yes that is true, of yes predicted, and of yes in truth.

        Of classes a yes is that it is this one.
        """
        if threshold not in self._counts:
            predicted, true = self.labels(threshold)
            if self.binary:
                parts = [np.count_nonzero(x, axis=0) for x in (predicted & true, predicted, true)]
            else:
                chosen = (predicted[predicted == true], predicted, true)
                parts = [np.bincount(x, minlength=self.classes) for x in chosen]
            self._counts[threshold] = np.array(parts, np.float64)
        return self._counts[threshold]


class Metric(OptionsRepr):
    """Base of the metrics: a number that is made of sums over the samples.

    So it is the same whatever the batch size: to the bit where sums are counts, else but for the
    rounding of sums in float64. All samples count alike, whatever they weigh in the loss.
    """

    of_classes = True  # or of numbers

    @property
    def name(self) -> str:
        """What the number is called in a history."""
        raise NotImplementedError

    def sums(self, answers: Answers) -> Array:
        """Return the sums of a batch, an array of float64; those of batches are added up."""
        raise NotImplementedError

    def value(self, sums: Array) -> float:
        """Return the number that the sums of all samples make."""
        raise NotImplementedError


MetricLike = Metric | str  # what a caller may give as one
