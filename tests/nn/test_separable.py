"""A separable convolution is a depthwise one and a 1x1 one behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_close, assert_same_bits

from fastcnn import nn


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_it_is_two_convolutions(activation: Any, backend: Any, dtype: Any, rng: Any) -> None:
    options: Any = {"stride": (2, 1), "padding": "same", "depth_multiplier": 2}
    one = nn.SeparableConv2D(5, (3, 2), activation=activation, **options)
    depthwise = nn.DepthwiseConv2D((3, 2), use_bias=False, **options)
    pointwise = nn.Conv2D(5, 1, activation=activation)
    two = nn.Sequential([depthwise, pointwise])
    one.build((6, 5, 3), dtype=dtype)
    two.build((6, 5, 3), dtype=dtype)
    one.bias.data = rng.standard_normal(5).astype(dtype)
    assert {name: array.shape for name, array in one.state_dict().items()} == {
        "depthwise_weight": (3, 2, 1, 6),
        "pointwise_weight": (1, 1, 6, 5),
        "bias": (5,),
    }
    depthwise.weight.data = one.depthwise_weight.data
    pointwise.weight.data, pointwise.bias.data = one.pointwise_weight.data, one.bias.data
    x = rng.standard_normal((2, 6, 5, 3)).astype(dtype)
    (y, backward), (expected, two_backward) = one.forward(x, backend), two.forward(x, backend)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx, expected_dx = backward(dy), two_backward(dy)
    assert_same_bits((y, dx), (expected, expected_dx))
    found = one.depthwise_weight.grad, one.pointwise_weight.grad, one.bias.grad
    assert_same_bits(found, (depthwise.weight.grad, pointwise.weight.grad, pointwise.bias.grad))


def test_pytorch(backend: Any, dtype: Any, rng: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no outside judge")
    layer = nn.SeparableConv2D(4, 3, dilation=2, padding=2, use_bias=False)
    layer.build((6, 7, 3), dtype=dtype)
    x = rng.standard_normal((2, 6, 7, 3)).astype(dtype)
    tx, deep, point = (
        torch.tensor(array.astype("f8").transpose(axes))
        for array, axes in [
            (x, (0, 3, 1, 2)),
            (layer.depthwise_weight.data, (3, 2, 0, 1)),
            (layer.pointwise_weight.data, (3, 2, 0, 1)),
        ]
    )
    ty = torch.nn.functional.conv2d(tx, deep, padding=2, dilation=2, groups=3)
    ty = torch.nn.functional.conv2d(ty, point).numpy().transpose(0, 2, 3, 1)
    assert_close(layer(x, backend), ty, "conv2d")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.SeparableConv2D(0, 3), "SeparableConv2D: filters: expected an integer"),
        (lambda: nn.SeparableConv2D(1, 3, depth_multiplier=0), "SeparableConv2D: depth_multiplier"),
        (lambda: nn.SeparableConv2D(1, 3).build((2, 2, 1)), "SeparableConv2D: expected an input h"),
        (lambda: nn.SeparableConv2D(1, 3).build((4,)), r"SeparableConv2D: .* \(H, W, C\), got"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_frozen_one_has_no_gradients(fast_backend: Any) -> None:
    layer = nn.SeparableConv2D(2, 3)
    layer.build((4, 4, 2))
    layer.trainable = False
    y, backward = layer.forward(np.ones((1, 4, 4, 2), np.float32), fast_backend)
    assert backward(np.ones_like(y)) is not None
    assert layer.depthwise_weight.grad is layer.pointwise_weight.grad is layer.bias.grad is None
