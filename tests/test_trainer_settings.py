"""Parts of a trainer that are set anew between calls of fit: they take effect, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trainers import assert_same_state, plain, state_of, striped_images, trainer_of

import fastcnn
from fastcnn import callbacks, losses, nn, optim, schedules
from fastcnn.callbacks import Callback

X, Y = striped_images(12)


def small() -> nn.Sequential:
    return nn.Sequential([nn.Flatten(), nn.Dense(3)])


def moved(trainer: fastcnn.Trainer, **fit: Any) -> float:
    """How far a fit moves a weight at most."""
    before = trainer.model.state_dict()
    trainer.fit(X, Y, verbose=False, **fit)
    after = trainer.model.state_dict()
    return max(float(np.abs(after[name] - before[name]).max()) for name in before)


# ---------------------------------------------------------------------- optimizers
OPTIMIZERS = {
    "plain": lambda: optim.SGD(0.01),
    "momentum": lambda: optim.SGD(0.01, momentum=0.9),
    "adam": lambda: optim.Adam(1e-3),
}


@pytest.mark.parametrize("second", OPTIMIZERS)
@pytest.mark.parametrize("first", OPTIMIZERS)
def test_a_new_optimizer_starts_anew(first: str, second: str, reference: Any) -> None:
    """It trains as in a new trainer of a model with these weights."""
    trainer = trainer_of(reference, small(), optimizer=OPTIMIZERS[first]())
    trainer.fit(X, Y, epochs=5, shuffle=False, verbose=False)
    weights = trainer.model.state_dict()
    trainer.optimizer = OPTIMIZERS[second]()
    trainer.fit(X, Y, epochs=2, shuffle=False, verbose=False)
    other = trainer_of(reference, small(), optimizer=OPTIMIZERS[second]())
    other.model.build((8, 6, 2))
    other.model.load_state_dict(weights)
    other.fit(X, Y, epochs=2, shuffle=False, verbose=False)
    assert (trainer.step, trainer.epoch) == (7, 7), "the trainer's own counts go on"
    assert_same_state(state_of(trainer) | {"step": 2, "epoch": 2}, state_of(other))


def test_the_same_optimizer_goes_on(reference: Any) -> None:
    trainer, other = (trainer_of(reference, small(), optimizer=optim.Adam()) for _ in range(2))
    for each in (trainer, other):
        each.fit(X, Y, verbose=False)
    trainer.optimizer = trainer.optimizer
    trainer.model = trainer.model
    for each in (trainer, other):
        each.fit(X, Y, verbose=False)
    assert_same_state(state_of(trainer), state_of(other))


def test_its_own_count_of_steps_is_saved(reference: Any, tmp_path: Path) -> None:
    trainer, other = (trainer_of(reference, small(), optimizer=optim.SGD(0.1)) for _ in range(2))
    trainer.fit(X, Y, epochs=30, verbose=False)
    for each in (trainer, other):
        each.optimizer = "adam"  # type: ignore[assignment]
    trainer.save_state(tmp_path / "before its first step")
    other.load_state(tmp_path / "before its first step")
    for each in (trainer, other):
        assert moved(each) <= 1.01e-3
    assert_same_state(state_of(other), state_of(trainer))
    trainer.save_state(tmp_path / "s")
    third = trainer_of(reference, small(), optimizer=optim.Adam())
    third.load_state(tmp_path / "s")
    for each in (trainer, third):
        each.fit(X, Y, epochs=2, verbose=False)
    assert_same_state(state_of(third), state_of(trainer))


def test_a_state_without_the_optimizers_count(reference: Any, tmp_path: Path) -> None:
    """Older files have none: it is the trainer's."""
    trainer, other = (trainer_of(reference, small(), optimizer=optim.Adam()) for _ in range(2))
    trainer.fit(X, Y, epochs=3, verbose=False)
    trainer.save_state(tmp_path / "s")
    tensors, description = fastcnn.serialization.read_tensors(tmp_path / "s", "fastcnn-state")
    assert description.pop("optimizer_step") == 3
    fastcnn.serialization.write_tensors(tmp_path / "s", tensors, description)
    other.load_state(tmp_path / "s")
    for each in (trainer, other):
        each.fit(X, Y, verbose=False)
    assert_same_state(state_of(other), state_of(trainer))


