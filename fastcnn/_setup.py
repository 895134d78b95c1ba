"""What a trainer is made of, and what it makes of data: all of it checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from fastcnn import nn
from fastcnn._backends import get_backend
from fastcnn._batches import Samples
from fastcnn._hints import layout_hint, warn_of_bytes, warn_of_layout
from fastcnn._history import History
from fastcnn._labels import sample_weights
from fastcnn._loss import AnyLoss, Loss
from fastcnn._options import flag, float_dtype, integer
from fastcnn._samples import Given, Sides, Split, require_weight
from fastcnn._sentences import no_attribute
from fastcnn._settings import Checks
from fastcnn._several import (
    Arrays,
    each,
    input_ends,
    known_shape_of,
    listed,
    output_ends,
    outputs_of,
    require_same_count,
)
from fastcnn._step_lock import StepLock
from fastcnn._tally import AnyMetrics, metrics_of, require_metrics
from fastcnn._types import Array
from fastcnn._weighted import Losses, loss_of, loss_weights_of, require_logits, require_one_each
from fastcnn.backend import Backend
from fastcnn.inference import as_images, no_model
from fastcnn.nn._places import count_of
from fastcnn.nn._variable import Buffer
from fastcnn.optim import SGD, Optimizer, get_optimizer
from fastcnn.schedules import Schedule, get_schedule

__all__ = ["Setup"]


def _history(value: object, where: str) -> History:
    if not isinstance(value, History):
        raise TypeError(f"{where}: expected a trainer's history, got {type(value).__name__}")
    return value


def _names(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, tuple) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"{where}: expected a tuple of names, got {value!r:.80}")
    return value


_COUNTERS: Checks = {
    "epoch": partial(integer, minimum=0),
    "step": partial(integer, minimum=0),
    "stop": flag,
    "measured": _names,
    "history": _history,
}

# What people look for on a trainer and find elsewhere.
_ELSEWHERE = {
    "score": "evaluate(x, y) measures the model",
    "test": "evaluate(x, y) measures the model",
    "train": "fit(x, y) trains the model",
    "compile": "Trainer(model, optimizer=..., loss=...) takes what compile would",
    "save": "model.save(path) writes the model, save_state(path) all that training needs to go on",
    "save_weights": "model.save(path) writes the model",
    "load": "fastcnn.load(path) reads a model, load_state(path) what save_state wrote",
    "load_weights": "fastcnn.load(path) reads a model",
    "lr": "optimizer.learning_rate is it",
    "predict_classes": "predict(x).argmax(axis=1) gives labels",
    "get_weights": "model.state_dict() returns the weights by name",
    "weights": "model.state_dict() returns the weights by name",
}


class Setup:
    """A trainer's parts. One that is set anew, between epochs, takes effect from the next one on.

    Each is checked when it is set. A new optimizer or model begins with a state of the optimizer,
    and a count of steps, of its own.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | str | None,
        loss: AnyLoss | Sequence[AnyLoss] | Mapping[str, AnyLoss],
        loss_weights: Sequence[float] | Mapping[str, float] | None,
        metrics: Any,
        backend: Backend | str,
        seed: int,
        schedule: Schedule | str | None,
        dtype: DTypeLike | None,
    ) -> None:
        self._steps = StepLock()
        self._in_epoch = False
        self._looked_at: set[str] = set()  # floats, whether they are images of 0 to 255
        self._model = _module(model)
        self._forget_steps()
        self.optimizer = SGD(0.05, momentum=0.9) if optimizer is None else optimizer
        self._loss_weights: tuple[float, ...] | None = None
        self._metrics: AnyMetrics = None
        self.loss = loss
        self.loss_weights = loss_weights
        self.metrics = metrics
        self.backend = backend
        self.seed = seed
        self.schedule = schedule
        self.dtype = dtype

    @property
    def model(self) -> nn.Module:
        """The model."""
        return self._model

    @model.setter
    def model(self, model: nn.Module) -> None:
        if _module(model) is not self._model:
            self._require_no_epoch("model")
            require_logits(model, self._loss)
            if model.dtype is not None and model.dtype != self._dtype:
                raise ValueError(
                    f"model: expected weights of the trainer's dtype {self._dtype}, got "
                    f"{model.dtype}"
                )
            self._model = model
            self._forget_steps()

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer."""
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: Optimizer | str) -> None:
        checked = get_optimizer(optimizer)
        if checked is not vars(self).get("_optimizer"):
            self._require_no_epoch("optimizer")
            self._optimizer = checked
            self._forget_steps()

    @property
    def loss(self) -> Loss:
        """The loss; of a list of them their weighted sum, whose `losses` they are."""
        return self._loss

    @loss.setter
    def loss(self, loss: AnyLoss | Sequence[AnyLoss] | Mapping[str, AnyLoss]) -> None:
        model = self._model
        checked = loss_of(loss, self._loss_weights, outputs_of(model), output_ends(model))
        require_logits(self._model, checked)
        require_metrics(self._metrics, checked)
        self._loss = checked
        self._fitted_to: Arrays | None = None  # the targets of the last epoch

    @property
    def loss_weights(self) -> tuple[float, ...] | None:
        """By what each of a list of losses is multiplied in their sum; None is 1 for all."""
        return self._loss_weights

    @loss_weights.setter
    def loss_weights(self, weights: Sequence[float] | Mapping[str, float] | None) -> None:
        checked = loss_weights_of(weights, self._loss, output_ends(self._model))
        if isinstance(self._loss, Losses):
            self._loss = Losses(self._loss.losses, checked)
        self._loss_weights = checked

    @property
    def metrics(self) -> AnyMetrics:
        """What is measured beside the loss; None for the accuracy, where targets are classes."""
        return self._metrics

    @metrics.setter
    def metrics(self, metrics: Any) -> None:
        checked = metrics_of(metrics, self._loss, output_ends(self._model))
        if checked != vars(self)["_metrics"]:
            self._require_no_epoch("metrics")
            self._metrics = checked

    @property
    def backend(self) -> Backend:
        """The backend."""
        return self._backend

    @backend.setter
    def backend(self, backend: Backend | str) -> None:
        self._backend = get_backend(backend)

    @property
    def seed(self) -> int:
        """The seed of weights, shuffling, validation_split and dropout."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._seed = integer(seed, "seed", 0, any_size=True)

    @property
    def schedule(self) -> Schedule:
        """The schedule."""
        return self._schedule

    @schedule.setter
    def schedule(self, schedule: Schedule | str | None) -> None:
        self._schedule = get_schedule(schedule)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of weights and arithmetic."""
        return self._dtype

    @dtype.setter
    def dtype(self, dtype: DTypeLike | None) -> None:
        built = self._model.dtype
        checked = float_dtype(dtype if dtype is not None else built or np.float32)
        if built is not None and built != checked:
            raise ValueError(
                f"dtype: expected {built}, which the model was built with, got {checked}"
            )
        self._dtype = checked

    # ------------------------------------------------------------------ what follows from them
    def _require_no_epoch(self, name: str) -> None:
        if self._in_epoch:
            raise RuntimeError(
                f"{name}: expected it to be set between epochs, as by a callback, or between calls "
                "of fit, got it in the midst of an epoch"
            )

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            kind, check = type(self), _COUNTERS.get(name)
            if check is not None:
                value = check(value, name)
            elif not hasattr(kind, name) and kind.__module__.startswith("fastcnn."):
                raise AttributeError(
                    f"{kind.__name__}: {name:.80}: expected an attribute that it has, got another; "
                    "a learning rate and its like are the optimizer's"
                )
        object.__setattr__(self, name, value)

    if not TYPE_CHECKING:  # with it, type checkers would take any attribute

        def __getattr__(self, name: str) -> NoReturn:
            known = dict(_ELSEWHERE)
            if not name.startswith("_") and name not in known:
                for part in ("model", "optimizer"):
                    if hasattr(vars(self).get(f"_{part}"), name):
                        known[name] = f"did you mean trainer.{part}.{name}?"
            raise no_attribute(self, name, known)

    def _forget_steps(self) -> None:
        """Begin anew with an optimizer: its state, and how many steps it has taken."""
        self._parameters: dict[str, nn.Parameter] = {}
        self._buffers: dict[str, Buffer] = {}
        self._optimizer_state: dict[str, Array] = {}
        self._optimizer_step = 0

    def _look_up(self) -> None:
        """Find what training changes, and bring the optimizer's state in line with its settings."""
        self._parameters = self._model.trained_parameters()
        if not self._parameters and self._model.parameters():
            raise ValueError(
                "model: expected layers to train, got a model whose layers are all frozen; set "
                "trainable = True of one"
            )
        self._buffers = self._model.buffers()
        self._optimizer_state = self._optimizer.renewed(self._parameters, self._optimizer_state)

    # ------------------------------------------------------------------ data
    def _sides(self) -> Sides:
        """Return what is known of the model's inputs, and of the outputs that there are losses of.

        ValueError where those are not as many as the model gives.
        """
        require_one_each(self.loss, outputs_of(self.model))
        outputs = len(self.loss.losses) if isinstance(self.loss, Losses) else 0
        return Sides(input_ends(self.model), output_ends(self.model)._replace(number=outputs))

    def _images(self, x: Arrays, where: str, asked: str = "") -> Arrays:
        """Check images, and build the model for them where it has no weights yet.

        The first floats under each of the names, and of what they are asked for, are looked at.
        """
        model = self._model
        shape = known_shape_of(model)
        names: Any = where
        if isinstance(x, tuple):
            names = input_ends(model).called(where)
            images: Arrays = each(as_images, x, names, shape or (None,) * len(x))
            require_same_count(images, names)
        else:
            images = as_images(x, where, shape)
        if not model.built:
            self._build(images, where)
        if not self._parameters:
            if model.dtype is not None and model.dtype != self.dtype:
                raise ValueError(
                    f"model: expected weights of the trainer's dtype {self.dtype}, got "
                    f"{model.dtype}"
                )
            self._parameters = model.trained_parameters()
        if (asked or where) not in self._looked_at:
            for one, name in zip(listed(images), listed(names), strict=True):
                if one.dtype != np.uint8:
                    self._looked_at.add(asked or where)
                    warn_of_bytes(one, name)
        return images

    def _build(self, images: Arrays, where: str) -> None:
        shape = each(lambda one: one.shape[1:], images)
        try:
            with self._steps.held():  # of several threads, one builds it
                if not self.model.built:
                    self.model.build(shape, dtype=self.dtype, seed=self.seed)
        except ValueError as error:
            hint = "" if isinstance(images, tuple) else layout_hint(images.shape)
            if not hint:
                raise
            raise ValueError(f"{where}: shape {images.shape}: {error}{hint}") from error
        if not isinstance(images, tuple):
            warn_of_layout(images.shape, where)

    def _samples(self, data: Given) -> Samples:
        """Check images, targets and weights, and build the model where it has no weights yet."""
        where = data.where
        images = self._images(data.x, f"{where}x")
        sides = self._sides()  # what a layer of one's own gives is known by now
        count, shapes = count_of(images), self.model.output_shape
        losses: Any = (self.loss,)
        if isinstance(self.loss, Losses):
            losses = self.loss.losses
            names = sides.outputs.called(f"{where}y")
            targets = each(partial(self._targets, count), data.y, names, losses, shapes)
            kind = each(self._kind, targets, shapes)
        else:
            targets = self._targets(count, data.y, f"{where}y", self.loss, shapes)
            kind = self._kind(targets, shapes)
        weights = sample_weights(data.sample_weight, count, self.dtype, f"{where}sample_weight")
        for loss in losses:
            if weights is not None and not loss.takes_weights:
                raise ValueError(
                    f"{where}sample_weight: expected a loss that takes weights, got "
                    f"{type(loss).__name__}, whose __call__ has no argument for them"
                )
        return Samples(images, targets, weights, kind)

    def _targets(
        self, count: int, y: Array, where: str, loss: Loss, output_shape: tuple[int, ...]
    ) -> Array:
        """Check the targets of one output."""
        if y.ndim == 0 or len(y) != count:
            raise ValueError(f"{where}: expected {count} labels, one an image, got shape {y.shape}")
        return loss.targets(y, count, output_shape, self.dtype, where)

    def _kind(self, targets: Array, output_shape: tuple[int, ...]) -> np.dtype[Any]:
        """Return the dtype of a batch's targets of one output."""
        like_images = targets.dtype == np.uint8 and targets.shape[1:] == output_shape
        if like_images or targets.dtype.kind == "f":
            return self.dtype
        return np.dtype(np.int64) if targets.dtype.kind in "iu" else targets.dtype

    def _epoch_data(
        self, data: Given, other: Given | None, parts: Split | None
    ) -> tuple[Samples, Samples | None, Loss]:
        """Check the data as it is now; return what to train on, to validate on, and the loss."""
        train = self._samples(data)
        validation = None if other is None else self._samples(other)
        if parts is not None:
            train, validation = (replace(train, rows=rows) for rows in parts)
        targets, weights = train.all_targets()
        fitted = self.loss.fitted(targets, self.model.output_shape)
        self._fitted_to = targets if self.loss.depends_on_targets else None
        require_weight(targets, weights, fitted, data.where)
        if validation is not None:
            where = "validation_split: " if other is None else other.where
            require_weight(*validation.all_targets(), fitted, where)
        return train, validation, fitted


def _module(model: object) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise no_model(model)
    return model
