"""What people type first: it works, or one sentence says what to type instead."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from trainers import CLASSES, assert_same_state, state_of, striped_images, trainer_of

from fastcnn import losses, nn
from fastcnn.callbacks import Callback

X, Y = striped_images(12)


def small() -> nn.Sequential:
    return nn.Sequential([nn.Flatten(), nn.Dense(3)])


# ---------------------------------------------------------------------- targets of bytes
def autoencoder() -> nn.Sequential:
    return nn.Sequential([nn.Conv2D(2, 3, padding=1, activation="sigmoid")])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bytes_are_divided_alike_in_targets(dtype: str, backend: Any) -> None:
    floats = X.astype(dtype) / np.asarray(255, dtype)
    states = []
    for targets in (X, floats, floats.astype("float64")):
        trainer = trainer_of(backend, autoencoder(), loss="mean_squared_error", dtype=dtype)
        trainer.fit(X, targets, epochs=2, batch_size=5, validation_data=(X, targets), verbose=False)
        measured = trainer.evaluate(X, targets, batch_size=5)
        assert measured == {"loss": trainer.history["val_loss"][-1]}
        states.append(state_of(trainer) | {"losses": trainer.history["step_loss"]} | measured)
    assert_same_state(states[0], states[1])
    for name, value in states[0].items():
        np.testing.assert_allclose(states[2][name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [int, bool, np.int8, np.float16, ">f8"])
def test_other_targets_are_numbers(kind: Any, reference: Any) -> None:
    targets = np.eye(CLASSES)[Y]
    expected = trainer_of(reference, small(), loss="mean_squared_error")
    expected.fit(X, targets, verbose=False)
    trainer = trainer_of(reference, small(), loss="mean_squared_error")
    trainer.fit(X, targets.astype(kind), verbose=False)
    assert_same_state(state_of(trainer), state_of(expected))


# ---------------------------------------------------------------------- losses
def squared(prediction: Any, target: Any) -> Any:
    difference = prediction - np.eye(CLASSES, dtype=prediction.dtype)[target]
    return (difference**2).mean(), 2 * difference / difference.size


def test_a_function_as_loss(backend: Any) -> None:
    expected = trainer_of(backend, loss="mean_squared_error")
    expected.fit(X, np.eye(CLASSES)[Y], epochs=2, batch_size=4, verbose=False)
    trainer = trainer_of(backend, loss=squared)
    history = trainer.fit(X, Y, epochs=2, batch_size=4, validation_data=(X, Y), verbose=False)
    assert history["step_loss"] == pytest.approx(expected.history["step_loss"], rel=1e-4)
    assert trainer.evaluate(X, Y) == {"loss": pytest.approx(history["val_loss"][-1])}
    images = trainer_of(backend, autoencoder(), loss=lambda p, t: ((t.max() <= 1) - 1.0, 0 * p))
    assert images.fit(X, X, verbose=False)["loss"] == [0.0], "bytes of images are divided"


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda p: p, TypeError, r"expected a function of \(prediction, target\)"),
        (lambda p, t: 1.0, TypeError, r"expected it to return \(value, gradient\).* got float"),
        (lambda p, t: (p, p), TypeError, "expected a number for the value"),
        (lambda p, t: ("x", p), TypeError, "expected a number for the value"),
        (lambda p, t: (1.0, p[:1]), ValueError, r"prediction's shape \(12, 3\).* shape \(1, 3\)"),
        (lambda p, t: (1.0, None), ValueError, "gradient that it returns, got object"),
    ],
)
def test_functions_that_are_no_loss(
    function: Any, error: type[Exception], message: str, reference: Any
) -> None:
    with pytest.raises(error, match=f"^loss: <lambda>: .*{message}"):
        trainer_of(reference, small(), loss=function).fit(X, Y, verbose=False)


def test_a_loss_without_targets_of_its_own(reference: Any) -> None:
    class Own(losses.Loss):
        def __call__(self, prediction: Any, target: Any, backend: Any) -> Any:
            seen.append((target.dtype, target.tolist()))
            return 0.0, lambda: np.zeros_like(prediction)

    for given, dtype in [
        (Y.astype(np.uint8), np.int64),
        (Y.astype(np.int8), np.int64),
        (Y > 0, np.int64),
        (Y / 2, np.float32),
        (np.eye(3)[Y], np.float32),
    ]:
        seen: list[Any] = []
        trainer_of(reference, small(), loss=Own()).fit(X, given, shuffle=False, verbose=False)
        assert seen == [(dtype, given.tolist())]
    with pytest.raises(TypeError, match=r"y: .* got uint8, .* convert them: y / 255 or"):
        trainer_of(reference, small(), loss=Own()).fit(X, np.eye(3, dtype=np.uint8)[Y])
    with pytest.raises(TypeError, match="y: expected real numbers"):
        trainer_of(reference, small(), loss=Own()).fit(X, ["a"] * 12)


# ---------------------------------------------------------------------- labels
@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (["cat"] * 12, TypeError, r"number them: names, y = np\.unique\(y, return_inverse=True\)"),
        (np.array(["cat"] * 12, object), TypeError, "number them: names"),
        (np.array(list(map(int, Y)), object), TypeError, r"np\.asarray\(y, dtype=int\)"),
        (Y.astype(float), TypeError, r"np\.asarray\(y, dtype=int\)"),
        (Y[:, None], ValueError, r"y\.ravel\(\)"),
    ],
)
def test_labels(y: Any, error: type[Exception], message: str, reference: Any) -> None:
    trainer = trainer_of(reference, small())
    for call in (trainer.fit, trainer.evaluate):
        with pytest.raises(error, match=f"^y: expected .*labels.*{message}"):
            call(X, y)
    single = trainer_of(reference, nn.Sequential([nn.Flatten(), nn.Dense(1)]))
    with pytest.raises(ValueError, match="1 outputs, got 2; two classes take two outputs"):
        single.fit(X, Y, verbose=False)


# ---------------------------------------------------------------------- images
def convolutional(**options: Any) -> nn.Sequential:
    return nn.Sequential([nn.Conv2D(2, 3, **options), nn.Flatten(), nn.Dense(3)])


@pytest.mark.parametrize(
    ("shape", "input_shape", "hint"),
    [
        ((4, 9, 8), (9, 8, 1), r"x\[..., None\]"),
        ((9, 8, 1), (9, 8, 1), r"x\[None\]"),
        ((9, 8), (9, 8, 1), r"x\[None, ..., None\]"),
        ((4, 1, 9, 8), (9, 8, 1), r"np\.moveaxis\(x, 1, -1\)"),
        ((4, 3, 9, 8), (9, 8, 3), r"np\.moveaxis\(x, 1, -1\)"),
        ((3, 9, 8), (9, 8, 3), r"np\.moveaxis\(x, 0, -1\)\[None\]"),
        ((4, 72), (9, 8, 1), r"x\.reshape\(-1, 9, 8, 1\)"),
    ],
)
def test_images_for_a_model_with_weights(
    shape: Any, input_shape: Any, hint: str, reference: Any
) -> None:
    trainer = trainer_of(reference, convolutional())
    trainer.model.build(input_shape)
    x = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=f"^x: expected a batch of shape .*; .*{hint}") as caught:
        trainer.predict(x)
    typed = str(caught.value).rsplit(": ", 1)[1]
    assert trainer.predict(eval(typed, {"x": x, "np": np})).shape[1] == 3


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((3, 1, 28, 28), r"np\.moveaxis\(x, 1, -1\)"),
        ((3, 28, 28), r"x\[..., None\]"),
        ((28, 28, 1), r"x\[None\]"),
    ],
)
def test_images_that_no_model_is_built_for(shape: Any, hint: str, reference: Any) -> None:
    """The right ones are then taken."""
    trainer = trainer_of(reference, convolutional())
    with pytest.raises(ValueError, match=f"^x: shape .*layer 0.*{hint}"):
        trainer.predict(np.zeros(shape, np.float32))
    assert not trainer.model.built
    assert trainer.predict(np.zeros((2, 28, 28, 1), np.float32)).shape == (2, 3)


def test_channels_first_images_that_a_model_is_built_for(reference: Any) -> None:
    trainer = trainer_of(reference, convolutional(padding="same"))
    with pytest.warns(UserWarning, match=r"height 3 with 12 channels; .* np\.moveaxis\(x, 1, -1\)"):
        trainer.predict(np.zeros((2, 3, 10, 12), np.float32))
    for shape in ((2, 3, 10, 3), (2, 3, 4, 4), (2, 5, 10, 12), (2, 1, 9, 99)):
        trainer_of(reference, convolutional(padding="same")).predict(np.zeros(shape, np.float32))


def test_floats_that_look_like_bytes(reference: Any) -> None:
    images = X.astype(np.float32)
    trainer = trainer_of(reference)
    with pytest.warns(UserWarning, match=r"^x: floats up to 2\d\d are .*divide by 255") as caught:
        trainer.fit(images, Y, validation_data=(X, Y), verbose=False)
    assert [warning.filename for warning in caught] == [__file__]
    trainer.fit(images, Y, verbose=False)
    with pytest.warns(UserWarning, match="^validation_data: x: floats"):
        trainer.fit(X, Y, validation_data=(images, Y), verbose=False)
    with pytest.warns(UserWarning, match="^x: floats") as caught:
        trainer.predict(images)
    assert [warning.filename for warning in caught] == [__file__]
    trainer.predict(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for good in (images / 255, images / 16, images - 128, images * 2):
            trainer_of(reference).predict(good)
        rows = images.reshape(12, -1)
        trainer_of(reference, nn.Sequential([nn.Dense(3)])).predict(rows)


# ---------------------------------------------------------------------- probabilities
@pytest.mark.parametrize("end", ["softmax", "sigmoid"])
def test_probabilities_are_no_softmax_of_probabilities(end: str, backend: Any) -> None:
    for last in ([nn.Dense(3, activation=end)], [nn.Dense(3), getattr(nn, end.title())()]):
        model = nn.Sequential([nn.Flatten(), nn.Sequential(last)])
        trainer = trainer_of(backend, model, loss="mean_squared_error")
        np.testing.assert_array_equal(trainer.predict_proba(X), trainer.predict(X))
    logits = trainer_of(backend, small())
    np.testing.assert_allclose(logits.predict_proba(X).sum(axis=1), 1, rtol=1e-5)


# ---------------------------------------------------------------------- data that changes
@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int32])
def test_what_a_callback_changes_in_the_data_is_seen(kind: Any, backend: Any) -> None:
    """In x, y and the weights alike, by the next epoch; and wrong labels are refused then."""
    x, y, weights = X.copy(), Y.astype(kind), np.ones(12)

    class Changes(Callback):
        def on_epoch_end(self, trainer: Any) -> None:
            x[:] = X[::-1]
            y[:] = (Y[::-1] + 1) % 3
            weights[:6] = 0.5

    options = {"batch_size": 5, "verbose": False}
    trainer = trainer_of(backend)
    trainer.fit(x, y, epochs=2, sample_weight=weights, callbacks=[Changes()], **options)
    other = trainer_of(backend)
    other.fit(X, Y, sample_weight=np.ones(12), **options)
    other.fit(x, y, sample_weight=weights, **options)
    assert_same_state(state_of(trainer), state_of(other))

    class Breaks(Callback):
        def on_epoch_end(self, trainer: Any) -> None:
            y[3] = 9

    with pytest.raises(ValueError, match=r"y: expected labels from 0 to 2 .* got 9"):
        trainer.fit(x, y, epochs=2, callbacks=[Breaks()], **options)
    assert trainer.epoch == 3


def test_targets_and_validation_data_that_change_are_seen(reference: Any) -> None:
    targets = np.eye(CLASSES)[Y]
    held = targets.copy()

    class Changes(Callback):
        def on_epoch_end(self, trainer: Any) -> None:
            targets[:] = 0.5
            held[:] = 7.0

    trainer = trainer_of(reference, small(), loss="mean_squared_error")
    history = trainer.fit(
        X, targets, epochs=2, validation_data=(X, held), callbacks=[Changes()], verbose=False
    )
    assert history["val_loss"][1] > 10
    expected = np.mean((trainer.predict(X) - 7.0) ** 2)
    assert history["val_loss"][1] == pytest.approx(expected, rel=1e-5)
