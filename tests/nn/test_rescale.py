"""Rescaling and Normalization: by hand, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import nn


def run(layer: nn.Module, x: np.ndarray, backend: Any) -> np.ndarray:
    layer.build(x.shape[1:], dtype=x.dtype)
    y = layer(x, backend)
    assert isinstance(y, np.ndarray)
    return y


def test_rescaling_by_hand(backend: Any, dtype: Any) -> None:
    x = np.array([[[[0, 1], [2, 4]]]], dtype)
    np.testing.assert_array_equal(run(nn.Rescaling(0.5), x, backend), x / 2)
    y = run(nn.Rescaling(2, [-1, 3]), x, backend)
    np.testing.assert_array_equal(y, [[[[-1, 5], [3, 11]]]])
    y = run(nn.Rescaling(np.array([1, -2]), 1.0), x[:, 0, 0], backend)
    np.testing.assert_array_equal(y, [[1, -1]])
    assert y.dtype == dtype


def test_normalization_by_hand(backend: Any, dtype: Any) -> None:
    x = np.array([[3, 10], [-1, 12]], dtype)
    y = run(nn.Normalization((1, 12), [4, 0.25]), x, backend)
    np.testing.assert_allclose(y, [[1, -4], [-1, 0]], rtol=1e-6)
    layer = nn.Normalization(2.0)
    np.testing.assert_allclose(run(layer, x, backend), x - 2, rtol=1e-6)
    layer.load_state_dict({"mean": np.array([0, 10], dtype), "variance": np.array([1, 4], dtype)})
    np.testing.assert_allclose(layer(x, backend), [[3, 0], [-1, 1]], rtol=1e-6)


def test_a_variance_of_zero_divides_by_little(backend: Any) -> None:
    """By 1e-7, as Keras does: pixels that never change stay finite."""
    x = np.array([[1.0, 1.0 + 2**-20]])
    y = run(nn.Normalization(1.0, 0.0), x, backend)
    np.testing.assert_allclose(y, [[0, 2**-20 * 1e7]], rtol=1e-9)


def test_neither_is_trained() -> None:
    layers = [nn.Rescaling(2.0), nn.Conv2D(2, 3), nn.Normalization(), nn.Flatten(), nn.Dense(2)]
    model = nn.Sequential(layers)
    model.build((4, 4, 1))
    assert list(model.parameters()) == ["1.weight", "1.bias", "4.weight", "4.bias"]
    x, y = np.ones((4, 4, 4, 1), np.float32), np.array([0, 1, 0, 1])
    before = model.state_dict()
    fastcnn.Trainer(model).fit(x, y, epochs=1, verbose=False)
    after = model.state_dict()
    np.testing.assert_array_equal(before["2.mean"], after["2.mean"])
    assert (before["1.weight"] != after["1.weight"]).any()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: nn.Rescaling("1"), TypeError, "Rescaling: scale: expected a number, got"),
        (lambda: nn.Rescaling(1.0, [None]), TypeError, "Rescaling: offset: expected a number"),
        (lambda: nn.Rescaling(()), ValueError, "Rescaling: scale: expected .*, got none"),
        (lambda: nn.Rescaling(np.inf), ValueError, "Rescaling: scale: expected a finite number"),
        (lambda: nn.Normalization(0.0, -1.0), ValueError, r"Normalization: variance: .* \[0, "),
        (
            lambda: nn.Rescaling((1, 2)).build((3, 3, 3)),
            ValueError,
            "Rescaling: scale: expected a number for each of 3 channels, got 2",
        ),
        (
            lambda: nn.Normalization((1, 2)).build((3,)),
            ValueError,
            "Normalization: mean: expected a number for each of 3 channels, got 2",
        ),
        (
            lambda: nn.Normalization().build((3, 3)),
            ValueError,
            r"Normalization: expected an input of shape \(C,\) or \(H, W, C\), got \(3, 3\)",
        ),
    ],
)
def test_what_they_refuse(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
