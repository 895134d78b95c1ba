"""Convolution, linear layers and pooling of the fast backend against the reference.

The reference is asked in float64 for arguments that are exact in the tested dtype: its answer is
then the right one, and sums are held to the bound that no order of summation exceeds,
gamma(terms) times the same op on absolute values. Convolutions are asked for the direct sum:
Winograd's have bounds and tests of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_results, assert_same_bits, assert_within, gamma, untouched
from hypothesis import given
from hypothesis import strategies as st
from windows import CONVOLUTIONS, DILATED_POOLS, POOLS, convolutions, pools

from fastcnn import FastBackend, reference
from fastcnn.backend import Array

INF, NAN = np.inf, np.nan
DTYPES = ["float32", "float64"]


def draw(seed: int, dtype: Any, *shapes: tuple[int, ...]) -> list[Array]:
    """Normal numbers in float64 that are exact in the dtype."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype).astype(np.float64) for shape in shapes]


def bounded(terms: int, dtype: Any) -> float:
    """Return gamma for a sum of products, doubled where the oracle itself rounds as much."""
    return (2 if np.dtype(dtype) == np.float64 else 1) * gamma(terms + 1, dtype)


# ---------------------------------------------------------------------- convolution
def check_conv2d(
    x: Array, w: Array, b: Array | None, seed: int, dtype: Any, backends: list[Any], **options: Any
) -> None:
    """Compare conv2d and conv2d_backward of all backends with the reference and its bound."""
    about = f"conv2d x{x.shape} w{w.shape} {options}"
    y = reference.conv2d(x, w, b, **options)
    (dy,) = draw(seed + 1, dtype, y.shape)
    dx, dw, db = reference.conv2d_backward(dy, x, w, **options)
    sizes = [np.abs(array) for array in (x, w, dy)]
    bias_size = None if b is None else np.abs(b)
    y_size = reference.conv2d(*sizes[:2], bias_size, **options)
    dx_size, dw_size, db_size = reference.conv2d_backward(sizes[2], *sizes[:2], **options)

    r, s, c, k = w.shape
    forward = bounded(r * s * c + 1, dtype)
    backward = bounded(r * s * k // options.get("groups", 1), dtype)
    weights = bounded(dy.size // k, dtype)

    inputs = [None if array is None else array.astype(dtype) for array in (x, w, b, dy)]
    x, w, b, dy = inputs
    for isa in (backend.isa for backend in backends):
        backend = FastBackend(isa, convolution="direct")
        told = f"{isa} {dtype} {about}"
        with untouched(*inputs):
            result = backend.conv2d(x, w, b, **options)
            gradients = backend.conv2d_backward(dy, x, w, **options)
            none, *rest = backend.conv2d_backward(dy, x, w, **options, input_gradient=False)
            only, *nones = backend.conv2d_backward(dy, x, w, **options, weight_gradient=False)
        assert_within(result, y, forward * y_size, dtype, told)
        assert_within(gradients[0], dx, backward * dx_size, dtype, f"dx of {told}")
        assert_within(gradients[1], dw, weights * dw_size, dtype, f"dw of {told}")
        assert_within(gradients[2], db, weights * db_size, dtype, f"db of {told}")
        assert none is None
        assert_same_bits(tuple(rest), tuple(gradients[1:]), told)
        assert nones == [None, None]
        assert_same_bits((only,), (gradients[0],), told)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", range(len(CONVOLUTIONS)))
def test_conv2d(number: int, dtype: str, fast_backends: list[Any]) -> None:
    x_shape, kernel, filters, options = CONVOLUTIONS[number]
    w_shape = (*kernel, x_shape[3] // options.get("groups", 1), filters)
    x, w, b = draw(number, dtype, x_shape, w_shape, (filters,))
    check_conv2d(x, w, None if number % 3 == 0 else b, number, dtype, fast_backends, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", range(1, 68))
def test_conv2d_of_any_width(channels: int, dtype: str, fast_backends: list[Any]) -> None:
    """Channels and filters around the widths of vectors and of the register tile."""
    filters = 68 - channels
    x, w, b = draw(channels, dtype, (1, 2, 4, channels), (2, 2, channels, filters), (filters,))
    check_conv2d(x, w, b, channels, dtype, fast_backends)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", range(1, 68))
def test_depthwise_of_any_width(channels: int, dtype: str, fast_backends: list[Any]) -> None:
    x, w = draw(channels, dtype, (1, 3, 4, channels), (2, 3, 1, channels))
    options = {"groups": channels, "padding": (0, 1), "stride": (1, 1 + channels % 2)}
    check_conv2d(x, w, None, channels, dtype, fast_backends, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", [0, 1, 2, ((1, 0), (0, 2)), ((0, 2), (2, 1)), 3])
@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_depthwise_three_columns_wide(
    rows: int, padding: Any, dtype: str, fast_backends: list[Any]
) -> None:
    """Widths, heights and pads where rims meet, and an infinity that a rim does not see."""
    for height, width in ((rows, 3), (4, 4), (6, 9)):
        x, w, b = draw(rows, dtype, (2, height, width, 19), (rows, 3, 1, 19), (19,))
        options = {"groups": 19, "padding": padding}
        check_conv2d(x, w, b, rows, dtype, fast_backends, **options)
        x[1, 0, 0, 3], x[0, -1, -1, 18] = INF, INF
        with np.errstate(invalid="ignore"):
            check_conv2d(x, w, b, rows, dtype, fast_backends, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("r", range(3))
@pytest.mark.parametrize("s", range(3))
def test_depthwise_weights_do_not_reach_the_padding(
    r: int, s: int, dtype: str, fast_backends: list[Any]
) -> None:
    """An infinite weight shows where its tap lies inside the image, forward and backward."""
    x, w, dy = draw(1, dtype, (1, 4, 5, 19), (3, 3, 1, 19), (1, 4, 5, 19))
    w[r, s, 0, 7] = INF
    x, w, dy = (array.astype(dtype) for array in (x, w, dy))
    seen = np.zeros((6, 7), bool)
    seen[1:5, 1:6] = True
    for backend in fast_backends:
        y = backend.conv2d(x, w, groups=19, padding=1)
        dx = backend.conv2d_backward(dy, x, w, groups=19, padding=1)[0]
        np.testing.assert_array_equal(np.isinf(y[0, :, :, 7]), seen[r : r + 4, s : s + 5])
        np.testing.assert_array_equal(np.isinf(dx[0, :, :, 7]), seen[2 - r : 6 - r, 2 - s : 7 - s])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", range(1, 34))
@pytest.mark.parametrize("depth", [2, 4, 8])
def test_narrow_groups_of_any_number(
    groups: int, depth: int, dtype: str, fast_backends: list[Any]
) -> None:
    channels = groups * depth
    x, w, b = draw(groups, dtype, (1, 3, 7, channels), (2, 3, depth, channels), (channels,))
    options = {"groups": groups, "padding": (0, 1), "stride": (1, 1 + groups % 2)}
    check_conv2d(x, w, b, groups, dtype, fast_backends, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pixels", range(1, 20))
def test_conv2d_of_any_number_of_pixels(pixels: int, dtype: str, fast_backends: list[Any]) -> None:
    """Rows of output pixels around the height of the register tile, with and without rims."""
    for images, padding in ((1, 0), (2, (0, 1))):
        x, w, b = draw(pixels, dtype, (images, 1, pixels + 2, 3), (1, 3, 3, 18), (18,))
        check_conv2d(x, w, b, pixels, dtype, fast_backends, padding=padding)


@given(case=convolutions(), dtype=st.sampled_from(DTYPES), bias=st.booleans(), seed=st.integers(0))
def test_conv2d_of_any_shape(
    case: Any, dtype: str, bias: bool, seed: int, fast_backends: list[Any]
) -> None:
    x_shape, w_shape, options = case
    x, w, b = draw(seed, dtype, x_shape, w_shape, w_shape[3:])
    check_conv2d(x, w, b if bias else None, seed, dtype, fast_backends, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("special", [NAN, INF, -INF])
@pytest.mark.parametrize("groups", [1, 2, 9, 19])
def test_special_values_go_where_they_are_seen_and_nowhere_else(
    groups: int, special: float, dtype: str, fast_backends: list[Any]
) -> None:
    """Nothing leaks out of lanes and rows that fill up a tile: not from x, dy or the bias.

    Special weights and dy are tried without padding: a kernel may or may not multiply them with
    the pads.
    """
    x, w, b = draw(1, dtype, (2, 4, 5, 19), (3, 2, 19 // groups, 38), (38,))
    if groups in (2, 9):
        x, w = x[..., :18], w[:, :, : 18 // groups]
    if groups == 9:
        w, b = w[..., :18], b[:18]
    if groups == 19:
        w, b = w[..., :19], b[:19]
    options = {"padding": 1, "groups": groups, "stride": (1, 2)}
    with np.errstate(invalid="ignore"):
        for place in ((0, 0, 0, 0), (1, 2, 3, 17), (0, 3, 4, 9)):
            spoiled = x.copy()
            spoiled[place] = special
            check_conv2d(spoiled, w, b, 1, dtype, fast_backends, **options)
        spoiled = b.copy()
        spoiled[7] = special
        check_conv2d(x, w, spoiled, 1, dtype, fast_backends, **options)
        spoiled = w.copy()
        spoiled[1, 1, 0, 5] = special
        check_conv2d(x, spoiled, b, 1, dtype, fast_backends, groups=groups)
    options["padding"] = 0
    y = reference.conv2d(x, w, **options)
    (dy,) = draw(2, dtype, y.shape)
    dy[1, 1, 1, 11] = special
    expected = reference.conv2d_backward(dy, x, w, **options)
    x, w, dy = (array.astype(dtype) for array in (x, w, dy))
    for backend in fast_backends:
        results = backend.conv2d_backward(dy, x, w, **options)
        for result, wanted in zip(results, expected, strict=True):
            np.testing.assert_array_equal(np.isfinite(result), np.isfinite(wanted))


# ---------------------------------------------------------------------- linear
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", range(1, 68))
def test_linear(channels: int, dtype: str, fast_backends: list[Any]) -> None:
    n, k = channels % 9, 68 - channels
    x, w, b, dy = draw(channels, dtype, (n, channels), (channels, k), (k,), (n, k))
    bias, bias_size = (None, None) if channels % 4 == 0 else (b, np.abs(b))
    y = reference.linear(x, w, bias)
    y_size = reference.linear(np.abs(x), np.abs(w), bias_size)
    gradients = reference.linear_backward(dy, x, w)
    sizes = reference.linear_backward(np.abs(dy), np.abs(x), np.abs(w))
    terms = (k, n, n)
    inputs = [None if array is None else array.astype(dtype) for array in (x, w, bias, dy)]
    x32, w32, b32, dy32 = inputs
    for backend in fast_backends:
        with untouched(*inputs):
            result = backend.linear(x32, w32, b32)
            results = backend.linear_backward(dy32, x32, w32)
            none, *rest = backend.linear_backward(dy32, x32, w32, input_gradient=False)
        assert_within(result, y, bounded(channels + 1, dtype) * y_size, dtype, backend.isa)
        for one, wanted, size, count in zip(results, gradients, sizes, terms, strict=True):
            assert_within(one, wanted, bounded(count, dtype) * size, dtype, backend.isa)
        assert none is None
        assert_same_bits(tuple(rest), tuple(results[1:]), backend.isa)


# ---------------------------------------------------------------------- pooling
def check_pools(
    x: Array, seed: int, dtype: Any, backends: list[Any], pool_size: Any, **options: Any
) -> None:
    """Compare both pools, forward and backward, with the reference."""
    about = f"pool x{x.shape} {pool_size} {options}"
    y, argmax = reference.max_pool2d(x, pool_size, **options)
    (dy,) = draw(seed + 1, dtype, y.shape)
    r, s = (pool_size, pool_size) if isinstance(pool_size, int) else pool_size
    sums = bounded(r * s + 2, dtype)  # no pixel lies in more windows than a window has pixels
    given = x.astype(dtype), dy.astype(dtype)
    back = (x.shape, pool_size)
    dx = reference.max_pool2d_backward(dy, argmax, *back, **options)
    dx_size = reference.max_pool2d_backward(np.abs(dy), argmax, *back, **options)
    for backend in backends:
        told = f"{backend.isa} {dtype} max {about}"
        with untouched(*given, argmax):
            results = backend.max_pool2d(given[0], pool_size, **options)
            assert_results(results, (y, argmax), "max_pool2d", dtype, told)
            result = backend.max_pool2d_backward(given[1], argmax, *back, **options)
            values = backend._max_pool2d_values(given[0], pool_size, **options)
        assert_within(result, dx, sums * dx_size, dtype, told)
        assert_same_bits((values,), results[:1], told)
    for count in (False, True):
        options["count_include_pad"] = count
        mean = reference.avg_pool2d(x, pool_size, **options)
        mean_size = reference.avg_pool2d(np.abs(x), pool_size, **options)
        dx = reference.avg_pool2d_backward(dy, *back, **options)
        dx_size = reference.avg_pool2d_backward(np.abs(dy), *back, **options)
        for backend in backends:
            told = f"{backend.isa} {dtype} avg {about} {count}"
            with untouched(*given):
                result = backend.avg_pool2d(given[0], pool_size, **options)
                gradient = backend.avg_pool2d_backward(given[1], *back, **options)
            assert_within(result, mean, sums * mean_size, dtype, told)
            assert_within(gradient, dx, sums * dx_size, dtype, told)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", range(len(POOLS)))
def test_pools(number: int, dtype: str, fast_backends: list[Any]) -> None:
    x_shape, pool_size, options = POOLS[number]
    (x,) = draw(number, dtype, x_shape)
    check_pools(np.round(2 * x) / 2, number, dtype, fast_backends, pool_size, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", range(len(DILATED_POOLS)))
def test_dilated_pools(number: int, dtype: str, fast_backends: list[Any]) -> None:
    x_shape, pool_size, options = DILATED_POOLS[number]
    (x,) = draw(number, dtype, x_shape)
    for special in (0, NAN, -INF):
        x = np.round(2 * x) / 2
        x[x == 0] = special
        check_pools(x, number, dtype, fast_backends, pool_size, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", range(1, 68))
def test_pools_of_any_width(channels: int, dtype: str, fast_backends: list[Any]) -> None:
    (x,) = draw(channels, dtype, (1, 3, 4, channels))
    for pool_size in (2, 3):
        check_pools(np.round(x), channels, dtype, fast_backends, pool_size, stride=1)


@given(
    case=pools(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0),
    special=st.sampled_from([None, NAN, INF, -INF]),
)
def test_pools_of_any_shape(
    case: Any, dtype: str, seed: int, special: float | None, fast_backends: list[Any]
) -> None:
    """Ties, NaN and infinities in windows of every form."""
    x_shape, pool_size, options = case
    (x,) = draw(seed, dtype, x_shape)
    x = np.round(2 * x)
    if special is not None:
        x[x == 0] = special
    check_pools(x, seed, dtype, fast_backends, pool_size, **options)
