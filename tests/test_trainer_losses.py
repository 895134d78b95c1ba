"""The losses of yes and no, of overlaps and of distances, from targets to a trained model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import losses, nn

RNG = np.random.default_rng(5)
X = RNG.standard_normal((24, 6, 5, 3)).astype(np.float32)
MASKS = X[..., :2] + 0.3 * RNG.standard_normal((24, 6, 5, 2)) > 0
LABELS = (X[..., 0] > 0.2).astype(np.uint8) + (X[..., 1] > 0.5)
TAGS = MASKS.mean(axis=(1, 2)) > 0.5  # several labels an image


def trainer_of(
    outputs: int, loss: Any, backend: Any = "fast", flat: bool = False, **options: Any
) -> fastcnn.Trainer:
    layers: list[nn.Module] = [nn.Conv2D(6, 3, padding="same"), nn.ReLU()]
    layers += [nn.GlobalAvgPool2D(), nn.Dense(outputs)] if flat else [nn.Conv2D(outputs, 1)]
    trained = {"optimizer": fastcnn.optim.Adam(0.02), "seed": 1, "dtype": np.float64, **options}
    return fastcnn.Trainer(nn.Sequential(layers), loss=loss, backend=backend, **trained)


CASES: dict[str, tuple[Any, int, Any, bool]] = {
    "bce": (losses.BinaryCrossEntropy, 2, MASKS, False),
    "bce of tags": (lambda: losses.BinaryCrossEntropy(pos_weight=[2, 0.5]), 2, TAGS, True),
    "focal": (losses.Focal, 2, MASKS, False),
    "focal without balance": (lambda: losses.Focal(alpha=None, gamma=1), 2, TAGS, True),
    "dice": (losses.Dice, 2, MASKS, False),
    "dice of labels": (lambda: losses.Dice("softmax", smooth=0.1), 3, LABELS, False),
    "dice that ignores": (lambda: losses.Dice("softmax", ignore_label=0), 3, LABELS, False),
    "huber": (lambda: losses.Huber(delta=0.5), 3, X, False),
    "l1": (losses.MeanAbsoluteError, 3, X, False),
}
WEIGHTS = RNG.uniform(0, 2, 24)
WEIGHTS[:8] = 0


@pytest.mark.parametrize("name", CASES)
def test_both_backends_learn_the_same(name: str, fast_backend: Any, reference: Any) -> None:
    make, outputs, y, flat = CASES[name]
    for weights in (None, WEIGHTS):
        found = []
        for backend in (fast_backend, reference):
            trainer = trainer_of(outputs, make(), backend, flat)
            trainer.fit(X, y, batch_size=8, sample_weight=weights, shuffle=False, verbose=False)
            found.append([*trainer.history.values(), *trainer.model.state_dict().values()])
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_it_learns_and_any_batch_size_measures_the_same(name: str) -> None:
    make, outputs, y, flat = CASES[name]
    trainer = trainer_of(outputs, make(), flat=flat)
    before = trainer.evaluate(X, y)
    trainer.fit(X, y, epochs=30, batch_size=8, verbose=False)
    after = trainer.evaluate(X, y)
    assert after["loss"] < 0.9 * before["loss"]
    assert ("accuracy" in after) == (make().activation is not None)
    assert after.get("accuracy", 1) > before.get("accuracy", 0)
    for size in (1, 7):
        assert trainer.evaluate(X, y, batch_size=size) == pytest.approx(after, rel=1e-12)
    weighted = trainer.evaluate(X, y, sample_weight=WEIGHTS)["loss"]
    for size in (3, 8):  # of which some weigh nothing
        found = trainer.evaluate(X, y, sample_weight=WEIGHTS, batch_size=size)["loss"]
        assert found == pytest.approx(weighted, rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "op", "options"),
    [
        (losses.BinaryCrossEntropy(), "binary_cross_entropy", {}),
        (
            losses.BinaryCrossEntropy(pos_weight=[2, 0.5]),
            "binary_cross_entropy",
            {"pos_weight": (2.0, 0.5)},
        ),
        (losses.Focal(alpha=0.6, gamma=1), "focal", {"alpha": 0.6, "gamma": 1.0}),
        (losses.Huber(delta=0.25), "huber", {"delta": 0.25}),
        (losses.MeanAbsoluteError(), "mean_absolute_error", {}),
        (losses.Dice(smooth=0.2), "dice", {"smooth": 0.2}),
    ],
    ids=str,
)
def test_a_loss_is_its_op(loss: Any, op: str, options: Any, backend: Any) -> None:
    x, target = RNG.standard_normal((4, 5, 2)), RNG.random((4, 5, 2))
    for weights in (None, WEIGHTS[7:11]):
        given = options if weights is None else {**options, "sample_weights": weights}
        result = getattr(backend, op)(x, target, **given)
        expected, saved = result if isinstance(result, tuple) else (result, x)
        value, gradient = loss(x, target, backend, *([] if weights is None else [weights]))
        assert value == expected
        back = getattr(backend, f"{op}_backward")(1.0, saved, target, **given)
        np.testing.assert_array_equal(gradient(), back)


def test_float32_and_the_names(backend: Any) -> None:
    for name, kind in losses.LOSSES.items():
        made = losses.get_loss(name)
        assert type(made) is kind
        y = {"softmax": LABELS, "sigmoid": MASKS, None: X[..., :2]}[made.activation]
        outputs = 3 if made.activation == "softmax" else 2
        trainer = trainer_of(outputs, name, backend, dtype=np.float32)
        trainer.fit(X[:4], y[:4], batch_size=2, verbose=False)
        assert np.isfinite(trainer.history["step_loss"]).all()


def test_yes_and_no() -> None:
    """Accuracy counts each answer, predict_proba is a sigmoid."""
    trainer = trainer_of(2, "bce", metrics=["accuracy", "f1_micro", "recall"])
    trainer.fit(X, MASKS, epochs=10, verbose=False)
    said = trainer.predict(X) > 0
    numbers = trainer.evaluate(X, MASKS)
    assert numbers["accuracy"] == np.mean(said == MASKS)
    hits = np.sum(said & MASKS)
    assert numbers["f1_micro"] == pytest.approx(2 * hits / (said.sum() + MASKS.sum()), rel=1e-15)
    probabilities = trainer.predict_proba(X)
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-trainer.predict(X))), rtol=1e-12)
    cost = -np.log(np.where(MASKS, probabilities, 1 - probabilities)).mean()
    assert numbers["loss"] == pytest.approx(cost, rel=1e-12)


@pytest.mark.parametrize("loss", ["bce", "focal", "dice"])
def test_forms_of_yes_and_no(loss: str) -> None:
    """Truth values, integers and floats; without a last axis of length 1."""
    one = MASKS[..., 0]
    expected = None
    for y in (one, one[..., None], one.astype(np.uint8), one.astype(float), one.astype(np.int64)):
        trainer = trainer_of(1, loss)
        trainer.fit(X, y, verbose=False)
        expected = expected or trainer.history["step_loss"]
        assert trainer.history["step_loss"] == expected
    flat = trainer_of(1, loss, flat=True)
    flat.fit(X, TAGS[:, 0], verbose=False)
    assert flat.predict(X).shape == (24, 1)


def test_images_are_targets_of_distances() -> None:
    """Bytes are divided by 255, as x is."""
    images = RNG.integers(0, 256, (8, 6, 5, 3), dtype=np.uint8)
    for loss in ("huber", "mae"):
        found = trainer_of(3, loss).evaluate(images, images)["loss"]
        expected = trainer_of(3, loss).evaluate(images / 255, images / 255)["loss"]
        assert found == pytest.approx(expected, rel=1e-12)
        with pytest.raises(TypeError, match=r"^y: expected floats or int64 .* got uint8"):
            trainer_of(3, loss, flat=True).fit(X, np.ones((24, 3), np.uint8), verbose=False)


# ---------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("loss", "y", "said"),
    [
        ("bce", MASKS * np.uint8(255), r"^y: expected numbers from 0, .* got 0 to 255; masks of "),
        ("focal", MASKS - 0.5, r"^y: expected numbers from 0, for no, to 1, for yes, got -0.5 to"),
        ("dice", np.where(MASKS, np.nan, 0), "^y: expected numbers from 0, for no, to 1"),
        ("bce", MASKS[..., 0], r"^y: expected targets of shape \(24, 6, 5, 2\), got \(24, 6, 5\)"),
        ("huber", X, r"^y: expected targets of shape \(24, 6, 5, 2\), got \(24, 6, 5, 3\)"),
        (losses.BinaryCrossEntropy(pos_weight=[1, 2, 3]), MASKS, "pos_weight: expected 2 numbers"),
        (losses.Dice("softmax"), LABELS + 1, "^y: expected labels from 0 to 1 .* got 3"),
        (losses.Dice(ignore_label=3), MASKS, "^Dice: ignore_label: expected None with sigmoid"),
    ],
)
def test_targets_that_do_not_fit(loss: Any, y: Any, said: str) -> None:
    trainer = trainer_of(2, loss)
    with pytest.raises(ValueError, match=said):
        trainer.fit(X, y, verbose=False)
    assert trainer.step == 0


def test_a_model_that_ends_in_a_sigmoid_is_refused() -> None:
    for loss in ("bce", "focal", "dice"):
        with pytest.raises(
            ValueError, match=r"model: expected one that gives logits, which .* sig"
        ):
            fastcnn.Trainer(nn.Sequential([nn.Dense(2, activation="sigmoid")]), loss=loss)
    softmax = nn.Sequential([nn.Conv2D(2, 1), nn.Softmax()])
    with pytest.raises(ValueError, match="which dice takes, got one that ends in a softmax"):
        fastcnn.Trainer(softmax, loss=losses.Dice("softmax"))
    fastcnn.Trainer(nn.Sequential([nn.Dense(2, activation="sigmoid")]), loss="mse")


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: losses.BinaryCrossEntropy(pos_weight=-1), ValueError, "pos_weight: expected a"),
        (lambda: losses.BinaryCrossEntropy(pos_weight="2"), TypeError, "pos_weight: expected a"),
        (lambda: losses.Focal(alpha=2), ValueError, "alpha: expected a finite number in"),
        (lambda: losses.Focal(gamma=-1), ValueError, "gamma: expected a finite number in"),
        (lambda: losses.Huber(delta=0), ValueError, "delta: expected a finite number in"),
        (lambda: losses.Dice(smooth=0), ValueError, "smooth: expected a finite number in"),
        (lambda: losses.Dice("relu"), ValueError, "activation: expected one of"),
        (lambda: losses.Dice(ignore_label=1.5), TypeError, "ignore_label: expected an integer"),
        (lambda: setattr(losses.Huber(), "beta", 1), AttributeError, "Huber: expected one of its"),
    ],
)
def test_options(make: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        make()


def test_of_several_outputs() -> None:
    x = nn.Input((6, 5, 3))
    h = nn.Conv2D(4, 3, padding="same", activation="relu")(x)
    model = nn.Model(x, {"mask": nn.Conv2D(2, 1)(h), "class": nn.Conv2D(3, 1)(h)})
    kinds = {"mask": losses.Dice(), "class": losses.CrossEntropy(ignore_label=2)}
    trainer = fastcnn.Trainer(model, loss=kinds, dtype=np.float64)
    y = {"mask": MASKS, "class": LABELS}
    history = trainer.fit(X, y, epochs=2, batch_size=7, verbose=False)
    assert len(history["loss_mask"]) == len(history["loss_class"]) == 2
    for size in (5, 24):
        numbers = trainer.evaluate(X, y, batch_size=size)
        assert numbers == pytest.approx(trainer.evaluate(X, y), rel=1e-12)
        assert numbers["loss"] == pytest.approx(numbers["loss_mask"] + numbers["loss_class"])
