"""Small integers: every sum is exact, so every backend must give the same bits.

Products and sums of these stay far below 2**24, the integers that float32 holds, and means are
taken over windows of 1, 2, 4 or 8 pixels. Order of summation, instruction set and fused
multiply-add can change nothing; a term left out, doubled or put elsewhere does. Convolution is
asked for the direct sum: the transforms of F(4x4, 3x3) hold thirds and fifths, and round.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from exact import inner, integers, same
from hypothesis import given
from hypothesis import strategies as st
from windows import CONVOLUTIONS, FEW_FILTERS, POOLS, convolutions, pools

from fastcnn import FastBackend, _kernels
from fastcnn.backend import Array

DTYPES = ["float32", "float64"]


# ---------------------------------------------------------------------- convolution, linear
def check_conv2d(
    x: Array, w: Array, b: Array | None, seed: int, backends: list[Any], options: Any
) -> None:
    backends = [FastBackend(backend.isa, convolution="direct") for backend in backends]
    (y,) = same(backends, "conv2d", x, w, b, **options)
    (dy,) = integers(seed + 1, x.dtype, y.shape)
    dx, dw, db = same(backends, "conv2d_backward", dy, x, w, **options)
    # Backward is the adjoint of forward, exactly: in x, in w and in b.
    (without_b,) = same(backends, "conv2d", x, w, None, **options)
    assert inner(without_b, dy) == inner(x, dx) == inner(w, dw)
    assert db.tolist() == dy.sum((0, 1, 2)).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", range(len(CONVOLUTIONS)))
def test_conv2d(number: int, dtype: str, fast_backends: list[Any]) -> None:
    x_shape, kernel, filters, options = CONVOLUTIONS[number]
    w_shape = (*kernel, x_shape[3] // options.get("groups", 1), filters)
    x, w, b = integers(number, dtype, x_shape, w_shape, (filters,))
    check_conv2d(x, w, b, number, fast_backends, options)


@pytest.mark.parametrize("number", range(len(FEW_FILTERS)))
def test_few_filters_change_places(number: int) -> None:
    """The cases of that name are what they say, in float32 with eight lanes or more."""
    x_shape, (r, s), k, options = FEW_FILTERS[number]
    y = FastBackend().conv2d(np.zeros(x_shape), np.zeros((r, s, x_shape[3], k)), **options)
    for isa in set(_kernels.available()) - {"baseline"}:
        kernel = _kernels.load(isa, "float32").conv2d_backward_weights
        assert kernel.swaps(*x_shape[1:], *y.shape[1:], r, s), isa


@given(case=convolutions(), dtype=st.sampled_from(DTYPES), seed=st.integers(0))
def test_conv2d_of_any_shape(case: Any, dtype: str, seed: int, fast_backends: list[Any]) -> None:
    x_shape, w_shape, options = case
    x, w, b = integers(seed, dtype, x_shape, w_shape, w_shape[3:])
    check_conv2d(x, w, b, seed, fast_backends, options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 48, 63, 64, 65, 67])
def test_linear(channels: int, dtype: str, fast_backends: list[Any]) -> None:
    n, k = channels % 9 + 1, 68 - channels
    x, w, b, dy = integers(channels, dtype, (n, channels), (channels, k), (k,), (n, k))
    same(fast_backends, "linear", x, w, b)
    (y,) = same(fast_backends, "linear", x, w)
    dx, dw, db = same(fast_backends, "linear_backward", dy, x, w)
    assert inner(y, dy) == inner(x, dx) == inner(w, dw)
    assert db.tolist() == dy.sum(0).tolist()


# ---------------------------------------------------------------------- pooling
def check_max_pool2d(
    x: Array, pool_size: Any, seed: int, backends: list[Any], options: Any
) -> None:
    y, argmax = same(backends, "max_pool2d", x, pool_size, **options)
    (dy,) = integers(seed + 1, x.dtype, y.shape)
    (dx,) = same(backends, "max_pool2d_backward", dy, argmax, x.shape, pool_size, **options)
    assert dx.sum() == dy.sum()
    assert inner(y, dy) == inner(x, dx)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", range(len(POOLS)))
def test_max_pool2d(number: int, dtype: str, fast_backends: list[Any]) -> None:
    x_shape, pool_size, options = POOLS[number]
    (x,) = integers(number, dtype, x_shape)
    check_max_pool2d(x, pool_size, number, fast_backends, options)


@given(case=pools(), dtype=st.sampled_from(DTYPES), seed=st.integers(0))
def test_max_pool2d_of_any_shape(
    case: Any, dtype: str, seed: int, fast_backends: list[Any]
) -> None:
    x_shape, pool_size, options = case
    (x,) = integers(seed, dtype, x_shape)
    check_max_pool2d(x, pool_size, seed, fast_backends, options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "pool_size", "options"),
    [
        ((2, 4, 6, 3), 2, {}),
        ((2, 5, 7, 17), 2, {"ceil_mode": True}),
        ((2, 5, 7, 16), 2, {"padding": 1}),
        ((1, 5, 6, 33), 2, {"stride": 1, "padding": ((1, 0), (0, 1))}),
        ((1, 6, 6, 5), (2, 4), {"stride": (1, 2)}),
        ((1, 6, 7, 5), (1, 8), {"padding": ((0, 0), (1, 0)), "count_include_pad": True}),
        ((1, 6, 6, 5), (4, 2), {"padding": (2, 1), "count_include_pad": True}),
        ((1, 7, 7, 2), 1, {"stride": 3}),
    ],
)
def test_avg_pool2d(
    shape: Any, pool_size: Any, options: Any, dtype: str, fast_backends: list[Any]
) -> None:
    (x,) = integers(1, dtype, shape)
    (y,) = same(fast_backends, "avg_pool2d", x, pool_size, **options)
    (dy,) = integers(2, dtype, y.shape)
    (dx,) = same(fast_backends, "avg_pool2d_backward", dy, shape, pool_size, **options)
    assert inner(8 * y, dy) == inner(x, 8 * dx)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 4, 4, 3), (1, 2, 8, 17), (3, 1, 1, 33), (1, 8, 4, 67)])
def test_global_avg_pool2d(shape: Any, dtype: str, fast_backends: list[Any]) -> None:
    (x,) = integers(1, dtype, shape)
    (y,) = same(fast_backends, "global_avg_pool2d", x)
    (dy,) = integers(2, dtype, y.shape)
    (dx,) = same(fast_backends, "global_avg_pool2d_backward", dy, shape)
    assert inner(32 * y, dy) == inner(x, 32 * dx)


# ---------------------------------------------------------------------- ReLU
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 63, 65, 4095, 4097, 9000])
def test_relu(size: int, dtype: str, fast_backends: list[Any]) -> None:
    x, dy = integers(size, dtype, (size,), (size,))
    (y,) = same(fast_backends, "relu", x)
    same(fast_backends, "relu_backward", dy, y)


@pytest.mark.parametrize("filters", [6, 21, 32])
def test_a_nan_of_one_filter_reaches_no_other_gradient(filters: int, fast_backend: Any) -> None:
    """Gradients of few rows read filters next to their own, and must not keep them."""
    x, w, dy = integers(0, "float32", (3, 9, 8, 1), (3, 3, 1, filters), (3, 7, 6, filters))
    _, dw, db = fast_backend.conv2d_backward(dy, x, w, input_gradient=False)
    dy[..., 0] = np.nan
    _, other_dw, other_db = fast_backend.conv2d_backward(dy, x, w, input_gradient=False)
    assert np.isnan(other_dw[..., 0]).all()
    assert np.isnan(other_db[0])
    np.testing.assert_array_equal(other_dw[..., 1:], dw[..., 1:])
    np.testing.assert_array_equal(other_db[1:], db[1:])
