"""Batch normalization + a residual + ReLU, fused: against op after op."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_results, assert_same_bits

from fastcnn import FastBackend
from fastcnn.fast._batch_norm_add_relu import is_residual

SHAPES = [(3, 6, 5, 16), (1, 61, 53, 32), (2, 33, 31, 48), (2, 1, 1, 1024)]
EPSILON = 1e-3


def inputs(shape: Any, rng: np.random.Generator, dtype: Any = np.float32) -> list[Any]:
    """Return x, gamma, beta and the residual."""
    vectors = rng.standard_normal((2, shape[3]))
    arrays = (3 + 2 * rng.standard_normal(shape), *vectors, rng.standard_normal(shape))
    return [a.astype(dtype) for a in arrays]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_has_the_bits_of_the_three(
    shape: Any, fast_backend: Any, dtype: Any, rng: np.random.Generator
) -> None:
    x, gamma, beta, r = inputs(shape, rng, dtype)
    x[0, 0, 0, 0] = np.nan
    found = fast_backend._batch_norm_add_relu(x, gamma, beta, r, epsilon=EPSILON)
    z, *statistics = fast_backend.batch_norm(x, gamma, beta, epsilon=EPSILON)
    assert_same_bits(found, (fast_backend.relu(fast_backend.add(z, r)), *statistics))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward_is_that_of_the_three(
    shape: Any, fast_backend: Any, dtype: Any, rng: np.random.Generator
) -> None:
    x, gamma, beta, r = inputs(shape, rng, dtype)
    y, *saved = fast_backend._batch_norm_add_relu(x, gamma, beta, r, epsilon=EPSILON)
    y[0, 0, 0, 0] = np.nan  # alive, as relu_backward has it
    dy = rng.standard_normal(shape).astype(dtype)
    *found, dr = fast_backend._batch_norm_add_relu_backward(
        dy, y, x, gamma, *saved, epsilon=EPSILON
    )
    alive = fast_backend.relu_backward(dy, y)
    assert_same_bits((dr,), (alive,))
    doubles = [a.astype(np.float64) for a in (alive, x, gamma, *saved)]
    expected = fast_backend.batch_norm_backward(*doubles, epsilon=EPSILON)
    op = "batch_norm_backward"
    assert_results(found, expected, op, dtype, largest_dy=np.abs(dy).max())


def test_the_same_bits_on_any_number_of_threads(dtype: Any, rng: np.random.Generator) -> None:
    arrays = inputs((3, 41, 43, 48), rng, dtype)
    results = []
    for threads in (1, 2, 3, 8):
        backend = FastBackend(num_threads=threads)
        y, *saved = backend._batch_norm_add_relu(*arrays)
        results.append([y, *saved])
        results[-1] += backend._batch_norm_add_relu_backward(np.cos(y), y, *arrays[:2], *saved)
    for result in results[1:]:
        assert_same_bits(result, results[0])


def test_large_results_go_past_the_caches(rng: np.random.Generator) -> None:
    backend, arrays = FastBackend(), inputs((36, 61, 61, 64), rng)
    y, *saved = backend._batch_norm_add_relu(*arrays)
    z, *_ = backend.batch_norm(*arrays[:3])
    assert_same_bits((y,), (backend.relu(z + arrays[3]),))
    dx, *_, dr = backend._batch_norm_add_relu_backward(np.cos(y), y, *arrays[:2], *saved)
    assert_same_bits((dr,), (np.where(y > 0, np.cos(y), np.float32(0)),))
    expected, *_ = backend.batch_norm_backward(dr, *arrays[:2], *saved)
    assert_results((dx,), (expected,), "batch_norm_backward", np.float32, largest_dy=1)


@pytest.mark.parametrize("scale", [1e-30, 1e-19, 1e19, 1e30])
@pytest.mark.parametrize("which", ["x", "gamma", "r", "dy"])
def test_numbers_of_all_exponents(
    which: str, scale: float, fast_backend: Any, rng: np.random.Generator
) -> None:
    arrays = inputs((2, 13, 11, 16), rng)
    at = {"x": 0, "gamma": 1, "r": 3}.get(which)
    if at is not None:
        arrays[at] *= np.float32(scale)
    y, *saved = fast_backend._batch_norm_add_relu(*arrays)
    z, *statistics = fast_backend.batch_norm(*arrays[:3])
    assert_same_bits((y, *saved), (fast_backend.relu(z + arrays[3]), *statistics))
    dy = (rng.standard_normal(y.shape) * (scale if which == "dy" else 1)).astype(np.float32)
    *found, dr = fast_backend._batch_norm_add_relu_backward(dy, y, *arrays[:2], *saved)
    expected = fast_backend.batch_norm_backward(dr, *arrays[:2], *saved)
    for one, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, exact, rtol=0, atol=2e-5 * np.abs(exact).max())


def test_slopes_that_vanish_meet_large_numbers(fast_backend: Any, rng: np.random.Generator) -> None:
    """gamma / variance is next to nothing for float32, and what it is multiplied with is not."""
    x, gamma, beta, r = inputs((2, 13, 11, 16), rng)
    x *= np.float32(1e18)
    gamma *= np.float32(1e-7)
    y, *saved = fast_backend._batch_norm_add_relu(x, gamma, beta, r)
    dy = rng.random(y.shape, dtype=np.float32) * (x > 3e18)
    dx, *_, dr = fast_backend._batch_norm_add_relu_backward(dy, y, x, gamma, *saved)
    doubles = [a.astype(np.float64) for a in (dr, x, gamma, *saved)]
    exact, *_ = fast_backend.batch_norm_backward(*doubles)
    np.testing.assert_allclose(dx, exact, rtol=0, atol=2e-5 * np.abs(exact).max())


def test_what_it_is_for() -> None:
    assert not is_residual((2, 5, 5, 16), (2, 1, 1, 16))  # repeated
    assert not is_residual((2, 5, 5, 40), (2, 5, 5, 40))  # no whole vectors
    assert not is_residual((2, 16), (2, 16))
