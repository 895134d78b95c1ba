"""The trainer: it learns, says the same on every backend, resumes, and never breaks a model."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import losses, nn, optim

CLASSES = 3


def striped_images(count: int, seed: int = 0) -> tuple[Any, Any]:
    """Images (count, 8, 6, 2) of noise with a bright row, whose place is the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    images = rng.integers(0, 100, (count, 8, 6, 2), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 2 * label] += np.uint8(150)
    return images, labels


def plain() -> nn.Sequential:
    """The sample network in small."""
    return nn.Sequential(
        [
            nn.Conv2D(4, 3, activation="relu"),
            nn.MaxPool2D(2),
            nn.Flatten(),
            nn.Dense(8, activation="relu"),
            nn.Dense(CLASSES),
        ]
    )


def every_kind() -> nn.Sequential:
    """Batch normalization, average pooling, dropout, a residual, a depthwise convolution."""
    return nn.Sequential(
        [
            nn.Conv2D(4, 3, padding="same", use_bias=False),
            nn.BatchNorm(),
            nn.ReLU(),
            nn.AvgPool2D(2),
            nn.Residual(
                nn.Sequential(
                    [nn.DepthwiseConv2D(3, padding=1, use_bias=False), nn.BatchNorm(), nn.GELU()]
                )
            ),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Dense(CLASSES),
        ]
    )


def trainer_of(backend: Any, model: nn.Module | None = None, **options: Any) -> fastcnn.Trainer:
    options = {"optimizer": optim.SGD(0.05, momentum=0.9), "seed": 1, **options}
    return fastcnn.Trainer(model or plain(), backend=backend, **options)


def state_of(trainer: fastcnn.Trainer) -> dict[str, Any]:
    state = {**trainer.model.state_dict(), "step": trainer.step, "epoch": trainer.epoch}
    for name, array in trainer._optimizer_state.items():
        state[f"optimizer.{name}"] = array.copy()
    return state


def assert_same_state(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


class Faulty:
    """A backend with one op replaced."""

    def __init__(self, backend: Any, op: str, fault: Any) -> None:
        self._backend = backend
        self._op = op
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return self._fault if name == self._op else getattr(self._backend, name)


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
                calls.append((name, args[1].copy() if name == "dropout" else asked))
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
        *("conv2d", "batch_norm", "dropout", "linear", "softmax_cross_entropy"),
        *("softmax_cross_entropy_backward", "linear_backward", "dropout_backward"),
        *("batch_norm_backward", "conv2d_backward", "sgd_step", "sgd_step"),
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
@pytest.mark.parametrize("op", ["linear", "conv2d_backward", "softmax_cross_entropy_backward"])
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
    stepped = trainer_of(backend, every_kind())
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


# ---------------------------------------------------------------------- data
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uint8_is_divided_by_255(reference: Any, dtype: str) -> None:
    trainer = trainer_of(reference, nn.Sequential([nn.Flatten(), nn.ReLU()]), dtype=dtype)
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    expected = np.array([number / 255 for number in range(256)]).astype(dtype)
    np.testing.assert_array_equal(trainer.predict(every)[0], expected)
    assert trainer.predict(every).dtype == dtype


def test_floats_are_taken_as_they_are(reference: Any) -> None:
    trainer = trainer_of(reference, nn.Sequential([nn.LeakyReLU(1.0)]))
    x = np.array([[0.5, -300.0]])
    for array in (x, x.astype(np.float32), x.astype(np.float16), x.astype(">f8"), x[:, ::-1]):
        y = trainer.predict(array)
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, array)


def test_data_of_any_layout_train_alike(backend: Any) -> None:
    x, y = striped_images(12)
    images = (x / 255).astype(np.float32)
    wide = np.zeros((24, 8, 6, 4), np.float32)
    wide[::2, :, :, ::2] = images
    expected = trainer_of(backend)
    expected.fit(images, y, batch_size=5, verbose=False)
    views = [
        (wide[::2, :, :, ::2], y.astype(np.uint8)),
        (images.astype(">f4"), y.astype(">i2")),
        (np.asfortranarray(images), list(y)),
    ]
    for view, labels in views:
        copy = view.copy()
        view.flags.writeable = False
        trainer = trainer_of(backend)
        trainer.fit(view, labels, batch_size=5, verbose=False)
        assert_same_state(state_of(trainer), state_of(expected))
        np.testing.assert_array_equal(view, copy)


