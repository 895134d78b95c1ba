"""Trainer: fits a model to data on a backend, measures it and asks it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastcnn import nn
from fastcnn._batches import batches, floats
from fastcnn._history import History
from fastcnn._interrupt import Interrupts
from fastcnn._memory import copied
from fastcnn._passes import Passes
from fastcnn._progress import ProgressBar
from fastcnn._step_lock import StepLock
from fastcnn._stream import Stream
from fastcnn.backend import Array, Backend, get_backend, packed_backend, unpacked_backend
from fastcnn.callbacks import Callback, called_around
from fastcnn.inference import Predictor, Run, as_images, compiled
from fastcnn.losses import CrossEntropy, Loss, get_loss
from fastcnn.metrics import correct
from fastcnn.nn._options import flag, float_dtype, integer, number
from fastcnn.nn._repr import in_a_line, model_in_words
from fastcnn.optim import SGD, Optimizer, clip_gradients
from fastcnn.schedules import Schedule, get_schedule
from fastcnn.serialization import HISTORY, Progress, read_state, write_state

__all__ = ["Trainer"]

# The purposes of randomness. Each draw comes from a stream of (seed, purpose, number of the epoch
# or step), so the counters are the whole random state, and a step cut short leaves no trace.
_SHUFFLE, _STEP = 0, 1


class Trainer:
    """Trains a model on a backend, and evaluates and predicts with it.

    model: a layer or model of fastcnn.nn; one without weights is built at the first call that
    gives data, from `seed`. optimizer: SGD(0.05, momentum=0.9) by default. loss:
    "cross_entropy", "mean_squared_error" or an object of fastcnn.losses. backend: "fast",
    "reference" or a backend. seed: of weights, shuffling and dropout. schedule: "constant",
    "step", "cosine", "warmup-cosine", or a function of (step, total_steps) that gives the factor
    on the optimizer's learning rate. dtype: float32 or float64; by default that of a built
    model, else float32.

    Images are arrays (n, H, W, C), or whatever shape the model takes after the batch axis. uint8
    is divided by 255 (in float32 or float64, rounded once), floats are taken as they are; other
    integers are refused, since nobody can tell their scale. Labels are integers (n,) or
    probabilities (n, classes).

    Attributes: `epoch` and `step` count finished epochs and steps, `history` is what `fit`
    returns, `measured` names the numbers of an epoch that the running fit gives.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: Optimizer | None = None,
        loss: Loss | str = "cross_entropy",
        backend: Backend | str = "fast",
        seed: int = 0,
        schedule: Schedule | str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model: expected a fastcnn.nn model, got {type(model).__name__}")
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizer: expected an optimizer of fastcnn.optim, got {type(optimizer).__name__}"
            )
        self.model = model
        self.optimizer = SGD(0.05, momentum=0.9) if optimizer is None else optimizer
        self.loss = get_loss(loss)
        self.backend = get_backend(backend)
        self.seed = integer(seed, "seed", 0)
        self.schedule = get_schedule(schedule)
        self.dtype = float_dtype(dtype if dtype is not None else model.dtype or np.float32)
        if model.dtype is not None and model.dtype != self.dtype:
            raise ValueError(
                f"dtype: expected {model.dtype}, which the model was built with, got {self.dtype}"
            )
        if isinstance(self.loss, CrossEntropy) and _ends_in_softmax(model):
            raise ValueError(
                "model: expected one that gives logits, which cross_entropy takes, got one that "
                "ends in a softmax; leave it out (predict_proba applies it)"
            )
        self.epoch = 0
        self.step = 0
        self.stop = False
        self.measured: tuple[str, ...] = ()
        self.history = History({name: [] for name in HISTORY})
        self._parameters: dict[str, nn.Parameter] = {}
        self._optimizer_state: dict[str, Array] = {}
        self._run: tuple[nn.Module, Backend, Run] | None = None  # what `compiled` made of the two
        self._steps = StepLock()

    def __repr__(self) -> str:
        parts = {"model": model_in_words(self.model)}
        parts |= {name: in_a_line(getattr(self, name)) for name in ("optimizer", "loss", "backend")}
        said = ", ".join(f"{name}={words}" for name, words in parts.items())
        return f"Trainer({said}, epoch {self.epoch:,}, step {self.step:,})"

    # ------------------------------------------------------------------ training
    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int = 1,
        batch_size: int = 128,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        callbacks: Sequence[Callback] = (),
        verbose: bool = True,
    ) -> History:
        """Train for `epochs` more epochs; return the history of all of this trainer's epochs.

        x (n, ...), y: see the class. Each epoch goes through the data once, in an order drawn
        for it (in the given order without `shuffle`), batch_size images a step; `drop_last`
        leaves out the rest that fills no batch. validation_data (x, y) is evaluated after each
        epoch. verbose shows a progress bar on stderr (a line an epoch where that is a file or a
        pipe), and otherwise nothing is printed.

        The history is {"step_loss", "loss", "accuracy", "val_loss", "val_accuracy"}: lists of
        floats, one a step or an epoch; those of an epoch are means over its steps as they were
        taken. A schedule spans the steps done so far and those of this call, so that resumed
        training follows the same curve.

        Raises FloatingPointError if a step's loss is not finite, before the step changes
        anything. Any error and Ctrl-C leave the model as it was before or after a step, or as
        a callback puts it then: EarlyStopping with restore_best its best weights.
        """
        epochs = integer(epochs, "fit: epochs")
        batch_size = integer(batch_size, "fit: batch_size")
        flag(shuffle, "fit: shuffle")
        flag(drop_last, "fit: drop_last")
        if not isinstance(callbacks, (tuple, list)):
            raise TypeError(
                f"fit: callbacks: expected a list of callbacks, got {type(callbacks).__name__}"
            )
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(
                    "fit: callbacks: expected objects of fastcnn.callbacks.Callback, got "
                    f"{type(callback).__name__}"
                )
        images = self._images(x, "x")
        targets = self._targets(y, len(images), "y")
        validation = self._validation(validation_data)
        steps = len(images) // batch_size if drop_last else -(-len(images) // batch_size)
        self._require_batches(len(images), batch_size, drop_last, steps)
        names = ("loss", "accuracy") if self.loss.measures_accuracy else ("loss",)
        self.measured = names + tuple(f"val_{name}" for name in names if validation is not None)
        if not self._optimizer_state:
            self._optimizer_state = self.optimizer.init(self._parameters)

        total_steps = self.step + epochs * steps
        last_epoch = self.epoch + epochs
        self.stop = False
        bar = ProgressBar(last_epoch, len(images)) if verbose else None
        with Interrupts() as interrupts, called_around(callbacks, self, interrupts):
            while self.epoch < last_epoch and not self.stop:
                order = None
                if shuffle:
                    order = Stream(self.seed, _SHUFFLE, self.epoch).permutation(len(images))
                if bar is not None:
                    bar.begin(self.epoch + 1)
                try:
                    numbers = self._train_epoch(
                        partial(
                            batches,
                            images,
                            targets,
                            batch_size,
                            self.dtype,
                            self.backend,
                            steps=steps,
                            order=order,
                        ),
                        len(images) // batch_size,
                        total_steps,
                        interrupts,
                        bar,
                    )
                    if validation is not None:
                        measured = self._measure(*validation, batch_size)
                        numbers.update({f"val_{name}": v for name, v in measured.items()})
                    with interrupts.held():
                        self.epoch += 1
                        for name, value in numbers.items():
                            self.history[name].append(value)
                    if bar is not None:
                        bar.finish(numbers)
                finally:
                    if bar is not None:
                        bar.close()
                for callback in callbacks:
                    callback.on_epoch_end(self)
        return History({name: list(values) for name, values in self.history.items()})

    def _train_epoch(
        self,
        data: Callable[..., Iterator[tuple[Array, Array]]],
        alike: int,
        total_steps: int,
        interrupts: Interrupts,
        bar: ProgressBar | None,
    ) -> dict[str, float]:
        """Take a step a batch, `alike` of one size; return the epoch's mean loss and accuracy."""
        total, weights, hits, count = 0.0, 0.0, 0, 0
        numbers: dict[str, float] = {}
        passes = Passes(self.model, self.loss, self.optimizer, self.backend, alike)
        for x, target in data(same_arrays=passes.repeatable):
            prediction, loss = self._train_step(passes, x, target, total_steps, interrupts)
            weight = self.loss.weight(target)
            total += loss * weight
            weights += weight
            count += len(target)
            numbers["loss"] = total / weights
            if self.loss.measures_accuracy:
                hits += correct(prediction, target)
                numbers["accuracy"] = hits / count
            if bar is not None:
                bar.advance(len(target), numbers)
        return numbers

    def _train_step(
        self, passes: Passes, x: Array, target: Array, total_steps: int, interrupts: Interrupts
    ) -> tuple[Array, float]:
        """Take one step; return (prediction, loss) of before it.

        Everything that may fail comes first; what changes the model comes last, undisturbed.
        """
        rng = cast(np.random.Generator, Stream(self.seed, _STEP, self.step))
        prediction, loss, backward = passes(x, target, rng)
        factor = number(self.schedule(self.step, total_steps), "schedule: its result", 0.0)
        learning_rate = self.optimizer.learning_rate * factor
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"fit: the loss of step {self.step + 1} is {loss}; the model is as it was before "
                f"this step; try a learning rate below {learning_rate:g}, and look for NaN or "
                "very large numbers in x"
            )
        backward()
        if self.optimizer.clip_norm is not None:
            clip_gradients(self._parameters, self.optimizer.clip_norm)
        with self._steps.changing(), interrupts.held():
            self.optimizer.step(
                self._parameters,
                self._optimizer_state,
                self.backend,
                step=self.step + 1,
                learning_rate=learning_rate,
            )
            self.model.apply_updates()
            self.step += 1
            self.history["step_loss"].append(loss)
        for parameter in self._parameters.values():
            parameter.grad = None  # its memory serves the next step
        return prediction, loss

    # ------------------------------------------------------------------ inference
    def evaluate(self, x: ArrayLike, y: ArrayLike, *, batch_size: int = 128) -> dict[str, float]:
        """Return {"loss": ..., "accuracy": ...} over the data; nothing is trained.

        The loss is that of all samples together, whatever the batch size. There is no accuracy
        with mean_squared_error.
        """
        batch_size = integer(batch_size, "evaluate: batch_size")
        images = self._images(x, "x")
        targets = self._targets(y, len(images), "y")
        return self._steps.unchanged(lambda: self._measure(images, targets, batch_size))

    def _measure(self, images: Array, targets: Array, batch_size: int) -> dict[str, float]:
        run = self._compiled()
        total, weights, hits = 0.0, 0.0, 0
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            prediction, target = run(floats(images[part], self.dtype)), targets[part]
            loss, _ = self.loss(prediction, target, self.backend)
            weight = self.loss.weight(target)
            total += loss * weight
            weights += weight
            if self.loss.measures_accuracy:
                hits += correct(prediction, target)
        numbers = {"loss": total / weights}
        if self.loss.measures_accuracy:
            numbers["accuracy"] = hits / len(images)
        return numbers

    def predict(self, x: ArrayLike, *, batch_size: int = 128) -> Array:
        """Return the model's outputs, for a classifier logits (n, classes).

        While another thread trains, they are those of the model between two steps, as is what
        `evaluate`, `predictor` and `save_state` see. A `predictor` never waits for a step.
        """
        batch_size = integer(batch_size, "predict: batch_size")
        images = self._images(x, "x")
        return self._steps.unchanged(lambda: self._predict(images, batch_size))

    def _predict(self, images: Array, batch_size: int) -> Array:
        run = self._compiled()
        if len(images) <= batch_size:
            return run(floats(images, self.dtype))
        outputs = np.empty((len(images), *self.model.output_shape), self.dtype)
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            outputs[part] = run(floats(images[part], self.dtype))
        return outputs

    def predict_proba(self, x: ArrayLike, *, batch_size: int = 128) -> Array:
        """Return the softmax of `predict`: probabilities (n, classes)."""
        return self.backend.softmax(self.predict(x, batch_size=batch_size))

    def predictor(self) -> Predictor:
        """Return a snapshot of the model as it is now, made ready to serve on this backend."""
        return self._steps.unchanged(lambda: Predictor(self.model, self.backend, dtype=self.dtype))

    def _compiled(self) -> Run:
        """Return the model in inference; it sees every change of the weights."""
        model, backend, made = self.model, self.backend, self._run
        if made is None or made[0] is not model or made[1] is not backend:
            made = self._run = model, backend, compiled(model, backend, follow=True)
        return made[2]

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy takes along: not the steps of inference, which know this model."""
        state = {**vars(self), "_run": None, "_run_of": None}
        return {**state, "backend": packed_backend(self.backend)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state, backend=unpacked_backend(state["backend"]))
        self._optimizer_state = {
            name: copied(array, array.dtype) for name, array in self._optimizer_state.items()
        }

    # ------------------------------------------------------------------ state
    def save_state(
        self, path: str | os.PathLike[str], *, notes: Mapping[str, Any] | None = None
    ) -> None:
        """Write all that training needs to go on to the same bits, to one safetensors file.

        Weights, running statistics, optimizer state, counts of epochs and steps, seed and
        history. The file is replaced whole or not at all. notes: values of JSON to keep with it,
        for fastcnn.serialization.read_notes.
        """
        with self._steps.held():
            progress = Progress(
                self.seed, self.epoch, self.step, self.history, self._optimizer_state
            )
            write_state(path, self.model, self.optimizer, progress, notes)

    def load_state(self, path: str | os.PathLike[str]) -> None:
        """Take up training where `save_state` left it; the seed becomes the saved one.

        The model must have the architecture of the saved one, with or without weights; the
        optimizer must be of the same kind, its settings are those of this trainer. Raises
        ValueError, with nothing changed, for a file that is damaged or of another training.
        """
        weights, input_shape, progress = read_state(path, self.model, self.optimizer, self.dtype)
        with self._steps.changing():
            if self.model.built:
                self.model.load_state_dict(weights)
            else:
                self.model.plan(input_shape)
                self.model.adopt(weights)
            self.seed = progress.seed
            self.epoch = progress.epoch
            self.step = progress.step
            self.history = History(progress.history)
            self._parameters = self.model.parameters()
            self._optimizer_state = {
                name: copied(array, self.dtype) for name, array in progress.optimizer_state.items()
            }

    # ------------------------------------------------------------------ data
    def _images(self, x: ArrayLike, where: str) -> Array:
        """Check images, and build the model for them where it has no weights yet."""
        images = as_images(x, where, self.model.input_shape if self.model.built else None)
        if not self.model.built:
            with self._steps.held():  # of several threads, one builds it
                if not self.model.built:
                    self.model.build(images.shape[1:], dtype=self.dtype, seed=self.seed)
        if not self._parameters:
            if self.model.dtype is not None and self.model.dtype != self.dtype:
                raise ValueError(
                    f"model: expected weights of the trainer's dtype {self.dtype}, got "
                    f"{self.model.dtype}"
                )
            self._parameters = self.model.parameters()
        return images

    def _targets(self, y: ArrayLike, count: int, where: str) -> Array:
        labels = _array(y, where)
        if labels.ndim == 0 or len(labels) != count:
            raise ValueError(
                f"{where}: expected {count} labels, one an image, got shape {labels.shape}"
            )
        return self.loss.targets(labels, count, self.model.output_shape, self.dtype, where)

    def _validation(self, data: tuple[ArrayLike, ArrayLike] | None) -> tuple[Array, Array] | None:
        if data is None:
            return None
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise TypeError(
                f"fit: validation_data: expected a pair (x, y), got {type(data).__name__}"
            )
        images = self._images(data[0], "validation_data: x")
        return images, self._targets(data[1], len(images), "validation_data: y")

    def _require_batches(self, count: int, batch_size: int, drop_last: bool, steps: int) -> None:
        """Refuse a division into batches that would fail at its end, before it starts."""
        if steps == 0:
            raise ValueError(
                f"fit: batch_size: expected at most {count}, the number of images, with "
                f"drop_last, got {batch_size}"
            )
        smallest = batch_size if drop_last else count - (steps - 1) * batch_size
        if smallest < self.model.min_batch:
            raise ValueError(
                f"fit: batch_size: expected every batch to have at least {self.model.min_batch} "
                f"images, which this model's batch normalization needs, got {count} images in "
                f"batches of {batch_size}, the last with {smallest}; choose another batch_size "
                "or pass drop_last=True"
            )


def _array(value: ArrayLike, where: str) -> Array:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{where}: expected an array, got what is none: {error}") from None


def _ends_in_softmax(model: nn.Module) -> bool:
    while isinstance(model, nn.Sequential):
        model = model.layers[-1]
    return isinstance(model, nn.Softmax) or getattr(model, "activation", None) == "softmax"
