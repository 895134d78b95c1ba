"""The fast backend, on every instruction set, against the reference.

The reference is asked in float64 for arguments that are exact in the tested dtype: its answer is
then the right one, and convolution, linear layers and average pooling are held to the bound that
no order of summation exceeds, gamma(terms) times the same op on absolute values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from calls import OPS, arguments, run
from compare import assert_results, assert_same_bits, assert_within, gamma, untouched
from hypothesis import given
from hypothesis import strategies as st

from fastcnn import reference
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
    for backend in backends:
        told = f"{backend.isa} {dtype} {about}"
        with untouched(*inputs):
            result = backend.conv2d(x, w, b, **options)
            gradients = backend.conv2d_backward(dy, x, w, **options)
            none, *rest = backend.conv2d_backward(dy, x, w, **options, input_gradient=False)
        assert_within(result, y, forward * y_size, dtype, told)
        assert_within(gradients[0], dx, backward * dx_size, dtype, f"dx of {told}")
        assert_within(gradients[1], dw, weights * dw_size, dtype, f"dw of {told}")
        assert_within(gradients[2], db, weights * db_size, dtype, f"db of {told}")
        assert none is None
        assert_same_bits(tuple(rest), tuple(gradients[1:]), told)


# x (N, H, W, C), kernel (R, S), filters, options
CONVOLUTIONS: list[tuple[tuple[int, int, int, int], tuple[int, int], int, dict[str, Any]]] = [
    # Every form of padding, alone and with a stride.
    ((2, 5, 6, 3), (3, 3), 5, {}),
    ((2, 5, 6, 3), (3, 3), 5, {"padding": "valid", "stride": 2}),
    ((2, 5, 6, 3), (3, 3), 5, {"padding": "same"}),
    ((2, 5, 6, 3), (2, 4), 5, {"padding": "same"}),
    ((2, 5, 6, 3), (4, 3), 5, {"padding": "same", "stride": (2, 3)}),
    ((1, 5, 6, 3), (1, 1), 4, {"padding": "same", "stride": 3}),
    ((2, 5, 6, 3), (3, 3), 5, {"padding": 1}),
    ((2, 5, 6, 3), (3, 2), 5, {"padding": (2, 0), "stride": 2}),
    ((2, 5, 6, 3), (3, 3), 5, {"padding": ((0, 2), (1, 0))}),
    ((2, 5, 6, 3), (3, 3), 5, {"padding": ((3, 0), (0, 1)), "stride": (3, 1)}),
    # Windows that lie in the padding altogether.
    ((1, 2, 2, 3), (2, 2), 5, {"padding": 4}),
    ((1, 2, 3, 2), (3, 3), 4, {"padding": ((7, 0), (0, 6)), "stride": (2, 3)}),
    ((1, 1, 1, 1), (1, 1), 1, {"padding": 2}),
    ((1, 1, 1, 2), (5, 5), 3, {"padding": 2}),
    # Strides that leave inputs out, larger than the kernel, larger than the image.
    ((1, 7, 8, 3), (1, 1), 4, {"stride": 2}),
    ((1, 9, 8, 3), (2, 1), 4, {"stride": (4, 3)}),
    ((2, 4, 5, 3), (2, 2), 4, {"stride": 100}),
    ((1, 8, 7, 2), (3, 3), 17, {"stride": (1, 2), "padding": 1}),
    ((1, 8, 7, 2), (5, 3), 17, {"stride": (3, 2), "padding": (2, 1)}),
    # Dilation, beyond the image, and together with everything.
    ((1, 8, 9, 3), (3, 3), 4, {"dilation": (2, 3)}),
    ((1, 6, 6, 2), (2, 3), 4, {"dilation": 5, "padding": 6}),
    ((1, 6, 6, 2), (3, 3), 4, {"dilation": 7, "padding": 7}),
    ((1, 9, 9, 2), (3, 2), 4, {"dilation": (2, 3), "stride": 2, "padding": 2}),
    ((1, 9, 9, 2), (3, 2), 4, {"dilation": 2, "stride": (2, 4), "padding": "same"}),
    ((1, 9, 9, 2), (3, 3), 4, {"dilation": 2, "stride": 2, "padding": ((1, 2), (0, 3))}),
    ((1, 10, 10, 1), (2, 2), 2, {"dilation": 3, "stride": 6, "padding": 1}),
    # Groups, of even and odd widths, and depthwise, with and without a multiplier.
    ((2, 4, 4, 4), (3, 3), 6, {"groups": 2, "padding": 1}),
    ((1, 4, 4, 34), (2, 2), 34, {"groups": 2}),
    ((1, 4, 4, 6), (2, 2), 99, {"groups": 3, "stride": 2}),
    ((1, 4, 4, 51), (2, 2), 6, {"groups": 3, "padding": 1, "dilation": 2}),
    ((1, 4, 4, 10), (3, 3), 5, {"groups": 5, "padding": "same", "stride": 2}),
    ((2, 5, 4, 3), (3, 3), 3, {"groups": 3}),
    ((1, 5, 4, 16), (3, 3), 16, {"groups": 16, "padding": 1}),
    ((1, 6, 7, 33), (3, 2), 33, {"groups": 33, "padding": "same", "stride": 2}),
    ((1, 8, 8, 19), (3, 3), 19, {"groups": 19, "padding": 2, "dilation": 2, "stride": (1, 2)}),
    ((1, 5, 5, 5), (3, 3), 5, {"groups": 5, "padding": ((4, 1), (0, 5)), "stride": 3}),
    ((1, 4, 5, 3), (3, 3), 6, {"groups": 3, "padding": 1}),
    ((1, 4, 5, 7), (2, 3), 21, {"groups": 7, "stride": 2}),
    ((1, 5, 5, 1), (3, 3), 4, {"groups": 1}),
    # Kernels: a row, a column, the whole image, larger than the image, wide.
    ((1, 5, 9, 3), (1, 7), 4, {}),
    ((1, 9, 5, 3), (7, 1), 4, {"padding": (3, 0)}),
    ((3, 5, 4, 2), (5, 4), 20, {}),
    ((1, 3, 3, 2), (7, 5), 3, {"padding": 3}),
    ((1, 12, 12, 1), (11, 11), 3, {"padding": 2}),
    # Images one pixel high or wide, more images than pixels, and none.
    ((2, 1, 17, 3), (1, 3), 5, {"padding": (0, 1)}),
    ((2, 17, 1, 3), (3, 1), 5, {"stride": 2}),
    ((13, 1, 1, 5), (1, 1), 7, {}),
    ((37, 2, 2, 2), (2, 2), 3, {}),
    ((0, 5, 6, 3), (3, 3), 5, {"padding": 1}),
    ((0, 5, 6, 4), (3, 3), 4, {"groups": 4}),
    # The layers of the sample network, one image, fewer pixels.
    ((1, 7, 7, 1), (3, 3), 32, {}),
    ((1, 5, 5, 32), (3, 3), 64, {}),
]


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
@pytest.mark.parametrize("pixels", range(1, 20))
def test_conv2d_of_any_number_of_pixels(
    pixels: int, dtype: str, fast_backends: list[Any]
) -> None:
    """Rows of output pixels around the height of the register tile, with and without rims."""
    for images, padding in ((1, 0), (2, (0, 1))):
        x, w, b = draw(pixels, dtype, (images, 1, pixels + 2, 3), (1, 3, 3, 18), (18,))
        check_conv2d(x, w, b, pixels, dtype, fast_backends, padding=padding)


@st.composite
def convolutions(choose: st.DrawFn) -> tuple[Any, ...]:
    """Shapes and options that fit, small enough for the reference."""
    small = st.integers(1, 3)
    groups = choose(st.sampled_from([1, 1, 1, 2, 3, 8, 17]))
    group_channels = choose(st.sampled_from([1, 1, 2, 3, 9] if groups > 1 else [1, 2, 5, 16, 33]))
    multiplier = choose(st.sampled_from([1, 2, 5] if groups > 1 else [1, 3, 8, 17, 35]))
    kernel = choose(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = choose(st.one_of(small, st.tuples(small, small)))
    dilation = choose(st.one_of(small, st.tuples(small, small)))
    pads = st.integers(0, 4)
    padding = choose(
        st.one_of(
            st.sampled_from(["same", "valid"]),
            pads,
            st.tuples(pads, pads),
            st.tuples(st.tuples(pads, pads), st.tuples(pads, pads)),
        )
    )
    spread = dilation if isinstance(dilation, tuple) else (dilation, dilation)
    # The window always fits, so that no padding makes the sizes an error.
    height, width = (
        (k - 1) * d + 1 + choose(st.integers(0, 3)) for k, d in zip(kernel, spread, strict=True)
    )
    images = choose(st.integers(0, 2))
    x_shape = (images, height, width, groups * group_channels)
    w_shape = (*kernel, group_channels, groups * multiplier)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return x_shape, w_shape, options


@given(case=convolutions(), dtype=st.sampled_from(DTYPES), bias=st.booleans(), seed=st.integers(0))
def test_conv2d_of_any_shape(
    case: Any, dtype: str, bias: bool, seed: int, fast_backends: list[Any]
) -> None:
    x_shape, w_shape, options = case
    x, w, b = draw(seed, dtype, x_shape, w_shape, w_shape[3:])
    check_conv2d(x, w, b if bias else None, seed, dtype, fast_backends, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("special", [NAN, INF, -INF])
@pytest.mark.parametrize("groups", [1, 2, 19])
def test_special_values_go_where_they_are_seen_and_nowhere_else(
    groups: int, special: float, dtype: str, fast_backends: list[Any]
) -> None:
    """Nothing leaks out of lanes and rows that fill up a tile: not from x, dy or the bias.

    Special weights and dy are tried without padding: a kernel may or may not multiply them with
    the pads.
    """
    x, w, b = draw(1, dtype, (2, 4, 5, 19), (3, 2, 19 // groups, 38), (38,))
    if groups == 2:
        x, w = x[..., :18], w[:, :, :9]
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
        assert_within(result, dx, sums * dx_size, dtype, told)
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


# x (N, H, W, C), window, options
POOLS: list[tuple[tuple[int, int, int, int], Any, dict[str, Any]]] = [
    ((2, 4, 6, 3), 2, {}),
    ((2, 5, 7, 3), 2, {}),
    ((2, 5, 7, 3), 2, {"ceil_mode": True}),
    ((2, 5, 7, 3), (2, 3), {"stride": 1}),
    ((2, 6, 6, 3), 3, {"stride": 2}),
    ((2, 6, 6, 3), 3, {"stride": 2, "ceil_mode": True}),
    ((2, 6, 6, 3), 3, {"stride": 2, "padding": 1}),
    ((1, 6, 6, 3), 3, {"stride": 2, "padding": 1, "ceil_mode": True}),
    ((1, 5, 5, 3), 2, {"padding": 1}),
    ((1, 4, 4, 2), 2, {"stride": 3, "padding": 1, "ceil_mode": True}),
    ((1, 6, 6, 2), 2, {"stride": 4, "padding": 1, "ceil_mode": True}),
    ((1, 5, 6, 2), (3, 2), {"padding": (1, 0), "stride": (1, 2)}),
    ((1, 5, 6, 2), (3, 4), {"padding": ((1, 0), (0, 2)), "stride": (2, 1)}),
    ((1, 5, 6, 2), (3, 4), {"padding": ((0, 1), (2, 1)), "ceil_mode": True}),
    ((1, 5, 6, 2), (3, 4), {"padding": "same"}),
    ((1, 5, 6, 2), (2, 2), {"padding": "same", "stride": 1}),
    ((1, 7, 7, 2), (3, 3), {"padding": "same", "stride": 2}),
    ((1, 5, 6, 2), 2, {"padding": "valid", "stride": 3}),
    ((1, 7, 7, 2), 1, {"stride": 3}),
    ((1, 7, 7, 2), 1, {}),
    ((1, 3, 9, 2), (1, 4), {"stride": (1, 2), "ceil_mode": True}),
    ((1, 9, 3, 2), (4, 1), {"stride": (2, 1), "padding": (2, 0)}),
    ((2, 4, 3, 5), (4, 3), {}),
    ((1, 4, 3, 5), 8, {"padding": 4}),
    ((1, 3, 3, 2), 5, {"ceil_mode": True, "stride": 2, "padding": 1}),
    ((1, 3, 3, 2), 7, {"padding": 3, "stride": 2}),
    ((1, 8, 8, 2), 5, {"stride": 1, "padding": 2}),
    ((1, 8, 8, 2), (5, 2), {"stride": (2, 5), "padding": (2, 1), "ceil_mode": True}),
    # 256 places fit into uint8, 257 and more do not.
    ((1, 17, 17, 2), 16, {"stride": 1}),
    ((1, 1, 260, 2), (1, 257), {"stride": 2, "ceil_mode": True}),
    ((1, 18, 17, 2), 17, {"stride": 1}),
    ((0, 4, 6, 3), 2, {}),
    ((9, 2, 2, 1), 2, {}),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", range(len(POOLS)))
def test_pools(number: int, dtype: str, fast_backends: list[Any]) -> None:
    x_shape, pool_size, options = POOLS[number]
    (x,) = draw(number, dtype, x_shape)
    check_pools(np.round(2 * x) / 2, number, dtype, fast_backends, pool_size, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", range(1, 68))
def test_pools_of_any_width(channels: int, dtype: str, fast_backends: list[Any]) -> None:
    (x,) = draw(channels, dtype, (1, 3, 4, channels))
    for pool_size in (2, 3):
        check_pools(np.round(x), channels, dtype, fast_backends, pool_size, stride=1)


@st.composite
def pools(choose: st.DrawFn) -> tuple[Any, ...]:
    """Shapes and options of pooling that fit."""
    window = choose(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    sides = tuple(
        (choose(st.integers(0, k // 2)), choose(st.integers(0, k // 2))) for k in window
    )
    padding = choose(st.sampled_from([sides, sides, "same", "valid"]))
    step = st.integers(1, 5)
    stride = choose(st.one_of(st.none(), step, st.tuples(step, step)))
    height, width = (k + choose(st.integers(0, 5)) for k in window)
    x_shape = (choose(st.integers(0, 2)), height, width, choose(st.sampled_from([1, 2, 7, 17])))
    options = {"stride": stride, "padding": padding, "ceil_mode": choose(st.booleans())}
    return x_shape, window, options


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


# ---------------------------------------------------------------------- every op
def check(op: str, call: dict[str, Any], dtype: Any, backends: list[Any], about: str) -> None:
    """Compare an op of all backends with the reference, which is asked in float64."""
    exact = {
        name: value.astype(np.float64)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
        else value
        for name, value in call.items()
    }
    expected = run(reference, op, exact)
    dy = np.abs(call.get("dy", 0.0))
    largest_dy = float(np.max(dy, where=np.isfinite(dy), initial=0))
    for backend in backends:
        with untouched(*call.values()):
            results = run(backend, op, call)
        about = f"{backend.isa} {dtype} {op} {about}"
        assert_results(results, expected, op, dtype, about, largest_dy=largest_dy)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_every_op_of_any_width(op: str, dtype: str, fast_backends: list[Any]) -> None:
    for channels in range(1, 68):
        rng = np.random.default_rng(channels)
        # Images and rows vary with the width, so that flat lengths meet every remainder too.
        call = arguments(
            op, rng, dtype, reference, images=1, height=4, width=1 + channels % 2, channels=channels
        )
        check(op, call, dtype, fast_backends, f"{channels} channels")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
@given(seed=st.integers(0))
def test_every_op_on_other_numbers(
    op: str, dtype: str, seed: int, fast_backends: list[Any]
) -> None:
    rng = np.random.default_rng(seed)
    images, height, width, channels = (int(rng.integers(1, top)) for top in (3, 5, 5, 9))
    if "batch_norm" in op or op.startswith("conv2d"):
        images, height = images + 1, height + 3
    call = arguments(
        op,
        rng,
        dtype,
        reference,
        images=images,
        height=height,
        width=width,
        channels=channels,
    )
    check(op, call, dtype, fast_backends, f"seed {seed}")


ELEMENTWISE = [
    op
    for op in OPS
    if op.removesuffix("_backward")
    in ("relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "dropout")
]


def extremes(dtype: Any) -> Array:
    """Zeros, subnormal numbers, the ends of every range, infinities, NaN, and ordinary ones."""
    info = np.finfo(dtype)
    tiny, largest = float(info.tiny), float(info.max)
    ends = [0.0, tiny / 8, tiny, 1e-20, 1e-8, 1e-4, 0.1, 0.5, 1, 5.5, 17, 40, 1e4, largest / 4]
    exponents = [86, 87, 88, 89, 90, 103, 104, 105, 707, 709, 710, 745, 746, 747]
    values = np.array([*ends, *exponents, largest, INF])
    return np.concatenate([values, -values, [NAN], np.linspace(-30, 30, 241)]).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ELEMENTWISE)
def test_activations_of_extremes(op: str, dtype: str, fast_backends: list[Any]) -> None:
    x = extremes(dtype)
    if op in ("sigmoid_backward", "tanh_backward"):
        x = np.tanh(x)  # what forward may return: from -1 to 1
        x = x if op == "tanh_backward" else np.abs(x)
    call = arguments(op, np.random.default_rng(0), dtype, reference)
    for name, value in call.items():
        if isinstance(value, np.ndarray):
            call[name] = np.ones(x.shape, value.dtype) if name in ("dy", "mask") else x
    # Apart from the small ones, so that these are compared on their own scale; and all of them
    # once more beginning elsewhere, in other lanes.
    for part in (np.abs(x) <= 50, ~(np.abs(x) <= 50)):
        for shift in range(3):
            moved = {
                name: value[part][shift:] if isinstance(value, np.ndarray) else value
                for name, value in call.items()
            }
            check(op, moved, dtype, fast_backends, f"extremes from {shift}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["softmax", "softmax_cross_entropy"])
def test_softmax_of_extremes(op: str, dtype: str, fast_backends: list[Any]) -> None:
    largest = float(np.finfo(dtype).max) / 4
    rows = [
        [0, 0, 0],
        [1000, 999, 998],
        [-1000, 0, 1000],
        [largest, 0, -largest],
        [-largest, -largest, -largest],
        [88, -88, 0],
        [-INF, 0, 1],
        [NAN, 0, 1],
        [1e-30, -1e-30, 0],
    ]
    for row in rows:
        x = np.array([row, [1, 2, 3]], dtype)
        call: dict[str, Any] = {"x": x}
        if op == "softmax_cross_entropy":
            call = {"logits": x, "labels": np.array([1, 2])}
            if not np.isfinite(x).all():
                continue
        check(op, call, dtype, fast_backends, f"of {row}")


# ---------------------------------------------------------------------- memory
def unaligned(a: Array) -> Array:
    return np.frombuffer(b"_" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape)


def gaps(a: Array) -> Array:
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def read_only(a: Array) -> Array:
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS: dict[str, Callable[[Array], Any]] = {
    "fortran": np.asfortranarray,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "little-endian": lambda a: a.astype(a.dtype.newbyteorder("<")),
    "unaligned": unaligned,
    "read-only": read_only,
    "gaps": gaps,
    "backwards": lambda a: a[::-1].copy()[::-1],
    "mirrored": lambda a: a[..., ::-1].copy()[..., ::-1],
    "transposed": lambda a: a.T.copy().T,
    "masked": lambda a: a.view(np.ma.MaskedArray),
    "subclass": lambda a: a.view(type("Subclass", (np.ndarray,), {})),
    "memoryview": memoryview,
    "nested lists": lambda a: [list(row) for row in a] if a.ndim > 1 else list(a),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", OPS)
def test_any_layout(op: str, layout: str, dtype: Any, rng: Any, fast_backend: Any) -> None:
    """The same bits from the same numbers, wherever they lie, and none of them is written to."""
    call = arguments(op, rng, dtype, fast_backend, height=4)
    expected = run(fast_backend, op, call)
    updated = {"w", "velocity", "m", "v"} if op.endswith("_step") else set()
    arrays = [n for n, v in call.items() if isinstance(v, np.ndarray) and n not in updated]
    for names in ([name] for name in arrays), (arrays,):
        for changed in names:
            other = {name: LAYOUTS[layout](call[name]) for name in changed}
            with untouched(*other.values(), *call.values()):
                results = run(fast_backend, op, call | other)
            assert_same_bits(results, expected, f"{op} {layout} {changed}")
            for result in results:
                if isinstance(result, np.ndarray):
                    for value in other.values():
                        assert not np.shares_memory(result, np.asarray(value))


@pytest.mark.parametrize("kind", ["?", "b", "B", "h", "H", "i", "I", "q", "Q", "e"])
@pytest.mark.parametrize("op", OPS)
def test_other_dtypes_are_converted(
    op: str, kind: str, dtype: Any, rng: Any, fast_backend: Any
) -> None:
    """One argument of another dtype takes that of the others; alone it becomes float32."""
    call = arguments(op, rng, dtype, fast_backend, height=4)
    updated = ("w", "velocity", "m", "v") if op.endswith("_step") else ()
    floats = [
        name
        for name, value in call.items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and name not in updated
    ]
    for name in floats:
        whole = np.ceil(np.abs(call[name])).astype(kind)
        alone = len(floats) == 1 and not updated
        wanted = np.float32 if alone else dtype
        results = run(fast_backend, op, call | {name: whole})
        expected = run(fast_backend, op, call | {name: whole.astype(wanted)})
        assert_same_bits(results, expected, f"{op} {name}")
        for result in results:
            if isinstance(result, np.ndarray) and result.dtype.kind == "f":
                assert result.dtype == wanted
