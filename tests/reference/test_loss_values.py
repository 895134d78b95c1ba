"""Losses of distances, of yes and no, and of overlaps: by hand, at their ends, and with weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from compare import assert_close

INF = math.inf
X = np.array([[1.0, -2, 3], [0, 4, -1]])
T = np.array([[1.0, 2, 0], [0, 0, -2]])  # d: 0 -4 3, 0 4 1
YES = np.array([[1.0, 0, 0.5], [0, 1, 0.25]])


def both(backend: Any, op: str, x: Any, target: Any, **options: Any) -> tuple[float, Any]:
    """Return the loss and its gradient for a dloss of 1."""
    result = getattr(backend, op)(x, target, **options)
    loss, saved = result if isinstance(result, tuple) else (result, x)
    assert type(loss) is float
    return loss, getattr(backend, f"{op}_backward")(1.0, saved, target, **options)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(x, float)))


# ---------------------------------------------------------------------- distances
def test_distances_by_hand(backend: Any, dtype: Any) -> None:
    x, t = X.astype(dtype), T.astype(dtype)
    loss, dx = both(backend, "mean_absolute_error", x, t)
    assert loss == 12 / 6
    np.testing.assert_array_equal(dx, np.array([[0, -1, 1], [0, 1, 1]], dtype) / dtype.type(6))
    loss, dx = both(backend, "huber", x, t)
    assert loss == pytest.approx((3.5 + 2.5 + 3.5 + 0.5) / 6, rel=1e-15)
    np.testing.assert_array_equal(dx, np.array([[0, -1, 1], [0, 1, 1]], dtype) / dtype.type(6))
    loss, dx = both(backend, "huber", x, t, delta=3.0)
    assert loss == pytest.approx((7.5 + 4.5 + 7.5 + 0.5) / 6, rel=1e-15)
    np.testing.assert_array_equal(dx, np.array([[0, -3, 3], [0, 3, 1]], dtype) / dtype.type(6))


def test_small_integers_are_exact(backend: Any, dtype: Any, rng: Any) -> None:
    x, t = (rng.integers(-9, 9, (4, 8, 2)).astype(dtype) for _ in range(2))
    d = x - t
    assert both(backend, "mean_absolute_error", x, t)[0] == np.abs(d).sum() / 64
    found, dx = both(backend, "huber", x, t, delta=2.0)
    assert found == np.where(np.abs(d) > 2, 2 * (np.abs(d) - 1), d * d / 2).sum() / 64
    np.testing.assert_array_equal(dx, np.clip(d, -2, 2) / 64)


def test_a_wide_huber_is_half_of_squares_and_a_narrow_one_absolute(backend: Any, rng: Any) -> None:
    x, t = rng.standard_normal((2, 5, 3))
    wide, slope = both(backend, "huber", x, t, delta=1e6)
    assert wide == pytest.approx(backend.mean_squared_error(x, t) / 2, rel=1e-14)
    assert_close(slope, backend.mean_squared_error_backward(0.5, x, t))
    narrow, slope = both(backend, "huber", x, t, delta=1e-9)
    assert narrow * 1e9 == pytest.approx(backend.mean_absolute_error(x, t), rel=1e-8)
    assert_close(slope * 1e9, backend.mean_absolute_error_backward(1.0, x, t))


# ---------------------------------------------------------------------- yes and no
def test_binary_cross_entropy_by_hand(backend: Any, dtype: Any) -> None:
    x, t = X.astype(dtype), YES.astype(dtype)
    p = sigmoid(X)
    for weight in (None, 2.0, (0.5, 3.0, 0.0)):
        w = np.ones(3) if weight is None else np.array(weight)
        cost = -(w * YES * np.log(p) + (1 - YES) * np.log(1 - p))
        loss, dx = both(backend, "binary_cross_entropy", x, t, pos_weight=weight)
        assert loss == pytest.approx(cost.mean(), rel=1e-6 if dtype == np.float32 else 1e-14)
        assert_close(dx, ((1 - YES) * p - w * YES * (1 - p)) / 6)


def test_two_classes_are_yes_and_no(backend: Any, rng: Any) -> None:
    """Of a softmax over (0, x) the second is sigmoid(x)."""
    x, labels = 3 * rng.standard_normal(7), rng.integers(0, 2, 7)
    two = np.stack([np.zeros(7), x], axis=1)
    expected, probabilities = backend.softmax_cross_entropy(two, labels)
    loss, dx = both(backend, "binary_cross_entropy", x, labels.astype(float))
    assert loss == pytest.approx(expected, rel=1e-14)
    dtwo = backend.softmax_cross_entropy_backward(1.0, probabilities, labels)
    assert_close(dx, dtwo[:, 1])


def test_any_finite_logits(backend: Any, dtype: Any) -> None:
    """Next to certainty a right answer costs next to nothing, a wrong one its logit."""
    big = float(np.finfo(dtype).max) / 16
    for x in (50.0, 750.0, 1e30, big):
        array = np.array([x, -x, x, -x], dtype)
        for op, options in (("binary_cross_entropy", {}), ("focal", {"alpha": None})):
            right, dx = both(backend, op, array, np.array([1, 0, 1, 0], dtype), **options)
            assert right == pytest.approx(np.exp(-x) ** (1 if op[0] == "b" else 3), rel=1e-6)
            assert np.all(np.abs(dx) <= np.exp(-x))
            wrong, dx = both(backend, op, array, np.array([0, 1, 0, 1], dtype), **options)
            assert wrong == pytest.approx(x, rel=1e-6)
            assert_close(dx, np.array([1, -1, 1, -1]) / 4)
    # The gradient next to certainty is what is left of 1, not 1 less what there is.
    _, dx = both(backend, "binary_cross_entropy", np.array([40.0], dtype), np.ones(1, dtype))
    assert dx[0] == pytest.approx(-np.exp(-40.0), rel=1e-5)


def test_infinite_logits_that_are_right_cost_nothing(backend: Any, dtype: Any) -> None:
    x = np.array([INF, -INF], dtype)
    for op in ("binary_cross_entropy", "focal"):
        loss, dx = both(backend, op, x, np.array([1, 0], dtype))
        assert loss == 0
        assert not dx.any()
        assert both(backend, op, x, np.array([0, 0], dtype))[0] == INF
        assert math.isnan(both(backend, op, x * np.nan, np.array([1, 0], dtype))[0])


def test_focal_by_hand(backend: Any, dtype: Any) -> None:
    x, t = X.astype(dtype), YES.astype(dtype)
    p = sigmoid(X)
    q = YES * p + (1 - YES) * (1 - p)
    cost = -(YES * np.log(p) + (1 - YES) * np.log(1 - p))
    for alpha, gamma in ((0.25, 2.0), (None, 2.0), (0.9, 0.5), (0.0, 1.0), (0.25, 0.0)):
        balance = 1.0 if alpha is None else alpha * YES + (1 - alpha) * (1 - YES)
        loss, _ = both(backend, "focal", x, t, alpha=alpha, gamma=gamma)
        expected = (balance * (1 - q) ** gamma * cost).mean()
        assert loss == pytest.approx(expected, rel=1e-6 if dtype == np.float32 else 1e-14)
    plain = both(backend, "binary_cross_entropy", x, t)
    found = both(backend, "focal", x, t, alpha=None, gamma=0.0)
    assert found[0] == pytest.approx(plain[0], rel=1e-14)
    assert_close(found[1], plain[1])


# ---------------------------------------------------------------------- overlaps
def dice_of(p: Any, t: Any, smooth: float) -> float:
    """The loss of one image: places and channels."""
    both_ = (p * t).sum(0)
    return float(np.mean(1 - (2 * both_ + smooth) / (p.sum(0) + t.sum(0) + smooth)))


def test_dice_by_hand(backend: Any, dtype: Any) -> None:
    """Logits so large that probabilities are 0 and 1: counts, exactly."""
    ours = np.array([[1, 1, 0, 0], [1, 0, 1, 1]]).reshape(2, 2, 2, 1)
    theirs = np.array([[1, 0, 0, 0], [0, 0, 1, 1]]).reshape(2, 2, 2, 1)
    x = (2000.0 * ours - 1000).astype(dtype)
    loss, p = backend.dice(x, theirs.astype(dtype))
    np.testing.assert_array_equal(p, ours)
    assert loss == pytest.approx(1 - np.mean([3 / 4, 5 / 6]), rel=1e-15)
    loss, _ = backend.dice(x, theirs.astype(dtype), smooth=0.5, sample_weights=[3, 1])
    assert loss == pytest.approx(1 - (3 * 2.5 / 3.5 + 4.5 / 5.5) / 4, rel=1e-6)
    empty = np.zeros((1, 3, 3, 2), dtype)
    assert backend.dice(empty - 1000, empty)[0] == 0  # nothing there, and nothing said


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_dice_is_the_mean_over_images(activation: str, backend: Any, dtype: Any, rng: Any) -> None:
    x = (2 * rng.standard_normal((3, 4, 5, 6))).astype(dtype)
    t = rng.random(x.shape).astype(dtype)
    loss, p = backend.dice(x, t, activation=activation, smooth=0.25)
    np.testing.assert_array_equal(p, getattr(backend, activation)(x))
    images = [dice_of(*(a[n].reshape(-1, 6).astype(float) for a in (p, t)), 0.25) for n in range(3)]
    assert loss == pytest.approx(np.mean(images), rel=1e-6)
    alone = [backend.dice(x[n : n + 1], t[n : n + 1], activation=activation, smooth=0.25)[0]
             for n in range(3)]  # fmt: skip
    assert loss == pytest.approx(np.mean(alone), rel=1e-14)


def test_dice_of_labels(backend: Any, dtype: Any, rng: Any) -> None:
    """They are one-hot numbers, and what is ignored is not there."""
    x = (2 * rng.standard_normal((2, 9, 4))).astype(dtype)
    labels = rng.integers(0, 4, (2, 9))
    one_hot = np.eye(4, dtype=dtype)[labels]
    found = both(backend, "dice", x, labels, activation="softmax")
    expected = both(backend, "dice", x, one_hot, activation="softmax")
    assert found[0] == pytest.approx(expected[0], rel=1e-14)
    assert_close(found[1], expected[1])
    labels[:, 6:] = 200
    found = both(backend, "dice", x, labels, activation="softmax", ignore_label=200)
    cut = both(backend, "dice", x[:, :6], labels[:, :6], activation="softmax")
    assert found[0] == pytest.approx(cut[0], rel=1e-14)
    assert_close(found[1][:, :6].copy(), cut[1])
    assert not found[1][:, 6:].any()
    everything = np.full_like(labels, 200)
    loss, dx = both(backend, "dice", x, everything, activation="softmax", ignore_label=200)
    assert loss == 0
    assert not dx.any()


def test_dice_of_large_images(fast_backend: Any, reference: Any, rng: Any) -> None:
    """The fast backend works on some of the places at a time."""
    x = rng.standard_normal((2, 190, 211, 2))
    labels = rng.integers(-1, 2, x.shape[:-1])
    given: list[Any] = [(rng.random(x.shape), {})]
    given.append((labels, {"activation": "softmax", "ignore_label": -1}))
    for target, options in given:
        found, expected = (both(each, "dice", x, target, **options)
                           for each in (fast_backend, reference))  # fmt: skip
        assert found[0] == pytest.approx(expected[0], rel=1e-12)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-10, atol=1e-18)


# ---------------------------------------------------------------------- weights of samples
@pytest.mark.parametrize(
    ("op", "target"),
    [
        ("mean_absolute_error", T),
        ("huber", T),
        ("binary_cross_entropy", YES),
        ("focal", YES),
        ("dice", YES),
    ],
)
def test_a_weight_is_how_often_a_sample_is_there(op: str, target: Any, backend: Any) -> None:
    twice = [0, 1, 1]
    loss, dx = both(backend, op, X, target, sample_weights=np.array([0.5, 1.0]))
    expected, dtwice = both(backend, op, X[twice], target[twice])
    assert loss == pytest.approx(expected, rel=1e-14)
    assert_close(dx, np.array([dtwice[0], 2 * dtwice[1]]))
    loss, dx = both(backend, op, X, target, sample_weights=np.array([0.0, 3.0]))
    assert loss == pytest.approx(both(backend, op, X[1:], target[1:])[0], rel=1e-14)
    assert not dx[0].any()


@pytest.mark.parametrize("op", ["mean_absolute_error", "huber", "binary_cross_entropy", "focal"])
def test_of_any_rank(op: str, backend: Any, rng: Any) -> None:
    x, t = rng.random((2, 24))
    expected = both(backend, op, x, t)
    for shape in ((24, 1), (2, 3, 4), (1, 2, 3, 2, 2)):
        found = both(backend, op, x.reshape(shape), t.reshape(shape))
        assert found[0] == pytest.approx(expected[0], rel=1e-14)
        assert_close(found[1].ravel(), expected[1])
    one = both(backend, op, x[0], t[0])
    assert one[1].shape == ()
    weighted = both(backend, op, x[0], t[0], sample_weights=[2.0])
    assert weighted[0] == pytest.approx(one[0], rel=1e-14)


# ---------------------------------------------------------------------- errors
@pytest.mark.parametrize("op", ["binary_cross_entropy", "focal", "dice"])
def test_targets_of_yes_and_no(op: str, backend: Any) -> None:
    for wrong in (-1e-3, 1.001, np.nan, INF):
        target = YES.copy()
        target[1, 1] = wrong
        for name, saved in ((op, X), (f"{op}_backward", sigmoid(X))):
            dloss = (1.0,) if name != op else ()
            with pytest.raises(ValueError, match=f"^{name}: target: expected numbers from 0 to 1"):
                getattr(backend, name)(*dloss, saved, target)


@pytest.mark.parametrize(
    ("op", "options", "error", "said"),
    [
        ("binary_cross_entropy", {"pos_weight": [1.0, 2.0]}, ValueError, "pos_weight: expected a"),
        ("binary_cross_entropy", {"pos_weight": ()}, ValueError, "pos_weight: expected a number"),
        ("binary_cross_entropy", {"pos_weight": -1.0}, ValueError, "pos_weight: expected a finit"),
        ("binary_cross_entropy", {"pos_weight": [1, "2", 3]}, TypeError, "pos_weight: expected a"),
        ("binary_cross_entropy", {"pos_weight": [1, INF, 3]}, ValueError, "pos_weight: expected"),
        ("focal", {"alpha": 1.5}, ValueError, "alpha: expected a"),
        ("focal", {"alpha": "x"}, TypeError, "alpha: expected a number"),
        ("focal", {"gamma": -0.5}, ValueError, "gamma: expected a finite number"),
        ("huber", {"delta": 0.0}, ValueError, "delta: expected a finite number"),
        ("huber", {"delta": None}, TypeError, "delta: expected a number"),
        ("dice", {"smooth": 0.0}, ValueError, "smooth: expected a finite number"),
        ("dice", {"activation": "tanh"}, ValueError, "activation: expected "),
        ("dice", {"activation": None}, TypeError, "activation: expected "),
        ("dice", {"ignore_label": 3}, ValueError, "ignore_label: expected None without integers"),
        ("dice", {"ignore_label": 3.0}, TypeError, "ignore_label: expected an integer"),
    ],
)
def test_options(op: str, options: Any, error: Any, said: str, backend: Any) -> None:
    with pytest.raises(error, match=f"^{op}: {said}"):
        getattr(backend, op)(X, YES, **options)
    with pytest.raises(error, match=f"^{op}_backward: {said}"):
        getattr(backend, f"{op}_backward")(1.0, sigmoid(X), YES, **options)


@pytest.mark.parametrize(
    "op", ["mean_absolute_error", "huber", "binary_cross_entropy", "focal", "dice"]
)
def test_weights(op: str, backend: Any) -> None:
    call = getattr(backend, op)
    for wrong in ([0.0, 0.0], [1.0, -1.0], [1.0, np.nan], [INF, 1.0]):
        with pytest.raises(ValueError, match=f"^{op}: sample_weights: expected"):
            call(X, YES, sample_weights=np.array(wrong))
    for shape in ((), (3,), (2, 1), (2, 3)):
        with pytest.raises(ValueError, match=f"^{op}: sample_weights: expected"):
            call(X, YES, sample_weights=np.ones(shape))
    for empty in (np.ones((0, 3)), np.ones((3, 0))):
        with pytest.raises(ValueError, match=f"^{op}: (logits|prediction): expected"):
            call(empty, empty)


def test_labels_of_dice(backend: Any) -> None:
    for labels in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError, match=r"^dice: target: expected integers from 0 to 2, got"):
            backend.dice(X, np.array(labels), activation="softmax")
    with pytest.raises(TypeError, match=r"^dice: target: expected integers"):
        backend.dice(X, np.array([0.0, 1.0]), activation="softmax")
    with pytest.raises(ValueError, match=r"^dice: logits: expected shape"):
        backend.dice(X[0], YES[0])
