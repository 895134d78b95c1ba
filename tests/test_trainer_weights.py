"""Weights of classes and of samples, and the share of the data that is held out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from trainers import CLASSES, assert_same_state, state_of, striped_images, trainer_of

from fastcnn import losses, nn, optim

X, Y = striped_images(17)


def small() -> nn.Sequential:
    return nn.Sequential([nn.Flatten(), nn.Dense(3)])


# ---------------------------------------------------------------------- classes
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("soft", [False, True])
def test_a_class_of_no_weight_counts_for_nothing(
    smoothing: float, soft: bool, backend: Any
) -> None:
    """In batches of any size, some of them of that class alone, and as if it were not there."""
    order = np.argsort(Y == 0, kind="stable")
    x, y = X[order], Y[order]
    kept = y != 0
    assert not kept[-5:].any()
    labels = np.eye(CLASSES)[y] if soft else y
    loss = losses.CrossEntropy(class_weights=[0, 1, 3], label_smoothing=smoothing)
    trainer = trainer_of(backend, small(), loss=loss)
    whole = trainer.evaluate(x, labels)["loss"]
    assert trainer.evaluate(x, labels, batch_size=5)["loss"] == pytest.approx(whole, rel=1e-5)
    assert trainer.evaluate(x[kept], labels[kept])["loss"] == pytest.approx(whole, rel=1e-5)
    history = trainer.fit(x, labels, batch_size=6, shuffle=False, verbose=False)
    assert history["step_loss"][-1] == 0.0
    without = trainer_of(backend, small(), loss=loss)
    expected = without.fit(x[kept], labels[kept], batch_size=6, shuffle=False, verbose=False)
    assert history["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_a_batch_of_no_weight_is_a_step_of_no_gradient(backend: Any) -> None:
    """Momentum goes on by itself, as it does in PyTorch and Keras where gradients are 0."""
    for loss, y in (("cross_entropy", Y), ("mean_squared_error", np.eye(CLASSES)[Y])):
        optimizer = optim.SGD(0.1, momentum=0.5)
        trainer = trainer_of(backend, small(), loss=loss, optimizer=optimizer, dtype="float64")
        options: Any = {"batch_size": 4, "shuffle": False, "verbose": False}
        trainer.fit(X[:4], y[:4], epochs=1, **options)
        before = trainer.model.state_dict()
        trainer.fit(X[:8], y[:8], sample_weight=np.repeat([1, 0], 4), epochs=1, **options)
        after = trainer.model.state_dict()
        other = trainer_of(
            backend, small(), loss=loss, optimizer=optim.SGD(0.1, momentum=0.5), dtype="float64"
        )
        other.fit(X[:4], y[:4], epochs=1, **options)
        other.fit(X[:4], y[:4], epochs=1, **options)
        for name, first in before.items():
            second = other.model.state_dict()[name]
            assert np.abs(second - first).max() > 0
            np.testing.assert_allclose(after[name] - second, 0.5 * (second - first), rtol=1e-9)


def test_data_of_no_weight(backend: Any) -> None:
    loss = losses.CrossEntropy(class_weights=[0, 1, 1])
    nothing = np.zeros(17, int)
    trainer = trainer_of(backend, small(), loss=loss)
    message = r"class_weights: expected a weight above zero for a class that occurs in y"
    with pytest.raises(ValueError, match=f"^{message}"):
        trainer.fit(X, nothing, verbose=False)
    with pytest.raises(ValueError, match=f"^{message}"):
        trainer.evaluate(X, nothing)
    with pytest.raises(ValueError, match=f"^validation_data: {message}"):
        trainer.fit(X, Y, validation_data=(X, nothing), verbose=False)
    with pytest.raises(ValueError, match=r"sample_weight: .* above zero, got zero for every image"):
        trainer.fit(X, Y, sample_weight=nothing, verbose=False)
    with pytest.raises(ValueError, match=r"class_weights: .* with a sample_weight above zero"):
        trainer.evaluate(X, Y, sample_weight=Y == 0)
    assert trainer.step == 0


def test_class_weights_by_name(reference: Any) -> None:
    table = trainer_of(reference, small(), loss=losses.CrossEntropy(class_weights=[1, 1, 4]))
    named = trainer_of(reference, small(), loss=losses.CrossEntropy(class_weights={np.int64(2): 4}))
    for trainer in (table, named):
        trainer.fit(X, Y, batch_size=5, validation_data=(X, Y), verbose=False)
    assert named.history == table.history
    assert named.evaluate(X, Y) == table.evaluate(X, Y)
    unknown = trainer_of(reference, small(), loss=losses.CrossEntropy(class_weights={0: 1, 3: 2}))
    with pytest.raises(ValueError, match="class_weights: expected classes from 0 to 2, got 3"):
        unknown.fit(X, Y, verbose=False)


def test_balanced_class_weights(reference: Any) -> None:
    """n / (classes that occur * count), of fit's labels wherever they are used."""
    y = np.where(Y == 2, 0, Y)  # class 2 does not occur
    zero, one = np.bincount(y)
    weights = [17 / (2 * zero), 17 / (2 * one), 1.0]
    table = trainer_of(reference, small(), loss=losses.CrossEntropy(class_weights=weights))
    balanced = trainer_of(reference, small(), loss=losses.CrossEntropy(class_weights="balanced"))
    assert balanced.evaluate(X, y) == table.evaluate(X, y)
    for trainer in (table, balanced):
        trainer.fit(X, y, batch_size=5, validation_data=(X[:9], Y[:9]), verbose=False)
    assert balanced.history == table.history
    assert balanced.evaluate(X[:9], Y[:9]) == table.evaluate(X[:9], Y[:9])
    with pytest.raises(RuntimeError, match=r"class_weights: .* call it first"):
        balanced.loss(np.zeros((1, 3)), np.zeros(1, int), reference)
    assert balanced.loss.class_weights == "balanced"  # type: ignore[attr-defined]
    soft = trainer_of(reference, small(), loss=losses.CrossEntropy(class_weights="balanced"))
    soft.fit(X, np.eye(CLASSES)[y], batch_size=5, verbose=False)
    assert soft.history["loss"] == pytest.approx(table.history["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"cat": 0.5}, TypeError),
        ({True: 1.0}, TypeError),
        ({-1: 1.0}, TypeError),
        ({0: -1.0}, ValueError),
        ({0: "x"}, TypeError),
        ("Balanced", ValueError),
        (["a", "b"], ValueError),
        ([[1.0], [1.0, 2.0]], ValueError),
        (object(), ValueError),
        (3.0, ValueError),
    ],
)
def test_class_weights_that_are_none(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^CrossEntropy: class_weights"):
        losses.CrossEntropy(class_weights=given)


def test_class_weights_beyond_the_dtype(reference: Any) -> None:
    loss = losses.CrossEntropy(class_weights=[1e39, 1, 1])
    with pytest.raises(ValueError, match="class_weights: expected numbers that fit float32"):
        trainer_of(reference, small(), loss=loss).evaluate(X, Y)


# ---------------------------------------------------------------------- samples
def test_weights_of_samples_are_repetitions(backend: Any) -> None:
    """In fit, evaluate and validation: whole weights count a sample as often."""
    weights = np.arange(17) % 3
    many = np.repeat(np.arange(17), weights)
    targets = np.random.default_rng(0).random((17, 3))
    for loss, y in (("cross_entropy", Y), (losses.CrossEntropy(class_weights=[1, 2, 3]), Y),
                    ("mean_squared_error", targets)):  # fmt: skip
        one, other = (trainer_of(backend, small(), loss=loss) for _ in range(2))
        options = {"shuffle": False, "verbose": False}
        one.fit(X, y, sample_weight=weights, validation_data=(X, y, weights), **options)
        other.fit(X[many], y[many], validation_data=(X[many], y[many]), **options)
        for name in ("loss", "val_loss"):
            assert one.history[name] == pytest.approx(other.history[name], rel=1e-5)
        for name, array in one.model.state_dict().items():
            np.testing.assert_allclose(array, other.model.state_dict()[name], atol=1e-6)
        expected = other.evaluate(X[many], y[many])["loss"]
        for size in (4, 17):
            got = one.evaluate(X, y, batch_size=size, sample_weight=list(weights))
            assert got["loss"] == pytest.approx(expected, rel=1e-5)


def test_weights_travel_with_their_samples(backend: Any) -> None:
    """Samples of no weight are not there, wherever the order puts them."""
    weights = (Y != 1).astype(float)
    y = np.where(Y == 1, 2, Y)
    trainer = trainer_of(backend, small())
    trainer.fit(X, y, epochs=3, batch_size=4, sample_weight=weights, verbose=False)
    other = trainer_of(backend, small())
    other.fit(X, Y * (Y != 1), epochs=3, batch_size=4, sample_weight=weights, verbose=False)
    assert_same_state(state_of(trainer), state_of(other))
    ones = trainer_of(backend, small())
    ones.fit(X, Y, batch_size=4, sample_weight=np.full(17, 0.3), verbose=False)
    plain = trainer_of(backend, small())
    plain.fit(X, Y, batch_size=4, verbose=False)
    assert ones.history["step_loss"] == pytest.approx(plain.history["step_loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (np.ones(16), ValueError, r"expected shape \(17,\), one number an image, got \(16,\)"),
        (np.ones((17, 1)), ValueError, r"expected shape \(17,\)"),
        (np.full(17, -1.0), ValueError, "expected finite numbers of at least 0"),
        (np.full(17, np.nan), ValueError, "expected finite numbers of at least 0"),
        (np.full(17, 1e300), ValueError, "expected finite numbers of at least 0"),
        (["heavy"] * 17, TypeError, "expected real numbers"),
        ({0: 1.0}, TypeError, "expected real numbers, got object"),
    ],
)
def test_bad_weights(weights: Any, error: type[Exception], message: str, reference: Any) -> None:
    trainer = trainer_of(reference, small())
    for call in (
        lambda: trainer.fit(X, Y, sample_weight=weights, verbose=False),
        lambda: trainer.evaluate(X, Y, sample_weight=weights),
        lambda: trainer.fit(X, Y, validation_data=(X, Y, weights), verbose=False),
    ):
        with pytest.raises(error, match=f"sample_weight: {message}"):
            call()
    assert trainer.step == 0


def test_a_loss_without_weights(reference: Any) -> None:
    class Halved(losses.CrossEntropy):
        def __call__(self, prediction: Any, target: Any, backend: Any) -> Any:  # type: ignore
            loss, backward = super().__call__(prediction, target, backend)
            return loss / 2, lambda: backward() / 2

    trainer = trainer_of(reference, small(), loss=Halved())
    trainer.fit(X, Y, verbose=False)
    with pytest.raises(ValueError, match=r"sample_weight: expected a loss that takes .* Halved"):
        trainer.fit(X, Y, sample_weight=np.ones(17), verbose=False)


# ---------------------------------------------------------------------- validation_split
def test_a_share_of_each_class_is_held_out(reference: Any) -> None:
    """Of sorted labels too; the same for any number of epochs, and in training that resumes."""
    y = np.repeat([0, 1, 2], [20, 10, 10])
    x = np.eye(40, dtype=np.float32)

    def run(*epochs: int, seed: int = 1, share: float = 0.2) -> Any:
        trainer = trainer_of(reference, nn.Sequential([nn.Dense(3)]), seed=seed)
        for count in epochs:
            trainer.fit(x, y, epochs=count, batch_size=7, validation_split=share, verbose=False)
        return trainer

    def held(trainer: Any, seed: int = 1) -> Any:
        """The rows of the weights, one a sample, that no step has moved."""
        start = run(seed=seed)
        start.model.build((40,), seed=seed)
        moved = trainer.model.state_dict()["0.weight"] != start.model.state_dict()["0.weight"]
        return np.flatnonzero(~moved.any(axis=1))

    out = held(run(2))
    assert np.bincount(y[out]).tolist() == [4, 2, 2]
    assert out.tolist() == held(run(1, 1)).tolist()
    assert out.tolist() != held(run(2, seed=2), seed=2).tolist()
    assert len(held(run(1, share=0.33))) == 13
    trainer = run(1)
    expected = trainer.evaluate(x[out], y[out])
    assert trainer.history["val_loss"][0] == pytest.approx(expected["loss"])
    assert trainer.history["val_accuracy"][0] == expected["accuracy"]
    assert_same_state(state_of(run(1, 1)), state_of(run(2)))


def test_a_share_without_shuffling_and_with_weights(reference: Any) -> None:
    weights = np.arange(17) + 1.0
    trainer = trainer_of(reference, small())
    trainer.fit(
        X, Y, batch_size=4, sample_weight=weights, validation_split=0.3, shuffle=False,
        verbose=False,
    )  # fmt: skip
    assert trainer.step == 3, "twelve are trained on"
    assert len(trainer.history["val_loss"]) == 1


@pytest.mark.parametrize(
    ("share", "error", "message"),
    [
        (0.0, ValueError, r"expected a finite number in \(0, 1\), got 0"),
        (1, ValueError, r"expected a finite number in \(0, 1\), got 1"),
        ("0.2", TypeError, "expected a number"),
        (0.01, ValueError, "expected a share that leaves images on both sides, got 0.01 of 17"),
        (0.99, ValueError, "expected a share that leaves images on both sides, got 0.99 of 17"),
    ],
)
def test_bad_shares(share: Any, error: type[Exception], message: str, reference: Any) -> None:
    with pytest.raises(error, match=f"fit: validation_split: {message}"):
        trainer_of(reference).fit(X, Y, validation_split=share, verbose=False)


def test_a_share_and_data_of_their_own(reference: Any) -> None:
    with pytest.raises(ValueError, match="validation_split: expected no validation_data with it"):
        trainer_of(reference).fit(X, Y, validation_split=0.2, validation_data=(X, Y), verbose=False)
    for data in ((X,), (X, Y, np.ones(17), 1)):
        with pytest.raises(TypeError, match=r"validation_data: expected a pair \(x, y\), or"):
            trainer_of(reference).fit(X, Y, validation_data=data, verbose=False)
