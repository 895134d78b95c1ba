"""Callbacks: what happens between the epochs of Trainer.fit."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from fastcnn._files import name_of, require_writable
from fastcnn._interrupt import Interrupts
from fastcnn._options import choice, flag, integer, number
from fastcnn._settings import Checks, Settings
from fastcnn.metrics import METRICS, is_metric_name, rises
from fastcnn.nn._repr import OptionsRepr
from fastcnn.serialization import OF_AN_OUTPUT, require_saveable

if TYPE_CHECKING:
    from fastcnn._types import Array
    from fastcnn.trainer import Trainer

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "called_around"]

MONITORS = tuple(f"{of}{name}" for of in ("", "val_") for name in ("loss", *METRICS))


def _is_monitor(name: str) -> bool:
    """Whether a training may measure it: of several outputs, each has a loss, too."""
    metric = is_metric_name(name.removeprefix("val_"))
    return metric or name in MONITORS or OF_AN_OUTPUT.fullmatch(name) is not None


def _keras_hint(name: str) -> str:
    """Return what to say of the name that Keras has for the loss of an output."""
    found = re.fullmatch(r"(val_)?(\w+)_loss", name)
    meant = found and f"{found[1] or ''}loss_{found[2]}"
    return f'; the loss of an output is called "{meant:.80}"' if meant else ""


def _monitor(value: object, where: str) -> str:
    if isinstance(value, str):
        if _is_monitor(value):
            return value
        if hint := _keras_hint(value):
            raise ValueError(f"{where}: expected a name of the history, got {value!r:.80}{hint}")
    return choice(value, where, MONITORS)


def _monitor_or_none(value: object, where: str) -> str | None:
    return None if value is None else _monitor(value, where)


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

    def on_fit_interrupted(self, trainer: Trainer) -> None:
        """Instead of on_fit_end, after an error or Ctrl-C, which goes on to fit's caller.

        The model is as it was before or after a step. Ctrl-C waits until it returns.
        """


@contextmanager
def called_around(
    callbacks: Sequence[Callback], trainer: Trainer, interrupts: Interrupts
) -> Iterator[None]:
    """Call on_fit_begin before a block and on_fit_end after it, or else on_fit_interrupted."""
    begun: list[Callback] = []
    try:
        for callback in callbacks:
            callback.on_fit_begin(trainer)
            begun.append(callback)
        yield
        for callback in callbacks:
            callback.on_fit_end(trainer)
    except BaseException as error:
        failed: list[Exception] = []
        with interrupts.held():
            for callback in begun:
                try:
                    callback.on_fit_interrupted(trainer)
                except Exception as another:  # the others are called all the same
                    failed.append(another)
        if failed:
            raise failed[0] from error
        raise


class EarlyStopping(Callback, Settings):
    """Stop when the monitored number has not become better for `patience` epochs.

    monitor: "loss", "accuracy", "val_loss" or "val_accuracy", another of the trainer's metrics, or
    of a model with several outputs the loss of one, as the history calls it: "val_f1",
    "val_loss_0", "val_loss_digit". Losses and errors should fall, accuracies and the like rise, by
    more than min_delta to count; a NaN never counts. restore_best: at the end
    put back the weights of the best epoch, after an error or Ctrl-C too, if an epoch was finished.
    Each call of fit starts to count anew.
    """

    _checks: ClassVar[Checks] = {
        "monitor": _monitor,
        "patience": integer,
        "min_delta": partial(number, low=0.0),
        "restore_best": flag,
    }

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        patience: int = 3,
        min_delta: float = 0.0,
        restore_best: bool = False,
    ) -> None:
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.restore_best = restore_best
        self._best = _Best(self.monitor, self.min_delta)
        self._waited = 0
        self._weights: dict[str, Array] | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Forget an earlier call of fit."""
        _require_measured(self.monitor, "EarlyStopping: monitor", trainer)
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
            with trainer._steps.changing():
                trainer.model.load_state_dict(self._weights)
            self._weights = None

    def on_fit_interrupted(self, trainer: Trainer) -> None:
        """Put the best weights back, as at the end."""
        self.on_fit_end(trainer)


