"""Batch normalization + ReLU + 1x1 convolution, fused: against op after op, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_results, assert_same_bits

from fastcnn import FastBackend
from fastcnn.fast._batch_norm_relu_conv2d import is_projection

# Whole vectors of channels; filters that fill vectors and panels or not; one block, and many.
SHAPES = [
    ((3, 6, 5, 16), 3),
    ((1, 61, 53, 144), 24),
    ((2, 33, 31, 48), 16),
    ((5, 14, 14, 192), 64),
    ((2, 1, 1, 1024), 16),
    ((3, 14, 14, 576), 96),
    ((1, 5, 4, 4096), 3),
]
EPSILON = 1e-3


def inputs(x: Any, filters: int, rng: np.random.Generator, dtype: Any = np.float32) -> list[Any]:
    """Return x, gamma, beta, w, b."""
    image = 3 + 2 * rng.standard_normal(x)
    vectors, w = rng.standard_normal((2, x[3])), rng.standard_normal((1, 1, x[3], filters))
    return [a.astype(dtype) for a in (image, *vectors, w, rng.standard_normal(filters))]


def op_by_op(arrays: list[Any], epsilon: float = EPSILON) -> tuple[list[Any], Any]:
    """Return y, mean and variance in float64, and the backward pass: of dy and what was alive."""
    backend = FastBackend()
    x, gamma, beta, w, b = (a.astype(np.float64) for a in arrays)
    z, mean, variance = backend.batch_norm(x, gamma, beta, epsilon=epsilon)
    y = backend.relu(z)

    def backward(dy: Any) -> tuple[Any, ...]:
        da, *of_convolution = backend.conv2d_backward(dy.astype(np.float64), y, w)
        dz = backend.relu_backward(da, y)
        of_norm = backend.batch_norm_backward(dz, x, gamma, mean, variance, epsilon=epsilon)
        return *of_norm, *of_convolution

    return [backend.conv2d(y, w, b), mean, variance], backward


@pytest.mark.parametrize(("shape", "filters"), SHAPES, ids=str)
def test_it_computes_what_the_ops_do(
    shape: Any, filters: int, fast_backend: Any, dtype: Any, rng: np.random.Generator
) -> None:
    assert is_projection((1, 1, shape[3], filters))
    arrays = inputs(shape, filters, rng, dtype)
    y, *saved = fast_backend._batch_norm_relu_conv2d(*arrays, epsilon=EPSILON)
    expected, backward = op_by_op(arrays)
    assert_results((y,), expected[:1], "conv2d", dtype)
    assert_results(saved[:2], expected[1:], "batch_norm", dtype)
    dy = rng.standard_normal(y.shape).astype(dtype)
    found = fast_backend._batch_norm_relu_conv2d_backward(dy, *arrays[:4], *saved, epsilon=EPSILON)
    largest = np.abs(arrays[3]).sum(axis=3).max() * np.abs(dy).max()  # that the norm's dy may have
    op = "batch_norm_backward"
    assert_results(found, backward(dy), op, dtype, largest_dy=largest)


def test_the_same_bits_on_any_number_of_threads(dtype: Any, rng: np.random.Generator) -> None:
    arrays = inputs((3, 41, 43, 48), 24, rng, dtype)
    results = []
    for threads in (1, 2, 3, 8):
        backend = FastBackend(num_threads=threads)
        y, *saved = backend._batch_norm_relu_conv2d(*arrays)
        results.append([y, *saved])
        results[-1] += backend._batch_norm_relu_conv2d_backward(np.cos(y), *arrays[:4], *saved)
    for result in results[1:]:
        assert_same_bits(result, results[0])


def test_large_results_go_past_the_caches(rng: np.random.Generator) -> None:
    arrays = inputs((23, 61, 61, 64), 5, rng)
    y, *saved = FastBackend()._batch_norm_relu_conv2d(*arrays)
    expected, backward = op_by_op(arrays, 1e-5)
    assert_results((y,), expected[:1], "conv2d", np.float32)
    found = FastBackend()._batch_norm_relu_conv2d_backward(np.cos(y), *arrays[:4], *saved)
    largest = np.abs(arrays[3]).sum(axis=3).max()
    op = "batch_norm_backward"
    assert_results(found, backward(np.cos(y)), op, np.float32, largest_dy=largest)


@pytest.mark.parametrize("scale", [1e-30, 1e-19, 1e-9, 1e9, 1e19, 1e30])
@pytest.mark.parametrize("which", ["x", "gamma", "w", "dy"])
def test_numbers_of_all_exponents(
    which: str, scale: float, fast_backend: Any, rng: np.random.Generator
) -> None:
    arrays = inputs((2, 13, 11, 16), 5, rng)
    arrays[4][...] = 0
    at = {"x": 0, "gamma": 1, "w": 3}.get(which)
    if at is not None:
        arrays[at] *= np.float32(scale)
    y, *saved = fast_backend._batch_norm_relu_conv2d(*arrays)
    (wanted, _, variance), backward = op_by_op(arrays, 1e-5)
    assert_results((y,), (wanted,), "conv2d", np.float32)
    if variance.max() > 3e38:  # of which float32 has nothing to give to the backward pass
        return
    dy = (rng.standard_normal(y.shape) * (scale if which == "dy" else 1)).astype(np.float32)
    found = fast_backend._batch_norm_relu_conv2d_backward(dy, *arrays[:4], *saved)
    for one, exact in zip(found, backward(dy), strict=True):
        largest = np.abs(exact).max()
        if 1e-37 < largest < 1e37:
            np.testing.assert_allclose(one, exact, rtol=0, atol=2e-4 * largest)


def test_slopes_that_vanish_meet_large_numbers(fast_backend: Any, rng: np.random.Generator) -> None:
    """gamma / variance is next to nothing for float32, and what it is multiplied with is not."""
    arrays = inputs((2, 13, 11, 16), 5, rng)
    arrays[0] *= np.float32(1e18)
    arrays[1] *= np.float32(1e-7)
    y, *saved = fast_backend._batch_norm_relu_conv2d(*arrays)
    _, backward = op_by_op(arrays, 1e-5)
    dy = rng.random(y.shape, dtype=np.float32)
    dx, *_ = fast_backend._batch_norm_relu_conv2d_backward(dy, *arrays[:4], *saved)
    exact, *_ = backward(dy)
    np.testing.assert_allclose(dx, exact, rtol=0, atol=2e-5 * np.abs(exact).max())


def test_what_is_nan_stays_so(fast_backend: Any, rng: np.random.Generator) -> None:
    arrays = inputs((2, 5, 5, 16), 5, rng)
    arrays[0][0, 1, 2, 3] = np.nan
    y, *saved = fast_backend._batch_norm_relu_conv2d(*arrays)
    assert np.isnan(y).all()
    dx, dgamma, *_ = fast_backend._batch_norm_relu_conv2d_backward(
        np.ones_like(y), *arrays[:4], *saved
    )
    assert np.isnan(dx[..., 3]).all()
    assert np.isfinite(np.delete(dx, 3, axis=3)).all()
    assert np.isnan(dgamma[3])


def test_what_it_is_for() -> None:
    assert not is_projection((1, 1, 40, 16))  # no whole vectors
    assert not is_projection((3, 3, 48, 16))
    assert not is_projection((1, 1, 960, 160))  # too many weights