def test_order_of_the_images(reference: Any) -> None:
    seen: list[list[int]] = []

    class Watch(losses.CrossEntropy):
        def __call__(self, prediction: Any, target: Any, backend: Any) -> Any:
            seen.append([int(label) for label in target])
            return super().__call__(prediction, target, backend)

    x, y = np.eye(7, dtype=np.float32), np.arange(7)
    trainer = trainer_of(reference, nn.Sequential([nn.Dense(7)]), loss=Watch())
    trainer.fit(x, y, batch_size=3, shuffle=False, verbose=False)
    assert seen == [[0, 1, 2], [3, 4, 5], [6]]
    seen.clear()
    trainer.fit(x, y, batch_size=3, shuffle=False, drop_last=True, verbose=False)
    assert seen == [[0, 1, 2], [3, 4, 5]]
    seen.clear()
    trainer.fit(x, y, epochs=2, batch_size=7, verbose=False)
    assert sorted(seen[0]) == sorted(seen[1]) == list(range(7))
    assert seen[0] != seen[1]
    assert seen[0] != list(range(7))


def test_last_batch_of_one_image(reference: Any) -> None:
    x, y = striped_images(9)
    model = nn.Sequential([nn.Flatten(), nn.Dense(4), nn.BatchNorm(), nn.Dense(CLASSES)])
    trainer = trainer_of(reference, model)
    with pytest.raises(ValueError, match=r"the last with 1; .* or pass drop_last=True"):
        trainer.fit(x, y, batch_size=4, verbose=False)
    with pytest.raises(ValueError, match="at least 2 images"):
        trainer.fit(x, y, batch_size=1, drop_last=True, verbose=False)
    assert trainer.step == 0
    trainer.fit(x, y, batch_size=4, drop_last=True, verbose=False)
    assert trainer.step == 2
    trainer.fit(x, y, batch_size=5, verbose=False)
    with_pixels = trainer_of(reference, every_kind())
    with_pixels.fit(x, y, batch_size=4, verbose=False)
    assert with_pixels.step == 3


# ---------------------------------------------------------------------- losses and measures
def test_evaluation_does_not_depend_on_the_batch_size(backend: Any) -> None:
    x, y = striped_images(17)
    weighted = losses.CrossEntropy(label_smoothing=0.1, class_weights=[1, 5, 0.5])
    one_hot = np.eye(CLASSES)[y]
    for loss, labels in (("cross_entropy", y), (weighted, y), (weighted, one_hot)):
        trainer = trainer_of(backend, loss=loss)
        whole = trainer.evaluate(x, labels, batch_size=17)
        parts = trainer.evaluate(x, labels, batch_size=5)
        assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)
        assert parts["accuracy"] == whole["accuracy"]
        logits = trainer.predict(x, batch_size=4)
        assert logits.shape == (17, CLASSES)
        np.testing.assert_array_equal(logits, trainer.predict(x))
        assert whole["accuracy"] == np.mean(logits.argmax(axis=1) == y)
        shares = np.exp(trainer.predict_proba(x).astype(np.float64))
        np.testing.assert_allclose(np.log(shares).sum(axis=1), 1.0, rtol=1e-5)


def test_evaluation_changes_nothing(backend: Any) -> None:
    x, y = striped_images(12)
    trainer = trainer_of(backend, every_kind())
    trainer.fit(x, y, verbose=False)
    before = state_of(trainer)
    first = trainer.predict(x)
    trainer.evaluate(x, y)
    np.testing.assert_array_equal(trainer.predict(x), first)
    assert_same_state(state_of(trainer), before)


def test_numbers_of_an_epoch_are_means_over_its_steps(reference: Any) -> None:
    x, y = striped_images(10)
    history = trainer_of(reference).fit(x, y, batch_size=4, verbose=False)
    a, b, c = history["step_loss"]
    assert history["loss"][0] == pytest.approx((4 * a + 4 * b + 2 * c) / 10)
    assert history["val_loss"] == history["val_accuracy"] == []


