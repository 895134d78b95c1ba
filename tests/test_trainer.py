"""Training: what it learns, that it resumes to the same bits, that no step is done by half."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trainers import (
    CLASSES,
    Faulty,
    assert_same_state,
    every_kind,
    plain,
    state_of,
    striped_images,
    trainer_of,
)

import fastcnn
from fastcnn import nn, optim
from fastcnn.callbacks import Callback


# ---------------------------------------------------------------------- learning
@pytest.mark.parametrize("make", [plain, every_kind])
@pytest.mark.parametrize(
    "optimizer", [optim.SGD(0.05, momentum=0.9), optim.Adam(0.03)], ids=["sgd", "adam"]
)
def test_training_learns(make: Any, optimizer: Any, backend: Any) -> None:
    x, y = striped_images(48)
    trainer = trainer_of(backend, make(), optimizer=optimizer)
    untrained = trainer.evaluate(x, y)
    history = trainer.fit(x, y, epochs=6, batch_size=12, validation_data=(x, y), verbose=False)
    assert {name: len(values) for name, values in history.items()} == {
        "step_loss": 24,
        "loss": 6,
        "accuracy": 6,
        "val_loss": 6,
        "val_accuracy": 6,
    }
    assert history["val_loss"][-1] < 0.6 * untrained["loss"]
    assert history["val_accuracy"][-1] >= 0.8
    assert trainer.evaluate(x, y, batch_size=12) == {
        "loss": history["val_loss"][-1],
        "accuracy": history["val_accuracy"][-1],
    }
    assert all(type(v) is float for values in history.values() for v in values)


def test_every_layer_learns_together(backend: Any) -> None:
    model = nn.Sequential(
        [
            nn.Conv2D(4, 3, activation="leaky_relu", groups=2, padding="same"),
            nn.Conv2D(4, 2, activation="elu", dilation=2),
            nn.MaxPool2D(2, ceil_mode=True),
            nn.Conv2D(4, 1, activation="silu"),
            nn.Residual(nn.Conv2D(4, 3, padding=1, activation="tanh"), nn.Conv2D(4, 1)),
            nn.BatchNorm(running_variance="biased"),
            nn.Sigmoid(),
            nn.GlobalMaxPool2D(),
            nn.Dense(CLASSES),
        ]
    )
    x, y = striped_images(24)
    trainer = trainer_of(backend, model, optimizer=optim.Adam(0.02))
    history = trainer.fit(x, y, epochs=5, batch_size=12, verbose=False)
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("make", [plain, every_kind])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_backends_agree_step_by_step(make: Any, dtype: Any, backend: Any, reference: Any) -> None:
    x, y = striped_images(20)
    histories = []
    for each in (backend, reference):
        trainer = trainer_of(each, make(), dtype=dtype, schedule="cosine")
        histories.append(
            trainer.fit(x, y, epochs=2, batch_size=8, validation_data=(x, y), verbose=False)
        )
    tolerance = 1e-4 if dtype is np.float32 else 1e-10
    for name in ("step_loss", "loss", "val_loss"):
        np.testing.assert_allclose(histories[0][name], histories[1][name], atol=tolerance)


def test_same_seed_same_bits(backend: Any) -> None:
    x, y = striped_images(20)

    def run(seed: int) -> dict[str, Any]:
        trainer = trainer_of(backend, every_kind(), seed=seed)
        trainer.fit(x, y, epochs=2, batch_size=8, verbose=False)
        return state_of(trainer) | {"losses": trainer.history["step_loss"]}

    assert_same_state(run(3), run(3))
    assert run(3)["losses"] != run(4)["losses"]


def test_epochs_add_up(reference: Any) -> None:
    x, y = striped_images(20)
    once, twice = trainer_of(reference, every_kind()), trainer_of(reference, every_kind())
    once.fit(x, y, epochs=2, batch_size=8, verbose=False)
    twice.fit(x, y, epochs=1, batch_size=8, verbose=False)
    history = twice.fit(x, y, epochs=1, batch_size=8, verbose=False)
    assert_same_state(state_of(twice), state_of(once))
    assert history == once.history
    history["loss"].clear()
    assert len(twice.history["loss"]) == 2, "what fit returns is the caller's"


def test_what_a_step_asks_of_the_backend(reference: Any) -> None:
    calls: list[tuple[str, Any]] = []

    class Recorder:
        def __getattr__(self, name: str) -> Any:
            def op(*args: Any, **kwargs: Any) -> Any:
                asked = kwargs.get("input_gradient")
                calls.append((name, kwargs["mask"].copy() if name == "dropout" else asked))
                return getattr(reference, name)(*args, **kwargs)

            return op

    x, y = striped_images(8)
    model = nn.Sequential(
        [nn.Conv2D(2, 3), nn.BatchNorm(), nn.Flatten(), nn.Dropout(0.5), nn.Dense(CLASSES)]
    )
    trainer = trainer_of(reference, model)
    trainer.backend = Recorder()  # type: ignore[assignment]
    trainer.fit(x, y, batch_size=4, verbose=False)
    names = [name for name, _ in calls]
    assert names[:12] == [
        *("conv2d", "batch_norm", "reshape", "dropout", "linear", "softmax_cross_entropy"),
        *("softmax_cross_entropy_backward", "linear_backward", "dropout_backward"),
        *("reshape_backward", "batch_norm_backward", "conv2d_backward"),
    ]
    assert [asked for name, asked in calls if name == "conv2d_backward"] == [False, False]
    masks = [asked for name, asked in calls if name == "dropout"]
    assert np.any(masks[0] != masks[1]), "each step has a mask of its own"
    calls.clear()
    trainer.evaluate(x, y)
    assert [name for name, _ in calls] == [
        *("conv2d", "batch_norm_inference", "linear", "softmax_cross_entropy")
    ]


# ---------------------------------------------------------------------- resuming
@pytest.mark.parametrize("make_optimizer", [lambda: optim.SGD(0.05, momentum=0.9), optim.AdamW])
def test_resume_to_the_same_bits(make_optimizer: Any, backend: Any, tmp_path: Path) -> None:
    x, y = striped_images(20)

    def fresh(seed: int = 1) -> fastcnn.Trainer:
        return trainer_of(
            backend, every_kind(), optimizer=make_optimizer(), seed=seed, schedule="warmup-cosine"
        )

    whole, first, second = fresh(), fresh(), fresh(seed=9)
    options: dict[str, Any] = {"batch_size": 8, "validation_data": (x, y), "verbose": False}
    whole.fit(x, y, epochs=3, **options)

    class Stop(fastcnn.callbacks.Callback):
        def on_epoch_end(self, trainer: Any) -> None:
            trainer.stop = True

    first.fit(x, y, epochs=3, callbacks=[Stop()], **options)
    assert first.epoch == 1
    first.save_state(tmp_path / "state.safetensors")
    second.load_state(tmp_path / "state.safetensors")
    assert second.history == first.history
    assert second.fit(x, y, epochs=2, **options) == whole.history
    assert_same_state(state_of(second), state_of(whole))
    second.save_state(tmp_path / "a")
    whole.save_state(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_resume_into_a_model_with_weights(reference: Any, tmp_path: Path) -> None:
    x, y = striped_images(10)
    trainer, other = trainer_of(reference), trainer_of(reference, seed=5)
    trainer.fit(x, y, verbose=False)
    trainer.save_state(tmp_path / "s", notes={"lr": 0.1})
    other.fit(x, y, epochs=2, verbose=False)
    weights = other.model.parameters()["0.weight"]
    other.load_state(tmp_path / "s")
    assert_same_state(state_of(other), state_of(trainer))
    assert other.model.parameters()["0.weight"] is weights
    assert fastcnn.serialization.read_notes(tmp_path / "s") == {"lr": 0.1}
    trainer.fit(x, y, verbose=False)
    other.fit(x, y, verbose=False)
    assert_same_state(state_of(other), state_of(trainer))


def test_state_before_the_first_step(reference: Any, tmp_path: Path) -> None:
    x, y = striped_images(10)
    trainer, other = trainer_of(reference), trainer_of(reference)
    trainer.model.build((8, 6, 2), seed=1)
    trainer.save_state(tmp_path / "s")
    other.load_state(tmp_path / "s")
    trainer.fit(x, y, verbose=False)
    other.fit(x, y, verbose=False)
    assert_same_state(state_of(other), state_of(trainer))


# ---------------------------------------------------------------------- never half a step
@pytest.mark.parametrize("op", ["linear", "conv2d_backward", "softmax_cross_entropy"])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_failing_step_changes_nothing(op: str, error: type[BaseException], backend: Any) -> None:
    x, y = striped_images(12)
    trainer = trainer_of(backend, every_kind())
    trainer.fit(x, y, verbose=False)
    before = state_of(trainer)

    def fault(*args: Any, **kwargs: Any) -> None:
        raise error

    trainer.backend = Faulty(backend, op, fault)  # type: ignore[assignment]
    with pytest.raises(error):
        trainer.fit(x, y, verbose=False)
    assert_same_state(state_of(trainer), before)
    # The step that failed leaves no trace in what comes after it either.
    trainer.backend = backend
    trainer.fit(x, y, verbose=False)
    unhurt = trainer_of(backend, every_kind())
    unhurt.fit(x, y, epochs=2, verbose=False)
    assert_same_state(state_of(trainer), state_of(unhurt))


def test_a_loss_that_is_not_finite_stops_before_the_step(backend: Any) -> None:
    x, y = striped_images(12)
    images = (x / 255).astype(np.float32)
    trainer = trainer_of(backend, every_kind())
    trainer.fit(images, y, verbose=False)
    before = state_of(trainer)
    for bad in (np.nan, np.inf):
        images[3, 2, 2, 1] = bad
        with (
            np.errstate(invalid="ignore"),
            pytest.raises(FloatingPointError, match=r"loss of step 2 is nan; .* below 0\.05"),
        ):
            trainer.fit(images, y, verbose=False)
        assert_same_state(state_of(trainer), before)


@pytest.mark.parametrize("handler", ["default", "own"])
def test_ctrl_c_in_the_middle_of_the_update(handler: str, backend: Any) -> None:
    x, y = striped_images(12)
    handing_on = Faulty(backend, "sgd_step", backend.sgd_step)
    stepped = trainer_of(handing_on, every_kind())
    stepped.fit(x, y, verbose=False)
    trainer = trainer_of(backend, every_kind())
    calls = 0

    def interrupted(*args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            signal.raise_signal(signal.SIGINT)
        backend.sgd_step(*args, **kwargs)

    class Own(Exception):
        pass

    def own_handler(number: int, frame: Any) -> None:
        raise Own

    trainer.backend = Faulty(backend, "sgd_step", interrupted)  # type: ignore[assignment]
    previous = signal.getsignal(signal.SIGINT)
    expected: type[BaseException] = KeyboardInterrupt
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if handler == "own":
            signal.signal(signal.SIGINT, own_handler)
            expected = Own
        with pytest.raises(expected):
            trainer.fit(x, y, verbose=False)
        now = own_handler if handler == "own" else signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is now
    finally:
        signal.signal(signal.SIGINT, previous)
    assert calls == len(trainer.model.parameters()), "the update was brought to its end"
    assert_same_state(state_of(trainer) | {"epoch": 1}, state_of(stepped))


def test_ctrl_c_where_python_drops_exceptions(backend: Any) -> None:
    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    class Dropping(Callback):
        def on_epoch_end(self, trainer: Any) -> None:
            Dying()

    x, y = striped_images(12)
    trainer = trainer_of(backend)
    hook = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, epochs=5, callbacks=[Dropping()], verbose=False)
    assert (trainer.epoch, trainer.step) == (1, 2), "it arrived at the end of the next step"
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, epochs=1, callbacks=[Dropping()], verbose=False)
    assert trainer.epoch == 2, "it arrived at the end of fit"
    assert sys.unraisablehook is hook


def test_fit_in_a_thread(reference: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    x, y = striped_images(12)
    trainer = trainer_of(reference)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(trainer.fit, x, y, verbose=False).result()
    assert trainer.step == 1


def test_gradients_are_let_go(reference: Any) -> None:
    x, y = striped_images(12)
    trainer = trainer_of(reference)
    trainer.fit(x, y, verbose=False)
    assert all(p.grad is None for p in trainer.model.parameters().values())


def test_a_model_without_parameters(backend: Any) -> None:
    """There is nothing to train, but a loss to see."""
    x, y = np.random.default_rng(0).random((9, 5, 5, 3), np.float32), np.arange(9) % 3
    trainer = fastcnn.Trainer(nn.GlobalAvgPool2D(), backend=backend)
    history = trainer.fit(x, y, epochs=2, batch_size=4, verbose=False)
    assert history["loss"][0] == pytest.approx(trainer.evaluate(x, y)["loss"])
