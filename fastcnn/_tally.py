"""Metrics beside a loss, and the means that training and evaluation show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn._loss import Loss
from fastcnn._metric import Answers, Metric
from fastcnn._several import Ends, places
from fastcnn._types import Array
from fastcnn._weighted import Losses, Terms
from fastcnn.metrics import Accuracy, get_metric

__all__ = ["AnyMetrics", "Tally", "metrics_of", "require_metrics", "tally_of"]


Metrics = tuple[Metric, ...]
AnyMetrics = Metrics | tuple[Metrics, ...] | None  # of one output, of each of several, the usual


def metrics_of(given: Any, loss: Loss, ends: Ends) -> AnyMetrics:
    """Return what a caller gave as metrics, by name or not.

    Of several losses that is a list for each, or a dict of lists by the outputs' names.
    """
    if given is None:
        return None
    if not isinstance(loss, Losses):
        found: Any = _of_one(given, "metrics")
    else:
        if isinstance(given, Mapping):
            given = ends.listed(given, "metrics")
        if not isinstance(given, (list, tuple)) or len(given) != len(loss.losses):
            raise ValueError(
                f"metrics: expected {len(loss.losses)} lists, one for each of the losses, or None, "
                f"got {given!r:.80}"
            )
        count = len(given)
        called = ends.called("metrics") if count == ends.number else places("metrics", range(count))
        found = tuple(_of_one(one, where) for one, where in zip(given, called, strict=True))
    checked: AnyMetrics = found
    require_metrics(checked, loss)
    return checked


def _of_one(given: Any, where: str) -> Metrics:
    if not isinstance(given, (list, tuple)):
        raise TypeError(
            f'{where}: expected a list such as ["accuracy", "f1"], or None, got '
            f"{type(given).__name__}"
        )
    metrics = tuple(get_metric(one, f"{where}[{at}]") for at, one in enumerate(given))
    names = [one.name for one in metrics]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise ValueError(f"{where}: expected each once, got {name} twice")
    return metrics


def require_metrics(metrics: AnyMetrics, loss: Loss) -> None:
    """Refuse metrics that mean nothing next to a loss, or to each of several."""
    if metrics is None:
        return
    several = [one for one in metrics if isinstance(one, tuple)]
    if isinstance(loss, Losses):
        if len(several) != len(loss.losses):
            raise ValueError(
                f"metrics: expected {len(loss.losses)} lists, one for each of the losses, got "
                f"{metrics!r:.80}; set metrics = None first"
            )
        for of_one, one_loss in zip(several, loss.losses, strict=True):
            require_metrics(of_one, one_loss)
        return
    if several:
        raise ValueError(
            f"metrics: expected a list for one loss, got {len(several)}; set metrics = None first"
        )
    metric: Any
    for metric in metrics:
        if metric.of_classes != loss.measures_accuracy:
            kind = "classes, as cross_entropy or binary_cross_entropy"
            if not metric.of_classes:
                kind = "numbers, as mean_squared_error"
            raise ValueError(
                f"metrics: {metric.name}: expected a loss of {kind}, got {type(loss).__name__}"
            )


def _answers(loss: Loss, prediction: Array, target: Array) -> Answers:
    ignored = getattr(loss, "ignore_label", None)
    binary = loss.activation == "sigmoid"
    return Answers(prediction, target, binary=binary, ignore_label=ignored)


# ---------------------------------------------------------------------- means
class Tally:
    """The mean loss of the batches so far, and their metrics; by default that is the accuracy."""

    def __init__(self, loss: Loss, metrics: Metrics | None = None) -> None:
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
    """A mean for each of several losses, and their weighted sum; the metrics of each."""

    _loss: Losses

    def __init__(
        self, loss: Losses, names: Sequence[str] | None, metrics: Sequence[Metrics] | None
    ) -> None:
        super().__init__(loss)
        given = metrics or [()] * len(loss.losses)
        self._each = [Tally(*pair) for pair in zip(loss.losses, given, strict=True)]
        self._names = tuple(map(str, names or range(len(self._each))))

    def add(self, value: Any, prediction: Any, target: Any, sample_weight: Array | None) -> None:
        parts = zip(self._each, value.terms, prediction, target, strict=True)
        for tally, term, output, wanted in parts:
            tally.add(term, output, wanted, sample_weight)

    def require_fit(self, output_shape: Any, dtype: Any, target: Any) -> None:
        for tally, *given in zip(self._each, output_shape, target, strict=True):
            tally.require_fit(given[0], dtype, given[1])

    @property
    def names(self) -> tuple[str, ...]:
        return "loss", *self._joined([dict.fromkeys(tally.names, 0.0) for tally in self._each])

    def numbers(self) -> dict[str, float]:
        numbers = [tally.numbers() for tally in self._each]
        means = [each["loss"] for each in numbers]
        total = float(Terms.of(means, self._loss.weights))
        return {"loss": total, **self._joined(numbers)}

    def _joined(self, numbers: list[dict[str, float]]) -> dict[str, float]:
        """Return the numbers of all outputs by name and output; losses come first."""
        pairs = list(zip(self._names, numbers, strict=True))
        losses = {f"loss_{output}": each["loss"] for output, each in pairs}
        return losses | {f"{n}_{output}": v for output, each in pairs for n, v in each.items()}


def tally_of(loss: Loss, names: Sequence[str] | None, metrics: AnyMetrics = None) -> Tally:
    """Return a tally that suits a loss; names: those of the outputs, if they have some."""
    given: Any = metrics
    return _Tallies(loss, names, given) if isinstance(loss, Losses) else Tally(loss, given)
