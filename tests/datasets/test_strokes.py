"""The drawn digits: the same on every machine, balanced, neither too easy nor too hard."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from fastcnn import datasets
from fastcnn.datasets import strokes


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def data() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    return datasets.load("strokes", limit_train=10_000)


# If a change of strokes.py is meant to change the images, say so in CHANGELOG.md: accuracies
# reached on the old images no longer compare.
PINNED = {
    ("train", 0): "71490f9f5d3aeb975b033476aec8f98c1fd80a243d0d4fbc2f7069510847d7df",
    ("test", 0): "25104cdb911b33ef27f293124662e6b80c5273c1dc8b25ccd8efe6857c5319cb",
    ("train", 1): "b2ff0fba5bcaf0b3829915abf70b5e49116e9f24940c96b9bc50c928b44d98cc",
}


@pytest.mark.parametrize(("split", "seed"), PINNED)
def test_same_seed_same_images(split: str, seed: int) -> None:
    x, y = strokes.draw(1000, seed=seed, split=split)
    assert digest(x) == PINNED[split, seed]
    assert digest(y) == digest(strokes.draw(1000, seed=seed, split=split)[1])


def test_same_images_without_numpy_s_vector_instructions() -> None:
    from numpy._core._multiarray_umath import __cpu_dispatch__

    code = (
        "import hashlib, warnings; warnings.simplefilter('ignore')\n"  # of features not here
        "from fastcnn.datasets import strokes\n"
        "print(hashlib.sha256(strokes.draw(1000)[0].tobytes()).hexdigest())"
    )
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(__cpu_dispatch__)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert run.stdout.strip() == PINNED["train", 0], run.stderr


def test_form() -> None:
    x, y = strokes.draw(23)
    assert x.shape == (23, 28, 28, 1)
    assert x.dtype == np.uint8
    assert y.shape == (23,)
    assert y.dtype == np.int64
    (x_train, y_train), (x_test, y_test) = strokes.load(train_size=30, test_size=20)
    assert (len(x_train), len(y_train), len(x_test), len(y_test)) == (30, 30, 20, 20)
    assert strokes.draw(np.int64(3))[0].shape == (3, 28, 28, 1)


@pytest.mark.parametrize("n", [1, 9, 10, 39, 41])
def test_a_longer_set_begins_with_a_shorter_one(n: int) -> None:
    x, y = strokes.draw(100, seed=3)
    x_n, y_n = strokes.draw(n, seed=3)
    np.testing.assert_array_equal(x_n, x[:n])
    np.testing.assert_array_equal(y_n, y[:n])


def test_classes_are_balanced() -> None:
    _, y = strokes.draw(1005)
    assert np.bincount(y[:1000], minlength=10).tolist() == [100] * 10
    assert len(set(y[1000:])) == 5
    # in no fixed order within a block of ten
    assert len({tuple(block) for block in y[:1000].reshape(100, 10)}) == 100


def test_training_test_and_seeds_are_different_streams(
    data: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> None:
    (x_train, _), (x_test, _) = data
    images = [image.tobytes() for image in (*x_train, *x_test, *strokes.draw(100, seed=1)[0])]
    assert len(set(images)) == len(images)


def test_ink_is_on_the_page() -> None:
    x, _ = strokes.draw(1000)
    assert (x.max(axis=(1, 2, 3)) > 120).all()  # every digit is dark enough to be seen
    ink = x > 100
    assert (ink.mean(axis=(1, 2, 3)) < 0.4).all()
    assert (ink.sum(axis=(1, 2, 3)) > 8).all()
    assert ink[:, [0, -1], :].mean() < 0.02  # and few reach the border
    assert ink[:, :, [0, -1]].mean() < 0.02


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "n: expected an integer of at least 1, got 0"),
        ({"n": -5}, ValueError, "n: expected an integer of at least 1, got -5"),
        ({"n": 2.0}, TypeError, "n: expected an integer, got float"),
        ({"n": True}, TypeError, "n: expected an integer, got bool"),
        ({"n": 3, "seed": -1}, ValueError, "seed: expected an integer of at least 0, got -1"),
        ({"n": 3, "seed": "0"}, TypeError, "seed: expected an integer, got str"),
        ({"n": 3, "split": "valid"}, ValueError, 'split: expected "train" or "test", got \'va'),
    ],
)
def test_bad_arguments(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^strokes: {message}"):
        strokes.draw(**arguments)


def softmax_regression(x: np.ndarray, y: np.ndarray, epochs: int) -> np.ndarray:
    """Weights (785, 10) of a linear classifier, trained by descent with momentum."""
    rng = np.random.default_rng(0)
    w = np.zeros((x.shape[1], 10))
    velocity = np.zeros_like(w)
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for i in range(0, len(x), 100):
            batch = order[i : i + 100]
            logits = x[batch] @ w
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            p[np.arange(len(batch)), y[batch]] -= 1
            velocity = 0.9 * velocity + x[batch].T @ p / len(batch)
            w -= 0.05 * velocity
    return w


def test_a_linear_classifier_does_not_do(
    data: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> None:
    (x_train, y_train), (x_test, y_test) = data
    x_train, x_test = (
        np.concatenate([x.reshape(len(x), -1) / 255, np.ones((len(x), 1))], axis=1)
        for x in (x_train, x_test)
    )
    w = softmax_regression(x_train, y_train, epochs=10)
    accuracy = np.mean(np.argmax(x_test @ w, axis=1) == y_test)
    assert 0.7 <= accuracy <= 0.93
