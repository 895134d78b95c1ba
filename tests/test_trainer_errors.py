"""What the trainer refuses, and the sentences that it says so in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from trainers import (
    plain,
    state_of,
    trainer_of,
)

import fastcnn
from fastcnn import losses, nn, optim, schedules


# ---------------------------------------------------------------------- errors
def test_constructor_errors(reference: Any) -> None:
    model = plain()
    for options, error, message in [
        ({"optimizer": 3}, TypeError, "optimizer: expected an optimizer of fastcnn.optim"),
        ({"optimizer": "rmsprop"}, ValueError, 'optimizer: expected one of "sgd", "adam", "adamw"'),
        ({"optimizer": optim.Adam}, TypeError, "optimizer: .* got the class Adam; call it"),
        ({"loss": losses.CrossEntropy}, TypeError, "loss: .* got the class CrossEntropy; call it"),
        ({"schedule": schedules.Cosine}, TypeError, "schedule: .* got the class Cosine; call it"),
        ({"backend": fastcnn.FastBackend}, TypeError, "backend: .* the class FastBackend; call it"),
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


class Own(losses.Loss):
    """A loss of one's own that returns what it is told."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def __call__(self, prediction: Any, target: Any, backend: Any) -> Any:
        return self.result(prediction)


def test_what_a_loss_of_ones_own_returns(reference: Any) -> None:
    x, y = np.zeros((4, 4, 4, 1), np.float32), np.zeros(4, np.int64)
    returns = r"loss: Own: expected __call__ to return \(loss, backward\), a number and a function"
    for result, error, message in [
        (lambda p: 1.0, TypeError, f"{returns} .*, got float"),
        (lambda p: (1.0, p), TypeError, rf"{returns} .*, got \(float, ndarray\)"),
        (lambda p: (1.0, lambda: p, 3), TypeError, returns),
        (lambda p: (p, lambda: p), TypeError, "loss: Own: expected a number .*, got float32 of"),
        (lambda p: (None, lambda: p), TypeError, "loss: Own: expected a number .*, got object"),
        (lambda p: (1.0, lambda: None), ValueError, "loss: Own: expected backward .*got object"),
        (lambda p: (1.0, lambda: p[0]), ValueError, "loss: Own: expected backward .*got float32"),
    ]:
        trainer = trainer_of(reference, loss=Own(result))
        with pytest.raises(error, match=message):
            trainer.fit(x, y, epochs=1)
        assert trainer.step == 0
    with pytest.raises(TypeError, match=returns):
        trainer_of(reference, loss=Own(lambda p: 1.0)).evaluate(x, y)
    for given in (1.0, np.float32(1), np.array(1), 1):  # numbers all
        trainer = trainer_of(
            reference, loss=Own(lambda p, given=given: (given, lambda: np.ones(p.shape)))
        )
        assert trainer.fit(x, y, epochs=1)["loss"] == [1.0]


def test_a_loss_that_cannot_be_called_as_losses_are() -> None:
    class Without(losses.Loss):
        pass

    class Two(losses.Loss):
        def __call__(self, prediction: Any, target: Any) -> Any:  # type: ignore[override]
            return 1.0, lambda: prediction

    with pytest.raises(
        TypeError, match=r"loss: Without: expected a method __call__\(self, .* got n"
    ):
        fastcnn.Trainer(plain(), loss=Without())
    got = r"loss: Two: expected __call__\(self, .*, got __call__\(self, prediction, target\)"
    with pytest.raises(TypeError, match=got):
        fastcnn.Trainer(plain(), loss=Two())
