"""Batch normalization + ReLU without a mask: against op after op."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_results, assert_same_bits

from fastcnn import FastBackend
from fastcnn.fast._batch_norm_relu_unmasked import is_whole

SHAPES = [(3, 6, 5, 16), (1, 61, 53, 32), (2, 33, 31, 48), (2, 1, 1, 128), (2, 7, 5, 2048)]
EPSILON = 1e-3


def inputs(shape: Any, rng: np.random.Generator, dtype: Any = np.float32) -> list[Any]:
    """Return x, gamma, beta."""
    vectors = rng.standard_normal((2, shape[3]))
    return [a.astype(dtype) for a in (3 + 2 * rng.standard_normal(shape), *vectors)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_has_the_bits_of_the_two(
    shape: Any, fast_backend: Any, dtype: Any, rng: np.random.Generator
) -> None:
    x, gamma, beta = inputs(shape, rng, dtype)
    x[0, 0, 0, 0] = np.nan
    *found, _ = fast_backend._batch_norm_relu_unmasked(x, gamma, beta, epsilon=EPSILON)
    z, *statistics = fast_backend.batch_norm(x, gamma, beta, epsilon=EPSILON)
    assert_same_bits(found, (fast_backend.relu(z), *statistics))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward_is_that_of_the_two(
    shape: Any, fast_backend: Any, dtype: Any, rng: np.random.Generator
) -> None:
    x, gamma, beta = inputs(shape, rng, dtype)
    y, *saved = fast_backend._batch_norm_relu_unmasked(x, gamma, beta, epsilon=EPSILON)
    dy = rng.standard_normal(shape).astype(dtype)
    found = fast_backend._batch_norm_relu_unmasked_backward(
        dy, x, gamma, beta, *saved, epsilon=EPSILON
    )
    alive = fast_backend.relu_backward(dy, y)
    doubles = [a.astype(np.float64) for a in (alive, x, gamma, *saved[:2])]
    expected = fast_backend.batch_norm_backward(*doubles, epsilon=EPSILON)
    op = "batch_norm_backward"
    assert_results(found, expected, op, dtype, largest_dy=np.abs(dy).max())


def test_the_same_bits_on_any_number_of_threads(dtype: Any, rng: np.random.Generator) -> None:
    arrays = inputs((3, 41, 43, 48), rng, dtype)
    results = []
    for threads in (1, 2, 3, 8):
        backend = FastBackend(num_threads=threads)
        y, *saved = backend._batch_norm_relu_unmasked(*arrays)
        results.append([y, *saved[:2]])
        results[-1] += backend._batch_norm_relu_unmasked_backward(np.cos(y), *arrays, *saved)
    for result in results[1:]:
        assert_same_bits(result, results[0])


def test_large_results_go_past_the_caches(rng: np.random.Generator) -> None:
    backend, arrays = FastBackend(), inputs((23, 61, 61, 64), rng)
    y, *saved = backend._batch_norm_relu_unmasked(*arrays)
    z, *_ = backend.batch_norm(*arrays)
    assert_same_bits((y,), (backend.relu(z),))
    dx, *_ = backend._batch_norm_relu_unmasked_backward(np.cos(y), *arrays, *saved)
    alive = np.where(y > 0, np.cos(y), np.float32(0))
    expected, *_ = backend.batch_norm_backward(alive, *arrays[:2], *saved[:2])
    assert_results((dx,), (expected,), "batch_norm_backward", np.float32, largest_dy=1)


@pytest.mark.parametrize("scale", [1e-30, 1e-19, 1e19, 1e30])
@pytest.mark.parametrize("which", ["x", "gamma", "beta", "dy"])
def test_numbers_of_all_exponents(
    which: str, scale: float, fast_backend: Any, rng: np.random.Generator
) -> None:
    arrays = inputs((2, 13, 11, 16), rng)
    at = {"x": 0, "gamma": 1, "beta": 2}.get(which)
    if at is not None:
        arrays[at] *= np.float32(scale)
    y, *saved = fast_backend._batch_norm_relu_unmasked(*arrays)
    z, *statistics = fast_backend.batch_norm(*arrays)
    assert_same_bits((y, *saved[:2]), (fast_backend.relu(z), *statistics))
    dy = (rng.standard_normal(y.shape) * (scale if which == "dy" else 1)).astype(np.float32)
    found = fast_backend._batch_norm_relu_unmasked_backward(dy, *arrays, *saved)
    alive = fast_backend.relu_backward(dy, y)
    expected = fast_backend.batch_norm_backward(alive, *arrays[:2], *statistics)
    for one, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, exact, rtol=0, atol=2e-5 * np.abs(exact).max())


def test_slopes_that_vanish_meet_large_numbers(fast_backend: Any, rng: np.random.Generator) -> None:
    """gamma / variance is next to nothing for float32, and what it is multiplied with is not."""
    x, gamma, beta = inputs((2, 13, 11, 16), rng)
    x *= np.float32(1e18)
    gamma *= np.float32(1e-7)
    y, *saved = fast_backend._batch_norm_relu_unmasked(x, gamma, beta)
    dy = rng.random(y.shape, dtype=np.float32) * (x > 3e18)
    dx, *_ = fast_backend._batch_norm_relu_unmasked_backward(dy, x, gamma, beta, *saved)
    alive = fast_backend.relu_backward(dy, y)
    doubles = [a.astype(np.float64) for a in (alive, x, gamma, *saved[:2])]
    exact, *_ = fast_backend.batch_norm_backward(*doubles)
    np.testing.assert_allclose(dx, exact, rtol=0, atol=2e-5 * np.abs(exact).max())


def test_what_it_is_for() -> None:
    assert is_whole((2, 5, 5, 144))
    assert not is_whole((2, 5, 5, 40))  # no whole vectors
    assert not is_whole((2, 16))
