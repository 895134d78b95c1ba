"""Layers on sequences: what they give, and that PyTorch gives it too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_close

from fastcnn import nn


def built(layer: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    layer.build(shape, dtype=dtype)
    return layer


def test_a_convolution_by_hand(backend: Any, dtype: Any) -> None:
    layer = built(nn.Conv1D(1, 3, padding=(2, 0), use_bias=False), (4, 1), dtype)
    layer.weight.data = np.array([1, 10, 100], dtype).reshape(1, 3, 1, 1)
    x = np.array([1, 2, 3, 4], dtype).reshape(1, 4, 1)
    y, backward = layer.forward(x, backend)
    assert y.shape == (1, 4, 1)
    assert y.ravel().tolist() == [100, 210, 321, 432]
    dx = backward(np.array([1, 0, 0, 1], dtype).reshape(y.shape))
    assert dx.shape == x.shape
    assert dx.ravel().tolist() == [100, 1, 10, 100]
    assert layer.weight.grad.ravel().tolist() == [2, 3, 5]


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({}, {}),
        ({"stride": 2, "padding": 1}, {"stride": 2, "padding": 1}),
        ({"padding": "same", "dilation": 2}, {"padding": "same", "dilation": 2}),
        ({"groups": 2, "padding": "valid"}, {"groups": 2}),
    ],
)
def test_a_convolution_is_pytorchs(
    options: Any, theirs: Any, backend: Any, dtype: Any, rng: Any
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no outside judge")
    layer = built(nn.Conv1D(6, 3, **options), (9, 4), dtype)
    layer.bias.data = rng.standard_normal(6).astype(dtype)
    x = rng.standard_normal((2, 9, 4)).astype(dtype)
    y, backward = layer.forward(x, backend)
    tx, tw, tb = (
        torch.tensor(array.astype("f8"), requires_grad=True)
        for array in (x, layer.weight.data[0], layer.bias.data)
    )
    ty = torch.nn.functional.conv1d(tx.permute(0, 2, 1), tw.permute(2, 1, 0), tb, **theirs).permute(
        0, 2, 1
    )
    assert_close(y, ty.detach().numpy(), "conv2d")
    dy = rng.standard_normal(y.shape).astype(dtype)
    ty.backward(torch.tensor(dy.astype("f8")))
    assert_close(backward(dy), tx.grad.numpy(), "conv2d_backward")
    assert_close(layer.weight.grad[0], tw.grad.numpy(), "conv2d_backward")
    assert_close(layer.bias.grad, tb.grad.numpy(), "conv2d_backward")


def test_pools_by_hand(backend: Any, dtype: Any) -> None:
    x = np.array([4, 2, 6, 8, 1], dtype).reshape(1, 5, 1)
    for layer, expected in [
        (nn.MaxPool1D(), [4, 8]),
        (nn.MaxPool1D(ceil_mode=True), [4, 8, 1]),
        (nn.MaxPool1D(3, stride=1, padding="same"), [4, 6, 8, 8, 8]),
        (nn.MaxPool1D(2, stride=1, dilation=3), [8, 2]),
        (nn.AvgPool1D(), [3, 7]),
        (nn.AvgPool1D(2, stride=3, padding=(1, 0)), [4, 7]),
        (nn.AvgPool1D(2, stride=3, padding=(1, 0), count_include_pad=True), [2, 7]),
        (nn.GlobalAvgPool1D(), [4.2]),
    ]:
        y, backward = built(layer, (5, 1), dtype).forward(x, backend)
        assert y.shape == ((1, len(expected), 1) if len(expected) > 1 else (1, 1)), layer
        np.testing.assert_allclose(y.ravel(), expected, rtol=1e-6, err_msg=str(layer))
        dx = backward(np.ones_like(y))
        assert dx.shape == x.shape
        if "include" not in str(layer):
            assert np.isclose(dx.sum(), len(expected)), layer


def test_a_layer_is_that_of_an_image_one_pixel_high(fast_backend: Any, rng: Any) -> None:
    x = rng.standard_normal((3, 17, 5)).astype(np.float32)
    for one, two in [
        (nn.Conv1D(7, 3, stride=2), nn.Conv2D(7, (1, 3), stride=(1, 2))),
        (nn.MaxPool1D(3), nn.MaxPool2D((1, 3))),
        (nn.AvgPool1D(3, stride=2), nn.AvgPool2D((1, 3), stride=(1, 2))),
    ]:
        one.build((17, 5), seed=3)
        two.build((1, 17, 5), seed=3)
        np.testing.assert_array_equal(one(x, fast_backend), two(x[:, None], fast_backend)[:, 0])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Conv1D(0, 3), ValueError, "Conv1D: filters: expected an integer of at least 1"),
        (lambda: nn.Conv1D(2, (1, 3)), TypeError, "Conv1D: kernel_size: expected an integer"),
        (lambda: nn.Conv1D(2, 3, padding="causal"), ValueError, "Conv1D: padding: expected a num"),
        (lambda: nn.Conv1D(2, 3, padding=(1, -1)), ValueError, "Conv1D: padding: expected an int"),
        (lambda: nn.Conv1D(2, 3, padding=(1, 2, 3)), ValueError, r"padding: .* \(1, 2, 3\)"),
        (lambda: nn.Conv1D(2, 3, padding=1.5), TypeError, "Conv1D: padding: expected an integer"),
        (lambda: nn.Conv1D(3, 3, groups=2), ValueError, "Conv1D: groups: expected a divisor of 3"),
        (lambda: nn.MaxPool1D((2, 2)), TypeError, "MaxPool1D: pool_size: expected an integer"),
        (lambda: nn.AvgPool1D(2, stride=0), ValueError, "AvgPool1D: stride: expected an integer"),
        (lambda: nn.MaxPool1D(dilation=0), ValueError, "MaxPool1D: dilation: expected an integer"),
        (lambda: nn.Conv1D(2, 3).build((4, 4, 1)), ValueError, r"Conv1D: .* \(L, C\), got \(4, 4"),
        (lambda: nn.Conv1D(2, 3).build((2, 1)), ValueError, "Conv1D: expected an input width"),
        (lambda: nn.Conv1D(2, 3, groups=2).build((4, 3)), ValueError, "divisor of 3 input channel"),
        (lambda: nn.MaxPool1D().build((4,)), ValueError, r"MaxPool1D: .* \(L, C\), got \(4,\)"),
        (lambda: nn.AvgPool1D(2, padding=2).build((4, 1)), ValueError, "AvgPool1D: padding: expe"),
        (lambda: nn.GlobalAvgPool1D().build((4, 4, 1)), ValueError, r"GlobalAvgPool1D: .* \(L, C"),
    ],
)
def test_what_is_refused(make: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make()
