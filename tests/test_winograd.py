"""Winograd's F(4x4, 3x3): within its bound, the same bits, and where "auto" takes it."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from compare import (
    assert_same_bits,
    assert_within,
    gamma,
    winograd_bound,
    winograd_weights_bound,
)
from hypothesis import given
from hypothesis import strategies as st

from fastcnn import FastBackend, _kernels, reference
from fastcnn.backend import Array

DTYPES = ["float32", "float64"]
NONE = ((0, 0), (0, 0))


def direct_sum(x: Array, w: Array, pads: Any) -> Array:
    """Return the convolution in float64: the reference's, but fast enough for many channels."""
    x = np.pad(x.astype(np.float64), ((0, 0), *pads, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    y: Array = np.einsum("npqcrs,rsck->npqk", windows, w.astype(np.float64), optimize=True)
    return y


def check(
    x_shape: tuple[int, ...], filters: int, pads: Any, dtype: str, rng: np.random.Generator
) -> None:
    """Compare forward and input gradient with the direct sum, on every instruction set."""
    x, b = rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(filters).astype(dtype)
    w = rng.standard_normal((3, 3, x_shape[3], filters)).astype(dtype)
    y = direct_sum(x, w, pads) + b
    dy = rng.standard_normal(y.shape).astype(dtype)
    # The input gradient is the convolution of dy with the taps in reverse.
    mirrored = w[::-1, ::-1].transpose(0, 1, 3, 2)
    cut = [max(0, p - 2) for side in pads for p in side]
    seen = dy[:, cut[0] : dy.shape[1] - cut[1], cut[2] : dy.shape[2] - cut[3]]
    to_dx = tuple(tuple(max(0, 2 - p) for p in side) for side in pads)
    dx = direct_sum(seen, mirrored, to_dx)
    dx_bound = winograd_bound(seen, mirrored, None, to_dx, dtype)
    y_bound = winograd_bound(x, w, b, pads, dtype)
    if any(cut):  # then the tiles of the kernel lie elsewhere than those of the bound
        dx_bound = np.broadcast_to(dx_bound.max(), dx.shape)
    for isa in _kernels.available():
        backend = FastBackend(isa, convolution="winograd")
        about = f"{isa} {x_shape} {filters} {pads}"
        assert_within(backend.conv2d(x, w, b, padding=pads), y, y_bound, dtype, about)
        found, dw, db = backend.conv2d_backward(dy, x, w, padding=pads, weight_gradient=False)
        assert dw is None
        assert db is None
        assert_within(found, dx, dx_bound, dtype, about)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_channels(dtype: str, rng: np.random.Generator) -> None:
    for channels in range(1, 68):
        check((1, 5, 6 + channels % 3, channels), 68 - channels, ((1, 1), (1, 1)), dtype, rng)


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=st.integers(0))
def test_any_size_and_padding(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pads = tuple(tuple(int(p) for p in side) for side in rng.integers(0, 5, (2, 2)))
    size = (max(1, 3 - sum(side)) + int(rng.integers(0, 12)) for side in pads)
    x_shape = (int(rng.integers(1, 4)), *size, int(rng.integers(1, 40)))
    check(x_shape, int(rng.integers(1, 40)), pads, dtype, rng)


# Every way the work is divided: weights ahead in one block or many, groups of filters with few
# tiles, large weights with one block and with two.
WORK = [
    ((2, 4, 4, 3), 5),
    ((5, 21, 19, 33), 40),
    ((2, 9, 7, 40), 200),
    ((3, 9, 9, 272), 330),
    ((8, 12, 9, 330), 272),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("x_shape", "filters"), WORK, ids=str)
def test_every_division_of_the_work(
    x_shape: Any, filters: int, dtype: str, rng: np.random.Generator
) -> None:
    check(x_shape, filters, ((1, 1), (1, 1)), dtype, rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("x_shape", "filters"), WORK, ids=str)
def test_a_sum_of_zeros_is_the_bias(
    x_shape: Any, filters: int, dtype: str, rng: np.random.Generator
) -> None:
    """Not what rounding leaves: ReLU would let a gradient through where the image is blank."""
    x = rng.standard_normal(x_shape).astype(dtype)
    x[rng.random(x_shape) < 0.5] = -0.0
    x[rng.random(x_shape[:3]) < 0.8] = 0
    pixels = np.argwhere(rng.random(x_shape[:3]) < 0.1)
    for n, i, j in pixels:  # alone in the last channel
        x[n, i, j, -1] = rng.standard_normal()
    w = rng.standard_normal((3, 3, x_shape[3], filters)).astype(dtype)
    b = rng.standard_normal(filters).astype(dtype)
    ones = np.ones((*w.shape[:3], 1), dtype)
    blank = direct_sum(x != 0, ones, ((1, 1), (1, 1)))[..., 0] == 0
    assert 0 < np.count_nonzero(blank) < blank.size
    nan = w.copy()
    nan[1, 1, 0, 0] = np.nan
    for isa in _kernels.available():
        backend = FastBackend(isa, convolution="winograd")
        y = backend.conv2d(x, w, b, padding=1)
        np.testing.assert_array_equal(y[blank], np.broadcast_to(b, y.shape)[blank])
        assert (y[~blank] != b).all()
        options = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1}
        op = backend.prepared.conv2d(w, b, **options)
        assert_same_bits((op(x),), (y,), isa)
        assert np.isnan(backend.conv2d(x, nan, b, padding=1)[..., 0]).all()


def both_passes(backend: FastBackend, dy: Array, x: Array, w: Array) -> tuple[Any, ...]:
    dx, _, _ = backend.conv2d_backward(dy, x, w, padding=1, weight_gradient=False)
    return backend.conv2d(x, w, padding=1), dx


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("x_shape", "filters"), WORK, ids=str)
def test_the_same_bits_for_any_threads_and_batch(
    x_shape: Any, filters: int, dtype: str, rng: np.random.Generator
) -> None:
    x = rng.standard_normal(x_shape).astype(dtype)
    w = rng.standard_normal((3, 3, x_shape[3], filters)).astype(dtype)
    dy = rng.standard_normal((*x_shape[:3], filters)).astype(dtype)
    for isa in _kernels.available():
        serial = FastBackend(isa, 1, convolution="winograd")
        expected = both_passes(serial, dy, x, w)
        for threads in range(2, 9):
            backend = FastBackend(isa, threads, convolution="winograd")
            assert_same_bits(both_passes(backend, dy, x, w), expected, f"{isa} {threads}")
        for n in range(len(x)):
            one = slice(n, n + 1)
            alone = both_passes(serial, dy[one], x[one], w)
            assert_same_bits(alone, tuple(a[one] for a in expected), f"{isa} image {n}")