def test_one_hot_labels_are_integer_labels(backend: Any) -> None:
    x, y = striped_images(12)
    integers, table = trainer_of(backend), trainer_of(backend)
    integers.fit(x, y, epochs=2, batch_size=6, verbose=False)
    table.fit(x, np.eye(CLASSES, dtype=int)[y], epochs=2, batch_size=6, verbose=False)
    np.testing.assert_allclose(table.history["step_loss"], integers.history["step_loss"], rtol=1e-5)
    assert table.history["accuracy"] == integers.history["accuracy"]


def test_mean_squared_error(backend: Any) -> None:
    x, y = striped_images(24)
    targets = np.stack([y, y * y], axis=1) / 4
    model = nn.Sequential([nn.Conv2D(4, 3, activation="relu"), nn.Flatten(), nn.Dense(2)])
    trainer = trainer_of(backend, model, loss="mean_squared_error", optimizer=optim.Adam(0.01))
    history = trainer.fit(
        x, targets, epochs=8, batch_size=8, validation_data=(x, targets), verbose=False
    )
    assert history["val_loss"][-1] < 0.5 * history["val_loss"][0]
    assert history["accuracy"] == history["val_accuracy"] == []
    expected = np.mean((trainer.predict(x) - targets) ** 2)
    assert trainer.evaluate(x, targets, batch_size=7) == {"loss": pytest.approx(expected, rel=1e-4)}


def test_schedule_scales_the_learning_rate(reference: Any) -> None:
    rates: list[float] = []

    def sgd_step(*args: Any, learning_rate: float, **kwargs: Any) -> None:
        rates.append(learning_rate)

    asked: list[tuple[int, int]] = []

    def schedule(step: int, total: int) -> float:
        asked.append((step, total))
        return 1 / (step + 1)

    x, y = striped_images(10)
    model = nn.Sequential([nn.Flatten(), nn.Dense(CLASSES, use_bias=False)])
    trainer = trainer_of(reference, model, schedule=schedule)
    trainer.backend = Faulty(reference, "sgd_step", sgd_step)  # type: ignore[assignment]
    trainer.fit(x, y, epochs=2, batch_size=5, verbose=False)
    assert asked == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert rates == pytest.approx([0.05, 0.05 / 2, 0.05 / 3, 0.05 / 4])
    trainer.fit(x, y, batch_size=5, verbose=False)
    assert asked[4:] == [(4, 6), (5, 6)]
    for wrong in (-1.0, float("nan")):
        bad = trainer_of(reference, schedule=lambda step, total, wrong=wrong: wrong)
        with pytest.raises(ValueError, match="schedule: its result"):
            bad.fit(x, y, verbose=False)
        assert bad.step == 0


def test_clipping(backend: Any) -> None:
    x, y = striped_images(10)
    trainer = trainer_of(backend, optimizer=optim.SGD(1.0, clip_norm=1e-3))
    trainer.model.build((8, 6, 2), seed=1)
    before = trainer.model.state_dict()
    trainer.fit(x, y, verbose=False)
    after = trainer.model.state_dict()
    moved = sum(float(((after[name] - before[name]) ** 2).sum()) for name in before)
    assert moved**0.5 == pytest.approx(1e-3, rel=1e-2)


