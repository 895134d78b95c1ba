"""Measures of a model's answers that are reported but not trained on.

Trainer(model, metrics=["accuracy", "f1", metrics.TopKAccuracy(3)]) has them in its history and in
what `evaluate` returns. Those of classes go with the losses of classes: cross_entropy, and those of
yes and no by logits, as binary_cross_entropy. Labels that the loss ignores are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array
from fastcnn._metric import Answers, Metric
from fastcnn._options import choice, integer, number
from fastcnn._settings import Checks, Settings
from fastcnn._types import Array

__all__ = [
    "Accuracy",
    "F1Score",
    "MeanAbsoluteError",
    "MeanIoU",
    "Precision",
    "Recall",
    "RootMeanSquaredError",
    "TopKAccuracy",
    "accuracy",
    "correct",
    "get_metric",
]


# ---------------------------------------------------------------------- of classes
class Accuracy(Metric, Settings):
    """The share of labels that the model has right: its largest logit is at the label.

    Of yes and no it is the share of answers that are right, each by itself; an answer is yes from
    a probability above 1/2 on, that is for a logit above 0.
    """

    def __init__(self) -> None:
        super().__init__()

    @property
    def name(self) -> str:
        """What it is called: accuracy."""
        return "accuracy"

    def sums(self, answers: Answers) -> Array:
        """Return (right answers, answers)."""
        predicted, true = answers.labels()
        return np.array([np.count_nonzero(predicted == true), true.size], np.float64)

    def value(self, sums: Array) -> float:
        """Return the share; 0 of nothing."""
        return _share(*sums)


class TopKAccuracy(Metric, Settings):
    """The share of labels that are among the classes with the k largest logits.

    Of equal logits the first goes before, so that top_1_accuracy is accuracy.
    """

    _checks: ClassVar[Checks] = {"k": integer}

    def __init__(self, k: int = 5) -> None:
        self.k = k

    @property
    def name(self) -> str:
        """What it is called: top_5_accuracy, with this k."""
        return f"top_{self.k}_accuracy"

    def sums(self, answers: Answers) -> Array:
        """Return (labels among the k, labels)."""
        if answers.binary:
            raise _unfit(self, "a loss of one class a row, as cross_entropy")
        rows, true = answers.rows()
        at_label = np.take_along_axis(rows, true[:, None], axis=1)
        before = np.arange(answers.classes) < true[:, None]
        # Not `rows > at_label`: next to a NaN no logit is among the largest.
        ahead = np.count_nonzero(~(rows <= at_label) | ((rows == at_label) & before), axis=1)
        return np.array([np.count_nonzero(ahead < self.k), len(true)], np.float64)

    def value(self, sums: Array) -> float:
        """Return the share; 0 of nothing."""
        return _share(*sums)


class _OfCounts(Metric, Settings):
    """Base of what is made of counts of yes: that is true, that is predicted, that is in truth."""

    _checks: ClassVar[Checks] = {
        "average": partial(choice, choices=("macro", "micro", "binary")),
        "threshold": partial(number, low=0.0, high=1.0, open_low=True, open_high=True),
    }
    _short: ClassVar[str]

    def __init__(self, average: str = "macro", *, threshold: float = 0.5) -> None:
        self.average = average
        self.threshold = threshold

    @property
    def name(self) -> str:
        """The short name, with the average behind it unless that is macro."""
        return self._short if self.average == "macro" else f"{self._short}_{self.average}"

    def sums(self, answers: Answers) -> Array:
        """Return the three counts, one behind the other, each of all classes."""
        counts = answers.counts(self.threshold)
        if self.average == "binary" and not answers.binary:
            if answers.classes != 2:
                raise _unfit(self, f"two classes, got {answers.classes}")
            counts = counts[:, 1:]
        return counts.ravel()

    def value(self, sums: Array) -> float:
        """Return the mean of the classes that occur, or the number of all counts together."""
        counts = sums.reshape(3, -1)
        if self.average != "macro":
            counts = counts.sum(axis=1, keepdims=True)
        occurs = counts[1] + counts[2] > 0
        scores = [_share(*self._parts(*each)) for each in counts[:, occurs].T]
        return float(np.mean(scores)) if scores else 0.0

    def _parts(self, hits: float, predicted: float, true: float) -> tuple[float, float]:
        """Return what is divided by what."""
        raise NotImplementedError


class Precision(_OfCounts):
    """Of the answers that say a class, the share that is right: hits / predicted.

    average: "macro" is the mean over classes, of those that occur among labels or answers; "micro"
    the share of all classes' answers together; "binary" that of class 1 of two. threshold: of yes
    and no, which are a class each, the probability above which an answer is yes; there "binary" is
    "micro". 0 / 0 counts as 0. Formulas and averages are scikit-learn's.
    """

    _short = "precision"

    def _parts(self, hits: float, predicted: float, true: float) -> tuple[float, float]:
        return hits, predicted


class Recall(_OfCounts):
    """Of the labels of a class, the share that is found: hits / true.

    average, threshold: as of Precision.
    """

    _short = "recall"

    def _parts(self, hits: float, predicted: float, true: float) -> tuple[float, float]:
        return hits, true


class F1Score(_OfCounts):
    """The harmonic mean of precision and recall: 2 hits / (predicted + true).

    average, threshold: as of Precision.
    """

    _short = "f1"

    def _parts(self, hits: float, predicted: float, true: float) -> tuple[float, float]:
        return 2 * hits, predicted + true


class MeanIoU(_OfCounts):
    """Intersection over union of a class's places: hits / (predicted + true - hits).

    average, threshold: as of Precision.
    """

    _short = "mean_iou"

    def _parts(self, hits: float, predicted: float, true: float) -> tuple[float, float]:
        return hits, predicted + true - hits


# ---------------------------------------------------------------------- of numbers
class _OfNumbers(Metric, Settings):
    """Base of what is made of differences between predictions and targets."""

    of_classes = False

    def __init__(self) -> None:
        super().__init__()

    def sums(self, answers: Answers) -> Array:
        """Return (sum over numbers, count of them)."""
        prediction, target = answers.prediction, answers.target
        if prediction.shape != target.shape:
            raise _unfit(self, f"targets of the output's shape, got {target.shape[1:]}")
        difference = prediction.astype(np.float64) - target
        return np.array([self._sum(difference), difference.size], np.float64)

    def _sum(self, difference: Array) -> float:
        raise NotImplementedError


class RootMeanSquaredError(_OfNumbers):
    """The square root of the mean of (prediction - target)**2 over all numbers."""

    @property
    def name(self) -> str:
        """What it is called: rmse."""
        return "rmse"

    def _sum(self, difference: Array) -> float:
        return float(np.sum(difference * difference))

    def value(self, sums: Array) -> float:
        """Return the root of the mean."""
        return float(np.sqrt(_share(*sums)))


class MeanAbsoluteError(_OfNumbers):
    """The mean of |prediction - target| over all numbers."""

    @property
    def name(self) -> str:
        """What it is called: mae."""
        return "mae"

    def _sum(self, difference: Array) -> float:
        return float(np.sum(np.abs(difference)))

    def value(self, sums: Array) -> float:
        """Return the mean."""
        return _share(*sums)


# ---------------------------------------------------------------------- by name
_NAMED: dict[str, Callable[..., Metric]] = {
    "accuracy": Accuracy,
    "top_5_accuracy": TopKAccuracy,
    "precision": Precision,
    "recall": Recall,
    "f1": F1Score,
    "mean_iou": MeanIoU,
    "rmse": RootMeanSquaredError,
    "mae": MeanAbsoluteError,
}
METRICS = tuple(_NAMED)
# And with another k, or average, than that of the name above.
_TOP_K = re.compile(r"top_([1-9]\d{0,8})_accuracy")
_AVERAGED = re.compile(r"(precision|recall|f1|mean_iou)_(micro|binary)")
# In a history; of several outputs the name, or number, of one stands behind.
_MEASURED = re.compile(
    rf"(?P<name>{_TOP_K.pattern}|{_AVERAGED.pattern}|{'|'.join(METRICS)})(_\w{{1,100}})?"
)


def is_metric_name(name: str) -> bool:
    """Return whether a history may have a metric of that name."""
    return _MEASURED.fullmatch(name) is not None


def rises(name: str) -> bool:
    """Return whether what has that name in a history is better the larger it is."""
    found = _MEASURED.fullmatch(name.removeprefix("val_"))
    return found is not None and found["name"] not in ("rmse", "mae")


def get_metric(metric: Metric | str, where: str = "metric") -> Metric:
    """Return the metric of that name; a metric is given back as it is.

    Names are those of the histories: "top_3_accuracy", "f1", "f1_micro", "f1_binary".
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, type):
        raise TypeError(f"{where}: expected a metric, got the class {metric.__name__}; call it")
    name = metric if isinstance(metric, str) else ""
    if found := _TOP_K.fullmatch(name):
        return TopKAccuracy(int(found[1]))
    if found := _AVERAGED.fullmatch(name):
        return _NAMED[found[1]](found[2])
    return _NAMED[choice(metric, where, METRICS)]()


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _unfit(metric: Metric, expected: str) -> ValueError:
    return ValueError(f"metrics: {metric.name}: expected {expected}")


# ---------------------------------------------------------------------- functions
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
    predicted, true = Answers(logits, truth).labels()
    return int(np.count_nonzero(predicted == true))
