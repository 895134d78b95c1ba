"""The forward and backward passes of training steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcnn import nn
from fastcnn._preparation import preparation
from fastcnn.backend import Array, Backend
from fastcnn.losses import CrossEntropy, Loss, MeanSquaredError, called
from fastcnn.optim import SGD, Adam, AdamW, Optimizer

__all__ = ["Passes"]

Call = Callable[[], Any]

# Layers that do nothing but call ops, the same for each batch of a shape. Not Dropout, which draws;
# and a subclass may do anything.
_REPEATABLE = frozenset(vars(nn)[name] for name in nn.__all__) - {nn.Dropout}
_OPTIMIZERS = (SGD, Adam, AdamW)
# Numbers of a batch up to which a step's arrays are kept for the next: more overfill the caches,
# and then the pool is faster, which gives out again what was last in use.
_SMALL = 1 << 18
_FEWEST = 3  # batches of one size: to note a step costs as much as two repetitions save


class Passes:
    """Runs forward and backward passes of a model and its loss, one batch after another.

    For batches that come in the same arrays each time, a backend that can record does so at the
    first: the later ones are the same kernel calls on the same arrays, with no Python between
    them. It is for the steps of an epoch, while layers and loss stay what they are. Parameters
    that were given other arrays are noticed, and the steps from there on run op by op.
    alike: how many batches of one size there are, 0 where each has weights of its own by which
    it is divided. `repeatable`: whether steps may be repeated, so that nobody keeps the arrays of
    a batch or a gradient. `same_gradients`: whether those of this step and of each that it may
    repeat lie in the same arrays.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        optimizer: Optimizer,
        backend: Backend,
        alike: int,
    ) -> None:
        self._model, self._loss, self._backend = model, loss, backend
        self._recorder: Any = None
        prepared = preparation(backend)
        repeatable = alike >= _FEWEST and _is_repeatable(model, loss, optimizer)
        if prepared is not None and repeatable:
            self._recorder = prepared.recorder()
        self.repeatable = self._recorder is not None
        self.same_gradients = False
        self._inputs: tuple[Array, Array] | None = None  # of what is recorded:
        self._forward: list[Call] = []
        self._backward: list[Call] = []
        self._parameters: list[tuple[nn.Parameter, Array, Array | None]] = []
        self._prediction = np.empty(0)

    def __call__(
        self, x: Array, target: Array, weights: Array | None, rng: np.random.Generator
    ) -> tuple[Array, float, Call]:
        """Return (prediction, loss, backward); backward() leaves the parameters' gradients.

        weights: of the samples, or None. The prediction is good until the next call.
        """
        self.same_gradients = self._is_recorded(x, target)
        if self.same_gradients:
            for call in self._forward:
                loss = call()  # that of the last
            return self._prediction, loss, self._repeat_backward
        recorder, self._recorder = self._recorder if x.size <= _SMALL else None, None
        backend = self._backend if recorder is None else recorder
        prediction, model_backward = self._model.forward(
            x, backend, training=True, rng=rng, input_gradient=False
        )
        loss, loss_backward = called(self._loss, prediction, target, backend, weights)
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
                self._parameters = [(each, each.data, each.grad) for each in parameters]

        return prediction, loss, backward

    def _is_recorded(self, x: Array, target: Array) -> bool:
        if self._inputs is None or x is not self._inputs[0] or target is not self._inputs[1]:
            return False
        return all(parameter._data is data for parameter, data, _ in self._parameters)

    def _repeat_backward(self) -> None:
        for call in self._backward:
            call()
        for parameter, _, gradient in self._parameters:
            parameter.grad = gradient


def _is_repeatable(model: nn.Module, loss: Loss, optimizer: Optimizer) -> bool:
    """Return whether a step calls the same ops for each batch, and does and keeps nothing else."""
    if type(loss) is CrossEntropy:
        if loss.class_weights is not None:  # then it is divided by the batch's weight
            return False
    elif type(loss) is not MeanSquaredError:
        return False
    return type(optimizer) in _OPTIMIZERS and all(
        type(module) in _REPEATABLE and "forward" not in vars(module) for module in model.modules()
    )
