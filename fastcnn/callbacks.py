"""Callbacks: what happens between the epochs of Trainer.fit."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from fastcnn.nn._options import choice, flag, integer, number
from fastcnn.nn._repr import OptionsRepr

if TYPE_CHECKING:
    from fastcnn.backend import Array
    from fastcnn.trainer import Trainer

__all__ = ["Callback", "Checkpoint", "EarlyStopping"]

MONITORS = ("loss", "accuracy", "val_loss", "val_accuracy")


class Callback(OptionsRepr):
    """Base of the callbacks: override what is needed.

    Each method is given the trainer, whose `history`, `epoch` and `model` it may read. Setting
    `trainer.stop = True` ends training after the epoch.
    """

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first epoch of a call of fit."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """After each epoch, its numbers already in `trainer.history`."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last epoch; not after an error or Ctrl-C."""


class EarlyStopping(Callback):
    """Stop when the monitored number has not become better for `patience` epochs.

    monitor: "loss", "accuracy", "val_loss" or "val_accuracy"; losses should fall, accuracies
    rise, by more than min_delta to count; a NaN never counts. restore_best: at the end put back
    the weights of the best epoch. Each call of fit starts to count anew.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        patience: int = 3,
        min_delta: float = 0.0,
        restore_best: bool = False,
    ) -> None:
        self.monitor = choice(monitor, "EarlyStopping: monitor", MONITORS)
        self.patience = integer(patience, "EarlyStopping: patience")
        self.min_delta = number(min_delta, "EarlyStopping: min_delta", 0.0)
        self.restore_best = flag(restore_best, "EarlyStopping: restore_best")
        self._best = _Best(self.monitor, self.min_delta)
        self._waited = 0
        self._weights: dict[str, Array] | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Forget an earlier call of fit."""
        _require_measured(self.monitor, "EarlyStopping", trainer)
        self._best = _Best(self.monitor, self.min_delta)
        self._waited = 0
        self._weights = None

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Count the epochs without a better number."""
        if self._best.improved(trainer.history[self.monitor][-1]):
            self._waited = 0
            if self.restore_best:
                self._weights = trainer.model.state_dict()
            return
        self._waited += 1
        if self._waited >= self.patience:
            trainer.stop = True

    def on_fit_end(self, trainer: Trainer) -> None:
        """Put the best weights back, where that was asked for."""
        if self._weights is not None:
            trainer.model.load_state_dict(self._weights)
            self._weights = None


class Checkpoint(Callback):
    """Save after every epoch, or, with a `monitor`, after each that was the best so far.

    path: the model file (Module.save). state: save the training state (Trainer.save_state)
    instead, from which training can resume. The file is replaced whole or not at all.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, monitor: str | None = None, state: bool = False
    ) -> None:
        self.path = os.fspath(path)
        self.monitor = None if monitor is None else choice(monitor, "Checkpoint: monitor", MONITORS)
        self.state = flag(state, "Checkpoint: state")
        self._best = _Best(self.monitor or "loss")

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Learn from the history what was best so far, in training that was resumed too."""
        if self.monitor is not None:
            _require_measured(self.monitor, "Checkpoint", trainer)
            self._best = _Best(self.monitor)
            for value in trainer.history[self.monitor]:
                self._best.improved(value)

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Save, if this epoch deserves it."""
        if self.monitor is not None and not self._best.improved(trainer.history[self.monitor][-1]):
            return
        if self.state:
            trainer.save_state(self.path)
        else:
            trainer.model.save(self.path)


class _Best:
    """The best value of a monitored number so far."""

    def __init__(self, monitor: str, min_delta: float = 0.0) -> None:
        self._sign = 1.0 if monitor.endswith("accuracy") else -1.0
        self._min_delta = min_delta
        self._value: float | None = None

    def improved(self, value: float) -> bool:
        """Whether this value is better than all before it, which makes it the best; NaN is not."""
        value *= self._sign
        if self._value is None:
            better = not math.isnan(value)
        else:
            better = value > self._value + self._min_delta
        if better:
            self._value = value
        return better


def _require_measured(monitor: str, who: str, trainer: Trainer) -> None:
    if monitor not in trainer.measured:
        hint = "; pass validation_data to fit" if monitor.startswith("val_") else ""
        raise ValueError(
            f"{who}: monitor: expected one of {', '.join(trainer.measured)}, which this training "
            f"gives, got {monitor}{hint}"
        )