# ---------------------------------------------------------------------- what is printed
def test_progress_bar(reference: Any, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = striped_images(10)
    trainer = trainer_of(reference)
    trainer.fit(x, y, validation_data=(x, y), epochs=2, batch_size=4)
    said = capsys.readouterr()
    assert said.out == ""
    assert "epoch 2/2" in said.err
    for word in ("10/10", "loss", "accuracy", "val_loss", "val_accuracy", "images/s"):
        assert word in said.err
    trainer.fit(x, y, validation_data=(x, y), batch_size=4, verbose=False)
    trainer.evaluate(x, y)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


# ---------------------------------------------------------------------- errors
def test_constructor_errors(reference: Any) -> None:
    model = plain()
    for options, error, message in [
        ({"optimizer": "sgd"}, TypeError, "optimizer: expected an optimizer of fastcnn.optim"),
        ({"loss": "hinge"}, ValueError, 'loss: expected one of "cross_entropy"'),
        ({"loss": 3}, TypeError, "loss: expected"),
        ({"seed": -1}, ValueError, "seed: expected an integer of at least 0"),
        ({"seed": 1.5}, TypeError, "seed: expected an integer"),
        ({"schedule": "linear"}, ValueError, "schedule: expected one of"),
        ({"dtype": np.int32}, TypeError, "dtype: expected float32 or float64, got int32"),
        ({"dtype": "x"}, TypeError, "dtype: expected float32 or float64, got 'x'"),
    ]:
        with pytest.raises(error, match=message):
            fastcnn.Trainer(model, **{"backend": reference, **options})
    with pytest.raises(ValueError, match='backend: expected "fast" or "reference", got \'slow\''):
        fastcnn.Trainer(model, backend="slow")
    with pytest.raises(TypeError, match="backend: expected"):
        fastcnn.Trainer(model, backend=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"model: expected a fastcnn\.nn model, got list"):
        fastcnn.Trainer([nn.Dense(2)], backend=reference)  # type: ignore[arg-type]
    for end in (nn.Softmax(), nn.Dense(2, activation="softmax")):
        with pytest.raises(ValueError, match="ends in a softmax"):
            fastcnn.Trainer(nn.Sequential([nn.Sequential([end])]), backend=reference)
    built = nn.Sequential([nn.Dense(2)])
    built.build((3,), dtype=np.float64)
    assert fastcnn.Trainer(built, backend=reference).dtype == np.float64
    with pytest.raises(ValueError, match="dtype: expected float64, which the model was built"):
        fastcnn.Trainer(built, backend=reference, dtype=np.float32)


GOOD_X = np.zeros((4, 8, 6, 2), np.uint8)
GOOD_Y = np.array([0, 1, 2, 0])

BAD_DATA: list[tuple[Any, Any, type[Exception], str]] = [
    (GOOD_X[:0], GOOD_Y[:0], ValueError, "x: expected at least one image"),
    (GOOD_X.astype(int), GOOD_Y, TypeError, "x: expected uint8 .* got int64"),
    (GOOD_X.astype(bool), GOOD_Y, TypeError, "x: expected uint8 .* got bool"),
    (GOOD_X.astype(complex), GOOD_Y, TypeError, "x: expected uint8 .* got complex128"),
    (GOOD_X.astype(object), GOOD_Y, TypeError, "x: expected uint8 .* got object"),
    ("images", GOOD_Y, TypeError, "x: expected uint8"),
    ([[1.0], [1.0, 2.0]], GOOD_Y, ValueError, "x: expected an array"),
    (GOOD_X[0, 0, 0, 0], GOOD_Y, ValueError, "x: expected a batch"),
    (GOOD_X[..., 0], GOOD_Y, ValueError, r"x: .*\(n, 8, 6, 2\), got \(4, 8, 6\)"),
    (GOOD_X[0], GOOD_Y, ValueError, r"x: .*add the axis of the batch"),
    (GOOD_X[:, :7], GOOD_Y, ValueError, r"x: expected a batch of shape \(n, 8, 6, 2\)"),
    (GOOD_X, GOOD_Y[:3], ValueError, "y: expected 4 labels"),
    (GOOD_X, 1, ValueError, "y: expected 4 labels"),
    (GOOD_X, GOOD_Y[:, None], ValueError, r"y: expected labels of shape \(4,\).* got \(4, 1\)"),
    (GOOD_X, GOOD_Y + 1, ValueError, "y: expected labels from 0 to 2 .* got 3"),
    (GOOD_X, GOOD_Y - 1, ValueError, "y: expected labels from 0 to 2 .* got -1"),
    (GOOD_X, GOOD_Y.astype(float), TypeError, "y: expected integer labels"),
    (GOOD_X, GOOD_Y > 0, TypeError, "y: expected integer labels"),
    (GOOD_X, ["a", "b", "c", "d"], TypeError, "y: expected integer labels"),
    (GOOD_X, np.ones((4, 3)), ValueError, "y: expected probabilities"),
    (GOOD_X, np.full((4, 3), np.nan), ValueError, "y: expected probabilities"),
    (GOOD_X, [[2, -1, 0]] * 4, ValueError, "y: expected probabilities"),
]


@pytest.mark.parametrize(("x", "y", "error", "message"), BAD_DATA, ids=[b[3] for b in BAD_DATA])
def test_bad_data(x: Any, y: Any, error: type[Exception], message: str, reference: Any) -> None:
    trainer = trainer_of(reference)
    trainer.model.build((8, 6, 2))
    before = state_of(trainer)
    with pytest.raises(error, match=message):
        trainer.fit(x, y, verbose=False)
    with pytest.raises(error, match=message):
        trainer.evaluate(x, y)
    with pytest.raises(error, match=f"validation_data: {message}"):
        trainer.fit(GOOD_X, GOOD_Y, validation_data=(x, y), verbose=False)
    if message.startswith("x"):
        with pytest.raises(error, match=message):
            trainer.predict(x)
    assert trainer.step == 0
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "fit: epochs: expected an integer of at least 1"),
        ({"epochs": 1.0}, TypeError, "fit: epochs"),
        ({"batch_size": 0}, ValueError, "fit: batch_size"),
        ({"batch_size": True}, TypeError, "fit: batch_size"),
        ({"batch_size": 5, "drop_last": True}, ValueError, "fit: batch_size: expected at most 4"),
        ({"shuffle": "yes"}, TypeError, "fit: shuffle"),
        ({"validation_data": GOOD_X}, TypeError, "fit: validation_data: expected a pair"),
        ({"callbacks": 3}, TypeError, "fit: callbacks: expected a list"),
    ],
)
def test_bad_options(
    options: dict[str, Any], error: type[Exception], message: str, reference: Any
) -> None:
    trainer = trainer_of(reference)
    with pytest.raises(error, match=message):
        trainer.fit(GOOD_X, GOOD_Y, **{"verbose": False, **options})
    for method in (trainer.predict, lambda x, **kw: trainer.evaluate(x, GOOD_Y, **kw)):
        with pytest.raises(ValueError, match="batch_size: expected an integer of at least 1"):
            method(GOOD_X, batch_size=0)


