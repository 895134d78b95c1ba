"""Losses that are a mean of what each number costs, on the compiled kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, same_shape
from fastcnn._limits import number_or_each
from fastcnn._options import number
from fastcnn._types import Array
from fastcnn.fast._losses import check_weights
from fastcnn.fast._memory_bound import MemoryBound

__all__ = ["Costs", "require_fractions"]


class _Options(NamedTuple):
    """What a kernel is given of a loss: a for all numbers or one a channel, and two more."""

    a: Array
    b: float = 0.0
    c: float = 0.0

    @classmethod
    def of(cls, a: float | tuple[float, ...], b: float = 0.0, c: float = 0.0) -> _Options:
        return cls(np.atleast_1d(np.array(a, np.float64)), b, c)


class Costs(MemoryBound):
    """The losses of labels by logits and of distances, each with its gradient."""

    def _cost(self, op: str, arrays: tuple[Array, Array, Array | None], options: _Options) -> float:
        """Return the mean cost of checked arrays."""
        x, target, weights = arrays
        costs = self._load(x).costs
        parts = self._empty((costs.number_of_cost_parts(x.size),), np.dtype(np.float64))
        mean = _share(x, weights)
        flat = x.reshape(-1), target.reshape(-1)
        loss: float = self._run(
            costs.mean_cost, op, parts, *flat, weights, *mean, *options, self._team(x)
        )
        return loss

    def _cost_backward(
        self,
        op: str,
        dloss: float,
        arrays: tuple[Array, Array, Array | None],
        options: _Options,
    ) -> Array:
        """Return the gradient of `_cost`."""
        dloss = number(dloss, f"{op}: dloss")
        x, target, weights = arrays
        dx = self._empty(x.shape, x.dtype)
        kernel, name = self._load(x).costs.mean_cost_backward, op.removesuffix("_backward")
        flat = x.reshape(-1), target.reshape(-1)
        mean = _share(x, weights)
        self._run(
            kernel, name, dx.reshape(-1), dloss, *flat, weights, *mean, *options, self._team(x)
        )
        return dx

    def _labelled(
        self, op: str, logits: ArrayLike, target: ArrayLike, weights: ArrayLike | None
    ) -> tuple[Array, Array, Array | None]:
        """Return logits, targets from 0 to 1 and weights, checked."""
        arrays = _alike(op, "logits", logits, target, weights)
        self._check(require_fractions, op, arrays[1])
        return arrays

    def mean_absolute_error(
        self,
        prediction: ArrayLike,
        target: ArrayLike,
        *,
        sample_weights: ArrayLike | None = None,
    ) -> float:
        op = "mean_absolute_error"
        arrays = _alike(op, "prediction", prediction, target, sample_weights)
        return self._cost(op, arrays, _Options.of(0.0))

    def mean_absolute_error_backward(
        self,
        dloss: float,
        prediction: ArrayLike,
        target: ArrayLike,
        *,
        sample_weights: ArrayLike | None = None,
    ) -> Array:
        op = "mean_absolute_error_backward"
        arrays = _alike(op, "prediction", prediction, target, sample_weights)
        return self._cost_backward(op, dloss, arrays, _Options.of(0.0))

    def huber(
        self,
        prediction: ArrayLike,
        target: ArrayLike,
        *,
        delta: float = 1.0,
        sample_weights: ArrayLike | None = None,
    ) -> float:
        arrays = _alike("huber", "prediction", prediction, target, sample_weights)
        return self._cost("huber", arrays, _delta("huber", delta))

    def huber_backward(
        self,
        dloss: float,
        prediction: ArrayLike,
        target: ArrayLike,
        *,
        delta: float = 1.0,
        sample_weights: ArrayLike | None = None,
    ) -> Array:
        op = "huber_backward"
        arrays = _alike(op, "prediction", prediction, target, sample_weights)
        return self._cost_backward(op, dloss, arrays, _delta(op, delta))

    def binary_cross_entropy(
        self,
        logits: ArrayLike,
        target: ArrayLike,
        *,
        pos_weight: float | Sequence[float] | None = None,
        sample_weights: ArrayLike | None = None,
    ) -> float:
        op = "binary_cross_entropy"
        arrays = self._labelled(op, logits, target, sample_weights)
        return self._cost(op, arrays, _pos_weight(op, pos_weight, arrays[0]))

    def binary_cross_entropy_backward(
        self,
        dloss: float,
        logits: ArrayLike,
        target: ArrayLike,
        *,
        pos_weight: float | Sequence[float] | None = None,
        sample_weights: ArrayLike | None = None,
    ) -> Array:
        op = "binary_cross_entropy_backward"
        arrays = self._labelled(op, logits, target, sample_weights)
        return self._cost_backward(op, dloss, arrays, _pos_weight(op, pos_weight, arrays[0]))

    def focal(
        self,
        logits: ArrayLike,
        target: ArrayLike,
        *,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        sample_weights: ArrayLike | None = None,
    ) -> float:
        arrays = self._labelled("focal", logits, target, sample_weights)
        return self._cost("focal", arrays, _focus("focal", alpha, gamma))

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
        op = "focal_backward"
        arrays = self._labelled(op, logits, target, sample_weights)
        return self._cost_backward(op, dloss, arrays, _focus(op, alpha, gamma))


# ---------------------------------------------------------------------- options
def _delta(op: str, delta: float) -> _Options:
    return _Options.of(number(delta, f"{op}: delta", 0.0, open_low=True))


def _pos_weight(op: str, pos_weight: float | Sequence[float] | None, logits: Array) -> _Options:
    where = f"{op}: pos_weight"
    weights = 1.0 if pos_weight is None else number_or_each(pos_weight, where, 0.0)
    if isinstance(weights, tuple) and (weights == () or logits.shape[-1:] != (len(weights),)):
        raise ValueError(
            f"{where}: expected a number, or as many as the last axis of the logits of shape "
            f"{logits.shape} has, got {len(weights)} of them"
        )
    return _Options.of(weights)


def _focus(op: str, alpha: float | None, gamma: float) -> _Options:
    gamma = number(gamma, f"{op}: gamma", 0.0)
    if alpha is None:
        return _Options.of(1.0, 1.0, gamma)
    alpha = number(alpha, f"{op}: alpha", 0.0, 1.0)
    return _Options.of(alpha, 1 - alpha, gamma)


# ---------------------------------------------------------------------- arrays
def _alike(
    op: str, name: str, values: ArrayLike, target: ArrayLike, weights: ArrayLike | None
) -> tuple[Array, Array, Array | None]:
    """Return two arrays of one shape and the weights of samples, checked."""
    given: dict[str, Any] = {name: values, "target": target, "sample_weights": weights}
    x, t, weights = float_arrays(op, **given)
    same_shape(t, f"{op}: target", name, x)
    if x.size == 0:
        raise ValueError(f"{op}: {name}: expected at least one value, got shape {x.shape}")
    check_weights(op, "sample_weights", weights, x.shape[:1] or (1,))
    if weights is not None and not weights.any():
        raise ValueError(f"{op}: sample_weights: expected a sum above 0, got 0")
    return x, t, weights


def require_fractions(op: str, target: Array) -> None:
    """Refuse targets that are not from 0 to 1."""
    if not (target.min() >= 0 and target.max() <= 1):  # nor is NaN
        raise ValueError(
            f"{op}: target: expected numbers from 0 to 1, got {target.min():g} to {target.max():g}"
        )


def _share(x: Array, weights: Array | None) -> tuple[int, float]:
    """Return the numbers of a sample and the weights' sum, by which a sum becomes the mean."""
    if weights is None:
        return x.size, 1.0
    return x.size // len(weights), float(weights.sum(dtype=np.float64))
