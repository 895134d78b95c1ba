"""The forward and backward passes of training steps: a program, run as a plan or op by op."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastcnn import nn
from fastcnn._backends import as_fast
from fastcnn._several import Arrays, listed
from fastcnn._types import Array
from fastcnn._weighted import Losses
from fastcnn.backend import Backend
from fastcnn.losses import OWN, Loss, called, is_op
from fastcnn.nn._places import is_several, shapes_of
from fastcnn.nn._variable import Buffer, Parameter
from fastcnn.optim import SGD, Adam, AdamW, Optimizer
from fastcnn.program import Interpreter, Program, differentiate, trace
from fastcnn.program.program import PYTHON

if TYPE_CHECKING:
    from fastcnn.fast import FastBackend

__all__ = ["Kept", "Passes"]

_OPTIMIZERS = (SGD, Adam, AdamW)
_MOST_BYTES = 64 << 20  # that wait for another fit: steps that need more gain nothing by it


class Kept:
    """What serves in one epoch after another: plans, and the arrays in which batches come."""

    def __init__(self) -> None:
        self.plans: dict[Any, _KeptPlan] = {}  # by the shapes of a batch
        self.arrays: dict[Any, list[Array]] = {}

    def between_fits(self) -> Kept:
        """Return what is kept for the next fit: all of it if that is little, else nothing."""
        nbytes = sum(kept.plan.nbytes for kept in self.plans.values())
        nbytes += sum(array.nbytes for arrays in self.arrays.values() for array in arrays)
        return self if nbytes <= _MOST_BYTES else Kept()


class _KeptPlan(NamedTuple):
    """A plan and what it is for: a program, which is the same in the same state of a model."""

    plan: Any
    wanted: tuple[Any, ...]  # but for the program
    program: Program
    state: tuple[Any, ...] | None


def _state_of(model: nn.Module, layers: list[nn.Module]) -> tuple[Any, ...] | None:
    """Return what a model's program depends on, beside settings and the batch; None where unknown.

    It is known of layers of the house alone, whose other options stay, and while no two parameters
    or buffers share an array: a program tells them apart by these.
    """
    arrays: list[int] = []
    for layer in layers:
        if type(layer)._known is None or "forward" in vars(layer):
            return None
        arrays += [id(variable._data) for variable in layer._own().values()]
    if len(set(arrays)) < len(arrays):
        return None
    return model, [layer._frozen for layer in layers]


class Passes:
    """Runs forward and backward passes of a model and its loss, one batch after another.

    The model's program is written down for each size of batch. A fast backend runs it as a plan,
    the same kernel calls on the same arrays each time with no Python between them; another backend
    is called op by op. It is for the steps of an epoch, while layers and loss stay what they are,
    but for those options of layers that may be set at any time. A plan whose program is the same in
    the next epoch, or fit, is kept. `arrays`: in which batches should come, None where somebody may
    keep them. `same_gradients`: whether gradients lie in the same arrays each time.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, Parameter],
        buffers: Mapping[str, Buffer],
        loss: Loss,
        optimizer: Optimizer,
        backend: Backend,
        kept: Kept,
    ) -> None:
        self._model, self._loss, self._backend = model, loss, backend
        self._parameters = parameters
        for buffer in buffers.values():
            buffer.update = None  # of a step that was not taken
        self._fast = as_fast(backend)
        self.same_gradients = self._fast is not None
        self._keeps_gradients = type(optimizer) not in _OPTIMIZERS
        losses = loss.losses if isinstance(loss, Losses) else (loss,)
        self._same_arrays = self._fast is not None and all(type(each) in OWN for each in losses)
        self.arrays = kept.arrays if self._same_arrays else None
        self._gives_several = is_several(model.output_shape)
        self._kept = kept.plans
        self._layers = list(model.modules())
        self._settings = [(vars(layer), name) for layer in self._layers for name in layer._settings]
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
        shapes = tuple([array.shape for array in inputs])
        settings = [layer[name] for layer, name in self._settings]
        known, runner = self._runners.get(shapes, (None, None))
        if known == settings and runner.current():
            return runner
        self._runners.pop(shapes, None)
        runner = None  # its memory serves the next
        if self._fast is None:
            program = self._program(inputs, with_loss)
            runner = Interpreter(differentiate(program, self._parameters), self._backend)
        else:
            runner = self._plan(self._fast, shapes, settings, inputs, with_loss)
        self._runners[shapes] = settings, runner
        self._zeros = self._unreached(runner.program)
        return runner

    def _program(self, inputs: tuple[Array, ...], with_loss: bool) -> Program:
        loss, target = None, None
        if with_loss:
            loss, target = self._loss, (inputs[-1].shape, inputs[-1].dtype)
        x = inputs[:-1] if with_loss else inputs
        shapes = shapes_of(x) if is_several(self._model.input_shape) else shapes_of(x[0])
        options: Any = {"loss": loss, "target": target, "input_shape": shapes}
        return trace(self._model, len(x[0]), dtype=x[0].dtype, training=True, **options)

    def _plan(
        self,
        backend: FastBackend,
        shapes: Any,
        settings: list[Any],
        inputs: tuple[Array, ...],
        with_loss: bool,
    ) -> Any:
        """Return the plan of the program: that of an epoch before if it is for the same."""
        from fastcnn.fast._fusions import TRAINING
        from fastcnn.fast._plan import Plan
        from fastcnn.program.match import fuse

        state = _state_of(self._model, self._layers)
        if state is not None:
            loss = (type(self._loss), dict(vars(self._loss))) if with_loss else None
            state += settings, loss, [array.dtype for array in inputs]
        wanted = list(self._parameters), backend, backend.convolution
        kept = self._kept.pop(shapes, None)
        if kept is not None and (kept.wanted != wanted or not kept.plan.current()):
            kept = None
        if kept is None or state is None or kept.state != state:
            program = self._program(inputs, with_loss)
            if kept is None or kept.program != program:
                kept = None  # its memory serves the next
                if not self._same_arrays:
                    inputs = tuple(array.copy() for array in inputs)
                fused = fuse(program, TRAINING)
                plan = Plan(differentiate(fused, self._parameters), backend, *inputs)
                kept = _KeptPlan(plan, wanted, program, state)
        self._kept[shapes] = kept._replace(state=state)
        return kept.plan

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
