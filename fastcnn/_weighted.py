"""The loss of a model with several outputs, and what goes with a model's outputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn import nn
from fastcnn._options import number
from fastcnn._several import Ends, is_any, last_layers, places
from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.losses import Loss, called, get_loss

__all__ = [
    "Losses",
    "Terms",
    "loss_of",
    "loss_weights_of",
    "require_logits",
    "require_one_each",
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
    """Refuse a loss of logits for an output that its softmax or sigmoid makes already."""
    losses = loss.losses if isinstance(loss, Losses) else (loss,)
    for one, layer in zip(losses, last_layers(model), strict=False):
        if one.activation is not None and is_any(layer, one.activation):
            name = _snake(type(one).__name__)
            raise ValueError(
                f"model: expected one that gives logits, which {name} takes, got one that "
                f"ends in a {one.activation}; leave it out (predict_proba applies it)"
            )


def _snake(name: str) -> str:
    """Return a class's name as that of a function."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
