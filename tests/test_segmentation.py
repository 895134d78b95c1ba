"""A model is trained on masks: a label at each pixel, some of which count for nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import losses, nn

RNG = np.random.default_rng(3)
X = RNG.random((24, 12, 8, 3)).astype(np.float32)
MASKS = (X.sum(-1) > 1.2).astype(np.uint8) + (X[..., 0] > 0.6)
MASKS[RNG.random(MASKS.shape) < 0.2] = 255
LOSS = {"ignore_label": 255}


def u_net() -> nn.Model:
    x = nn.Input((12, 8, 3))
    wide = nn.Conv2D(6, 3, padding="same", activation="relu")(x)
    deep = nn.Conv2D(8, 3, padding="same", activation="relu")(nn.MaxPool2D(2)(wide))
    joined = nn.concat([wide, nn.UpSample2D(2)(deep)])
    return nn.Model(x, nn.Conv2D(3, 1)(joined))


def trained(backend: Any = "fast", y: Any = MASKS, fit: Any = None, **options: Any) -> Any:
    loss = losses.CrossEntropy(**{**LOSS, **options})
    trainer = fastcnn.Trainer(u_net(), loss=loss, backend=backend, seed=1, dtype=np.float64)
    trainer.fit(X, y, batch_size=7, verbose=False, **{"epochs": 3, **(fit or {})})
    return trainer


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_smoothing": 0.1},
        {"class_weights": "balanced"},
        {"class_weights": {1: 0}, "label_smoothing": 0.2},
    ],
    ids=str,
)
def test_both_backends_learn_the_same(options: Any, fast_backend: Any, reference: Any) -> None:
    one, other = (trained(each, fit={"epochs": 1}, **options) for each in (fast_backend, reference))
    for name, values in one.history.items():
        np.testing.assert_allclose(values, other.history[name], rtol=1e-9, err_msg=name)
    for name, array in one.model.state_dict().items():
        np.testing.assert_allclose(array, other.model.state_dict()[name], rtol=1e-7, atol=1e-10)


def test_it_learns() -> None:
    trainer = trained(fit={"epochs": 20})
    counted = MASKS != 255
    right = (trainer.predict(X).argmax(-1) == MASKS)[counted].mean()
    assert right > 0.8
    for size in (1, 5, 24):
        numbers = trainer.evaluate(X, MASKS, batch_size=size)
        assert numbers["accuracy"] == right
        assert numbers["loss"] == pytest.approx(trainer.evaluate(X, MASKS)["loss"], rel=1e-12)
    probabilities = trainer.predict_proba(X)
    cost = -np.log(np.take_along_axis(probabilities, np.where(counted, MASKS, 0)[..., None], -1))
    assert trainer.evaluate(X, MASKS)["loss"] == pytest.approx(cost[counted].mean(), rel=1e-12)


def test_what_is_ignored_has_no_say() -> None:
    """Pixels that are ignored may show anything, and any integers mark them."""
    expected = trained().model.state_dict()
    marked = np.where(MASKS == 255, -100, MASKS.astype(np.int64))
    for other in (trained(y=marked, ignore_label=-100), trained(y=MASKS.astype(np.uint64))):
        for name, array in other.model.state_dict().items():
            np.testing.assert_array_equal(array, expected[name])


def test_a_class_that_weighs_nothing_is_ignored_too() -> None:
    """With smoothing as well: its pixels pull at no other class."""
    cut = np.where(MASKS == 1, 255, MASKS)
    for smoothing in (0.0, 0.1):
        weighed = trained(class_weights=[1, 0, 1], label_smoothing=smoothing)
        expected = trained(y=cut, class_weights=[1, 0, 1], label_smoothing=smoothing)
        for name, array in weighed.model.state_dict().items():
            np.testing.assert_allclose(array, expected.model.state_dict()[name], rtol=1e-12)


def test_balanced_weights_count_pixels() -> None:
    counts = np.bincount(MASKS[MASKS != 255])
    loss = losses.CrossEntropy(class_weights="balanced", ignore_label=255)
    fitted = loss.fitted(MASKS, (12, 8, 3))
    np.testing.assert_allclose(fitted.class_weights, counts.sum() / (3 * counts))  # type: ignore[attr-defined]
    weight = fitted.weight(MASKS[:5], np.arange(5.0))
    table = np.append(fitted.class_weights, np.zeros(253))  # type: ignore[attr-defined]
    by_hand = sum(n * table[MASKS[n]].sum() for n in range(5))
    assert weight == pytest.approx(by_hand, rel=1e-12)


def test_a_batch_of_nothing_is_a_step_of_no_gradient(fast_backend: Any) -> None:
    y = np.full_like(MASKS, 255)
    y[0, 0, 0] = 1  # in the first batch
    trainer = trained(fast_backend, y, fit={"epochs": 1, "shuffle": False})
    steps = trainer.history["step_loss"]
    assert steps[0] > 0
    assert steps[1:] == [0.0, 0.0, 0.0]
    assert trainer.history["loss"] == [steps[0]]


def test_weights_of_images() -> None:
    """An image of weight 0 counts for nothing, one of weight 2 as if it were there twice."""
    loss = losses.CrossEntropy(ignore_label=255)
    trainer = fastcnn.Trainer(u_net(), loss=loss, seed=1, dtype=np.float64)
    weights = np.array([2.0, 0, 1])
    found = trainer.evaluate(X[:3], MASKS[:3], sample_weight=weights)["loss"]
    twice = [0, 0, 2]
    expected = trainer.evaluate(X[twice], MASKS[twice])["loss"]
    assert found == pytest.approx(expected, rel=1e-12)


def test_probabilities_at_each_pixel() -> None:
    y = np.minimum(MASKS, 2)
    expected = trained(y=y, ignore_label=None).history["step_loss"]
    one_hot = np.eye(3)[y]
    found = trained(y=one_hot, ignore_label=None).history["step_loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("y", "options", "error", "said"),
    [
        (MASKS, {"ignore_label": None}, ValueError, r"y: expected labels from 0 to 2 .* got 255; "
         r"if it marks what counts for nothing: losses.CrossEntropy\(ignore_label=255\)"),
        (np.minimum(MASKS, 7), {}, ValueError, "y: expected labels from 0 to 2, or 255, which is"),
        (MASKS[..., None], {}, ValueError, r"y: expected labels of shape \(24, 12, 8\), one a "
         r"pixel.*take its last axis away: y\[..., 0\]"),
        (MASKS[:, 0], {}, ValueError, r"y: expected labels of shape \(24, 12, 8\)"),
        (MASKS[:, 0, 0], {}, ValueError, r"expected a model that gives logits \(classes,\), got "),
        (MASKS.astype(float), {}, TypeError, "y: expected integer labels"),
        (np.eye(3)[np.minimum(MASKS, 2)], {}, ValueError, "with ignore_label=255, got float64"),
        (np.full_like(MASKS, 255), {}, ValueError, "y: expected a label that counts, got 255, "),
    ],
)  # fmt: skip
def test_errors(y: Any, options: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        trained(y=y, **options)


def test_options() -> None:
    for bad in (2.0, "255", True, [255]):
        with pytest.raises(TypeError, match=r"^CrossEntropy: ignore_label: expected an integer"):
            losses.CrossEntropy(ignore_label=bad)  # type: ignore[arg-type]
    assert repr(losses.CrossEntropy(ignore_label=-100)) == "CrossEntropy(ignore_label=-100)"
