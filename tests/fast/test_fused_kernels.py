"""What single kernels of the fused ops promise: bounds, bits, and numbers that are not finite."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from compare import assert_results, assert_same_bits, assert_within, winograd_bound
from fused_calls import UNFUSED
from kept import Kept

from fastcnn import FastBackend, _kernels
from fastcnn.backend import Array
from fastcnn.fast._conv2d_relu_max_pool2d import _pooled_of

CONVOLUTIONS = ("auto", "direct", "winograd")
# 2x2 pools behind 3x3 kernels, with every kind of tile: whole ones alone, rims on either side of
# one or two outputs, a corner alone, windows that leave a row out; filters around the vectors.
WINDOWS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 12, 12, 40), (3, 3, 40, 24), {}),
    ((2, 12, 12, 40), (3, 3, 40, 24), {"padding": 1}),
    ((7, 13, 13, 32), (3, 3, 32, 64), {}),
    ((3, 7, 9, 17), (3, 3, 17, 33), {"padding": 1}),
    ((2, 8, 13, 16), (3, 3, 16, 67), {"padding": "same"}),
    ((2, 6, 20, 5), (3, 3, 5, 7), {"padding": ((2, 0), (0, 1))}),
    ((5, 4, 4, 20), (3, 3, 20, 130), {"pool_stride": 2**62}),
    ((2, 5, 21, 3), (3, 3, 3, 1), {}),
]


def pads_of(options: dict[str, Any]) -> Any:
    """Return a 3x3 convolution's padding as pairs."""
    padding = options.get("padding", 0)
    padding = 1 if padding == "same" else padding
    return ((padding, padding),) * 2 if isinstance(padding, int) else padding


