"""The forward and backward passes of training steps: a program, run as a plan or op by op."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import nn
from fastcnn._backends import as_fast
from fastcnn._several import Arrays, listed
from fastcnn._types import Array
from fastcnn._weighted import Losses
from fastcnn.backend import Backend
from fastcnn.losses import CrossEntropy, Loss, MeanSquaredError, called, is_op
from fastcnn.nn._places import is_several
from fastcnn.optim import SGD, Adam, AdamW, Optimizer
from fastcnn.program import Interpreter, Program, differentiate, trace
from fastcnn.program.program import PYTHON

if TYPE_CHECKING:
    from fastcnn.fast import FastBackend

__all__ = ["Kept", "Passes"]

_OPTIMIZERS = (SGD, Adam, AdamW)


class Kept:
    """What serves in one epoch after another: plans, and the arrays in which batches come."""

    def __init__(self) -> None:
        # By the shapes of a batch: what a plan is for, and the plan.
        self.plans: dict[Any, tuple[tuple[Any, ...], Any]] = {}
        self.arrays: dict[Any, list[Array]] = {}


class Passes:
    """Runs forward and backward passes of a model and its loss, one batch after another.

    The model's program is written down for each size of batch. A fast backend runs it as a plan,
    the same kernel calls on the same arrays each time with no Python between them; another backend
    is called op by op. It is for the steps of an epoch, while layers and loss stay what they are,
    but for those options of layers that may be set at any time. A plan whose program is the same in
    the next epoch is kept. `arrays`: in which batches should come, None where somebody may keep
    them. `same_gradients`: whether gradients lie in the same arrays each time.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, optimizer: Optimizer, backend: Backend, kept: Kept
    ) -> None:
        self._model, self._loss, self._backend = model, loss, backend
        self._parameters = model.trained_parameters()
        for buffer in model.buffers().values():
            buffer.update = None  # of a step that was not taken
        self._fast = as_fast(backend)
        self.same_gradients = self._fast is not None
        self._keeps_gradients = type(optimizer) not in _OPTIMIZERS
        losses = loss.losses if isinstance(loss, Losses) else (loss,)
        self._same_arrays = self._fast is not None and all(
            type(each) in (CrossEntropy, MeanSquaredError) for each in losses
        )
        self.arrays = kept.arrays if self._same_arrays else None
        self._gives_several = is_several(model.output_shape)
        self._kept = kept.plans
        self._settings = model._settings_of_all()
        # By the shapes of a batch: the settings when it was made, or found to be the same, and it.
        self._runners: dict[Any, tuple[list[Any] | None, Any]] = {}
        self._zeros: dict[str, Array] = {}  # of parameters that no output depends on

    def __call__(
        self, x: Arrays, target: Arrays, weights: Array | None, rng: np.random.Generator
    ) -> tuple[Arrays, float, Callable[[], None]]:
        """Return (prediction, loss, backward); backward() leaves the parameters' gradients.

        weights: of the samples, or None. The prediction is good until the next call. Of several
        inputs or outputs x, or target and prediction, are tuples.
        """
        prediction: Arrays
        with_loss = weights is None and is_op(self._loss)
        inputs = (*listed(x), target) if with_loss else listed(x)
        runner = self._runner(inputs, with_loss)
        outputs = runner.forward(*inputs, rng=rng)
        if with_loss:
            prediction, loss = outputs
            return prediction, loss, lambda: self._leave(runner.backward())
        if not self._same_arrays:
            outputs = [output.copy() for output in outputs]
        prediction = tuple(outputs) if self._gives_several else outputs[0]
        value, gradient = called(self._loss, prediction, target, self._backend, weights)
        return prediction, value, lambda: self._leave(runner.backward(*listed(gradient())))

    def _leave(self, gradients: dict[str, Array]) -> None:
        """Leave the gradients in the parameters; what foreign layers computed is there already."""
        for name, gradient in {**self._zeros, **gradients}.items():
            self._parameters[name].grad = gradient.copy() if self._keeps_gradients else gradient

    def _runner(self, inputs: tuple[Array, ...], with_loss: bool) -> Any:
        """Return what runs the program for a batch of this size; with a loss, the target is last.

        The losses of several outputs are called one by one: theirs is no program.
        """
        shapes = tuple(array.shape for array in inputs)
        settings = [layer[name] for layer, name in self._settings]
        known, runner = self._runners.pop(shapes, (None, None))
        if known == settings and runner.current():
            self._runners[shapes] = settings, runner
            return runner
        runner = None  # its memory serves the next
        loss, target = None, None
        if with_loss:
            loss, target = self._loss, (inputs[-1].shape, inputs[-1].dtype)
        x = inputs[0]
        program = trace(self._model, len(x), dtype=x.dtype, training=True, loss=loss, target=target)
        if self._fast is None:
            runner = Interpreter(differentiate(program, self._parameters), self._backend)
        else:
            runner = self._plan(self._fast, shapes, program, inputs)
        self._runners[shapes] = settings, runner
        self._zeros = self._unreached(runner.program)
        return runner

    def _plan(
        self, backend: FastBackend, shapes: Any, program: Program, inputs: tuple[Array, ...]
    ) -> Any:
        """Return the plan of a program: that of an epoch before if it is for the same."""
        from fastcnn.fast._fusions import TRAINING
        from fastcnn.fast._plan import Plan
        from fastcnn.program.match import fuse

        wanted = program, list(self._parameters), backend, backend.convolution
        known, plan = self._kept.pop(shapes, (None, None))
        if plan is None or known != wanted or not plan.current():
            plan = None  # as above
            if not self._same_arrays:
                inputs = tuple(array.copy() for array in inputs)
            fused = fuse(program, TRAINING)
            plan = Plan(differentiate(fused, self._parameters), backend, *inputs)
        self._kept[shapes] = wanted, plan
        return plan

    def _unreached(self, program: Program) -> dict[str, Array]:
        """Return a gradient of zeros for each parameter that no output depends on.

        As of a layer behind an output of a model within this one that nobody uses.
        """
        foreign = {
            id(parameter)
            for node in program.nodes
            if node.op == PYTHON
            for parameter in node.attributes["layer"].parameters().values()
        }
        return {
            name: np.zeros_like(parameter._data)
            for name, parameter in self._parameters.items()
            if name not in program.gradients and id(parameter) not in foreign
        }
