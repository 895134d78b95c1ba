"""1x1 convolution + batch normalization + ReLU from moments: against op after op, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_results, assert_same_bits

from fastcnn import FastBackend
from fastcnn.fast._conv2d_batch_norm_relu import is_expansion

# Few pixels and more than the parts have, channels and filters that fill vectors and panels or not.
SHAPES = [
    ((3, 28, 28, 16), 96),
    ((1, 61, 53, 24), 144),
    ((2, 33, 31, 5), 16),
    ((1, 12, 11, 1), 48),
    ((2, 48, 48, 32), 192),
    ((1, 97, 97, 72), 224),
]
EPSILON = 1e-3


def inputs(x: Any, filters: int, rng: np.random.Generator, dtype: Any = np.float32) -> list[Any]:
    """Return x, w, gamma, beta, b; x is away from zero, as behind a sum."""
    image = rng.standard_normal(x) + np.linspace(-1, 3, x[3])
    w = rng.standard_normal((1, 1, x[3], filters))
    return [a.astype(dtype) for a in (image, w, *rng.standard_normal((3, filters)))]


def op_by_op(arrays: list[Any], epsilon: float = EPSILON) -> tuple[list[Any], Any]:
    """Return y, mean and variance in float64, and the backward pass: of dy and what was alive."""
    backend = FastBackend()
    x, w, gamma, beta, b = (a.astype(np.float64) for a in arrays)
    z = backend.conv2d(x, w, b)
    y, mean, variance = backend.batch_norm(z, gamma, beta, epsilon=epsilon)

    def backward(dy: Any, alive: Any) -> tuple[Any, ...]:
        dy = np.where(alive, dy.astype(np.float64), 0)
        dz, *of_norm = backend.batch_norm_backward(dy, z, gamma, mean, variance, epsilon=epsilon)
        return *backend.conv2d_backward(dz, x, w), *of_norm

    return [backend.relu(y), mean, variance], backward


@pytest.mark.parametrize(("shape", "filters"), SHAPES, ids=str)
def test_moments_tell_what_the_convolution_does(
    shape: Any, filters: int, fast_backend: Any, rng: np.random.Generator
) -> None:
    assert is_expansion(shape, (1, 1, shape[3], filters))
    arrays = inputs(shape, filters, rng)
    x, w, gamma, _, b = arrays
    y, *saved = fast_backend._conv2d_batch_norm_relu(*arrays, epsilon=EPSILON)
    (wanted, *statistics), backward = op_by_op(arrays)
    assert_results((y,), (wanted,), "batch_norm", np.float32)
    for found, exact in zip(saved[:2], statistics, strict=True):
        np.testing.assert_array_max_ulp(found, exact.astype(np.float32))
    dy = rng.standard_normal(y.shape).astype(np.float32)
    call = (dy, y, x, w, gamma, *saved, b)
    dx, dw, db, *of_norm = fast_backend._conv2d_batch_norm_relu_backward(*call, epsilon=EPSILON)
    exact_dx, exact_dw, _, *exact_of_norm = backward(dy, y > 0)
    assert not db.any()
    assert_results(
        (dx, dw, *of_norm),
        (exact_dx, exact_dw, *exact_of_norm),
        "batch_norm_backward",
        np.float32,
        largest_dy=np.abs(dy).max(),
    )
    none, *others = fast_backend._conv2d_batch_norm_relu_backward(
        *call, epsilon=EPSILON, input_gradient=False
    )
    assert none is None
    assert_same_bits(others, (dw, db, *of_norm))


def test_the_same_bits_on_any_number_of_threads(rng: np.random.Generator) -> None:
    arrays = inputs((3, 41, 43, 24), 144, rng)
    x, w, gamma, *_ = arrays
    results = []
    for threads in (1, 2, 3, 8):
        backend = FastBackend(num_threads=threads)
        y, *saved = backend._conv2d_batch_norm_relu(*arrays)
        results.append([y, *saved])
        results[-1] += backend._conv2d_batch_norm_relu_backward(np.cos(y), y, x, w, gamma, *saved)
    for result in results[1:]:
        assert_same_bits(result, results[0])


@pytest.mark.parametrize("shift", [0, 10, 1000])
def test_statistics_are_exact_far_from_zero(shift: float, rng: np.random.Generator) -> None:
    arrays = inputs((2, 48, 48, 16), 96, rng)
    arrays[0] += np.float32(shift)
    _, mean, variance, _ = FastBackend()._conv2d_batch_norm_relu(*arrays)
    (_, *exact), _ = op_by_op(arrays)
    for found, wanted in zip((mean, variance), exact, strict=True):
        np.testing.assert_array_max_ulp(found, wanted.astype(np.float32))


@pytest.mark.parametrize("scale", [1e-30, 1e-19, 1e-9, 1e9, 1e19, 1e30])
@pytest.mark.parametrize("which", ["x", "w", "gamma", "dy"])
def test_numbers_of_all_exponents(
    which: str, scale: float, fast_backend: Any, rng: np.random.Generator
) -> None:
    arrays = inputs((2, 33, 31, 5), 16, rng)
    arrays[4][...] = 0  # beside a bias, small numbers are none
    at = {"x": 0, "w": 1, "gamma": 2}.get(which)
    if at is not None:
        arrays[at] *= np.float32(scale)
    x, w, gamma, _, b = arrays
    epsilon = 1e-5
    y, *saved = fast_backend._conv2d_batch_norm_relu(*arrays, epsilon=epsilon)
    (wanted, mean, variance), backward = op_by_op(arrays, epsilon)
    np.testing.assert_allclose(saved[0], mean, rtol=1e-5, atol=1e-5 * np.abs(mean).max())
    assert_results((y,), (wanted,), "batch_norm", np.float32)
    if variance.max() > 3e38:  # of which float32 has nothing to give to the backward pass
        return
    np.testing.assert_allclose(saved[1], variance, rtol=1e-5, atol=1e-38)
    dy = (rng.standard_normal(y.shape) * (scale if which == "dy" else 1)).astype(np.float32)
    found = fast_backend._conv2d_batch_norm_relu_backward(
        dy, y, x, w, gamma, *saved, b, epsilon=epsilon
    )
    expected = backward(dy, y > 0)
    for i, (one, exact) in enumerate(zip(found, expected, strict=True)):
        largest = np.abs(exact).max()
        if i != 2 and 1e-37 < largest < 1e37:  # of the bias there is only rounding
            np.testing.assert_allclose(one, exact, rtol=0, atol=2e-4 * largest, err_msg=str(i))


def test_weights_that_vanish_meet_large_numbers(
    fast_backend: Any, rng: np.random.Generator
) -> None:
    """With the norm in them, weights are next to nothing for float32, and results are not."""
    arrays = inputs((2, 33, 31, 5), 16, rng)
    for array, scale in zip(arrays, (1e33, 1e-19, 1e-10, 0, 0), strict=True):
        array *= np.float32(scale)
    x, w, gamma, _, b = arrays
    y, *saved = fast_backend._conv2d_batch_norm_relu(*arrays)
    (wanted, *_), backward = op_by_op(arrays, 1e-5)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-5 * wanted.max())
    dy = (1e15 * rng.standard_normal(y.shape)).astype(np.float32)
    dx, dw, *_ = fast_backend._conv2d_batch_norm_relu_backward(dy, y, x, w, gamma, *saved, b)
    for found, exact in zip((dx, dw), backward(dy, y > 0), strict=False):
        np.testing.assert_allclose(found, exact, rtol=0, atol=2e-4 * np.abs(exact).max())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_spoils_the_statistics(
    bad: float, fast_backend: Any, rng: np.random.Generator
) -> None:
    arrays = inputs((2, 33, 31, 5), 16, rng)
    arrays[0][0, 3, 4, 2] = bad
    y, _, variance, _ = fast_backend._conv2d_batch_norm_relu(*arrays)
    assert np.isnan(variance).all()
    assert np.isnan(y).all()


def test_what_it_is_for() -> None:
    assert not is_expansion((1, 10, 10, 16), (1, 1, 16, 96))  # few pixels
    assert not is_expansion((9, 99, 99, 16), (1, 1, 16, 40))  # few filters
    assert not is_expansion((9, 99, 99, 16), (1, 1, 16, 100))  # no whole vectors
    assert not is_expansion((9, 99, 99, 16), (3, 3, 16, 96))
    assert not is_expansion((9, 99, 99, 256), (1, 1, 256, 1024))  # many moments
