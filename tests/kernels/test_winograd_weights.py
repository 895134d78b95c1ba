"""Winograd's F(3x3, 4x4), the weight gradient: within its bound, and the same bits."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from compare import assert_same_bits, assert_within, gamma, winograd_weights_bound
from hypothesis import given
from hypothesis import strategies as st

from fastcnn import FastBackend, _kernels, reference
from fastcnn.backend import Array

DTYPES = ["float32", "float64"]
SAME = ((1, 1), (1, 1))


def direct_sum(dy: Array, x: Array, pads: Any) -> Array:
    """Return the gradient in float64: the reference's, but fast enough for many channels."""
    x = np.pad(x.astype(np.float64), ((0, 0), *pads, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    dw: Array = np.einsum("npqcrs,npqk->rsck", windows, dy.astype(np.float64), optimize=True)
    return dw


def gradients(backend: FastBackend, dy: Array, x: Array, pads: Any) -> tuple[Any, ...]:
    w = np.zeros((3, 3, x.shape[3], dy.shape[3]), x.dtype)
    return backend.conv2d_backward(dy, x, w, padding=pads, input_gradient=False)[1:]


def check(dy: Array, x: Array, pads: Any) -> None:
    """Compare the gradients of w and b with the direct sums, on every instruction set."""
    dw, bound = direct_sum(dy, x, pads), winograd_weights_bound(dy, x, pads, x.dtype)
    db = dy.astype(np.float64).sum((0, 1, 2))
    db_bound = gamma(dy.size // dy.shape[3], x.dtype) * np.abs(dy.astype(np.float64)).sum((0, 1, 2))
    for isa in _kernels.available():
        found = gradients(FastBackend(isa, convolution="winograd"), dy, x, pads)
        about = f"{isa} dy {dy.shape} x {x.shape} {pads}"
        assert_within(found[0], dw, bound, x.dtype, about)
        assert_within(found[1], db, db_bound, x.dtype, about)


def draw(
    x_shape: tuple[int, ...], filters: int, pads: Any, dtype: str, rng: np.random.Generator
) -> tuple[Array, Array]:
    rows, columns = (n + sum(p) - 2 for n, p in zip(x_shape[1:3], pads, strict=True))
    dy = rng.standard_normal((x_shape[0], rows, columns, filters)).astype(dtype)
    return dy, rng.standard_normal(x_shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_channels(dtype: str, rng: np.random.Generator) -> None:
    for channels in range(1, 68):
        check(*draw((1, 5, 6 + channels % 3, channels), 68 - channels, SAME, dtype, rng), SAME)


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=st.integers(0))
def test_any_size_and_padding(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pads = tuple(tuple(int(p) for p in side) for side in rng.integers(0, 5, (2, 2)))
    size = (max(1, 3 - sum(side)) + int(rng.integers(0, 12)) for side in pads)
    x_shape = (int(rng.integers(1, 4)), *size, int(rng.integers(1, 40)))
    check(*draw(x_shape, int(rng.integers(1, 40)), pads, dtype, rng), pads)


# Every way the work is divided: one block of tiles or several, one part or several, blocks of
# channels and of filters.
WORK = [
    ((1, 4, 4, 3), 5),
    ((5, 41, 39, 33), 40),
    ((2, 9, 7, 70), 200),
    ((16, 13, 13, 272), 130),
    ((70, 7, 7, 48), 48),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("x_shape", "filters"), WORK, ids=str)
def test_every_division_of_the_work(
    x_shape: Any, filters: int, dtype: str, rng: np.random.Generator
) -> None:
    check(*draw(x_shape, filters, SAME, dtype, rng), SAME)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_hardest_numbers(dtype: str, rng: np.random.Generator) -> None:
    """Signs that make the terms of one sum in a transform add up, cancelling sums, wide ranges."""
    signs = np.where(np.arange(12) % 4 < 2, 1, -1)[:, None] * np.where(np.arange(12) % 2, 1, -1)
    x = np.broadcast_to(signs[None, :, :, None], (2, 12, 12, 33)) / 3
    dy = np.broadcast_to(np.sign(signs)[None, :, :, None], (2, 12, 12, 34)) / 7
    check(dy.astype(dtype), x.astype(dtype), SAME)
    dy, x = draw((3, 13, 9, 20), 35, SAME, dtype, rng)
    check(dy, np.ones_like(x) + x * 1e-3, SAME)
    scales = [10.0 ** rng.integers(-6, 7, a.shape) for a in (dy, x)]
    check((dy * scales[0]).astype(dtype), (x * scales[1]).astype(dtype), SAME)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("x_shape", "filters"), WORK, ids=str)
def test_the_same_bits_for_any_threads(
    x_shape: Any, filters: int, dtype: str, rng: np.random.Generator
) -> None:
    dy, x = draw(x_shape, filters, SAME, dtype, rng)
    for isa in _kernels.available():
        expected = gradients(FastBackend(isa, 1, convolution="winograd"), dy, x, SAME)
        for threads in range(2, 9):
            backend = FastBackend(isa, threads, convolution="winograd")
            assert_same_bits(gradients(backend, dy, x, SAME), expected, f"{isa} {threads}")


def test_the_error_is_about_three_times_that_of_the_direct_sum(rng: np.random.Generator) -> None:
    arrays = (*draw((8, 16, 16, 64), 32, SAME, "float32", rng), SAME)
    exact = direct_sum(*arrays)
    for isa in _kernels.available():
        direct, winograd = (
            np.linalg.norm(gradients(FastBackend(isa, convolution=name), *arrays)[0] - exact)
            for name in ("direct", "winograd")
        )
        assert winograd < 4 * direct, f"{isa}: {winograd} against {direct}"


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_infinity_and_nan_stay_in_their_channel(value: float, rng: np.random.Generator) -> None:
    dy, x = draw((2, 9, 8, 5), 7, SAME, "float32", rng)
    for isa in _kernels.available():
        backend = FastBackend(isa, convolution="winograd")
        clean = gradients(backend, dy, x, SAME)
        spoilt = x.copy()
        spoilt[1, 4, 2, 3] = value
        dw, db = gradients(backend, dy, spoilt, SAME)
        assert not np.isfinite(dw[:, :, 3]).any()
        dw[:, :, 3] = clean[0][:, :, 3]
        assert_same_bits((dw, db), clean, isa)
        spoilt = dy.copy()
        spoilt[0, 8, 7, 6] = value
        dw, db = gradients(backend, spoilt, x, SAME)
        assert not np.isfinite(dw[..., 6]).any()
        assert not np.isfinite(db[6])
        dw[..., 6], db[6] = clean[0][..., 6], clean[1][6]
        assert_same_bits((dw, db), clean, isa)


# Channels, filters, height, whether "auto" takes Winograd: the more of the last tiles' lines lie
# outside, the more channels it needs.
CHOICES = [
    (8, 8, 8, True),
    (8, 40, 8, True),
    (7, 40, 8, False),
    (40, 7, 8, False),
    (16, 16, 5, True),
    (15, 16, 5, False),
    (300, 300, 1, False),
]


@pytest.mark.parametrize(("channels", "filters", "height", "winograd"), CHOICES)
def test_auto_chooses_by_the_shape_alone(
    channels: int, filters: int, height: int, winograd: bool, rng: np.random.Generator
) -> None:
    dy, x = draw((3, height, 8, channels), filters, SAME, "float32", rng)
    name = "winograd" if winograd else "direct"
    for isa, images, threads in product(_kernels.available(), (1, 3), (1, 2)):
        arrays = dy[:images], x[:images], SAME
        chosen = gradients(FastBackend(isa, threads, convolution=name), *arrays)
        assert_same_bits(gradients(FastBackend(isa, threads), *arrays), chosen, isa)


@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        ((3, 3), {"stride": 2}),
        ((3, 3), {"dilation": (2, 1)}),
        ((3, 3), {"groups": 2}),
        ((3, 1), {}),
        ((5, 5), {}),
    ],
    ids=str,
)
def test_other_convolutions_are_direct(
    kernel: tuple[int, int], options: dict[str, Any], rng: np.random.Generator
) -> None:
    """They are exact on small integers whatever is asked for."""
    x = rng.integers(-8, 9, (1, 9, 8, 4)).astype(np.float32)
    w = rng.integers(-8, 9, (*kernel, 4 // options.get("groups", 1), 6)).astype(np.float32)
    dy = rng.integers(-8, 9, reference.conv2d(x, w, **options).shape).astype(np.float32)
    _, dw, db = reference.conv2d_backward(dy, x, w, **options)
    for isa in _kernels.available():
        backend = FastBackend(isa, convolution="winograd")
        _, *found = backend.conv2d_backward(dy, x, w, **options)
        np.testing.assert_array_equal(found[0], dw)
        np.testing.assert_array_equal(found[1], db)
