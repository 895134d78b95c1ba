"""Clip, hard sigmoid, SELU, CELU, softplus, Mish and GELU by tanh: exact values, ends, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from compare import assert_close, assert_same

INF, NAN = np.inf, np.nan


# ---------------------------------------------------------------------- clip
@pytest.mark.parametrize(
    ("bounds", "expected", "gradient"),
    [
        ({"low": 0, "high": 6}, [0, 0, 0, 1, 5, 6, 6, 6, NAN], [0, 0, 0, 7, 7, 0, 0, 0, 7]),
        ({"low": 1}, [1, 1, 1, 1, 5, 6, 7, INF, NAN], [0, 0, 0, 0, 7, 7, 7, 0, 7]),
        ({"high": 1}, [-INF, -1, 0, 1, 1, 1, 1, 1, NAN], [0, 7, 7, 0, 0, 0, 0, 0, 7]),
        ({}, [-INF, -1, 0, 1, 5, 6, 7, INF, NAN], [0, 7, 7, 7, 7, 7, 7, 0, 7]),
        ({"low": 5, "high": 5}, [5] * 8 + [NAN], [0] * 8 + [7]),
    ],
)
def test_clip(
    backend: Any, dtype: Any, bounds: Any, expected: list[float], gradient: list[float]
) -> None:
    x = np.array([-INF, -1, -0.0, 1, 5, 6, 7, INF, NAN], dtype)
    y = backend.clip(x, **bounds)
    assert_same(y, expected, dtype)
    assert_same(backend.clip_backward(np.full(9, 7, dtype), y, **bounds), gradient, dtype)
    infinite = {"low": -INF, "high": INF} | bounds
    assert_same(backend.clip(x, **infinite), expected, dtype)
    if bounds:
        given = {"low": None, "high": None} | bounds
        assert_same(backend.clip(x, **given), expected, dtype)


def test_a_zero_that_is_clipped_has_the_sign_of_the_bound(backend: Any, dtype: Any) -> None:
    y = backend.clip(np.full(9, -0.0, dtype), low=0, high=6)
    assert not np.signbit(y).any()
    assert y.tobytes() == backend.relu(np.full(9, -0.0, dtype)).tobytes()


def test_bounds_are_rounded_to_the_dtype(backend: Any, dtype: Any) -> None:
    """0.1 of float32 is larger than that of float64: it is the bound itself, all the same."""
    y = backend.clip(np.array([-1, 0.25, 1], dtype), low=0.1, high=0.7)
    assert_same(y, np.array([0.1, 0.25, 0.7], dtype), dtype)
    assert_same(backend.clip_backward(np.ones(3, dtype), y, low=0.1, high=0.7), [0, 1, 0])
    beyond = backend.clip(np.array([1, 2], np.float32), low=1e300)
    assert_same(beyond, [INF, INF], np.float32)


@pytest.mark.parametrize(
    ("bounds", "error", "sentence"),
    [
        ({"low": 2, "high": 1}, ValueError, r"low: expected at most high, which is 1(\.0)?, got 2"),
        ({"low": NAN}, ValueError, "low: expected a number or None, got nan"),
        ({"high": NAN}, ValueError, "high: expected a number or None, got nan"),
        ({"high": 10**400}, ValueError, "high: expected a number"),
        ({"low": "0"}, TypeError, "low: expected a number, got str '0'"),
        ({"high": True}, TypeError, "high: expected a number, got bool True"),
        ({"high": np.ones(3)}, TypeError, "high: expected a number, got ndarray"),
    ],
)
def test_bounds_that_are_none(backend: Any, bounds: Any, error: Any, sentence: str) -> None:
    x = np.ones(3, np.float32)
    with pytest.raises(error, match=f"^clip: {sentence}"):
        backend.clip(x, **bounds)
    with pytest.raises(error, match=f"^clip_backward: {sentence}"):
        backend.clip_backward(x, x, **bounds)


# ---------------------------------------------------------------------- hard sigmoid
def test_hard_sigmoid(backend: Any, dtype: Any) -> None:
    x = np.array([-INF, -4, -3, -1.5, 0, 1.5, 3, 4, INF, NAN] * 3, dtype)
    y = backend.hard_sigmoid(x)
    assert_same(y, [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, NAN] * 3, dtype)
    gradient = backend.hard_sigmoid_backward(np.full(30, 6, dtype), y)
    assert_same(gradient, [0, 0, 0, 1, 1, 1, 0, 0, 0, 1] * 3, dtype)


def test_slopes_of_hard_sigmoid(backend: Any, dtype: Any) -> None:
    x = np.array([-3, -1, 0, 1, 3], dtype)
    steep = {"alpha": 0.25, "beta": 0.25}
    assert_same(backend.hard_sigmoid(x, **steep), [0, 0, 0.25, 0.5, 1], dtype)
    falling = {"alpha": -0.25, "beta": 0.75}
    y = backend.hard_sigmoid(x, **falling)
    assert_same(y, [1, 1, 0.75, 0.5, 0], dtype)
    assert_same(backend.hard_sigmoid_backward(x, y, **falling), [0, 0, 0, -0.25, 0], dtype)
    flat = {"alpha": 0, "beta": 0.5}
    assert_same(backend.hard_sigmoid(x, **flat), [0.5] * 5, dtype)
    wide = {"alpha": 1e300, "beta": -1e300}
    assert_same(backend.hard_sigmoid(x, **wide), [0, 0, 0, 0, 1], dtype)


@pytest.mark.parametrize("option", ["alpha", "beta"])
@pytest.mark.parametrize("op", ["hard_sigmoid", "hard_sigmoid_backward"])
def test_slopes_that_are_none(backend: Any, op: str, option: str) -> None:
    arrays = [np.ones(3)] * (1 + op.endswith("backward"))
    for wrong, error in ((NAN, ValueError), (INF, ValueError), ("1", TypeError)):
        with pytest.raises(error, match=f"^{op}: {option}: expected a"):
            getattr(backend, op)(*arrays, **{option: wrong})


# ---------------------------------------------------------------------- of e^x
def test_selu_keeps_mean_and_variance(backend: Any, rng: Any) -> None:
    """What its two constants are for."""
    y = backend.selu(rng.standard_normal(200_000))
    assert abs(y.mean()) < 0.01
    assert abs(y.var() - 1) < 0.01


def test_selu_is_a_scaled_elu(backend: Any, dtype: Any) -> None:
    x, dy = np.linspace(-9, 9, 77).astype(dtype), np.linspace(1, 2, 77).astype(dtype)
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    assert_close(backend.selu(x), scale * backend.elu(x.astype("f8"), alpha=alpha), "selu")
    expected = scale * backend.elu_backward(dy.astype("f8"), x.astype("f8"), alpha=alpha)
    assert_close(backend.selu_backward(dy, x), expected, "selu")


def test_celu(backend: Any, dtype: Any) -> None:
    x, dy = np.array([-2, 0, 3], dtype), np.full(3, 8, dtype)
    assert_close(backend.celu(x, alpha=0.5), [0.5 * (math.exp(-4) - 1), 0, 3], "celu")
    assert_close(backend.celu_backward(dy, x, alpha=0.5), [8 * math.exp(-4), 8, 8], "celu")
    assert_same(backend.celu(x), backend.elu(x))
    # A very large alpha leaves x as it is.
    small = np.array([-1e-30, -1, -1e-3], dtype)
    assert_close(backend.celu(small, alpha=1e35), small, "celu")


@pytest.mark.parametrize("alpha", [0, -1.0, NAN, INF])
def test_an_alpha_that_is_none(backend: Any, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"^celu: alpha: expected a finite number"):
        backend.celu(np.ones(3), alpha=alpha)
    with pytest.raises(ValueError, match=r"^celu_backward: alpha: expected a finite number"):
        backend.celu_backward(np.ones(3), np.ones(3), alpha=alpha)


def test_softplus(backend: Any, dtype: Any) -> None:
    x = np.log(np.array([1, 3, 7, 255], dtype))
    assert_close(backend.softplus(x), np.log([2.0, 4, 8, 256]), "softplus")
    assert_close(backend.softplus_backward(np.ones(4, dtype), x), [1 / 2, 3 / 4, 7 / 8, 255 / 256])
    assert_same(backend.softplus(np.array([-INF, INF, NAN], dtype)), [0, INF, NAN])


def test_softplus_keeps_its_small_values(backend: Any) -> None:
    """log(1 + 1e-30) would be 0."""
    x = np.array([-70.0, -40.0, -10.0] * 7)
    np.testing.assert_allclose(backend.softplus(x), np.log1p(np.exp(x)), rtol=1e-15)


def test_mish(backend: Any, dtype: Any) -> None:
    """tanh(log(n)) = (n * n - 1) / (n * n + 1)."""
    x = np.log(np.array([1, 2, 0.5], dtype))
    assert_close(backend.mish(x), x * [3 / 5, 8 / 10, 1.25 / 3.25], "mish")


def test_gelu_by_tanh(backend: Any, dtype: Any) -> None:
    x = np.array([-3, -1, 0, 1, 3] * 5, dtype)
    u = math.sqrt(2 / math.pi) * (x.astype("f8") + 0.044715 * x.astype("f8") ** 3)
    assert_close(backend.gelu(x, approximate=True), x * (1 + np.tanh(u)) / 2)
    exact = backend.gelu(x)
    assert 1e-5 < np.abs(backend.gelu(x, approximate=True) - exact).max() < 1e-3


def test_gelu_by_tanh_of_large_numbers(backend: Any, dtype: Any) -> None:
    x = np.array([-1e38, -1e30, -40, 40, 1e30, 1e38] * 5, dtype)
    assert_same(backend.gelu(x, approximate=True), np.maximum(x, 0), dtype)
    gradient = backend.gelu_backward(np.ones_like(x), x, approximate=True)
    assert_same(gradient, [0, 0, 0, 1, 1, 1] * 5, dtype)


@pytest.mark.parametrize("wrong", [1, 0.0, "tanh", None])
def test_approximate_is_true_or_false(backend: Any, wrong: Any) -> None:
    x = np.ones(3)
    with pytest.raises(TypeError, match=r"^gelu: approximate: expected True or False, got"):
        backend.gelu(x, approximate=wrong)
    with pytest.raises(TypeError, match=r"^gelu_backward: approximate: expected True or False"):
        backend.gelu_backward(x, x, approximate=wrong)