# ---------------------------------------------------------------------- convolution, ReLU, max-pool
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), WINDOWS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_winograd_keeps_its_bound(
    x_shape: Any, w_shape: Any, options: Any, dtype: str, rng: np.random.Generator
) -> None:
    """Values are as near as conv2d's, and argmax names a place that may well be the largest."""
    x, w = rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)
    b = rng.standard_normal(w_shape[3:]).astype(dtype)
    pads = pads_of(options)
    n, p, q, k = UNFUSED._conv2d_relu_max_pool2d(x, w, b, **options)[0].shape
    padded = np.pad(x.astype(np.float64), ((0, 0), *pads, (0, 0)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    z = np.einsum("npqcrs,rsck->npqk", seen, w.astype(np.float64), optimize=True) + b
    # What the pool reads, and what may lie in a tile with it.
    error = winograd_bound(x, w, b, pads, dtype)[:, : 2 * p, : 2 * q].reshape(n, p, 2, q, 2, k)
    error = error.max((2, 4))
    windows = z[:, : 2 * p, : 2 * q].reshape(n, p, 2, q, 2, k).transpose(0, 1, 3, 5, 2, 4)
    windows = windows.reshape(n, p, q, k, 4)
    largest = np.maximum(windows.max(-1), 0)
    for isa in _kernels.available():
        backend = FastBackend(isa, convolution="winograd")
        y, argmax = backend._conv2d_relu_max_pool2d(x, w, b, **options)
        assert_within(y, largest, error, dtype, isa)
        assert argmax.dtype == np.uint8
        np.testing.assert_array_equal(argmax == 4, y == 0)
        choices = np.concatenate([windows, np.zeros((*y.shape, 1))], axis=-1)
        chosen = np.take_along_axis(choices, argmax[..., None].astype(np.intp), -1)[..., 0]
        assert (largest - chosen <= 2 * error).all()
        for one in range(n):
            alone = backend._conv2d_relu_max_pool2d(x[one : one + 1], w, b, **options)
            assert_same_bits(alone, (y[one : one + 1], argmax[one : one + 1]), isa)


# x and filters, for every way the work is divided (weights ahead in one block or many, groups of
# filters with few tiles, large weights with one block and with two; kept weights point by point)
# and every kind of tile: whole ones alone, rims below, beside, on both sides, a corner alone.
WORK = [
    ((2, 2, 2, 3), 5),
    ((2, 4, 4, 3), 16),
    ((5, 21, 19, 33), 40),
    ((3, 22, 8, 20), 65),
    ((2, 8, 7, 40), 200),
    ((2, 4, 6, 150), 131),
    ((2, 4, 6, 150), 64),  # seven threads meet at a point whose first tiles are others' last
    ((3, 9, 9, 272), 330),
    ((8, 12, 11, 330), 272),
]


def composed(backend: FastBackend, x: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """Return (y, argmax) of conv2d, relu and max_pool2d, in the tiles that the fused op takes.

    A row or column that no window reads is not computed: the last tile may be shorter.
    """
    ends = [1 - size % 2 for size in x.shape[1:3]]
    z = backend.conv2d(x, w, b, padding=((1, ends[0]), (1, ends[1])))
    y, argmax = backend.max_pool2d(backend.relu(z))
    argmax[y == 0] = 4
    return y, argmax


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("x_shape", "filters"), WORK, ids=str)
def test_winograd_is_its_ops_bit_for_bit(
    x_shape: Any, filters: int, dtype: str, rng: np.random.Generator
) -> None:
    x = rng.standard_normal(x_shape).astype(dtype)
    x[rng.random(x_shape[:3]) < 0.6] = 0  # blank windows, and tiles that are blank in part
    w = rng.standard_normal((3, 3, x_shape[3], filters)).astype(dtype)
    w[1, 1, 0, filters // 2] = np.nan
    b = rng.standard_normal(filters).astype(dtype)
    b[:2] = 0
    pads: dict[str, Any] = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1}
    pools: dict[str, Any] = {"pool_size": 2, "pool_stride": 2}
    for isa, threads in product(_kernels.available(), (1, 2, 7)):
        backend = FastBackend(isa, threads, convolution="winograd")
        expected = composed(backend, x, w, b)
        about = f"{isa} {threads}"
        assert_same_bits(backend._conv2d_relu_max_pool2d(x, w, b, **pads), expected, about)
        kept = Kept(isa, threads, convolution="winograd")
        for _ in range(2):
            y = kept._conv2d_pool_product(x, w, b, **pads, **pools)
            assert_same_bits((y,), expected[:1], about)


def test_a_nan_wins_and_takes_the_gradient(fast_backend: Any) -> None:
    x = np.zeros((1, 6, 6, 2), np.float32)
    x[0, 3, 3] = np.nan
    w = np.ones((1, 1, 2, 3), np.float32)
    y, argmax = fast_backend._conv2d_relu_max_pool2d(x, w)
    assert np.isnan(y[0, 1, 1]).all()
    assert (argmax[0, 1, 1] == 3).all()
    assert (np.delete(argmax.reshape(9, 3), 4, axis=0) == 4).all()
    _, _, db = fast_backend._conv2d_relu_max_pool2d_backward(np.ones_like(y), argmax, x, w)
    np.testing.assert_array_equal(db, np.ones(3))


@pytest.mark.parametrize("filters", [2, 3, 6, 16])
def test_an_infinite_weight_meets_no_padding(filters: int, rng: np.random.Generator) -> None:
    x, w = rng.uniform(1, 2, (2, 20, 40, 1)), rng.integers(-3, 4, (5, 4, 1, filters)) * 1.0
    x[1, 7, 9] = np.nan
    w[0, 0, 0, 0], w[4, 3, 0, -1], w[2, 0, 0, 1] = np.inf, -np.inf, np.nan
    for padding, isa in product((0, 2, ((2, 1), (1, 2))), _kernels.available()):
        backend = FastBackend(isa)
        z = backend.relu(backend.conv2d(x, w, padding=padding))
        expected = backend.max_pool2d(z)[0]
        y, _ = backend._conv2d_relu_max_pool2d(x, w, padding=padding)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
        np.testing.assert_allclose(y, expected, rtol=1e-12)


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_where_the_image_is_blank_nothing_wins(
    convolution: str, fast_backend: Any, rng: np.random.Generator
) -> None:
    """A sum of zeros is zero, not what rounding leaves: ReLU would let a gradient through."""
    backend = FastBackend(fast_backend.isa, convolution=convolution)
    for channels, filters in ((1, 32), (8, 16), (32, 64), (64, 128)):
        x = np.zeros((2, 13, 13, channels), np.float32)
        x[:, 4:8, 3:6] = rng.standard_normal((2, 4, 3, channels))
        w = rng.standard_normal((3, 3, channels, filters)).astype(np.float32)
        y, argmax = backend._conv2d_relu_max_pool2d(x, w)
        seen = backend._conv2d_relu_max_pool2d(np.abs(x), np.abs(w))[0] > 0
        assert 0 < np.count_nonzero(seen) < seen.size
        np.testing.assert_array_equal(y[~seen], 0)
        np.testing.assert_array_equal(argmax[~seen], 4)


@pytest.mark.parametrize("padding", [0, 2])
def test_gradients_of_images_beyond_what_a_list_of_winners_tells(
    padding: int, fast_backend: Any
) -> None:
    w = np.zeros((3, 3, 32, 32), np.float32)
    sides = (8190, 8191, 8192, 8193)
    for height, width in product(sides, sides):
        x = np.broadcast_to(np.float32(0), (1, height, width, 32))
        pooled = _pooled_of(x, w, 1, padding, 1, 1, 2, None)
        path, *_ = fast_backend._gradient_paths(x, w, pooled, True)
        fits = (height + 2 * padding) * (width + 2 * padding) * 32 < 2**31
        assert path == ("sparse" if fits else "plain")


# ---------------------------------------------------------------------- norm, ReLU, max-pool
def test_large_results_go_past_the_caches(rng: np.random.Generator) -> None:
    """From 32 MB on dx is written another way."""
    x = (3 + 2 * rng.standard_normal((65, 46, 45, 64))).astype(np.float32)
    gamma, beta = rng.standard_normal((2, 64)).astype(np.float32)
    backend = FastBackend()
    y, argmax, *saved = backend._batch_norm_relu_max_pool2d(x, gamma, beta)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    dead = argmax == 4
    dz = backend.max_pool2d_backward(
        np.where(dead, 0, dy).astype(np.float32), argmax * ~dead, x.shape
    )
    found = backend._batch_norm_relu_max_pool2d_backward(dy, argmax, x, gamma, *saved)
    expected = backend.batch_norm_backward(dz, x, gamma, *saved)
    assert_results(found, expected, "batch_norm_backward", np.float32, largest_dy=np.abs(dy).max())


# ---------------------------------------------------------------------- from moments
def first_layer(x: Any, w: Any, rng: np.random.Generator) -> list[Any]:
    """Return x, w, gamma, beta, b; x is as images are, above 0 and brighter below."""
    image = rng.random(x) + np.linspace(0, 1, x[1])[:, None, None]
    vectors = rng.standard_normal((3, w[3]))
    return [array.astype(np.float32) for array in (image, rng.standard_normal(w), *vectors)]


@pytest.mark.parametrize("shift", [0, 10, 1000])
def test_statistics_are_exact_far_from_zero(
    shift: float, fast_backend: Any, rng: np.random.Generator
) -> None:
    """Sums of products of float32 numbers in double keep what the variance is beside the mean."""
    x, w, gamma, beta, b = first_layer((8, 12, 12, 1), (3, 3, 1, 16), rng)
    x += np.float32(shift)
    _, _, mean, variance = fast_backend._conv2d_batch_norm_relu_max_pool2d(x, w, gamma, beta, b)
    z = fast_backend.conv2d(*(array.astype(np.float64) for array in (x, w, b)))
    np.testing.assert_array_max_ulp(mean, z.mean((0, 1, 2)).astype(np.float32))
    np.testing.assert_array_max_ulp(variance, z.var((0, 1, 2)).astype(np.float32))


@pytest.mark.parametrize("value", [0.1, 0.7, 3.3, 123.456])
def test_equal_pixels_have_no_variance(value: float, rng: np.random.Generator) -> None:
    """What is left of the products may be below 0 by rounding; a variance is not."""
    x, w, gamma, beta, b = first_layer((3, 8, 8, 1), (3, 3, 1, 64), rng)
    x[...] = value
    y, _, _, variance = FastBackend()._conv2d_batch_norm_relu_max_pool2d(x, w, gamma, beta, b)
    assert (variance >= 0).all()
    assert variance.max() < 1e-12 * value**2
    np.testing.assert_allclose(y, np.broadcast_to(np.maximum(beta, 0), y.shape), atol=0.01 * value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_spoils_the_statistics_if_it_is_seen(
    bad: float, fast_backend: Any, rng: np.random.Generator
) -> None:
    arrays = first_layer((2, 12, 12, 1), (2, 2, 1, 16), rng)
    options = {"stride": 3, "pool_size": 1}
    op = fast_backend._conv2d_batch_norm_relu_max_pool2d
    _, _, *clean = op(*arrays, **options)
    arrays[0][:, 2::3] = bad  # rows and columns between the patches, and after the last
    arrays[0][:, :, 2::3] = bad
    y, _, *saved = op(*arrays, **options)
    assert_same_bits(saved, clean)
    assert np.isfinite(y).all()
    arrays[0][0, 3, 4] = bad
    y, _, _, variance = op(*arrays, **options)
    assert np.isnan(variance).all()
    assert np.isnan(y).all()


def test_no_bias_is_a_bias_of_zeros(fast_backend: Any, rng: np.random.Generator) -> None:
    x, w, gamma, beta, b = first_layer((3, 9, 9, 1), (3, 3, 1, 16), rng)
    op = fast_backend._conv2d_batch_norm_relu_max_pool2d
    found = op(x, w, gamma, beta)
    assert_same_bits(found, op(x, w, gamma, beta, 0 * b))
    dy, argmax, *saved = found
    back = fast_backend._conv2d_batch_norm_relu_max_pool2d_backward
    one, other = (
        back(dy, argmax, x, w, gamma, *saved, bias, input_gradient=False) for bias in (None, 0 * b)
    )
    assert_same_bits(one, other)


def test_one_value_has_no_statistics(fast_backend: Any, rng: np.random.Generator) -> None:
    """The sentence is that of the plain op: whoever wrote the layers never called a fused one."""
    x, w, gamma, beta, b = first_layer((1, 3, 3, 1), (3, 3, 1, 16), rng)
    told = r"^batch_norm: x: expected at least two values a channel"
    with pytest.raises(ValueError, match=told):
        fast_backend._conv2d_batch_norm_relu_max_pool2d(x, w, gamma, beta, b, pool_size=1)
    with pytest.raises(ValueError, match=told):
        fast_backend._batch_norm_relu(x[:, :1, :1], gamma[:1], beta[:1])


# ---------------------------------------------------------------------- constants of own layers
@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("_conv2d_relu_max_pool2d", [(3, 3, 16, 8)]),
        ("_batch_norm_relu_max_pool2d", [(16,), (16,)]),
    ],
)
def test_arrays_of_any_layout_are_taken(
    name: str, shapes: Any, fast_backend: Any, dtype: Any, rng: np.random.Generator
) -> None:
    """A layer of a user's own may hold arrays that lie in another order."""
    x = rng.standard_normal((2, 9, 8, 16)).astype(dtype)
    others = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    strided = [np.repeat(each, 2, axis=-1)[..., ::2] for each in others]
    y, argmax, *saved = getattr(fast_backend, name)(x, *others)
    assert_same_bits(getattr(fast_backend, name)(x, *strided), (y, argmax, *saved))
    one, other = (
        getattr(fast_backend, f"{name}_backward")(y, argmax, x, first, *saved)
        for first in (others[0], strided[0])
    )
    assert_same_bits(one, other)
