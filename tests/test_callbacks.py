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
        callbacks.Checkpoint("x", monitor="f2")


def test_checkpoint_that_cannot_be_written_is_an_error_before_the_first_epoch(
    reference: Any, tmp_path: Path
) -> None:
    class Hidden(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()

        def declare(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
            return input_shape

        def forward(self, x: Any, backend: Any, **options: Any) -> Any:
            return x, lambda dy: dy

    trainer = trainer_of(reference)
    (tmp_path / "folder").mkdir()
    for path, message in [
        ("nowhere/model.safetensors", "path: expected a file in an existing folder"),
        ("folder", "path: expected a regular file or a new one"),
        ("x" * 300, "path: expected a name that this system takes"),
        ("{epoch:0260d}", "path: expected a name that this system takes"),
    ]:
        for state in (False, True):
            with pytest.raises(OSError, match=message):
                fit(trainer, 1, callbacks.Checkpoint(tmp_path / path, state=state))
    trainer.model.notes["mean"] = np.zeros(3)
    with pytest.raises(TypeError, match=r"save: notes\['mean'\]: expected a value of JSON"):
        fit(trainer, 1, callbacks.Checkpoint(tmp_path / "m"))
    assert trainer.step == 0
    own = fastcnn.Trainer(nn.Sequential([Hidden(3), nn.Dense(2)]), backend=reference)
    with pytest.raises(ValueError, match="Hidden: size: expected the constructor's argument"):
        fit(own, 1, callbacks.Checkpoint(tmp_path / "m"))
    assert own.step == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
    fit(own, 1, callbacks.Checkpoint(tmp_path / "m", state=True))
    assert (tmp_path / "m").is_file()


def test_numbers_in_the_path_of_a_checkpoint(reference: Any, tmp_path: Path) -> None:
    trainer = trainer_of(reference)
    losses = Scripted("val_loss", [3.0, 1.0, 2.0, 0.5])
    name = "{{a}} {epoch:03d} {val_loss:.2f} {accuracy}.safetensors"
    fit(trainer, 2, losses, callbacks.Checkpoint(tmp_path / name))
    best = callbacks.Checkpoint(tmp_path / "best-{epoch}", monitor="val_loss", state=True)
    fit(trainer, 2, losses, best)
    accuracy = trainer.history["accuracy"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "best-4",
        f"{{a}} 001 3.00 {accuracy[0]}.safetensors",
        f"{{a}} 002 1.00 {accuracy[1]}.safetensors",
    ]
    fastcnn.load(tmp_path / f"{{a}} 002 1.00 {accuracy[1]}.safetensors")
    trainer_of(reference).load_state(tmp_path / "best-4")
    x, y = data()
    again = callbacks.Checkpoint(tmp_path / "{val_loss:.2f}")
    with pytest.raises(ValueError, match=r"path: .*, got val_loss; pass validation_data to fit"):
        trainer.fit(x, y, callbacks=[again], verbose=False)
    assert trainer.epoch == 4


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{f2}.st", "expected epoch, loss, .* in braces, got 'f2'; braces of the name"),
        ("{}.st", "in braces, got ''"),
        ("{0}.st", "in braces, got '0'"),
        ("{epoch.real}", "in braces, got 'epoch.real'"),
        ("{loss[0]}", "in braces, got 'loss"),
        ("{epoch", "expected fields such as {epoch:03d} .*braces of the name itself are doubled"),
        ("a}b", "expected fields such as"),
        ("{loss:d}", "expected fields such as"),
        ("{loss:zz}", "expected fields such as"),
        ("{epoch}/m.st", "expected fields in the file's name only"),
        ("{epoch:{loss}}", "expected fields in the file's name only, and none in another|fields"),
        ("{epoch:/>3}", "expected fields such as"),
        ("{" + "a" * 500 + "}", "in braces, got 'aaa"),
    ],
)
def test_paths_of_checkpoints_that_cannot_be_filled_in(path: str, message: str) -> None:
    with pytest.raises(ValueError, match="Checkpoint: path: ") as caught:
        callbacks.Checkpoint(path)
    assert caught.match(message)
    assert len(str(caught.value)) < 300
    with pytest.raises(TypeError, match="path: expected a file's name, got int"):
        callbacks.Checkpoint(3)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- cut short
class Stops(callbacks.Callback):
    """Raises in the midst of the third epoch, and keeps each epoch's weights."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.states: list[dict[str, Any]] = []

    def on_fit_begin(self, trainer: Any) -> None:
        real = trainer.schedule
        trainer.schedule = lambda step, total: self.rate(step) * real(step, total)

    def rate(self, step: int) -> float:
        if step == 8:
            raise self.error
        return 1.0

    def on_epoch_end(self, trainer: Any) -> None:
        self.states.append(trainer.model.state_dict())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), FloatingPointError("x"), MemoryError()])
def test_the_best_weights_come_back_after_an_error_and_ctrl_c(
    error: BaseException, reference: Any
) -> None:
    trainer, stops = trainer_of(reference), Stops(error)
    stopping = callbacks.EarlyStopping("loss", patience=5, restore_best=True)
    x, y = data()
    calls: list[callbacks.Callback] = [Scripted("loss", [1.0, 2.0]), stopping, stops]
    with pytest.raises(type(error)):
        trainer.fit(x, y, epochs=4, batch_size=2, callbacks=calls, verbose=False)
    assert (trainer.epoch, trainer.step) == (2, 8)
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, stops.states[0][name])
        assert not np.array_equal(array, stops.states[1][name])


def test_ctrl_c_before_the_end_of_an_epoch_leaves_the_weights(reference: Any) -> None:
    trainer = trainer_of(reference)
    x, y = data()
    trainer.schedule = lambda step, total: 1.0 if step < 2 else int("no number")
    stopping = callbacks.EarlyStopping("loss", restore_best=True)
    with pytest.raises(ValueError, match="no number"):
        trainer.fit(x, y, batch_size=2, callbacks=[stopping], verbose=False)
    twin = trainer_of(reference)
    twin.schedule = lambda step, total: 1.0 if step < 2 else 0.0
    twin.fit(x, y, batch_size=2, verbose=False)
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, twin.model.state_dict()[name])


def test_every_callback_that_began_hears_of_an_interruption(reference: Any) -> None:
    calls = []

    class Own(callbacks.Callback):
        def __init__(self, name: str, *, begins: bool = True) -> None:
            self.name, self.begins = name, begins

        def on_fit_begin(self, trainer: Any) -> None:
            if not self.begins:
                raise ValueError("not today")

        def on_epoch_end(self, trainer: Any) -> None:
            raise KeyboardInterrupt

        def on_fit_end(self, trainer: Any) -> None:
            calls.append((self.name, "end"))

        def on_fit_interrupted(self, trainer: Any) -> None:
            calls.append((self.name, "interrupted"))
            if self.name == "a":
                raise RuntimeError("in a callback")

    with pytest.raises(RuntimeError, match="in a callback") as caught:
        fit(trainer_of(reference), 1, Own("a"), Own("b"))
    assert isinstance(caught.value.__cause__, KeyboardInterrupt)
    assert calls == [("a", "interrupted"), ("b", "interrupted")]
    calls.clear()
    with pytest.raises(ValueError, match="not today"):
        fit(trainer_of(reference), 1, Own("b"), Own("c", begins=False), Own("d"))
    assert calls == [("b", "interrupted")]
