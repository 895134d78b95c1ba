"""What the kernels of pooling, normalization, activations, losses and steps promise of their own.

The differential tests compare every op with the reference; here is what they would miss: how
precise exp is, digits that a careless sum or difference would lose, and shapes that make the
kernels cut their work in another way.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from calls import ACTIVATIONS
from compare import assert_close, assert_same, assert_within

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)

# NumPy's long double is wider than float64 on most machines. Where it is not, NumPy's own exp
# is as far from the truth as ours.
WIDER = np.longdouble if np.finfo(np.longdouble).eps < np.finfo(np.float64).eps else np.float64


def in_ulp(actual: Any, expected: Any) -> float:
    """Return the largest error in units in the last place of `actual`."""
    spacing = np.spacing(np.abs(expected.astype(actual.dtype))).astype(WIDER)
    return float(np.max(np.abs(actual.astype(WIDER) - expected) / spacing))


# ---------------------------------------------------------------------- exp and its kin
def sweep(dtype: Any, low: float) -> Any:
    """Return numbers from `low` to 0, the ends, the multiples of ln(2) / 2 and their neighbours."""
    steps = np.arange(0, 2 * low / math.log(2), -1) * (math.log(2) / 2)
    near_zero = -np.logspace(-12, 0, 1000)
    x = np.concatenate([np.linspace(low, 0, 20001), steps, near_zero]).astype(dtype)
    return np.concatenate(
        [x, np.nextafter(x, dtype.type(low)), -np.abs(np.nextafter(x, dtype.type(0)))]
    )


def test_exp(fast_backend: Any, dtype: Any) -> None:
    x = sweep(dtype, math.log(float(np.finfo(dtype).tiny)))
    y = fast_backend.elu_backward(np.ones_like(x), x)  # alpha * exp(x) for x <= 0
    assert in_ulp(y, np.exp(x.astype(WIDER))) <= 2


def test_exp_where_it_is_next_to_nothing(fast_backend: Any, dtype: Any) -> None:
    smallest = float(np.finfo(dtype).smallest_subnormal)
    x = np.linspace(
        math.log(float(np.finfo(dtype).tiny)), 2 * math.log(smallest), 5001, dtype=dtype
    )
    y = fast_backend.elu_backward(np.ones_like(x), x)
    expected = np.exp(x.astype(WIDER))
    assert np.all(np.abs(y - expected) <= 2 * smallest)
    assert y[-1] == 0


@pytest.mark.parametrize(
    ("op", "formula"),
    [
        ("elu", np.expm1),
        ("celu", np.expm1),
        ("tanh", np.tanh),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("silu", lambda x: x / (1 + np.exp(-x))),
        ("softplus", lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))),
        ("mish", lambda x: x * np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))),
    ],
)
def test_functions_of_exp(op: str, formula: Any, fast_backend: Any, dtype: Any) -> None:
    x = sweep(dtype, -80)
    x = x if op in ("elu", "celu") else np.concatenate([x, -x])
    expected = formula(x.astype(WIDER))
    normal = np.abs(expected) >= np.finfo(dtype).tiny
    most = 5 if op == "mish" else 4
    assert in_ulp(getattr(fast_backend, op)(x)[normal], expected[normal]) <= most


def test_gelu(fast_backend: Any, dtype: Any) -> None:
    x = np.linspace(-40, 6, 4001, dtype=dtype)
    expected = np.array([float(v) * math.erfc(-float(v) / math.sqrt(2)) / 2 for v in x])
    # In the lower tail the rounding of x*x/2 counts: as many roundoffs as it is large.
    bound = np.finfo(dtype).eps * (8 + x.astype(F8) ** 2) * np.abs(expected)
    assert_within(fast_backend.gelu(x), expected, bound)


EXTREMES = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e30, -1e30, 200.0, -200.0)


@pytest.mark.parametrize("op", ACTIVATIONS)
@pytest.mark.parametrize("extreme", EXTREMES)
def test_every_lane_and_tail_agrees(op: str, extreme: float, fast_backend: Any, dtype: Any) -> None:
    function = getattr(fast_backend, op)
    backward = getattr(fast_backend, f"{op}_backward")
    one = np.array([extreme], dtype)
    expected = function(one)[0], backward(np.ones_like(one), one)[0]
    for count in (1, 2, 7, 8, 15, 16, 17, 31, 33, 67, 4099):
        x = np.full(count, extreme, dtype)
        assert_same(function(x), np.full(count, expected[0]))
        assert_same(backward(np.ones_like(x), x), np.full(count, expected[1]))


# ---------------------------------------------------------------------- options in full width
def test_options_of_float64_are_not_rounded_to_float32(backend: Any) -> None:
    x, ones = np.array([-1.0]), np.ones(1)
    assert backend.leaky_relu(x, negative_slope=0.1)[0] == -0.1
    assert backend.leaky_relu_backward(ones, x, negative_slope=0.1)[0] == 0.1
    assert_close(backend.elu(x, alpha=0.1), 0.1 * np.expm1(x), "elu")
    assert_close(backend.elu_backward(ones, x, alpha=0.1), 0.1 * np.exp(x), "elu")
    assert_close(backend.dropout(ones, np.array([True]), rate=0.3), np.array([1 / 0.7]), "dropout")
    w, velocity = np.ones(1), np.ones(1)
    backend.sgd_step(w, ones, velocity, learning_rate=0.1, momentum=0.3, weight_decay=0.7)
    assert_close(velocity, np.array([0.3 + 1.7]))
    assert_close(w, np.array([1 - 0.1 * (0.3 + 1.7)]))


# ---------------------------------------------------------------------- batch normalization
def reference_moments(x: Any) -> tuple[Any, Any]:
    wide = x.astype(WIDER)
    axes = tuple(range(x.ndim - 1))
    mean = wide.mean(axes)
    return mean, ((wide - mean) ** 2).mean(axes)


@pytest.mark.parametrize("channels", [1, 3, 64, 67, 300])
@pytest.mark.parametrize("pixels", [9, 4099])
def test_a_mean_of_1000_costs_no_digits(
    channels: int, pixels: int, fast_backend: Any, dtype: Any, rng: Any
) -> None:
    x = (1000 + rng.standard_normal((pixels, channels))).astype(dtype)
    gamma, beta = np.ones(channels, dtype), np.zeros(channels, dtype)
    y, mean, variance = fast_backend.batch_norm(x, gamma, beta)
    true_mean, true_variance = reference_moments(x)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(mean, true_mean.astype(F8), rtol=4 * eps)
    np.testing.assert_allclose(variance, true_variance.astype(F8), rtol=16 * eps)
    # Inside, the mean is a float64: only there does its own rounding show, four times 1000 eps.
    expected = (x - true_mean) / np.sqrt(true_variance + 1e-5)
    assert np.max(np.abs(y - expected)) <= 16 * eps + 4000 * np.finfo(F8).eps


def test_statistics_that_begin_far_from_the_rest(fast_backend: Any, dtype: Any, rng: Any) -> None:
    """What a part of the batch begins with tells nothing of its mean."""
    x = rng.standard_normal((3000, 5)).astype(dtype)
    x[:, 1] += np.arange(3000) < 32
    x[:, 2] += 1e4 * (np.arange(3000) < 32)
    x[:, 3] += 1e4 * (np.arange(3000) >= 32)
    x[:, 4] = 1e4 * (np.arange(3000) % 256 == 0)
    _, mean, variance = fast_backend.batch_norm(x, np.ones(5, dtype), np.ones(5, dtype))
    true_mean, true_variance = reference_moments(x)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(variance, true_variance.astype(F8), rtol=200 * eps)
    bound = 50 * eps * np.sqrt(true_variance.astype(F8))
    assert np.all(np.abs(mean - true_mean.astype(F8)) <= bound + eps * np.abs(mean))


@pytest.mark.parametrize("value", [0.0, 0.75, -7.3e8])
def test_a_channel_of_one_value(value: float, backend: Any, dtype: Any) -> None:
    x = np.full((700, 3), value, dtype)
    y, mean, variance = backend.batch_norm(x, np.ones(3, dtype), np.array([1, 2, 3], dtype))
    assert_same(mean, x[0])
    assert_same(variance, np.zeros(3))
    assert_same(y, np.broadcast_to([1.0, 2.0, 3.0], x.shape))


@pytest.mark.parametrize("at", [0, 40, 999])
def test_an_infinity_stays_in_its_channel(at: int, backend: Any, dtype: Any, rng: Any) -> None:
    x = rng.standard_normal((1000, 3)).astype(dtype)
    clean = backend.batch_norm(x, np.ones(3, dtype), np.zeros(3, dtype))
    x[at, 1] = math.inf
    y, mean, variance = backend.batch_norm(x, np.ones(3, dtype), np.zeros(3, dtype))
    assert mean[1] == math.inf
    assert np.isnan(variance[1])
    assert np.all(np.isnan(y[:, 1]))
    for one, other in zip((y, mean, variance), clean, strict=True):
        assert_same(one[..., ::2].copy(), other[..., ::2])


@pytest.mark.parametrize("channels", [64, 10, 131])
def test_arrays_that_no_cache_keeps(channels: int, fast_backend: Any, rng: Any) -> None:
    """From 32 MB on results are written past the caches: the same ones."""
    block = rng.standard_normal((4096, channels)).astype(F4)
    x = np.tile(block, ((34 << 20) // block.nbytes + 1, 1))[:-5]
    gamma, beta = rng.standard_normal((2, channels)).astype(F4)
    mean, variance = np.mean(block, 0), np.var(block, 0)
    y = fast_backend.batch_norm_inference(x, gamma, beta, mean, variance)
    expected = fast_backend.batch_norm_inference(block, gamma, beta, mean, variance)
    rows = np.arange(len(x)) % len(block)
    np.testing.assert_array_equal(y, expected[rows])

    dx, dgamma, dbeta = fast_backend.batch_norm_backward(x, x, gamma, mean, variance)
    wide, s = block.astype(F8), np.sqrt(variance + 1e-5)
    expected = gamma / s * (wide - dbeta / len(x) - (wide - mean) / s * dgamma / len(x))
    assert np.max(np.abs(dx - expected[rows])) <= 1e-6 * np.max(np.abs(gamma / s * block))


@pytest.mark.parametrize("channels", [64, 67])
def test_gradients_that_no_cache_keeps(channels: int, fast_backend: Any, rng: Any) -> None:
    image = rng.standard_normal((1, 65, 64, channels)).astype(F4)
    images = (34 << 20) // image.nbytes + 1
    y, argmax = fast_backend.max_pool2d(image)
    one = fast_backend.max_pool2d_backward(y, argmax, image.shape)
    x_shape = (images, *image.shape[1:])
    y, argmax = (np.repeat(array, images, 0) for array in (y, argmax))
    dx = fast_backend.max_pool2d_backward(y, argmax, x_shape)
    np.testing.assert_array_equal(dx, np.broadcast_to(one, x_shape))
    one = fast_backend.avg_pool2d_backward(y[:1], image.shape)
    dx = fast_backend.avg_pool2d_backward(y, x_shape)
    np.testing.assert_array_equal(dx, np.broadcast_to(one, x_shape))


# ---------------------------------------------------------------------- pooling
# Images so wide, or with so many channels, that a row is worked on in more than one block.
LONG_ROWS = [(1, 3, 1100, 1), (2, 2, 420, 3), (1, 3, 40, 31), (1, 3, 6, 650), (1, 2, 4, 1100)]
WINDOWS = [
    {"pool_size": 2},
    {"pool_size": (2, 3), "stride": 1, "padding": 1},
    {"pool_size": (1, 3), "stride": (1, 2), "padding": "same"},
    {"pool_size": (2, 2), "stride": (2, 3), "ceil_mode": True},
    {"pool_size": (2, 2), "stride": (1, 1030), "padding": (0, 1), "ceil_mode": True},
]


@pytest.mark.parametrize("shape", LONG_ROWS, ids=str)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_pooling_of_long_rows(
    shape: tuple[int, ...],
    window: dict[str, Any],
    fast_backends: list[Any],
    reference: Any,
    rng: Any,
) -> None:
    for dtype in (F4, F8):
        x = rng.integers(-3, 4, shape).astype(dtype)
        x[rng.random(shape) < 0.05] = -math.inf
        x[rng.random(shape) < 0.02] = math.nan
        y, argmax = reference.max_pool2d(x, **window)
        dy = rng.integers(-3, 4, y.shape).astype(dtype)
        dx = reference.max_pool2d_backward(dy, argmax, shape, **window)
        average = reference.avg_pool2d(x, **window)
        share = reference.avg_pool2d_backward(dy, shape, **window)
        for fast in fast_backends:
            found, places = fast.max_pool2d(x, **window)
            assert_same(found, y, dtype)
            assert_same(places, argmax, np.uint8)
            assert_same(fast.max_pool2d_backward(dy, argmax, shape, **window), dx, dtype)
            assert_same(fast.avg_pool2d(x, **window), average, dtype)
            assert_same(fast.avg_pool2d_backward(dy, shape, **window), share, dtype)


def test_gigantic_windows_take_no_time(backend: Any, dtype: Any) -> None:
    """Two windows, a step of 2**60 apart, that both see the one pixel."""
    window = {"pool_size": (1, 2**61), "stride": (1, 2**60), "ceil_mode": True}
    window["padding"] = ((0, 0), (2**60, 2**60))
    x = np.full((1, 1, 1, 2), 3, dtype)
    assert_same(backend.avg_pool2d(x, **window), np.full((1, 1, 2, 2), 3))
    dy = np.array([[[[1, 2], [3, 4]]]], dtype)
    assert_same(backend.avg_pool2d_backward(dy, x.shape, **window), np.array([[[[4, 6]]]]))
    window |= {"pool_size": (1, 2**31), "stride": (1, 2**30)}
    window["padding"] = ((0, 0), (2**30, 2**30))
    y, argmax = backend.max_pool2d(x, **window)
    assert_same(y, np.full((1, 1, 2, 2), 3))
    assert argmax.tolist() == [[[[2**30, 2**30], [0, 0]]]]
    dx = backend.max_pool2d_backward(dy, argmax, x.shape, **window)
    assert_same(dx, np.array([[[[4, 6]]]]))


def test_the_mean_of_a_large_image_keeps_its_digits(backend: Any, dtype: Any, rng: Any) -> None:
    x = (1000 + rng.standard_normal((1, 300, 251, 2))).astype(dtype)
    expected = x.astype(WIDER).mean((1, 2)).astype(F8)
    bound = (np.finfo(dtype).eps + 1000 * np.finfo(F8).eps) * expected  # sums run in float64
    assert_within(backend.global_avg_pool2d(x), expected, bound)
    assert_within(backend.avg_pool2d(x, (300, 251))[:, 0, 0], expected, bound)


# ---------------------------------------------------------------------- losses
def test_the_gradient_next_to_a_probability_of_one(backend: Any, dtype: Any) -> None:
    p = np.finfo(dtype).epsneg
    probabilities = np.array([[1 - p, p]], dtype)
    dlogits = backend.softmax_cross_entropy_backward(0.1, probabilities, np.array([0]))
    expected = np.array([[-0.1, 0.1]]) * p
    assert_within(dlogits, expected, np.finfo(dtype).eps * np.abs(expected))


def test_a_sum_of_squares_over_many_parts(fast_backend: Any, dtype: Any, rng: Any) -> None:
    a, b = rng.standard_normal((2, 100_003)).astype(dtype)
    expected = float(np.mean((a.astype(WIDER) - b) ** 2))
    assert fast_backend.mean_squared_error(a, b) == pytest.approx(expected, rel=1e-14)
