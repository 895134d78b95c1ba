"""Early stopping, checkpoints and callbacks of one's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import callbacks, nn, optim


class Scripted(callbacks.Callback):
    """Replaces the numbers of each epoch by those of a script, before other callbacks look."""

    def __init__(self, name: str, values: list[float]) -> None:
        self.name = name
        self.values = values

    def on_epoch_end(self, trainer: Any) -> None:
        history = trainer.history[self.name]
        history[-1] = self.values[len(history) - 1]


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.random((6, 3), dtype=np.float32), np.array([0, 1, 0, 1, 0, 1])


def trainer_of(reference: Any, rate: float = 0.1) -> fastcnn.Trainer:
    model = nn.Sequential([nn.Dense(2)])
    return fastcnn.Trainer(model, optimizer=optim.SGD(rate), backend=reference)


def fit(trainer: fastcnn.Trainer, epochs: int, *calls: callbacks.Callback) -> dict[str, Any]:
    x, y = data()
    return trainer.fit(x, y, epochs=epochs, validation_data=(x, y), callbacks=calls, verbose=False)


@pytest.mark.parametrize(
    ("monitor", "values", "options", "epochs"),
    [
        ("val_loss", [3, 2, 2.5, 2.1, 1, 0], {"patience": 2}, 4),
        ("val_loss", [3, 2, 2.5, 1.9, 2, 2], {"patience": 2}, 6),
        ("val_loss", [3, 2.9, 2.8, 2, 2, 2], {"patience": 2, "min_delta": 0.5}, 3),
        ("loss", [3, math.nan, math.nan, 1, 1, 1], {"patience": 2}, 3),
        ("loss", [math.nan, 3, 2, 1, 0, 0], {"patience": 2}, 6),
        ("val_accuracy", [0.5, 0.6, 0.6, 0.7, 0.7, 0.7], {"patience": 1}, 3),
        ("accuracy", [0.5, 0.4, 0.3, 0.6, 0.1, 0.1], {"patience": 3}, 6),
    ],
)
def test_early_stopping(
    reference: Any, monitor: str, values: list[float], options: dict[str, Any], epochs: int
) -> None:
    trainer = trainer_of(reference)
    history = fit(
        trainer, 6, Scripted(monitor, values), callbacks.EarlyStopping(monitor, **options)
    )
    assert trainer.epoch == epochs
    assert len(history["loss"]) == epochs


def test_early_stopping_starts_anew_with_each_fit(reference: Any) -> None:
    trainer = trainer_of(reference)
    stopping = callbacks.EarlyStopping("loss", patience=1)
    rising = Scripted("loss", [float(n) for n in range(20)])
    fit(trainer, 5, rising, stopping)
    assert trainer.epoch == 2
    fit(trainer, 5, rising, stopping)
    assert trainer.epoch == 4


def test_restore_best(reference: Any) -> None:
    class Keep(callbacks.Callback):
        def __init__(self) -> None:
            self.states: list[dict[str, Any]] = []

        def on_epoch_end(self, trainer: Any) -> None:
            self.states.append(trainer.model.state_dict())

    for values in ([3, 1, 2, 2.5], [3, 1, 2, 0.5]):
        trainer, keep = trainer_of(reference), Keep()
        stopping = callbacks.EarlyStopping("loss", patience=5, restore_best=True)
        fit(trainer, 4, Scripted("loss", values), stopping, keep)
        best = keep.states[int(np.argmin(values))]
        for name, array in trainer.model.state_dict().items():
            np.testing.assert_array_equal(array, best[name])


def test_checkpoint_after_every_epoch(reference: Any, tmp_path: Path) -> None:
    trainer = trainer_of(reference)
    path = tmp_path / "model.safetensors"
    fit(trainer, 2, callbacks.Checkpoint(path))
    for name, array in fastcnn.load(path).state_dict().items():
        np.testing.assert_array_equal(array, trainer.model.state_dict()[name])


def test_checkpoint_of_the_best(reference: Any, tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    values = Scripted("val_loss", [3.0, 1.0, 2.0, 0.5])
    trainer = trainer_of(reference)
    fit(trainer, 2, values, callbacks.Checkpoint(path, monitor="val_loss"))
    saved = path.read_bytes()
    # A new callback, as after a restart, learns what was best from the history.
    fit(trainer, 1, values, callbacks.Checkpoint(path, monitor="val_loss"))
    assert path.read_bytes() == saved
    fit(trainer, 1, values, callbacks.Checkpoint(path, monitor="val_loss"))
    assert path.read_bytes() != saved


def test_checkpoint_of_the_state(reference: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    trainer = trainer_of(reference)
    fit(trainer, 2, callbacks.Checkpoint(path, state=True))
    other = trainer_of(reference)
    other.load_state(path)
    assert (other.epoch, other.step, other.history) == (2, 2, trainer.history)


def test_callbacks_are_called_in_order(reference: Any) -> None:
    calls = []

    class Own(callbacks.Callback):
        def on_fit_begin(self, trainer: Any) -> None:
            calls.append(("begin", trainer.epoch))

        def on_epoch_end(self, trainer: Any) -> None:
            calls.append(("epoch", trainer.epoch))
            trainer.stop = trainer.epoch == 2

        def on_fit_end(self, trainer: Any) -> None:
            calls.append(("end", trainer.epoch))

    fit(trainer_of(reference), 5, Own(), callbacks.Callback())
    assert calls == [("begin", 0), ("epoch", 1), ("epoch", 2), ("end", 2)]


def test_errors(reference: Any, tmp_path: Path) -> None:
    trainer = trainer_of(reference)
    x, y = data()
    for callback in (
        callbacks.EarlyStopping("val_loss"),
        callbacks.Checkpoint(tmp_path / "x", monitor="val_accuracy"),
    ):
        with pytest.raises(ValueError, match=r"monitor: .*pass validation_data to fit"):
            trainer.fit(x, y, callbacks=[callback], verbose=False)
    assert trainer.step == 0, "said before training, not after an epoch of it"
    with pytest.raises(TypeError, match="fit: callbacks: expected objects of"):
        trainer.fit(x, y, callbacks=[print], verbose=False)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="EarlyStopping: monitor: expected one of"):
        callbacks.EarlyStopping("val")
    with pytest.raises(ValueError, match="EarlyStopping: patience"):
        callbacks.EarlyStopping(patience=0)
    with pytest.raises(ValueError, match="EarlyStopping: min_delta"):
        callbacks.EarlyStopping(min_delta=-1)
    with pytest.raises(ValueError, match="Checkpoint: monitor"):
        callbacks.Checkpoint("x", monitor="f1")


def test_checkpoint_that_cannot_be_written_is_an_error(reference: Any, tmp_path: Path) -> None:
    trainer = trainer_of(reference)
    with pytest.raises(FileNotFoundError, match="path: expected a file in an existing folder"):
        fit(trainer, 1, callbacks.Checkpoint(tmp_path / "nowhere" / "model.safetensors"))
    assert trainer.epoch == 1