def _path(value: Any, where: str) -> str:
    path = name_of(value)
    _fields_of(path)
    return path


class Checkpoint(Callback, Settings):
    """Save after every epoch, or, with a `monitor`, after each that was the best so far.

    path: the model file (Module.save), in a folder that is there. In its name {epoch} and the
    names of measured numbers are filled in, "{epoch:03d}-{val_accuracy:.3f}.safetensors"; {{ and
    }} are braces. monitor: as of EarlyStopping. state: save the training state
    (Trainer.save_state) instead, from which training can resume. The file is replaced whole or not
    at all. Whether the folder takes a file and a file can hold the model is found out before the
    first epoch.
    """

    _checks: ClassVar[Checks] = {"path": _path, "monitor": _monitor_or_none, "state": flag}

    def __init__(
        self, path: str | os.PathLike[str], *, monitor: str | None = None, state: bool = False
    ) -> None:
        self.path: Any = path  # as text
        self.monitor = monitor
        self.state = state
        self._best = _Best(self.monitor or "loss")

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Refuse what could not be saved, and learn from the history what was best so far.

        That is so in training that was resumed too.
        """
        fields = _fields_of(self.path) - {"epoch"}
        for name in fields:
            _require_measured(name, "Checkpoint: path", trainer)
        require_writable(self.path.format(epoch=trainer.epoch + 1, **dict.fromkeys(fields, 0.5)))
        if not self.state:
            require_saveable(trainer.model)
        if self.monitor is not None:
            _require_measured(self.monitor, "Checkpoint: monitor", trainer)
            self._best = _Best(self.monitor)
            for value in trainer.history.get(self.monitor, ()):  # of no epoch yet
                self._best.improved(value)

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Save, if this epoch deserves it."""
        if self.monitor is not None and not self._best.improved(trainer.history[self.monitor][-1]):
            return
        fields = _fields_of(self.path) - {"epoch"}
        numbers = {name: trainer.history[name][-1] for name in fields}
        path = self.path.format(epoch=trainer.epoch, **numbers)
        if self.state:
            trainer.save_state(path)
        else:
            trainer.model.save(path)


class _Best:
    """The best value of a monitored number so far."""

    def __init__(self, monitor: str, min_delta: float = 0.0) -> None:
        self._sign = 1.0 if rises(monitor) else -1.0
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


def _fields_of(path: str) -> set[str]:
    """Return the names that are filled in in a path; ValueError for those that cannot be."""
    from string import Formatter  # takes time, and few training runs need it

    known = ("epoch", "loss", *METRICS)
    in_name = "braces of the name itself are doubled"
    try:
        parts = [part[1:3] for part in Formatter().parse(path) if part[1] is not None]
        fields = {str(name) for name, _ in parts}
        unknown = sorted(name for name in fields if name != "epoch" and not _is_monitor(name))
        if not unknown:
            path.format(**{"epoch": 1, **dict.fromkeys(fields - {"epoch"}, 0.5)})
        in_folder = any(part[1] is not None for part in Formatter().parse(os.path.dirname(path)))
    except (ValueError, LookupError) as error:
        raise ValueError(
            f"Checkpoint: path: expected fields such as {{epoch:03d}} or {{loss:.4f}}, got "
            f"{path!r:.80}: {error!s:.80}; {in_name}"
        ) from None
    if unknown:
        raise ValueError(
            f"Checkpoint: path: expected {', '.join(known)}, or val_loss and so on, in braces, got "
            f"{unknown[0]!r:.80}"
            f"{_keras_hint(unknown[0]) or f'; {in_name}'}"
        )
    if in_folder or any("{" in str(form) for _, form in parts):
        raise ValueError(
            "Checkpoint: path: expected fields in the file's name only, and none in another, got "
            f"{path!r:.80}"
        )
    return fields


def _require_measured(name: str, who: str, trainer: Trainer) -> None:
    if name not in trainer.measured:
        hint = "; pass validation_data to fit" if name.startswith("val_") else ""
        raise ValueError(
            f"{who}: expected one of {', '.join(trainer.measured)}, which this training "
            f"gives, got {name}{hint}"
        )
