"""What reductions, functions of two arrays and products of matrices mean, on every backend."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from compare import assert_array, assert_same, assert_same_bits
from test_branches import PAIRS, to_shape

INF, NAN = np.inf, np.nan


def whole(rng: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    return rng.integers(-8, 9, shape).astype(dtype)


# ---------------------------------------------------------------------- reductions
AXES = [axes for count in range(5) for axes in combinations(range(4), count)]
REDUCTIONS = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min}


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axes", AXES, ids=str)
def test_reductions_are_numpys(
    axes: Any, keepdims: bool, backend: Any, dtype: Any, rng: Any
) -> None:
    """Whole numbers, and of 16 or 64 of them: exact."""
    for shape in [(2, 4, 4, 2), (1, 4, 1, 16), (2, 8, 2, 1)]:
        x = whole(rng, dtype, shape)
        for name, function in REDUCTIONS.items():
            op = f"reduce_{name}"
            options = {"axis": axes, "keepdims": keepdims}
            expected = function(x, **options) if axes else x
            y = getattr(backend, op)(x, **options)
            assert_array(y, np.shape(expected), dtype)
            assert_same(y, expected, dtype)
            below = {"axis": [axis - 4 for axis in reversed(axes)], "keepdims": keepdims}
            assert_same_bits((getattr(backend, op)(x, **below),), (y,))
            dy = whole(rng, dtype, y.shape) * x.size
            saved = x.shape if name in ("sum", "mean") else x
            dx = getattr(backend, f"{op}_backward")(dy, saved, **options)
            assert_array(dx, x.shape, dtype)
            assert np.sum(dx) == np.sum(dy) * (x.size // y.size if name == "sum" else 1)
            if name in ("sum", "mean"):
                assert np.sum(x * dx) == np.sum(dy * y)
            else:
                assert np.sum(dx != 0) <= y.size
                assert np.sum(x * dx) == np.sum(dy * y)


def test_one_axis_and_all(backend: Any, dtype: Any, rng: Any) -> None:
    x = whole(rng, dtype, (2, 3, 4))
    for name, function in REDUCTIONS.items():
        if name != "mean":
            op = getattr(backend, f"reduce_{name}")
            assert_same(op(x, 1), function(x, 1), dtype)
            assert_same(op(x, np.int64(-1)), function(x, -1), dtype)
            assert_same(op(x), np.asarray(function(x)), dtype)
            assert_same(op(x, None, keepdims=True), function(x, keepdims=True), dtype)
            assert_same(op(x[0, 0, 0]), x[0, 0, 0], dtype)


def test_the_first_of_several_takes_the_gradient(backend: Any, dtype: Any) -> None:
    x = np.array([[[1, 3], [3, 0]], [[0, 0], [0, 0]]], dtype)
    dx = backend.reduce_max_backward(np.array([5, 7], dtype), x, (1, 2))
    assert dx.tolist() == [[[0, 5], [0, 0]], [[7, 0], [0, 0]]]
    dx = backend.reduce_min_backward(np.array([5, 7], dtype), -x, (-1, 1))
    assert dx.tolist() == [[[0, 5], [0, 0]], [[7, 0], [0, 0]]]
    dx = backend.reduce_max_backward(np.array([5, 7], dtype), x, (0, 2))
    assert dx.tolist() == [[[0, 5], [7, 0]], [[0, 0], [0, 0]]]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_nan_wins(sign: int, backend: Any, dtype: Any) -> None:
    op = "reduce_max" if sign > 0 else "reduce_min"
    x = sign * np.array([[1, NAN, INF, NAN], [1, 5, 2, 3], [-INF, -INF, -INF, -INF]], dtype)
    y = getattr(backend, op)(x, 1)
    np.testing.assert_array_equal(y, sign * np.array([NAN, 5, -INF]))
    dx = getattr(backend, f"{op}_backward")(np.array([1, 2, 3], dtype), x, 1)
    assert dx.tolist() == [[0, 1, 0, 0], [0, 2, 0, 0], [3, 0, 0, 0]]


def test_no_order_decides_between_zeros(fast_backend: Any, dtype: Any) -> None:
    x = np.zeros((2, 8), dtype)
    x[:, ::2] = -0.0
    for one in (x, x[:, ::-1], x.T, -x):
        for op in ("reduce_max", "reduce_min"):
            assert not np.signbit(getattr(fast_backend, op)(one, int(one.shape[0] == 2))).any()


def test_reductions_of_nothing(backend: Any, dtype: Any) -> None:
    x = np.ones((3, 0, 2), dtype)
    assert_same(backend.reduce_sum(x, 1), np.zeros((3, 2)), dtype)
    assert_array(backend.reduce_sum_backward(np.ones((3, 2), dtype), x.shape, 1), x.shape, dtype)
    for name in ("mean", "max", "min"):
        op = f"reduce_{name}"
        assert_array(getattr(backend, op)(x, 0), (0, 2), dtype)
        for axis in (1, None, (0, 1)):
            with pytest.raises(ValueError, match=rf"^{op}: x: expected at least one number"):
                getattr(backend, op)(x, axis)


def test_sums_keep_their_digits_and_their_size(fast_backend: Any, rng: Any) -> None:
    x = (1000 + rng.standard_normal((3, 500, 140, 5))).astype(np.float32)
    for axes in ((1, 2), (1, 3), (0, 1, 2), None, 3):
        total = x.astype(np.float64).sum(axes)
        np.testing.assert_allclose(fast_backend.reduce_sum(x, axes), total, rtol=6e-8)
        mean = x.astype(np.float64).mean(axes)
        np.testing.assert_allclose(fast_backend.reduce_mean(x, axes), mean, rtol=6e-8)
    largest = np.full((4, 8), np.finfo(np.float32).max)
    assert (fast_backend.reduce_mean(largest, 1) == largest[:, 0]).all()
    assert (fast_backend.reduce_mean(largest.T.copy(), 0) == largest[:, 0]).all()


def test_wrong_axes(backend: Any) -> None:
    x = np.ones((2, 3), np.float32)
    for name in REDUCTIONS:
        op = f"reduce_{name}"
        for axis, error in [
            (2, ValueError),
            (-3, ValueError),
            ((0, 0), ValueError),
            ((0, -2), ValueError),
            (True, TypeError),
            (1.0, TypeError),
            ("1", TypeError),
        ]:
            with pytest.raises(error, match=rf"^{op}: axis: expected"):
                getattr(backend, op)(x, axis)
        with pytest.raises(TypeError, match=rf"^{op}: keepdims: expected True or False"):
            getattr(backend, op)(x, 1, keepdims=1)


# ---------------------------------------------------------------------- functions of two arrays
@pytest.mark.parametrize(("a_shape", "b_shape"), PAIRS, ids=str)
def test_functions_of_two_arrays_broadcast(
    a_shape: Any, b_shape: Any, backend: Any, dtype: Any, rng: Any
) -> None:
    """Whole numbers, divided by powers of two, so that every sum is exact."""
    a, b = whole(rng, dtype, a_shape), 2.0 ** rng.integers(-2, 3, b_shape)
    b = b.astype(dtype)
    zero = np.zeros((), dtype)
    first = (a >= b).astype(dtype)
    for op, expected, of_a, of_b in [
        ("subtract", a - b, 1 + zero, -1 + zero),
        ("divide", a / b, 1 / b, -a / (b * b)),
        ("maximum", np.maximum(a, b), first, 1 - first),
        ("minimum", np.minimum(a, b), (a <= b).astype(dtype), (a > b).astype(dtype)),
    ]:
        y = getattr(backend, op)(a, b)
        assert_array(y, np.shape(expected), dtype)
        assert_same(y, expected, dtype)
        dy = whole(rng, dtype, y.shape)
        saved = (a_shape, b_shape) if op == "subtract" else (a, b)
        gradients = getattr(backend, f"{op}_backward")(dy, *saved)
        for gradient, of, shape in zip(gradients, (of_a, of_b), (a_shape, b_shape), strict=True):
            assert_array(gradient, shape, dtype)
            assert_same(gradient, to_shape(dy * of, shape), dtype)
    np.testing.assert_allclose(backend.power(b, a), b**a, rtol=1e-6)


def test_powers_by_hand(backend: Any, dtype: Any) -> None:
    a = np.array([2, -2, 0, 0, 4, -8, 1, 0], dtype)
    b = np.array([3, 2, 0, 2, 0.5, 1 / 3, INF, -1], dtype)
    np.testing.assert_allclose(backend.power(a, b), [8, 4, 1, 0, 2, NAN, 1, INF], rtol=1e-6)
    da, db = backend.power_backward(np.ones(5, dtype), a[:5], b[:5])
    np.testing.assert_allclose(da, [12, -4, 0, 0, 0.25], rtol=1e-6)
    np.testing.assert_allclose(
        db, [8 * np.log(2), NAN, 0, 0, 2 * np.log(4)], rtol=1e-6, equal_nan=True
    )


def test_division_by_zero(backend: Any, dtype: Any) -> None:
    y = backend.divide(np.array([1, -1, 0], dtype), np.zeros(3, dtype))
    np.testing.assert_array_equal(y, [INF, -INF, NAN])


@pytest.mark.parametrize(("op", "sign"), [("maximum", 1), ("minimum", -1)])
def test_ties_and_nans_of_the_larger(op: str, sign: int, backend: Any, dtype: Any) -> None:
    a = sign * np.array([1, 2, NAN, 1, NAN, INF], dtype)
    b = sign * np.array([1, 1, 1, NAN, NAN, 2], dtype)
    y = getattr(backend, op)(a, b)
    np.testing.assert_array_equal(y, sign * np.array([1, 2, NAN, NAN, NAN, INF]))
    da, db = getattr(backend, f"{op}_backward")(np.arange(1, 7, dtype=dtype), a, b)
    assert da.tolist() == [1, 2, 3, 0, 5, 6]
    assert db.tolist() == [0, 0, 0, 4, 0, 0]


# ---------------------------------------------------------------------- products of matrices
MATRICES = [
    ((2, 3), (3, 4)),
    ((1, 5), (5, 1)),
    ((70, 33), (33, 67)),
    ((2, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 3, 4, 5), (2, 3, 5, 6)),
    ((2, 1, 4, 5), (3, 5, 1)),
    ((1, 1, 2), (7, 2, 17)),
    ((0, 3), (3, 2)),
    ((2, 3), (3, 0)),
    ((2, 0), (0, 3)),
    ((0, 2, 3), (3, 2)),
    ((0, 2, 3), (1, 3, 2)),
]


@pytest.mark.parametrize(("a_shape", "b_shape"), MATRICES, ids=str)
def test_products_of_matrices(
    a_shape: Any, b_shape: Any, backend: Any, dtype: Any, rng: Any
) -> None:
    a, b = whole(rng, dtype, a_shape), whole(rng, dtype, b_shape)
    y, expected = backend.matmul(a, b), np.matmul(a, b)
    assert_array(y, expected.shape, dtype)
    assert_same(y, expected, dtype)
    dy = whole(rng, dtype, y.shape)
    da, db = backend.matmul_backward(dy, a, b)
    assert_array(da, a_shape, dtype)
    assert_array(db, b_shape, dtype)
    assert np.sum(y * dy) == np.sum(a * da) == np.sum(b * db)
    wanted = to_shape(np.matmul(dy, b.swapaxes(-1, -2)), a_shape)
    assert_same(da, wanted, dtype)


@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [((2, 3), (2, 3)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 2, 3), (3, 3, 2)), ((), (1, 1))],
)
def test_matrices_that_do_not_fit(a_shape: Any, b_shape: Any, backend: Any) -> None:
    a, b = np.ones(a_shape, np.float32), np.ones(b_shape, np.float32)
    with pytest.raises(ValueError, match=r"^matmul: a, b: expected matrices"):
        backend.matmul(a, b)
    with pytest.raises(ValueError, match=r"^matmul_backward: a, b: expected matrices"):
        backend.matmul_backward(a, a, b)


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_a_product_has_the_bits_of_its_matrices(
    rows: int, fast_backend: Any, dtype: Any, rng: Any
) -> None:
    """One by one, and in a batch with one matrix for all, few rows as many."""
    a = rng.standard_normal((5, rows, 37)).astype(dtype)
    b = rng.standard_normal((37, 41)).astype(dtype)
    several = rng.standard_normal((5, 37, 41)).astype(dtype)
    for second in (b, several):
        y = fast_backend.matmul(a, second)
        for at, one in enumerate(y):
            own = second if second.ndim == 2 else second[at]
            assert_same_bits((fast_backend.matmul(a[at], own),), (one,))
            assert_same_bits((fast_backend.linear(a[at], own),), (one,))


# ---------------------------------------------------------------------- functions
def test_functions_by_hand(backend: Any, dtype: Any) -> None:
    x = np.array([0, 1, 4, 0.25], dtype)
    for op, expected in {
        "exp": [1, np.e, np.exp(4), np.exp(0.25)],
        "log": [-INF, 0, np.log(4), -np.log(4)],
        "sqrt": [0, 1, 2, 0.5],
        "abs": [0, 1, 4, 0.25],
        "negative": [0, -1, -4, -0.25],
        "reciprocal": [INF, 1, 0.25, 4],
        "erf": [0, 0.8427007929497149, 0.9999999845827421, 0.2763263901682369],
    }.items():
        np.testing.assert_allclose(getattr(backend, op)(x), expected, rtol=1e-6, err_msg=op)
    below = np.array([-1, -4, NAN, -INF], dtype)
    for op, wanted in {
        "exp": [np.exp(-1), np.exp(-4), NAN, 0],
        "log": [NAN] * 4,
        "sqrt": [NAN] * 4,
        "abs": [1, 4, NAN, INF],
        "erf": [-0.8427007929497149, -0.9999999845827421, NAN, -1],
    }.items():
        np.testing.assert_allclose(getattr(backend, op)(below), wanted, rtol=1e-6, err_msg=op)
    assert backend.abs_backward(np.ones(3, dtype), np.array([2, 0, -2], dtype)).tolist() == [
        1,
        0,
        -1,
    ]


def test_the_logarithm_of_softmax(backend: Any, dtype: Any) -> None:
    """Stable where softmax itself is 0."""
    y = backend.log_softmax(np.array([[0, np.log(3)], [1e4, 0], [-1e4, -1e4]], dtype))
    expected = [[-np.log(4), np.log(0.75)], [0, -1e4], [-np.log(2)] * 2]
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-7)
    dx = backend.log_softmax_backward(np.array([[1, 0]], dtype), y[:1])
    np.testing.assert_allclose(dx, [[0.75, -0.75]], rtol=1e-6)
    dx = backend.log_softmax_backward(np.array([[1, 0]], dtype), np.array([[np.inf, 1]], dtype))
    np.testing.assert_allclose(dx, [[-np.inf, -np.e]], rtol=1e-6)