def test_the_error_is_about_twice_that_of_the_direct_sum(rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 16, 16, 64)).astype(np.float32)
    w = rng.standard_normal((3, 3, 64, 32)).astype(np.float32)
    exact = direct_sum(x, w, NONE)
    for isa in _kernels.available():
        direct, winograd = (
            np.sqrt(np.mean((FastBackend(isa, convolution=name).conv2d(x, w) - exact) ** 2))
            for name in ("direct", "winograd")
        )
        # "direct" rounds less with fused multiply-add.
        assert winograd < 3 * direct, f"{isa}: {winograd} against {direct}"


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_infinity_and_nan_stay_in_their_tiles(value: float, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 16, 16, 3)).astype(np.float32)
    w = rng.standard_normal((3, 3, 3, 5)).astype(np.float32)
    for isa in _kernels.available():
        backend = FastBackend(isa, convolution="winograd")
        clean = backend.conv2d(x, w, padding=1)
        spoilt = x.copy()
        spoilt[1, 5, 9, 1] = value  # seen by outputs 4 to 6 and 8 to 10: tiles 1 and 2
        y = backend.conv2d(spoilt, w, padding=1)
        assert not np.isfinite(y[1, 4:8, 8:12]).any()
        y[1, 4:8, 8:12] = clean[1, 4:8, 8:12]
        assert_same_bits((y,), (clean,))
        weights = w.copy()
        weights[0, 2, 1, 3] = value
        y = backend.conv2d(x, weights, padding=1)
        assert not np.isfinite(y[..., 3]).any()
        y[..., 3] = clean[..., 3]
        assert_same_bits((y,), (clean,))