def test_momentum_comes_and_goes(reference: Any, tmp_path: Path) -> None:
    optimizer = optim.SGD(0.01)
    trainer = trainer_of(reference, small(), optimizer=optimizer)
    trainer.fit(X, Y, verbose=False)
    optimizer.momentum = 0.9
    trainer.fit(X, Y, epochs=2, verbose=False)
    assert list(trainer._optimizer_state) == ["velocity.1.weight", "velocity.1.bias"]
    optimizer.momentum = 0
    trainer.save_state(tmp_path / "s")
    trainer_of(reference, small(), optimizer=optim.SGD(0.01)).load_state(tmp_path / "s")
    trainer.fit(X, Y, verbose=False)
    assert trainer._optimizer_state == {}


@pytest.mark.parametrize(
    ("optimizer", "name", "value", "error"),
    [
        (optim.SGD(0.1), "learning_rate", "0.1", TypeError),
        (optim.SGD(0.1), "learning_rate", -1, ValueError),
        (optim.SGD(0.1), "learning_rate", np.nan, ValueError),
        (optim.SGD(0.1), "momentum", 1.0, ValueError),
        (optim.SGD(0.1), "nesterov", 1, TypeError),
        (optim.SGD(0.1), "lr", 0.2, AttributeError),
        (optim.AdamW(), "clip_norm", 0, ValueError),
        (optim.AdamW(), "beta1", None, TypeError),
        (losses.CrossEntropy(), "label_smoothing", 2, ValueError),
        (losses.CrossEntropy(), "class_weights", [-1], ValueError),
        (losses.MeanSquaredError(), "class_weights", [1, 2], AttributeError),
        (schedules.Constant(), "factor", 0.5, AttributeError),
        (schedules.Step(), "milestones", [0.5, 0.2], ValueError),
        (schedules.Step(), "factor", 0, ValueError),
        (schedules.Cosine(), "final", 7, ValueError),
        (schedules.Cosine(), "finale", 0.5, AttributeError),
        (schedules.WarmUp(), "share", "x", TypeError),
        (callbacks.EarlyStopping(), "patience", "x", TypeError),
        (callbacks.EarlyStopping(), "monitor", "f2", ValueError),
        (callbacks.EarlyStopping(), "min_delta", -1, ValueError),
        (callbacks.EarlyStopping(), "restore_best", 1, TypeError),
        (callbacks.EarlyStopping(), "patients", 3, AttributeError),
        (callbacks.Checkpoint("x"), "monitor", "f2", ValueError),
        (callbacks.Checkpoint("x"), "path", "{f2}", ValueError),
        (callbacks.Checkpoint("x"), "state", None, TypeError),
        (callbacks.Checkpoint("x"), "stat", True, AttributeError),
    ],
)
def test_settings_are_checked_when_they_are_set(
    optimizer: Any, name: str, value: Any, error: type[Exception]
) -> None:
    before = repr(vars(optimizer))
    with pytest.raises(error, match=f"^{type(optimizer).__name__}: .*{name}"):
        setattr(optimizer, name, value)
    assert repr(vars(optimizer)) == before


def test_settings_may_change_and_ones_own_may_be_added() -> None:
    warm_up = schedules.WarmUp()
    warm_up.after = "cosine"
    assert type(warm_up.after) is schedules.Cosine
    loss = losses.FunctionLoss(lambda p, t: (0.0, p))
    for wrong in (3, lambda p: p):
        with pytest.raises(TypeError, match=r"^loss: .*: expected a function of"):
            loss.function = wrong  # type: ignore[assignment]
    with pytest.raises(AttributeError, match=r"settings \(it has none\), got a{80}$"):
        setattr(losses.MeanSquaredError(), "a" * 1000, 1)

    class Own(callbacks.EarlyStopping):
        pass

    own = Own()
    own.mine = 3  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"^Own: patience"):
        own.patience = "x"  # type: ignore[assignment]


def test_the_path_of_a_checkpoint_may_change(reference: Any, tmp_path: Path) -> None:
    checkpoint = callbacks.Checkpoint(tmp_path / "{loss}")
    checkpoint.path = tmp_path / "{epoch}"
    trainer_of(reference, small()).fit(X, Y, callbacks=[checkpoint], verbose=False)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


