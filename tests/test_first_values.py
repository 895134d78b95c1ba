"""Values that are not taken, and those that would lose something: a sentence says what to give."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentences import FILTERS, IMAGE, ROWS, Typed, X, Y, sentence, small, trainer
from trainers import trainer_of

import fastcnn
from fastcnn import callbacks, losses, metrics, nn, optim, schedules
from fastcnn import functional as F
from fastcnn._sentences import takes

MASKED = np.ma.masked_array(ROWS, ROWS > 0)

# ---------------------------------------------------------------------- values
NAMES = ", ".join(f'"{name}"' for name in losses.LOSSES)
LOSSES = f"loss: expected one of {NAMES}, got"
OPTIMIZERS = 'optimizer: expected one of "sgd", "adam", "adamw", got'
SCHEDULE = "schedule: expected a function of (step, total_steps) that returns a factor, got"
FUNCTION = "expected a function of (prediction, target) that returns (value, gradient), got"
UNMASKED = (
    "expected an array without masked numbers, got some that are; its method filled(0) puts "
    "numbers in their place"
)
LIST = "np.array(list(...)) makes one of it"
IMAGES = "expected an image (H, W, C) or a batch (N, H, W, C), got shape"

WRONG: list[tuple[Typed, type[Exception], str]] = [
    # names of losses and their like
    (
        lambda: trainer(loss="sparse_categorical_crossentropy"),
        ValueError,
        f"{LOSSES} 'sparse_categorical_crossentropy'; did you mean \"cross_entropy\"?",
    ),
    (
        lambda: trainer(loss="cross-entropy"),
        ValueError,
        f"{LOSSES} 'cross-entropy'; did you mean \"cross_entropy\"?",
    ),
    (lambda: trainer(loss="MSE"), ValueError, f"{LOSSES} 'MSE'; did you mean \"mse\"?"),
    (lambda: trainer(loss="hinge"), ValueError, f"{LOSSES} 'hinge'"),
    (lambda: trainer(optimizer="Adam"), ValueError, f"{OPTIMIZERS} 'Adam'; did you mean \"adam\"?"),
    (
        lambda: nn.Dense(1, activation="leakyrelu"),
        ValueError,
        'did you mean "leaky_relu"?',
    ),
    # functions
    (
        lambda: trainer(loss=np.mean),
        TypeError,
        f"loss: mean: {FUNCTION} mean(a, axis=..., dtype=..., out=..., keepdims=..., where=...)",
    ),
    (lambda: trainer(loss=lambda p: p), TypeError, f"loss: <lambda>: {FUNCTION} <lambda>(p)"),
    (lambda: trainer(schedule=lambda step: 1.0), TypeError, f"{SCHEDULE} <lambda>(step)"),
    (lambda: schedules.WarmUp(lambda: 1.0), TypeError, f"{SCHEDULE} <lambda>()"),  # type: ignore
    # models and parameters
    (
        lambda: fastcnn.Trainer(nn.Dense),  # type: ignore[arg-type]
        TypeError,
        "model: expected a fastcnn.nn model, got the class Dense; call it",
    ),
    (
        lambda: optim.Adam(small().parameters()),  # type: ignore[arg-type]
        TypeError,
        "Adam: learning_rate: expected a number, got dict; the trainer hands an optimizer its "
        "parameters",
    ),
    (
        lambda: small()[7],
        IndexError,
        "Sequential: index: expected an integer from -2 to 1, for it has 2 layers, got 7",
    ),
    (
        lambda: small()["conv"],  # type: ignore[index]
        TypeError,
        "Sequential: index: expected an integer from -2 to 1, for it has 2 layers, got 'conv'",
    ),
    # what is no array
    (lambda: trainer().fit(None, Y), TypeError, "x: expected an array, got NoneType"),
    (lambda: trainer().fit(X, None), TypeError, "y: expected an array, got NoneType"),
    (
        lambda: trainer().fit((x for x in X), Y),
        TypeError,
        f"x: expected an array, got generator; {LIST}",
    ),
    (lambda: trainer().fit(X, set(Y)), TypeError, f"y: expected an array, got set; {LIST}"),
    (lambda: trainer().fit({"x": X}, Y), TypeError, "x: expected an array, got dict"),
    (
        lambda: trainer().predict("a.png"),
        TypeError,
        "x: expected uint8 (which is divided by 255), float32 or float64, got 'a.png'",
    ),
    (lambda: F.relu(None), TypeError, "relu: x: expected an array, got NoneType"),
    # masks
    (lambda: trainer().predict(MASKED[:, :, None]), ValueError, f"x: {UNMASKED}"),
    (lambda: trainer().fit(X, np.ma.array(Y, mask=Y > 1)), ValueError, f"y: {UNMASKED}"),
    (
        lambda: trainer().fit(X, Y, sample_weight=np.ma.array(Y, mask=Y > 1)),
        ValueError,
        f"sample_weight: {UNMASKED}",
    ),
    (lambda: F.relu(MASKED), ValueError, f"relu: x: {UNMASKED}"),
    (lambda: F.relu(MASKED, backend="reference"), ValueError, f"relu: x: {UNMASKED}"),
    (lambda: F.relu([ROWS, MASKED]), ValueError, f"relu: x: {UNMASKED}"),  # type: ignore
    (
        lambda: F.relu([ROWS, MASKED], backend="reference"),  # type: ignore[arg-type]
        ValueError,
        f"relu: x: {UNMASKED}",
    ),
    (
        lambda: losses.CrossEntropy(class_weights=MASKED[0]),
        ValueError,
        f"CrossEntropy: class_weights: {UNMASKED}",
    ),
    # functions of images
    (
        lambda: F.conv2d(ROWS, FILTERS),
        ValueError,
        f"conv2d: x: {IMAGES} (8, 6); x[..., None] adds the axis of channels",
    ),
    (
        lambda: F.max_pool2d(ROWS[0]),
        ValueError,
        f"max_pool2d: x: {IMAGES} (6,)",
    ),
    (
        lambda: F.linear(IMAGE, ROWS),
        ValueError,
        "linear: x: expected a vector (C,) or a batch (N, C), got shape (8, 6, 1)",
    ),
    (
        lambda: F.conv2d(IMAGE, ROWS),
        ValueError,
        "conv2d: filters: expected an array of rank 4 (R, S, C, K), got rank 2 with shape (8, 6)",
    ),
    (
        lambda: F.conv2d(IMAGE, FILTERS, np.ones(2)),
        TypeError,
        "conv2d: bias: expected float32 like x, got float64; convert one",
    ),
    (
        lambda: F.cross_entropy(ROWS[0], 1),
        ValueError,
        "cross_entropy: logits: expected an array of rank 2 (N, C), got rank 1 with shape (6,)",
    ),
    (
        lambda: F.dropout(ROWS, 0.5),
        TypeError,
        "dropout: mask: expected an array of bool of x's shape, True where x is kept, got 0.5; "
        "rng.random(x.shape) >= rate is one, rng = np.random.default_rng()",
    ),
    # measures
    (
        lambda: metrics.accuracy(Y, Y),
        ValueError,
        "accuracy: logits: expected shape (n, classes), a number for each class, got (12,); "
        "np.mean(a == b) compares labels",
    ),
    (
        lambda: metrics.correct(np.eye(3)[Y], Y[:5]),
        ValueError,
        "correct: labels: expected shape (12,), or (12, 3) for probabilities, got (5,)",
    ),
    (
        lambda: metrics.accuracy(np.ones((0, 3)), Y[:0]),
        ValueError,
        "accuracy: logits: expected at least one row, got shape (0, 3)",
    ),
    # counters
    (
        lambda: setattr(trainer(), "stop", "yes"),
        TypeError,
        "stop: expected True or False, got str 'yes'",
    ),
    (
        lambda: setattr(trainer(), "epoch", -5),
        ValueError,
        "epoch: expected an integer of at least 0, got -5",
    ),
    (
        lambda: setattr(trainer(), "step", 1.5),
        TypeError,
        "step: expected an integer, got float 1.5",
    ),
    (
        lambda: setattr(trainer(), "history", {}),
        TypeError,
        "history: expected a trainer's history, got dict",
    ),
    (
        lambda: setattr(trainer(), "measured", "loss"),
        TypeError,
        "measured: expected a tuple of names, got 'loss'",
    ),
]


@pytest.mark.parametrize(("typed", "error", "said"), WRONG, ids=[row[2][-50:] for row in WRONG])
def test_values_that_are_not_taken(typed: Typed, error: type[Exception], said: str) -> None:
    whole = sentence(typed, error)
    assert whole == said or (said.startswith("did") and whole.endswith(f"; {said}"))


# ---------------------------------------------------------------------- what is taken
def test_mse_is_the_mean_squared_error(reference: Any) -> None:
    assert type(trainer(loss="mse").loss) is losses.MeanSquaredError


def test_what_has_no_masked_number_is_an_array(backend: Any) -> None:
    whole = np.ma.masked_array(ROWS, ROWS < 0)
    np.testing.assert_array_equal(F.relu(whole, backend=backend), ROWS)
    layer = nn.Dense(6)
    layer.build((8,))
    with pytest.raises(ValueError, match=r"^Parameter: data: expected an array without masked"):
        layer.parameters()["weight"].data = MASKED
    with pytest.raises(ValueError, match=r"^state: weight: expected an array without masked"):
        layer.load_state_dict({**layer.state_dict(), "weight": MASKED})


def test_functions_of_two_are_losses_and_schedules() -> None:
    def of_any(*args: Any) -> Any:
        return 0.0, args[0]

    for function in (of_any, lambda p, t, more=1: (0.0, p)):
        assert trainer(loss=function).loss.function is function  # type: ignore[attr-defined]
    assert trainer(schedule=lambda step, total=1: 1.0)
    assert takes(max, 2)


def test_measures_take_lists() -> None:
    logits = [[0.0, 1.0], [1.0, 0.0]]
    assert metrics.accuracy(logits, [1, 1]) == 0.5
    assert metrics.correct(logits, [[0.2, 0.8], [0.7, 0.3]]) == 2
    assert metrics.correct(np.ones((0, 3)), []) == 0


def test_counters_may_be_set(reference: Any) -> None:
    fitted = trainer_of(reference, small())
    fitted.fit(X, Y, epochs=2, verbose=False)
    fitted.epoch, fitted.step, fitted.stop = np.int64(7), 3, np.True_  # type: ignore[assignment]
    assert (fitted.epoch, fitted.step, fitted.stop) == (7, 3, True)
    fitted.history = copy.deepcopy(fitted.history)
    assert len(fitted.fit(X, Y, verbose=False)["loss"]) == 3


# ---------------------------------------------------------------------- history
def test_a_history_shows_the_numbers_of_its_last_epoch(reference: Any, tmp_path: Path) -> None:
    fitted = trainer_of(reference, small())
    fitted.fit(X, Y, verbose=False, validation_data=(X, Y))
    assert "val_loss" in repr(fitted.history)
    history = fitted.fit(X, Y, verbose=False)
    shown = (
        f"History(2 epochs: loss {history['loss'][-1]:.4f}, accuracy {history['accuracy'][-1]:.4f})"
    )
    for each in (history, fitted.history, copy.copy(history), pickle.loads(pickle.dumps(history))):
        assert repr(each) == shown
    fitted.save_state(tmp_path / "s")
    resumed = trainer_of(reference, small())
    resumed.load_state(tmp_path / "s")
    assert repr(resumed.history) == shown, "of which there is one an epoch"
    history = fitted.fit(X, Y, verbose=False, validation_data=(X, Y))
    assert f"val_loss {history['val_loss'][-1]:.4f}" in repr(history)
    history["loss"].append(0.0)
    assert len(fitted.history["loss"]) == 3, "lists of its own"


# ---------------------------------------------------------------------- lists
def test_lists_are_read_once(reference: Any) -> None:
    images, labels = X.astype(np.float32).tolist(), Y.tolist()

    class Changes(callbacks.Callback):
        def on_epoch_end(self, trainer: Any) -> None:
            labels[:] = [9] * len(labels)
            images[:] = [None] * len(images)

    fitted = trainer_of(reference, small())
    with pytest.warns(UserWarning, match="divide by 255"):
        fitted.fit(images, labels, epochs=2, callbacks=[Changes()], verbose=False)
    assert fitted.epoch == 2
