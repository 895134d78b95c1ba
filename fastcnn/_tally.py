"""Metrics beside a loss, and the means that training and evaluation show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn._loss import Loss
from fastcnn._metric import Answers, Metric
from fastcnn._types import Array
from fastcnn._weighted import Losses, Terms
from fastcnn.metrics import Accuracy, get_metric

__all__ = ["Tally", "metrics_of", "require_metrics", "tally_of"]


def metrics_of(given: Any, loss: Loss) -> tuple[Metric, ...] | None:
    """Return what a caller gave as metrics of one output, by name or not; None for the usual."""
    if given is None:
        return None
    if not isinstance(given, (list, tuple)):
        raise TypeError(
            'metrics: expected a list such as ["accuracy", "f1"], or None, got '
            f"{type(given).__name__}"
        )
    metrics = tuple(get_metric(one, f"metrics[{at}]") for at, one in enumerate(given))
    names = [one.name for one in metrics]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise ValueError(f"metrics: expected each once, got {name} twice")
    require_metrics(metrics, loss)
    return metrics


def require_metrics(metrics: Sequence[Metric] | None, loss: Loss) -> None:
    """Refuse metrics that mean nothing next to a loss."""
    for one in metrics or ():
        if isinstance(loss, Losses):
            raise ValueError(
                f"metrics: expected None with several losses, got {one.name}; predict gives the "
                "outputs"
            )
        if one.of_classes and not loss.measures_accuracy:
            raise ValueError(
                f"metrics: {one.name}: expected a loss of classes, as cross_entropy or "
                f"binary_cross_entropy, got {type(loss).__name__}"
            )
        if not one.of_classes and loss.measures_accuracy:
            raise ValueError(
                f"metrics: {one.name}: expected a loss of numbers, as mean_squared_error, got "
                f"{type(loss).__name__}"
            )


def _answers(loss: Loss, prediction: Array, target: Array) -> Answers:
    ignored = getattr(loss, "ignore_label", None)
    binary = loss.activation == "sigmoid"
    return Answers(prediction, target, binary=binary, ignore_label=ignored)


# ---------------------------------------------------------------------- means
class Tally:
    """The mean loss of the batches so far, and their metrics; by default that is the accuracy."""

    def __init__(self, loss: Loss, metrics: Sequence[Metric] | None = None) -> None:
        if metrics is None:
            metrics = (Accuracy(),) if loss.measures_accuracy else ()
        self._loss, self._metrics = loss, metrics
        self._total, self._weights = 0.0, 0.0
        self._sums: list[Any] = [0.0] * len(metrics)

    def add(self, value: float, prediction: Any, target: Any, sample_weight: Array | None) -> None:
        """Count a batch with its loss."""
        weight = self._loss.weight(target, sample_weight)
        self._total += value * weight
        self._weights += weight
        if self._metrics:
            answers = _answers(self._loss, prediction, target)
            for at, metric in enumerate(self._metrics):
                self._sums[at] = self._sums[at] + metric.sums(answers)

    def require_fit(self, output_shape: Any, dtype: Any, target: Any) -> None:
        """Raise what a metric would raise of targets like these, before a step is taken."""
        answers = _answers(self._loss, np.zeros((len(target), *output_shape), dtype), target)
        for metric in self._metrics:
            metric.sums(answers)

    @property
    def names(self) -> tuple[str, ...]:
        """What `numbers` are called."""
        return ("loss", *(metric.name for metric in self._metrics))

    @property
    def mean(self) -> float:
        """The mean loss."""
        return self._total / self._weights if self._weights else 0.0

    def numbers(self) -> dict[str, float]:
        """Return the means by their names."""
        numbers = {"loss": self.mean}
        for metric, sums in zip(self._metrics, self._sums, strict=True):
            numbers[metric.name] = metric.value(sums)
        return numbers


class _Tallies(Tally):
    """A mean for each of several losses, and their weighted sum."""

    _loss: Losses

    def __init__(self, loss: Losses, names: Sequence[str] | None) -> None:
        super().__init__(loss)
        self._each = [Tally(one, ()) for one in loss.losses]
        self._names = tuple(map(str, names or range(len(self._each))))

    def add(self, value: Any, prediction: Any, target: Any, sample_weight: Array | None) -> None:
        parts = zip(self._each, value.terms, prediction, target, strict=True)
        for tally, term, output, wanted in parts:
            tally.add(term, output, wanted, sample_weight)

    @property
    def names(self) -> tuple[str, ...]:
        return "loss", *(f"loss_{name}" for name in self._names)

    def numbers(self) -> dict[str, float]:
        means = [tally.mean for tally in self._each]
        total = float(Terms.of(means, self._loss.weights))
        return dict(zip(self.names, [total, *means], strict=True))


def tally_of(
    loss: Loss, names: Sequence[str] | None, metrics: Sequence[Metric] | None = None
) -> Tally:
    """Return a tally that suits a loss; names: those of the outputs, if they have some."""
    return _Tallies(loss, names) if isinstance(loss, Losses) else Tally(loss, metrics)