# Channels, filters, height, whether "auto" takes Winograd forward and for the input gradient: the
# more products its tiles take an output, the more channels or filters it needs.
CHOICES = [
    (8, 8, 8, True, True),
    (7, 8, 8, False, True),
    (8, 7, 8, True, False),
    (1, 40, 12, False, True),
    (10, 9, 6, True, False),
    (11, 12, 5, False, True),
    (12, 11, 2, True, False),
    (300, 300, 1, False, False),
]


@pytest.mark.parametrize(("channels", "filters", "height", "forward", "backward"), CHOICES)
def test_auto_chooses_by_the_shape_alone(
    channels: int,
    filters: int,
    height: int,
    forward: bool,
    backward: bool,
    rng: np.random.Generator,
) -> None:
    x = rng.standard_normal((3, height, 8, channels)).astype(np.float32)
    w = rng.standard_normal((3, 3, channels, filters)).astype(np.float32)
    dy = rng.standard_normal((3, height, 8, filters)).astype(np.float32)
    for isa, images, threads in product(_kernels.available(), (1, 3), (1, 2)):
        arrays = dy[:images], x[:images], w
        found = both_passes(FastBackend(isa, threads), *arrays)
        direct, winograd = (
            both_passes(FastBackend(isa, convolution=name), *arrays)
            for name in ("direct", "winograd")
        )
        assert not any(np.array_equal(a, b) for a, b in zip(direct, winograd, strict=True))
        y = winograd if forward else direct
        dx = winograd if backward else direct
        assert_same_bits(found, (y[0], dx[1]), f"{isa} {images} {threads}")


OTHERS: list[tuple[tuple[int, int], dict[str, Any]]] = [
    ((3, 3), {"stride": 2}),
    ((3, 3), {"stride": (1, 2)}),
    ((3, 3), {"dilation": 2}),
    ((3, 3), {"dilation": (2, 1)}),
    ((3, 3), {"groups": 2}),
    ((3, 1), {}),
    ((1, 3), {}),
    ((5, 5), {}),
]


@pytest.mark.parametrize(("kernel", "options"), OTHERS, ids=str)
def test_other_convolutions_are_direct(
    kernel: tuple[int, int], options: dict[str, Any], rng: np.random.Generator
) -> None:
    """They are exact on small integers whatever is asked for."""
    x = rng.integers(-8, 9, (1, 9, 8, 4)).astype(np.float32)
    w = rng.integers(-8, 9, (*kernel, 4 // options.get("groups", 1), 6)).astype(np.float32)
    y = reference.conv2d(x, w, **options)
    dy = rng.integers(-8, 9, y.shape).astype(np.float32)
    dx, _, _ = reference.conv2d_backward(dy, x, w, **options)
    for isa in _kernels.available():
        backend = FastBackend(isa, convolution="winograd")
        np.testing.assert_array_equal(backend.conv2d(x, w, **options), y)
        found, _, _ = backend.conv2d_backward(dy, x, w, **options)
        np.testing.assert_array_equal(found, dx)


def test_the_documented_factors_of_the_bounds() -> None:
    """Of inputs that are all as large as the largest, each weight (or gradient) by itself."""
    ones, pads = np.ones((1, 6, 6, 1)), ((0, 0), (0, 0))
    weights = np.eye(9).reshape(9, 3, 3, 1, 1)
    forward = max(winograd_bound(ones, w, None, pads, np.float64).max() for w in weights)
    gradients = np.eye(16).reshape(16, 1, 4, 4, 1)
    backward = max(winograd_weights_bound(dy, ones, pads, np.float64).max() for dy in gradients)
    factors = forward / gamma(1 + 27, np.float64), backward / gamma(1 + 29, np.float64)
    assert [int(np.ceil(factor)) for factor in factors] == [176, 176]
    assert (FastBackend.__doc__ or "").count("at most 176 times") == 2