# ---------------------------------------------------------------------- the other parts
def test_names_become_what_they_name(reference: Any) -> None:
    trainer = trainer_of(reference, small(), optimizer="adamw")
    assert type(trainer.optimizer) is optim.AdamW
    assert repr(trainer_of(reference, optimizer="sgd").optimizer) == repr(
        fastcnn.Trainer(plain()).optimizer
    )
    trainer.loss = "mean_squared_error"  # type: ignore[assignment]
    trainer.backend = "fast"  # type: ignore[assignment]
    trainer.schedule = "cosine"
    trainer.dtype = "float64"  # type: ignore[assignment]
    assert type(trainer.loss) is losses.MeanSquaredError
    assert type(trainer.backend) is fastcnn.FastBackend
    assert type(trainer.schedule) is schedules.Cosine
    trainer.fit(X, np.eye(3)[Y], verbose=False)
    assert trainer.model.dtype == np.float64
    trainer.backend = "reference"  # type: ignore[assignment]
    trainer.loss = "cross_entropy"  # type: ignore[assignment]
    history = trainer.fit(X, Y, verbose=False)
    assert len(history["accuracy"]) == 1


def test_another_model_is_trained_from_its_start(reference: Any) -> None:
    trainer = trainer_of(reference, optimizer=optim.Adam())
    trainer.fit(X, Y, epochs=3, verbose=False)
    first = trainer.model.state_dict()
    old, trainer.model = trainer.model, small()
    trainer.fit(X, Y, shuffle=False, verbose=False)
    other = trainer_of(reference, small(), optimizer=optim.Adam())
    other.fit(X, Y, shuffle=False, verbose=False)
    assert_same_state(state_of(trainer) | {"step": 1, "epoch": 1}, state_of(other))
    for name, array in old.state_dict().items():
        np.testing.assert_array_equal(array, first[name])


def test_what_is_refused(reference: Any) -> None:
    trainer = trainer_of(reference, small())
    trainer.fit(X, Y, verbose=False)
    double = small()
    double.build((8, 6, 2), dtype=np.float64)
    for name, value, error, message in [
        ("model", [nn.Dense(3)], TypeError, "model: expected a fastcnn.nn model, got list"),
        ("model", nn.Sequential([nn.Softmax()]), ValueError, "model: .* ends in a softmax"),
        ("model", double, ValueError, "model: expected weights of the trainer's dtype float32"),
        ("dtype", "float64", ValueError, "dtype: expected float32, which the model was built"),
        ("dtype", int, TypeError, "dtype: expected float32 or float64"),
        ("optimizer", None, TypeError, "optimizer: expected an optimizer"),
        ("loss", 3, TypeError, "loss: expected"),
        ("backend", "slow", ValueError, 'backend: expected "fast" or "reference"'),
        ("schedule", "linear", ValueError, "schedule: expected one of"),
        ("seed", -1, ValueError, "seed: expected an integer of at least 0"),
    ]:
        before = getattr(trainer, name)
        with pytest.raises(error, match=message):
            setattr(trainer, name, value)
        assert getattr(trainer, name) is before
    trainer.loss = "mean_squared_error"  # type: ignore[assignment]
    trainer.model = nn.Sequential([nn.Flatten(), nn.Dense(3, activation="softmax")])
    with pytest.raises(ValueError, match="ends in a softmax"):
        trainer.loss = "cross_entropy"  # type: ignore[assignment]


def test_callbacks_may_set_parts(fast_backend: Any, reference: Any) -> None:
    class Changes(Callback):
        def on_epoch_end(self, trainer: Any) -> None:
            if trainer.epoch == 1:
                trainer.optimizer = optim.Adam(0.01)
            trainer.loss = losses.CrossEntropy(label_smoothing=0.1)

    states = []
    for backend in (fast_backend, reference):
        trainer = trainer_of(backend, small(), optimizer=optim.SGD(0.05, momentum=0.9))
        trainer.fit(X, Y, epochs=2, batch_size=4, callbacks=[Changes()], verbose=False)
        assert trainer._optimizer_step == 3
        states.append(trainer.model.state_dict())
    for name, array in states[0].items():
        np.testing.assert_allclose(array, states[1][name], atol=1e-5)


def test_a_wrapper_is_a_backend(reference: Any) -> None:
    class HandsOn:
        def __getattr__(self, name: str) -> Any:
            return getattr(reference, name)

    wrapper = HandsOn()
    assert trainer_of(wrapper).backend is wrapper
