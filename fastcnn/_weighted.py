"""The loss of a model with several outputs; and the means that training shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn import nn
from fastcnn._options import number
from fastcnn._several import Ends, is_any, last_layers, places
from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.losses import CrossEntropy, Loss, called, get_loss
from fastcnn.metrics import hits as correct

__all__ = [
    "Losses",
    "Terms",
    "loss_of",
    "loss_weights_of",
    "require_logits",
    "require_one_each",
    "tally_of",
]


class Terms(float):
    """A weighted sum of losses, which knows them."""

    terms: tuple[float, ...]

    @classmethod
    def of(cls, terms: Sequence[float], weights: Sequence[float]) -> Terms:
        """Return the sum of these terms, each times its weight."""
        total = cls(sum(w * term for w, term in zip(weights, terms, strict=True)))
        total.terms = tuple(terms)
        return total


class Losses(Loss):
    """A loss for each of a model's outputs. Together they are their sum, each times its weight.

    Predictions, targets and gradients are tuples.
    """

    def __init__(self, losses: Sequence[Loss], weights: Sequence[float] | None = None) -> None:
        self.losses = tuple(losses)
        self.weights = (1.0,) * len(self.losses) if weights is None else tuple(weights)

    def __repr__(self) -> str:
        return repr(list(self.losses))

    def __call__(  # type: ignore[override]
        self,
        prediction: tuple[Array, ...],
        target: tuple[Array, ...],
        backend: Backend,
        sample_weight: Array | None = None,
    ) -> tuple[Terms, Callable[[], tuple[Array, ...]]]:
        """Return (loss, backward) of one batch."""
        results = [
            called(loss, y, wanted, backend, sample_weight)
            for loss, y, wanted in zip(self.losses, prediction, target, strict=True)
        ]

        def backward() -> tuple[Array, ...]:
            made = ((gradient(), w) for (_, gradient), w in zip(results, self.weights, strict=True))
            return tuple(
                gradient if w == 1 else gradient * gradient.dtype.type(w) for gradient, w in made
            )

        return Terms.of([float(value) for value, _ in results], self.weights), backward

    def fitted(self, targets: Any, output_shape: Any) -> Loss:
        """Return the losses for these targets."""
        parts = zip(self.losses, targets, output_shape, strict=True)
        return Losses([loss.fitted(*others) for loss, *others in parts], self.weights)

    @property
    def depends_on_targets(self) -> bool:
        """Whether one of them looks at the targets."""
        return any(loss.depends_on_targets for loss in self.losses)

    def weight(self, target: Any, sample_weight: Array | None = None) -> float:
        """Return by how much a batch counts for the loss for which it counts least."""
        parts = zip(self.losses, target, strict=True)
        return min(loss.weight(wanted, sample_weight) for loss, wanted in parts)

    @property
    def takes_weights(self) -> bool:
        """Whether all of them do."""
        return all(loss.takes_weights for loss in self.losses)


def loss_of(loss: Any, weights: Sequence[float] | None, outputs: int | None, ends: Ends) -> Loss:
    """Return what a caller gave as a loss, or a list or dict of them for several outputs.

    outputs: how many the model gives, 0 for one by itself, None if unknown; ends: their names.
    """
    if isinstance(loss, Losses):
        loss = loss.losses
    if isinstance(loss, Mapping):
        if outputs == 0 and ends.names is None:
            raise TypeError("loss: expected one loss for a model that gives one array, got a dict")
        loss = ends.listed(loss, "loss")
        loss = loss if outputs else loss[0]
    if not isinstance(loss, (list, tuple)):
        checked = get_loss(loss)
        require_one_each(checked, outputs)
        if weights is not None:
            raise ValueError(
                "loss: expected a list of losses, which loss_weights go with, got one loss; set "
                "loss_weights = None first"
            )
        return checked
    if weights is not None and len(loss) != len(weights):
        raise ValueError(
            f"loss: expected a list of {len(weights)}, as many as loss_weights, got {len(loss)}; "
            "set loss_weights = None first"
        )
    named = zip(loss, _called(ends, "loss", len(loss)), strict=True)
    several_ = Losses([_one_of(*pair) for pair in named], weights)
    require_one_each(several_, outputs)
    return several_


def _one_of(loss: Any, where: str) -> Loss:
    try:
        return get_loss(loss)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {str(error).removeprefix('loss: ')}") from None


def require_one_each(loss: Loss, outputs: int | None) -> None:
    """Refuse another number of losses than a model has outputs (0: one by itself)."""
    if outputs is None or outputs == (len(loss.losses) if isinstance(loss, Losses) else 0):
        return
    got = f"a list of {len(loss.losses)}" if isinstance(loss, Losses) else f"one, {loss!r:.80}"
    if outputs:
        raise ValueError(
            f"loss: expected a list of {outputs}, one for each of the model's outputs, got {got}"
        )
    raise ValueError(f"loss: expected one loss for a model that gives one array, got {got}")


def loss_weights_of(weights: Any, loss: Loss, ends: Ends) -> tuple[float, ...] | None:
    """Return the weights of several losses as floats, or None."""
    if weights is None:
        return None
    if not isinstance(loss, Losses):
        raise ValueError(
            "loss_weights: expected None with one loss, which has nothing to be weighed against, "
            f"got {weights!r:.80}"
        )
    if isinstance(weights, Mapping):
        weights = ends.listed(weights, "loss_weights")
    if not isinstance(weights, (list, tuple, np.ndarray)) or len(weights) != len(loss.losses):
        raise ValueError(
            f"loss_weights: expected a list of {len(loss.losses)} numbers, one a loss, got "
            f"{weights!r:.80}"
        )
    named = zip(weights, _called(ends, "loss_weights", len(weights)), strict=True)
    return tuple(number(weight, name, 0.0) for weight, name in named)


def _called(ends: Ends, where: str, count: int) -> tuple[str, ...]:
    """Return what so many values are called; they may be too many, or of outputs not yet known."""
    return ends.called(where) if count == ends.number else places(where, range(count))


def require_logits(model: nn.Module, loss: Loss) -> None:
    """Refuse cross-entropy of an output that a softmax makes."""
    losses = loss.losses if isinstance(loss, Losses) else (loss,)
    for one, layer in zip(losses, last_layers(model), strict=False):
        if isinstance(one, CrossEntropy) and is_any(layer, "softmax"):
            raise ValueError(
                "model: expected one that gives logits, which cross_entropy takes, got one that "
                "ends in a softmax; leave it out (predict_proba applies it)"
            )


# ---------------------------------------------------------------------- means
class Tally:
    """The mean loss of the batches so far, and their accuracy where targets are classes."""

    def __init__(self, loss: Loss) -> None:
        self._loss, self._has_accuracy = loss, loss.measures_accuracy
        self._total, self._weights, self._hits, self._count = 0.0, 0.0, 0, 0

    def add(self, value: float, prediction: Any, target: Any, sample_weight: Array | None) -> None:
        """Count a batch with its loss."""
        weight = self._loss.weight(target, sample_weight)
        self._total += value * weight
        self._weights += weight
        if self._has_accuracy:
            self._hits += correct(prediction, target)
            self._count += len(target)

    @property
    def names(self) -> tuple[str, ...]:
        """What `numbers` are called."""
        return ("loss", "accuracy") if self._has_accuracy else ("loss",)

    @property
    def mean(self) -> float:
        """The mean loss."""
        return self._total / self._weights if self._weights else 0.0

    def numbers(self) -> dict[str, float]:
        """Return the means by their names."""
        numbers = {"loss": self.mean}
        if self._has_accuracy:
            numbers["accuracy"] = self._hits / self._count
        return numbers


class _Tallies(Tally):
    """A mean for each of several losses, and their weighted sum."""

    _loss: Losses

    def __init__(self, loss: Losses, names: Sequence[str] | None) -> None:
        super().__init__(loss)
        self._each = [Tally(one) for one in loss.losses]
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


def tally_of(loss: Loss, names: Sequence[str] | None) -> Tally:
    """Return a tally that suits a loss; names: those of the outputs, if they have some."""
    return _Tallies(loss, names) if isinstance(loss, Losses) else Tally(loss)
