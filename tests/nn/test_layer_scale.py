"""LayerScale: a learned factor a channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcnn import nn


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_gradients_by_hand(dtype: Any, backend: Any) -> None:
    layer = nn.LayerScale(2.0)
    layer.build((1, 2, 3), dtype=dtype)
    np.testing.assert_array_equal(layer.gamma.data, [2, 2, 2])
    layer.gamma.data[...] = [1, -2, 0.5]
    x = np.arange(12, dtype=dtype).reshape(2, 1, 2, 3)
    y, backward = layer.forward(x, backend, training=True)
    np.testing.assert_array_equal(
        y.reshape(4, 3), [[0, -2, 1], [3, -8, 2.5], [6, -14, 4], [9, -20, 5.5]]
    )
    dx = backward(np.full_like(y, 2))
    np.testing.assert_array_equal(dx, np.broadcast_to(np.array([2, -4, 1], dtype), x.shape))
    np.testing.assert_array_equal(layer.gamma.grad, [36, 44, 52])  # twice the sums of channels


def test_it_begins_as_next_to_nothing() -> None:
    layer = nn.LayerScale()
    layer.build((4,))
    np.testing.assert_array_equal(layer.gamma.data, np.full(4, 1e-6, np.float32))


def test_frozen_it_has_no_gradient(backend: Any) -> None:
    layer = nn.LayerScale()
    layer.build((3,))
    layer.trainable = False
    _, backward = layer.forward(np.ones((2, 3), np.float32), backend, training=True)
    assert backward(np.ones((2, 3), np.float32)) is not None
    assert layer.gamma.grad is None


def test_errors() -> None:
    with pytest.raises(TypeError, match="LayerScale: initial: expected a number, got str"):
        nn.LayerScale("small")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="LayerScale: initial: expected a finite number"):
        nn.LayerScale(float("inf"))
