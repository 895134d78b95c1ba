"""1x1 convolution + norm + ReLU + depthwise convolution: against op after op, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_results, assert_same_bits

from fastcnn import FastBackend, nn
from fastcnn.backend import Array
from fastcnn.fast._conv2d_batch_norm_relu_depthwise import spreads
from fastcnn.fast._fusions import TRAINING
from fastcnn.program import trace
from fastcnn.program.match import fuse

EPSILON = 1e-3
# Of x, its filters, v, stride, padding: blocks that end within images and not, rows that no output
# sees, parts of one row, kernels that reach beyond the image, and what no kernel slides over.
CASES: list[tuple[Any, int, Any, int, Any]] = [
    ((3, 28, 28, 16), 96, (3, 3), 1, 1),
    ((2, 33, 31, 5), 16, (3, 3), 2, "same"),
    ((2, 32, 30, 5), 32, (3, 3), 2, 1),
    ((1, 12, 11, 1), 48, (3, 3), 1, 0),
    ((5, 9, 40, 8), 64, (5, 5), 1, "same"),
    ((2, 21, 23, 24), 144, (5, 3), 2, ((2, 1), (0, 2))),
    ((2, 20, 22, 7), 32, (2, 2), 2, 0),
    ((3, 15, 14, 4), 16, (1, 1), 1, 0),
    ((4, 13, 9, 3), 16, (2, 4), 1, ((0, 1), (3, 0))),
    ((7, 6, 60, 16), 64, (3, 3), 2, ((0, 1), (1, 1))),
    ((1, 3, 384, 4), 16, (3, 3), 1, 1),
    ((2, 48, 48, 32), 192, (3, 3), 1, "same"),
]


def inputs(
    x: Any, filters: int, v: Any, rng: np.random.Generator, dtype: Any = np.float32
) -> list[Any]:
    """Return x, w, gamma, beta, v, b, c; x is away from zero, as behind a sum."""
    image = rng.standard_normal(x) + np.linspace(-1, 3, x[3])
    w, kernel = (
        rng.standard_normal((1, 1, x[3], filters)),
        rng.standard_normal((*v, 1, filters)),
    )
    gamma, beta, b, c = rng.standard_normal((4, filters))
    return [a.astype(dtype) for a in (image, w, gamma, beta, kernel, b, c)]


def op_by_op(arrays: list[Any], epsilon: float, **options: Any) -> tuple[list[Any], Any]:
    """Return z, mean and variance in float64, and the backward pass: of dz and what was alive."""
    backend = FastBackend()
    x, w, gamma, beta, v, b, c = (a.astype(np.float64) for a in arrays)
    options["groups"] = len(c)
    u = backend.conv2d(x, w, b)
    y, mean, variance = backend.batch_norm(u, gamma, beta, epsilon=epsilon)
    y = backend.relu(y)

    def backward(dz: Array, alive: Array) -> tuple[Any, ...]:
        dy, dv, dc = backend.conv2d_backward(dz.astype(np.float64), y, v, **options)
        dy = np.where(alive, dy, 0)
        du, *of_norm = backend.batch_norm_backward(dy, u, gamma, mean, variance, epsilon=epsilon)
        return *backend.conv2d_backward(du, x, w), *of_norm, dv, dc

    return [backend.conv2d(y, v, c, **options), mean, variance], backward


def alive(backend: Any, arrays: list[Any], epsilon: float) -> Array:
    """Return where ReLU lets a gradient through: of the numbers that float32 has there."""
    x, w, gamma, beta, _, b, _ = arrays
    y, *_ = backend._conv2d_batch_norm_relu(x, w, gamma, beta, b, epsilon=epsilon)
    return np.asarray(y > 0)


def backward_call(dz: Any, arrays: list[Any], saved: list[Any]) -> tuple[Any, ...]:
    return (dz, *arrays[:5], *saved, arrays[5])


@pytest.mark.parametrize(("shape", "filters", "kernel", "stride", "padding"), CASES, ids=str)
def test_what_lies_between_is_never_there(
    shape: Any,
    filters: int,
    kernel: Any,
    stride: int,
    padding: Any,
    fast_backend: Any,
    rng: np.random.Generator,
) -> None:
    arrays, options = inputs(shape, filters, kernel, rng), {"stride": stride, "padding": padding}
    z, *saved = fast_backend._conv2d_batch_norm_relu_depthwise(*arrays, epsilon=EPSILON, **options)
    (wanted, *statistics), backward = op_by_op(arrays, EPSILON, **options)
    assert spreads((*shape[:3], filters), arrays[4].shape, z.shape, (stride, stride))
    assert_results((z,), (wanted,), "conv2d", np.float32)
    for found, exact in zip(saved[:2], statistics, strict=True):
        np.testing.assert_array_max_ulp(found, exact.astype(np.float32))
    dz = rng.standard_normal(z.shape).astype(np.float32)
    call = backward_call(dz, arrays, saved)
    back = fast_backend._conv2d_batch_norm_relu_depthwise_backward
    dx, dw, db, *others = back(*call, epsilon=EPSILON, **options)
    exact = backward(dz, alive(fast_backend, arrays, EPSILON))
    assert not db.any()
    for at, (one, other) in enumerate(
        zip((dx, dw, *others), (*exact[:2], *exact[3:]), strict=True)
    ):
        assert one.shape == other.shape
        largest = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * largest, err_msg=str(at))
    none, *rest = back(*call, epsilon=EPSILON, input_gradient=False, **options)
    assert none is None
    assert_same_bits(rest, (dw, db, *others))


def test_without_biases(fast_backend: Any, rng: np.random.Generator) -> None:
    arrays = inputs((2, 20, 19, 6), 32, (3, 3), rng)
    zero = np.zeros_like(arrays[5])
    with_zeros = fast_backend._conv2d_batch_norm_relu_depthwise(*arrays[:5], zero, zero, padding=1)
    without = fast_backend._conv2d_batch_norm_relu_depthwise(*arrays[:5], padding=1)
    assert_same_bits(without, with_zeros)
    dz = np.cos(without[0])
    back = fast_backend._conv2d_batch_norm_relu_depthwise_backward
    first = back(dz, *arrays[:5], *without[1:], padding=1)
    assert_same_bits(first, back(dz, *arrays[:5], *without[1:], zero, padding=1))


def test_the_same_bits_on_any_number_of_threads(
    rng: np.random.Generator,
) -> None:
    arrays = inputs((3, 41, 43, 24), 144, (3, 3), rng)
    results = []
    for threads in (1, 2, 3, 8):
        backend = FastBackend(num_threads=threads)
        z, *saved = backend._conv2d_batch_norm_relu_depthwise(*arrays, stride=2, padding="same")
        found = backend._conv2d_batch_norm_relu_depthwise_backward(
            *backward_call(np.cos(z), arrays, saved), stride=2, padding="same"
        )
        results.append([z, *saved, *found])
    for result in results[1:]:
        assert_same_bits(result, results[0])


@pytest.mark.parametrize("scale", [1e-30, 1e-19, 1e-9, 1e9, 1e19, 1e30])
@pytest.mark.parametrize("which", ["x", "w", "gamma", "dz"])
def test_numbers_of_all_exponents(
    which: str, scale: float, fast_backend: Any, rng: np.random.Generator
) -> None:
    arrays = inputs((2, 33, 31, 5), 16, (3, 3), rng)
    arrays[5][...] = 0  # beside a bias, small numbers are none
    at = {"x": 0, "w": 1, "gamma": 2}.get(which)
    if at is not None:
        arrays[at] *= np.float32(scale)
    epsilon = 1e-5
    z, *saved = fast_backend._conv2d_batch_norm_relu_depthwise(*arrays, epsilon=epsilon, padding=1)
    (wanted, mean, variance), backward = op_by_op(arrays, epsilon, padding=1)
    np.testing.assert_allclose(saved[0], mean, rtol=1e-5, atol=1e-5 * np.abs(mean).max())
    np.testing.assert_allclose(z, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    if variance.max() > 3e38:  # of which float32 has nothing to give to the backward pass
        return
    dz = (rng.standard_normal(z.shape) * (scale if which == "dz" else 1)).astype(np.float32)
    found = fast_backend._conv2d_batch_norm_relu_depthwise_backward(
        *backward_call(dz, arrays, saved), epsilon=epsilon, padding=1
    )
    expected = backward(dz, alive(fast_backend, arrays, epsilon))
    for i, (one, exact) in enumerate(zip(found, expected, strict=True)):
        largest = np.abs(exact).max()
        if i != 2 and 1e-37 < largest < 1e37:  # of the bias there is only rounding
            np.testing.assert_allclose(one, exact, rtol=0, atol=2e-4 * largest, err_msg=str(i))


def test_weights_that_vanish_meet_large_numbers(
    fast_backend: Any, rng: np.random.Generator
) -> None:
    """With the norm in them, weights are next to nothing for float32, and results are not."""
    arrays = inputs((2, 33, 31, 5), 16, (3, 3), rng)
    for array, scale in zip(arrays, (1e33, 1e-19, 1e-10, 0, 1, 0, 0), strict=True):
        array *= np.float32(scale)
    z, *saved = fast_backend._conv2d_batch_norm_relu_depthwise(*arrays, padding=1)
    (wanted, *_), backward = op_by_op(arrays, 1e-5, padding=1)
    np.testing.assert_allclose(z, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    dz = (1e15 * rng.standard_normal(z.shape)).astype(np.float32)
    found = fast_backend._conv2d_batch_norm_relu_depthwise_backward(
        *backward_call(dz, arrays, saved), padding=1
    )
    expected = backward(dz, alive(fast_backend, arrays, 1e-5))
    for at in (0, 1, 5, 6):
        largest = np.abs(expected[at]).max()
        np.testing.assert_allclose(found[at], expected[at], rtol=0, atol=2e-4 * largest)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_spoils_all(
    bad: float, fast_backend: Any, rng: np.random.Generator
) -> None:
    arrays = inputs((2, 33, 31, 5), 16, (3, 3), rng)
    arrays[0][0, 3, 4, 2] = bad
    z, _, variance, *_ = fast_backend._conv2d_batch_norm_relu_depthwise(*arrays)
    assert np.isnan(variance).all()
    assert np.isnan(z).all()


def ops_of(*behind: nn.Module, image: Any = (40, 40, 16)) -> set[str]:
    """Return the ops of an expansion with these layers behind it, as they are trained."""
    layers = [nn.Conv2D(96, 1), nn.BatchNorm(), nn.ReLU(), *behind]
    model = nn.Sequential(layers)
    model.build(image, seed=0)
    return {node.op for node in fuse(trace(model, 4, training=True), TRAINING).nodes}


def test_what_it_is_for() -> None:
    op = "conv2d_batch_norm_relu_depthwise"
    assert op in ops_of(nn.DepthwiseConv2D(3))
    assert op in ops_of(nn.DepthwiseConv2D(5, stride=2, padding="same"), image=(41, 39, 16))
    assert op not in ops_of(nn.DepthwiseConv2D(3, stride=3))
    assert op not in ops_of(nn.DepthwiseConv2D(3, stride=(1, 2)))
    assert op not in ops_of(nn.DepthwiseConv2D(1, stride=2))
    assert op not in ops_of(nn.DepthwiseConv2D(3, dilation=2))
    assert op not in ops_of(nn.DepthwiseConv2D(3, padding=2, stride=1))  # rows of z with none of y
    assert op not in ops_of(nn.Conv2D(96, 3, groups=48))
    assert op not in ops_of(nn.DepthwiseConv2D(3), image=(8, 400, 16))
    assert op not in ops_of(nn.DepthwiseConv2D(3), image=(8, 8, 16))  # see is_expansion
