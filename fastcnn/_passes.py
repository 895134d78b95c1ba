"""The forward and backward passes of training steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from fastcnn import nn
from fastcnn.backend import Array, Backend
from fastcnn.losses import CrossEntropy, Loss, MeanSquaredError

__all__ = ["Passes"]

Call = Callable[[], Any]

# Layers that do nothing but call ops, the same for each batch of a shape. Not Dropout, which draws;
# and a subclass may do anything.
_REPEATABLE = frozenset(vars(nn)[name] for name in nn.__all__) - {nn.Dropout}
# Numbers of a batch up to which a step's arrays are kept for the next: more overfill the caches,
# and then the pool is faster, which gives out again what was last in use.
_SMALL = 1 << 18


class Passes:
    """Runs forward and backward passes of a model and its loss, one batch after another.

    For batches that come in the same arrays each time, a backend that can record does so at the
    first: the later ones are the same kernel calls on the same arrays, with no Python between
    them. It is for the steps of an epoch, while layers, loss and arrays stay what they are; only
    the numbers in the arrays may change.
    """

    def __init__(self, model: nn.Module, loss: Loss, backend: Backend) -> None:
        self._model, self._loss, self._backend = model, loss, backend
        self._recorder: Any = None
        # Asked of the type: a wrapper that hands calls on to a fast backend wants to see them.
        if _is_repeatable(model, loss) and hasattr(type(backend), "prepared"):
            self._recorder = cast("Any", backend).prepared.recorder()
        self._inputs: tuple[Array, Array] | None = None  # of what is recorded:
        self._forward: list[Call] = []
        self._backward: list[Call] = []
        self._gradients: list[tuple[nn.Parameter, Array | None]] = []
        self._prediction = np.empty(0)

    def __call__(
        self, x: Array, target: Array, rng: np.random.Generator
    ) -> tuple[Array, float, Call]:
        """Return (prediction, loss, backward); backward() leaves the parameters' gradients.

        The prediction is good until the next call.
        """
        if self._inputs is not None and x is self._inputs[0] and target is self._inputs[1]:
            for call in self._forward:
                loss = call()  # that of the last
            return self._prediction, loss, self._repeat_backward
        recorder, self._recorder = self._recorder if x.size <= _SMALL else None, None
        backend = self._backend if recorder is None else recorder
        prediction, model_backward = self._model.forward(
            x, backend, training=True, rng=rng, input_gradient=False
        )
        loss, loss_backward = self._loss(prediction, target, backend)
        if recorder is None:
            return prediction, loss, lambda: model_backward(loss_backward())
        forward = len(recorder)

        def backward() -> None:
            model_backward(loss_backward())
            if recorder.whole:
                self._inputs, self._prediction = (x, target), prediction
                calls = recorder.calls()
                self._forward, self._backward = calls[:forward], calls[forward:]
                parameters = self._model.parameters().values()
                self._gradients = [(parameter, parameter.grad) for parameter in parameters]

        return prediction, loss, backward

    def _repeat_backward(self) -> None:
        for call in self._backward:
            call()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient


def _is_repeatable(model: nn.Module, loss: Loss) -> bool:
    """Return whether the passes call the same ops for each batch, and do nothing else."""
    if type(loss) is CrossEntropy:
        weighted = loss.class_weights is not None  # then it is divided by the batch's weight
        return not weighted and all(type(module) in _REPEATABLE for module in model.modules())
    return type(loss) is MeanSquaredError and all(
        type(module) in _REPEATABLE for module in model.modules()
    )
