"""Trainer: fits a model to data on a backend, measures it and asks it."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastcnn import nn
from fastcnn._backends import packed_backend, unpacked_backend
from fastcnn._batches import batches, require_batches
from fastcnn._evaluation import Evaluation
from fastcnn._finite import wild_update
from fastcnn._history import History
from fastcnn._interrupt import Interrupts
from fastcnn._loss import AnyLoss, Loss
from fastcnn._memory import copied
from fastcnn._metric import MetricLike
from fastcnn._options import flag, integer, number
from fastcnn._passes import Kept, Passes
from fastcnn._progress import ProgressBar
from fastcnn._samples import ArraysLike, Split, given, given_pair, split
from fastcnn._sentences import explained
from fastcnn._several import Arrays
from fastcnn._stream import Stream
from fastcnn._types import Array
from fastcnn._update import Update
from fastcnn.backend import Backend
from fastcnn.callbacks import Callback, called_around
from fastcnn.nn._places import count_of
from fastcnn.nn._repr import in_a_line, model_in_words
from fastcnn.optim import Optimizer, clip_gradients
from fastcnn.schedules import Schedule
from fastcnn.serialization import HISTORY, Progress, read_state, write_state

__all__ = ["Trainer"]

# The purposes of randomness. Each draw comes from a stream of (seed, purpose, number of the epoch
# or step), so the counters are the whole random state, and a step cut short leaves no trace.
_SHUFFLE, _STEP, _SPLIT = 0, 1, 2


class Trainer(Evaluation):
    """Trains a model on a backend, and evaluates and predicts with it.

    model: a layer or model of fastcnn.nn; one without weights is built at the first call that
    gives data, from `seed`. optimizer: SGD(0.05, momentum=0.9) by default; "sgd" is the same,
    "adam" and "adamw" are optim.Adam() and optim.AdamW(). loss: "cross_entropy",
    "binary_cross_entropy" ("bce"), "focal", "dice", "mean_squared_error" ("mse"),
    "mean_absolute_error" ("mae", "l1"), "huber", an object of fastcnn.losses, or a function of
    (prediction, target) that returns (value, gradient), see losses.FunctionLoss. metrics: a list of
    names or objects of fastcnn.metrics, such as ["accuracy", "f1"]; None is the accuracy where the
    loss takes classes, or yes and no. backend: "fast", "reference" or a backend. seed: of weights,
    shuffling and dropout. schedule: "constant", "step", "cosine", "warmup-cosine", or a function of
    (step, total_steps) that gives the factor on the optimizer's learning rate. dtype: float32 or
    float64; by default that of a built model, else float32.

    Images are arrays (n, H, W, C), or whatever shape the model takes after the batch axis. uint8
    is divided by 255 (in float32 or float64, rounded once), floats are taken as they are; other
    integers are refused, since nobody can tell their scale. Labels are integers (n,) or
    probabilities (n, classes), of pixels (n, H, W) or (n, H, W, classes); targets of yes and no are
    numbers from 0 to 1 of the output's shape; those of distances, as mean_squared_error, follow the
    images' rule for uint8 and are numbers else. Weights of samples are finite numbers (n,) of at
    least 0; a batch's loss is divided by the sum of its weights, times those of its classes if the
    loss has class weights.
    A batch that weighs nothing is a step of a gradient of 0, as in Keras: momentum and decay go on.
    Metrics count all samples alike. Arrays with masked numbers are refused.

    A model with several inputs takes a list of as many arrays for x, in their order. One with
    several outputs takes such a list for y, and a list of losses, one an output: the loss is then
    their sum, each times its number in loss_weights (of at least 0; 1 by default), and "loss_0" the
    first output's own. Metrics are then a list of lists, one an output, and called "f1_0"; None is
    no metric. Where inputs and outputs have names (see
    nn.Model) each of these lists may be a dict, and an output's own loss is called "loss_digit".

    All arguments are attributes, and may be set between calls of `fit` and in callbacks; what is
    set is checked as here. What a schedule sets of the options of layers that may be set at any
    time, such as a Dropout's rate, the next step sees; what it freezes, the next epoch. A new
    optimizer starts with a state of its own, and so it does for another model. Attributes besides:
    `epoch` and `step` count finished epochs and steps, `history` is what `fit` returns, `measured`
    names the numbers of an epoch that the running fit gives.
    """

    _kept: Kept | None = None  # of the last fit, for the next

    @explained
    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: Optimizer | str | None = None,
        loss: AnyLoss | Sequence[AnyLoss] | Mapping[str, AnyLoss] = "cross_entropy",
        loss_weights: Sequence[float] | Mapping[str, float] | None = None,
        metrics: Sequence[MetricLike | Sequence[MetricLike]]
        | Mapping[str, Sequence[MetricLike]]
        | None = None,
        backend: Backend | str = "fast",
        seed: int = 0,
        schedule: Schedule | str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        parts = model, optimizer, loss, loss_weights, metrics, backend, seed, schedule, dtype
        super().__init__(*parts)
        self.epoch = 0
        self.step = 0
        self.stop = False
        self.measured: tuple[str, ...] = ()
        self.history = History({name: [] for name in HISTORY})

    def __repr__(self) -> str:
        parts = {"model": model_in_words(self.model)}
        parts |= {name: in_a_line(getattr(self, name)) for name in ("optimizer", "loss", "backend")}
        said = ", ".join(f"{name}={words}" for name, words in parts.items())
        return f"Trainer({said}, epoch {self.epoch:,}, step {self.step:,})"

    # ------------------------------------------------------------------ training
    @explained
    def fit(
        self,
        x: ArraysLike,
        y: ArraysLike,
        *,
        epochs: int = 1,
        batch_size: int = 128,
        sample_weight: ArrayLike | None = None,
        validation_data: tuple[ArraysLike, ...] | None = None,
        validation_split: float | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        callbacks: Sequence[Callback] = (),
        verbose: bool = True,
    ) -> History:
        """Train for `epochs` more epochs; return the history of all of this trainer's epochs.

        x (n, ...), y, sample_weight (n,): see the class. Each epoch goes through the data once, in
        an order drawn for it (in the given order without `shuffle`), batch_size images a step;
        `drop_last` leaves out the rest that fills no batch. The arrays are read anew each epoch:
        what a callback changes in x, y or the weights is seen by the next one. Lists and what else
        is no array are read once, when fit begins.

        validation_data (x, y) or (x, y, sample_weight) is evaluated after each epoch. Or
        validation_split, between 0 and 1, takes that share of x and y for it and trains on the
        others: drawn at random from `seed`, of integer labels the same share of each class. (Not
        the last samples, as Keras takes: in data sorted by class they are of one.) The draw is
        the same in each call with as many samples and the same labels, resumed training included.

        verbose shows a progress bar on stderr (a line an epoch where that is a file or a pipe), and
        otherwise nothing is printed.

        The history is {"step_loss", "loss", "accuracy", "val_loss", "val_accuracy"}, or has other
        metrics' names beside: lists of floats, one a step or an epoch; those of an epoch are means
        over its steps as they were
        taken. A schedule spans the steps done so far and those of this call, so that resumed
        training follows the same curve.

        Raises FloatingPointError, before the step changes anything, if its loss, a running
        statistic or a gradient is not finite (or a square that the optimizer keeps). Any error
        and Ctrl-C leave the model as it was before or after a step, or as a callback puts it then:
        EarlyStopping with restore_best its best weights.
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
        if validation_split is not None and validation_data is not None:
            raise ValueError("fit: validation_split: expected no validation_data with it, got both")
        sides = self._sides()
        data = given(x, y, sample_weight, sides)
        other = given_pair(validation_data, sides)
        parts: Split | None = None
        if validation_split is not None:
            rng = cast(np.random.Generator, Stream(self.seed, _SPLIT, 0))
            parts = split(validation_split, self._samples(data).targets, rng)
        train, validation, _ = self._epoch_data(data, other, parts)
        count = len(train)
        steps = count // batch_size if drop_last else -(-count // batch_size)
        require_batches(count, batch_size, drop_last, steps, self.model.min_batch)
        names = self._tally(self.loss, train.targets).names
        self.measured = names + tuple(f"val_{name}" for name in names if validation is not None)

        total_steps = self.step + epochs * steps
        last_epoch = self.epoch + epochs
        self.stop = False
        bar = ProgressBar(last_epoch, count) if verbose else None
        kept, self._kept = self._kept or Kept(), None
        with Interrupts() as interrupts, called_around(callbacks, self, interrupts):
            while self.epoch < last_epoch and not self.stop:
                train, validation, fitted = self._epoch_data(data, other, parts)
                self._look_up()
                order = train.rows
                if shuffle:
                    order = Stream(self.seed, _SHUFFLE, self.epoch).permutation(count)
                    order = order if train.rows is None else train.rows[order]
                if bar is not None:
                    bar.begin(self.epoch + 1)
                self._in_epoch = True
                try:
                    numbers = self._train_epoch(
                        partial(
                            batches,
                            train,
                            batch_size,
                            self.dtype,
                            self.backend,
                            steps=steps,
                            order=order,
                        ),
                        fitted,
                        kept,
                        total_steps,
                        interrupts,
                        bar,
                    )
                    if validation is not None:
                        measured = self._measure(validation, fitted, batch_size)
                        numbers.update({f"val_{name}": v for name, v in measured.items()})
                    with interrupts.held():
                        self.epoch += 1
                        self.history.add(numbers)
                    if bar is not None:
                        bar.finish(numbers)
                finally:
                    self._in_epoch = False
                    if bar is not None:
                        bar.close()
                for callback in callbacks:
                    callback.on_epoch_end(self)
        self._kept = kept.between_fits()
        return self.history.copy()

    def _train_epoch(
        self,
        data: Callable[..., Iterator[tuple[Arrays, Arrays, Array | None]]],
        fitted: Loss,
        kept: Kept,
        total_steps: int,
        interrupts: Interrupts,
        bar: ProgressBar | None,
    ) -> dict[str, float]:
        """Take a step a batch; return the epoch's mean loss and accuracy."""
        tally = self._tally(fitted)
        passes = Passes(
            self.model,
            self._parameters,
            self._buffers,
            fitted,
            self.optimizer,
            self.backend,
            kept,
        )
        update = Update(self.optimizer, self._parameters, self.backend)
        for batch in data(kept=passes.arrays):
            prediction, loss = self._train_step(passes, update, batch, total_steps, interrupts)
            tally.add(loss, prediction, *batch[1:])
            if bar is not None:
                bar.advance(count_of(batch[0]), tally.numbers())
        return tally.numbers()

    def _train_step(
        self,
        passes: Passes,
        update: Update,
        batch: tuple[Arrays, Arrays, Array | None],
        total_steps: int,
        interrupts: Interrupts,
    ) -> tuple[Arrays, float]:
        """Take one step; return (prediction, loss) of before it.

        Everything that may fail comes first; what changes the model comes last, undisturbed.
        """
        rng = cast(np.random.Generator, Stream(self.seed, _STEP, self.step))
        prediction, loss, backward = passes(*batch, rng)
        factor = number(self.schedule(self.step, total_steps), "schedule: its result", 0.0)
        learning_rate = self.optimizer.learning_rate * factor
        if not math.isfinite(loss):
            raise self._refused(f"the loss of step {self.step + 1} is {loss}", learning_rate)
        if (name := wild_update(self._buffers, self.backend)) is not None:
            raise self._refused(f"{name} of step {self.step + 1} is not finite", learning_rate)
        backward()
        if self.optimizer.clip_norm is not None:
            clip_gradients(self._parameters, self.optimizer.clip_norm)
        with interrupts.held():
            self._steps.change(lambda: self._change(passes, update, learning_rate, loss))
        for parameter in self._parameters.values():
            parameter.grad = None  # its memory serves the next step
        return prediction, loss

    def _change(self, passes: Passes, update: Update, learning_rate: float, loss: float) -> None:
        """Make the changes of a step, all of them or, after an error, none."""
        step = self._optimizer_step + 1
        name = update(self._optimizer_state, step, learning_rate, passes.same_gradients)
        if name is not None:
            what = f"the gradient of {name} in step {self.step + 1} is not finite, or too large"
            raise self._refused(what, learning_rate)
        self.model.apply_updates()
        self.step += 1
        self._optimizer_step = step
        self.history["step_loss"].append(float(loss))

    def _refused(self, what: str, learning_rate: float) -> FloatingPointError:
        """Return the error of a step that is not taken."""
        return FloatingPointError(
            f"fit: {what}; the model is as it was before this step; try a learning rate below "
            f"{learning_rate:g}, and look for NaN or very large numbers in x"
        )

    # ------------------------------------------------------------------ copies
    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy takes along: not what is made ready, which knows this model."""
        with self._steps.held():  # all of it between two steps
            state = {**vars(self), "_model": copy.deepcopy(self.model)}
            state["_optimizer_state"] = {k: v.copy() for k, v in self._optimizer_state.items()}
            state["history"] = copy.deepcopy(self.history)
        state |= {"_run": None, "_kept": None, "_parameters": {}, "_buffers": {}}
        state |= {"_in_epoch": False}
        return {**state, "_backend": packed_backend(self.backend)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state, _backend=unpacked_backend(state["_backend"]))
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
            if self._optimizer_step:
                self._look_up()
            progress = Progress(
                self.seed,
                self.epoch,
                self.step,
                self._optimizer_step,
                self.history,
                self._optimizer_state,
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
            self._fitted_to = None
            self._optimizer_step = progress.optimizer_step
            self._optimizer_state = {
                name: copied(array, self.dtype) for name, array in progress.optimizer_state.items()
            }