def test_channels_that_were_forgotten(reference: Any) -> None:
    trainer = trainer_of(reference, nn.Sequential([nn.Conv2D(2, 3), nn.Flatten(), nn.Dense(3)]))
    trainer.model.build((8, 6, 1))
    with pytest.raises(
        ValueError, match=r"got \(4, 8, 6\); add the axis of channels: x\[..., None\]"
    ):
        trainer.predict(GOOD_X[..., 0])


def test_cross_entropy_needs_a_row_of_logits(reference: Any) -> None:
    trainer = trainer_of(reference, nn.Sequential([nn.Conv2D(3, 3)]))
    with pytest.raises(ValueError, match=r"cross_entropy: .*\(classes,\), got one .*\(6, 4, 3\)"):
        trainer.fit(GOOD_X, GOOD_Y, verbose=False)
    assert trainer.predict(GOOD_X).shape == (4, 6, 4, 3)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: losses.CrossEntropy(label_smoothing=1.5), ValueError, "label_smoothing"),
        (lambda: losses.CrossEntropy(class_weights=[1, -1]), ValueError, "class_weights"),
        (lambda: losses.CrossEntropy(class_weights=[[1]]), ValueError, "class_weights"),
        (lambda: losses.CrossEntropy(class_weights=[np.nan]), ValueError, "class_weights"),
    ],
)
def test_loss_errors(make: Any, error: type[Exception], message: str, reference: Any) -> None:
    with pytest.raises(error, match=f"CrossEntropy: {message}"):
        make()
    trainer = trainer_of(reference, loss=losses.CrossEntropy(class_weights=[1, 2]))
    with pytest.raises(ValueError, match="class_weights: expected 3 numbers, one a class, got 2"):
        trainer.evaluate(GOOD_X, GOOD_Y)
    trainer = trainer_of(reference, loss="mean_squared_error")
    with pytest.raises(ValueError, match=r"y: expected targets of shape \(4, 3\), got \(4,\)"):
        trainer.evaluate(GOOD_X, GOOD_Y)
