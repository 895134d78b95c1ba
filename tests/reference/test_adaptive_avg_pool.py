"""What adaptive average pooling means, on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_array, assert_close, assert_same, assert_same_bits

from fastcnn import FastBackend, reference

SHAPES = [(2, 3, 4, 3), (1, 7, 5, 19), (1, 1, 9, 16), (2, 8, 6, 1029), (0, 3, 4, 2)]
SIZES = [1, 2, (3, 4), (5, 7), (8, 3), (16, 12)]


@pytest.mark.parametrize(
    ("row", "size", "expected"),
    [
        ([1, 2, 3, 4], 2, [1.5, 3.5]),
        ([0, 4, 8], 2, [2, 6]),  # the middle one is in both windows
        ([0, 8, 16, 24, 32], 3, [4, 16, 28]),  # 0 to 2, 1 to 4, 3 to 5
        ([0, 4, 8, 12, 16, 20, 24], 4, [2, 8, 16, 22]),  # 0 to 2, 1 to 4, 3 to 6, 5 to 7
        ([5], 3, [5, 5, 5]),
        ([0, 4], 3, [0, 2, 4]),
        ([1, 2, 3], 3, [1, 2, 3]),
    ],
)
def test_by_hand(row: Any, size: int, expected: Any, backend: Any, dtype: Any) -> None:
    for channels in (1, 17):
        x = np.multiply.outer(row, np.arange(1, channels + 1)).astype(dtype)
        wanted = np.multiply.outer(expected, np.arange(1, channels + 1))
        assert_same(backend.adaptive_avg_pool2d(x[None, None], (1, size)), wanted[None, None])
        y = backend.adaptive_avg_pool2d(x[None, :, None], (size, 1))
        assert_same(y, wanted[None, :, None], dtype)


def test_windows_that_divide_are_those_of_a_pool(backend: Any, dtype: Any, rng: Any) -> None:
    x = rng.integers(-8, 9, (2, 8, 6, 18)).astype(dtype)
    assert_same(backend.adaptive_avg_pool2d(x, (4, 3)), backend.avg_pool2d(x, 2), dtype)
    y = backend.adaptive_avg_pool2d(x, 1)
    assert_same(y.reshape(2, 18), backend.global_avg_pool2d(x), dtype)
    dy = rng.integers(-8, 9, (2, 4, 3, 18)).astype(dtype)
    dx = backend.adaptive_avg_pool2d_backward(dy, x.shape, (4, 3))
    assert_same(dx, backend.avg_pool2d_backward(dy, x.shape, 2), dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_pytorch(shape: Any, size: Any, backend: Any, dtype: Any, rng: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no outside judge")
    x = rng.standard_normal(shape).astype(dtype)
    tx = torch.tensor(x.astype("f8").transpose(0, 3, 1, 2), requires_grad=True)
    ty = torch.nn.functional.adaptive_avg_pool2d(tx, size)
    y = backend.adaptive_avg_pool2d(x, size)
    assert_close(y, ty.detach().numpy().transpose(0, 2, 3, 1))
    dy = rng.standard_normal(y.shape).astype(dtype)
    ty.backward(torch.tensor(dy.astype("f8").transpose(0, 3, 1, 2)))
    dx = backend.adaptive_avg_pool2d_backward(dy, shape, size)
    assert_close(dx, tx.grad.numpy().transpose(0, 2, 3, 1))


@pytest.mark.parametrize("size", SIZES)
def test_whole_numbers_are_exact(size: Any, fast_backends: list[Any], dtype: Any, rng: Any) -> None:
    """A sum is exact, and it is divided once."""
    for shape in SHAPES:
        x = rng.integers(-8, 9, shape).astype(dtype)
        y = reference.adaptive_avg_pool2d(x, size)
        for fast in fast_backends:
            assert_same(fast.adaptive_avg_pool2d(x, size), y, dtype)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_infinities_stay_in_their_windows(value: float, backend: Any, dtype: Any) -> None:
    x = np.zeros((1, 5, 5, 17), dtype)
    x[0, 2, 0, 4] = value
    y = backend.adaptive_avg_pool2d(x, (2, 4))
    assert_array(y, (1, 2, 4, 17), dtype)
    assert np.argwhere(~np.isfinite(y)).tolist() == [[0, 0, 0, 4], [0, 1, 0, 4]]


def test_any_number_of_threads(fast_backend: Any, rng: Any) -> None:
    serial, *others = (FastBackend(fast_backend.isa, threads) for threads in range(1, 9))
    for channels in (3, 64):
        x = rng.standard_normal((3, 71, 70, channels), np.float32)
        y = serial.adaptive_avg_pool2d(x, (7, 9))
        dy = rng.standard_normal(y.shape, np.float32)
        dx = serial.adaptive_avg_pool2d_backward(dy, x.shape, (7, 9))
        for backend in others:
            found = backend.adaptive_avg_pool2d(x, (7, 9))
            gradient = backend.adaptive_avg_pool2d_backward(dy, x.shape, (7, 9))
            assert_same_bits((found, gradient), (y, dx))
        assert_same_bits((serial.adaptive_avg_pool2d(x[1:2], (7, 9)),), (y[1:2],))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"output_size": 0}, ValueError, "output_size: expected an integer of at least 1"),
        ({"output_size": 2.0}, TypeError, "output_size: expected an integer, got float 2.0"),
        ({"output_size": None}, TypeError, "output_size: expected an integer, got NoneType None"),
        ({"output_size": (1, 2, 3)}, ValueError, "output_size: expected a number or a"),
        ({"output_size": 2**40}, ValueError, "output_size: expected a result that fits in memory"),
        ({"x": np.ones((2, 3, 4), "f4")}, ValueError, "x: expected an array of rank 4"),
        ({"x": np.ones((2, 0, 4, 3), "f4")}, ValueError, "x: expected"),
    ],
)
def test_wrong_calls(options: Any, error: Any, message: str, backend: Any) -> None:
    call = {"x": np.ones((1, 4, 4, 1), np.float32), "output_size": 2, **options}
    if options.get("output_size") is None and "x" not in options:
        message = "output_size: expected an integer"
    with pytest.raises(error, match=f"^adaptive_avg_pool2d: {message}"):
        backend.adaptive_avg_pool2d(**call)
