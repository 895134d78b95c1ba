"""What the trainer makes of its data, and the numbers that it returns and prints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from trainers import (
    CLASSES,
    Faulty,
    assert_same_state,
    every_kind,
    state_of,
    striped_images,
    trainer_of,
)

from fastcnn import losses, nn, optim


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
