"""What sums, products and concatenations mean, on every backend."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from compare import assert_array, assert_same, assert_same_bits

# Of either argument, in both orders: the same shape, vectors, gates, whatever else broadcasts.
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((), ()),
    ((3,), ()),
    ((2, 5, 4, 3), ()),
    ((7,), (1,)),
    ((2, 5, 4, 3), (2, 5, 4, 3)),
    ((2, 5, 4, 3), (3,)),
    ((2, 5, 4, 3), (1, 1, 1, 3)),
    ((2, 5, 4, 3), (2, 1, 1, 3)),
    ((3, 5, 4, 1), (3, 1, 1, 1)),
    ((2, 5, 4, 3), (5, 4, 1)),
    ((2, 5, 4, 3), (2, 5, 4, 1)),
    ((2, 5, 4, 3), (2, 1, 4, 3)),
    ((1, 1, 5, 3), (5, 3)),
    ((33, 260), (260,)),
    ((9, 67), (9, 1)),
    ((2, 31, 16), (2, 1, 16)),
    ((2, 31, 17), (2, 1, 17)),
    ((3, 2, 2100), (3, 1, 2100)),
    # NumPy's: axes of the repetition that lie apart, and both repeated.
    ((2, 3, 4), (1, 3, 1)),
    ((2, 5, 4, 3), (1, 5, 1, 3)),
    ((4, 1), (5,)),
    ((2, 1, 3), (1, 4, 1)),
    # Nothing.
    ((0, 3), (3,)),
    ((0, 3), (1, 3)),
    ((2, 0, 3), (2, 1, 3)),
    ((0, 1), (4,)),
    ((0,), ()),
]
PAIRS = [pair for a, b in SHAPES for pair in ((a, b), (b, a)) if pair[0] != pair[1] or a is b]
PAIRS += [(a, b) for a, b in SHAPES if a == b]


def whole(rng: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    return rng.integers(-8, 9, shape).astype(dtype)


def to_shape(dy: Any, shape: tuple[int, ...]) -> Any:
    """Return what NumPy's own broadcasting says of a sum over what was repeated."""
    total = np.zeros(shape)
    # A view that repeats: each place of dy adds to the place of `total` that it came from.
    at = np.broadcast_to(np.arange(total.size).reshape(shape), dy.shape)
    np.add.at(total.reshape(-1), at.ravel(), dy.ravel())
    return total


@pytest.mark.parametrize(("a_shape", "b_shape"), PAIRS, ids=str)
def test_sums_and_products_broadcast(
    a_shape: Any, b_shape: Any, backend: Any, dtype: Any, rng: Any
) -> None:
    """Whole numbers, so that every sum is exact."""
    a, b = whole(rng, dtype, a_shape), whole(rng, dtype, b_shape)
    for op, expected in (("add", a + b), ("multiply", a * b)):
        y = getattr(backend, op)(a, b)
        assert_array(y, expected.shape, dtype)
        assert_same(y, expected, dtype)
    dy = whole(rng, dtype, y.shape)
    for gradient, shape in zip(backend.add_backward(dy, a_shape, b_shape), (a_shape, b_shape),
                               strict=True):  # fmt: skip
        assert_array(gradient, shape, dtype)
        assert_same(gradient, to_shape(dy, shape), dtype)
    da, db = backend.multiply_backward(dy, a, b)
    for gradient, wanted in ((da, to_shape(dy * b, a_shape)), (db, to_shape(dy * a, b_shape))):
        assert_array(gradient, wanted.shape, dtype)
        assert_same(gradient, wanted, dtype)


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3), (2,)), ((4, 3), (2, 3)), ((0, 3), (2, 3)), ((2, 3, 4), (3, 2, 4))]
)
def test_shapes_that_do_not_broadcast(a: Any, b: Any, backend: Any) -> None:
    x, y = np.ones(a, np.float32), np.ones(b, np.float32)
    for op in ("add", "multiply"):
        with pytest.raises(ValueError, match=rf"^{op}: a, b: expected shapes that broadcast, got"):
            getattr(backend, op)(x, y)
    with pytest.raises(ValueError, match=r"^add_backward: a_shape, b_shape: expected shapes"):
        backend.add_backward(x, a, b)
    with pytest.raises(ValueError, match=r"^multiply_backward: a, b: expected shapes"):
        backend.multiply_backward(x, x, y)


def test_a_gradient_has_the_shape_of_the_result(backend: Any) -> None:
    a, b = np.ones((2, 5), np.float32), np.ones(5, np.float32)
    for dy in (np.ones((1, 5), np.float32), b, np.ones((2, 2, 5), np.float32)):
        with pytest.raises(ValueError, match=r"^add_backward: dy: expected"):
            backend.add_backward(dy, a.shape, b.shape)
        with pytest.raises(ValueError, match=r"^multiply_backward: dy: expected"):
            backend.multiply_backward(dy, a, b)


def test_a_gradient_of_the_same_shape_is_not_copied(fast_backend: Any, rng: Any) -> None:
    dy = rng.standard_normal((4, 3), np.float32)
    da, db = fast_backend.add_backward(dy, (4, 3), (4, 3))
    assert np.shares_memory(da, dy)
    assert np.shares_memory(db, dy)
    da, db = fast_backend.add_backward(dy, (3,), (4, 3))
    assert np.shares_memory(db, dy)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_infinities_stay_where_they_are(value: float, backend: Any, dtype: Any) -> None:
    for at in range(0, 75, 7):
        a = np.ones((5, 15), dtype)
        a.flat[at] = value
        for b in (a, np.ones(15, dtype), np.ones((5, 1), dtype), np.array(1, dtype)):
            for op, ufunc in (("add", np.add), ("multiply", np.multiply)):
                np.testing.assert_array_equal(getattr(backend, op)(a, b), ufunc(a, b))
        for dx in backend.add_backward(a, (15,), (5, 1)):
            assert np.isfinite(dx).sum() == dx.size - 1


@pytest.mark.parametrize("channels", [64, 3])
def test_arrays_that_no_cache_keeps(channels: int, fast_backend: Any, rng: Any) -> None:
    """From 32 MB on results are written past the caches: the same ones."""
    pixels = (17 << 20) // (4 * channels) // 4 * 4 + 2
    a = np.resize(whole(rng, "f4", (997, channels)), (2, pixels, channels))
    gate, vector = whole(rng, "f4", (2, 1, channels)), whole(rng, "f4", (channels,))
    squares = np.einsum("npc,npc->nc", a, a, dtype=np.float64)
    for b, db in (
        (a[:, ::-1].copy(), a * a),
        (gate, squares[:, None].astype("f4")),
        (vector, squares.sum(0).astype("f4")),
    ):
        assert_same(fast_backend.add(a, b), a + b)
        product = a * b
        assert_same(fast_backend.multiply(a, b), product)
        for gradient, expected in zip(
            fast_backend.multiply_backward(a, a, b), (product, db), strict=True
        ):
            assert_same(gradient, expected)
    for other in (a, a[..., :3].copy()):  # rows that begin where a vector does, or anywhere
        joined = fast_backend.concat([a, other])
        assert_same(joined, np.concatenate([a, other], -1))
        parts = fast_backend.concat_backward(joined, [a.shape, other.shape])
        for part, x in zip(parts, (a, other), strict=True):
            assert_same(part, x)


def test_sums_over_many_numbers_keep_their_digits(fast_backend: Any, rng: Any) -> None:
    dy = (1000 + rng.standard_normal((3, 70_000, 5))).astype(np.float32)
    for shape, axes in (((5,), (0, 1)), ((3, 1, 5), 1), ((1, 1, 1), None)):
        _, db = fast_backend.add_backward(dy, dy.shape, shape)
        expected = dy.astype(np.float64).sum(axes).reshape(shape)
        np.testing.assert_allclose(db, expected, rtol=np.finfo("f4").eps)
        _, db = fast_backend.multiply_backward(dy, dy, np.ones(shape, "f4"))
        expected = (dy.astype(np.float64) ** 2).sum(axes).reshape(shape)
        np.testing.assert_allclose(db, expected, rtol=np.finfo("f4").eps)


# ---------------------------------------------------------------------- concatenation
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 4, 3, 5), (1, 2, 3, 17), (3, 1, 1, 64)])
@pytest.mark.parametrize("widths", [(1,), (2, 1), (0, 3), (4, 0, 20, 16), (3, 3, 3, 3, 3)])
def test_concatenation_along_each_axis(
    shape: Any, widths: Any, backend: Any, dtype: Any, rng: Any
) -> None:
    for axis in range(-len(shape), len(shape)):
        at = axis % len(shape)
        shapes = [(*shape[:at], width, *shape[at + 1 :]) for width in widths]
        xs = [rng.standard_normal(one).astype(dtype) for one in shapes]
        y = backend.concat(xs, axis)
        assert_array(y, np.concatenate(xs, axis).shape, dtype)
        assert_same_bits((y,), (np.concatenate(xs, axis),))
        parts = backend.concat_backward(y, shapes, axis)
        assert type(parts) is list
        assert_same_bits(tuple(parts), tuple(xs))
        for part, x in product(parts, xs):
            assert not np.shares_memory(part, x)
            assert not np.shares_memory(part, y)
    assert_same_bits((backend.concat(tuple(xs)),), (np.concatenate(xs, -1),))


def test_rows_longer_and_shorter_than_a_piece(fast_backend: Any, rng: Any) -> None:
    for rows, widths in ((1, (40_000, 16_384)), (3, (50_001, 7)), (40_000, (3, 2)), (0, (3, 2))):
        xs = [rng.standard_normal((rows, width), np.float32) for width in widths]
        y = fast_backend.concat(xs)
        assert_same_bits((y,), (np.concatenate(xs, -1),))
        parts = fast_backend.concat_backward(y, [x.shape for x in xs])
        assert_same_bits(tuple(parts), tuple(xs))


X = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("xs", "axis", "error", "message"),
    [
        ([], -1, ValueError, "concat: xs: expected one at least, got none"),
        (X, -1, TypeError, r"concat: xs: expected a list or a tuple, got array"),
        ("xs", -1, TypeError, "concat: xs: expected a list or a tuple, got 'xs'"),
        ([X, None], -1, TypeError, r"concat: xs\[1\]: expected an array"),
        ([X, X.astype("f8")], -1, TypeError, r"concat: xs\[1\]: expected float32"),
        ([X, X[:1]], -1, ValueError, r"concat: xs\[1\]: .* but for axis 1, got \(1, 3\)"),
        ([X, X, X[0]], 0, ValueError, r"concat: xs\[2\]: .* axis 0, got \(3,\)"),
        ([X, X[None]], 0, ValueError, r"concat: xs\[1\]: expected"),
        ([np.float32(1)], 0, ValueError, "concat: xs: expected arrays of rank 1 at least"),
        ([X], 2, ValueError, "concat: axis: expected an integer from -2 to 1, got 2"),
        ([X], -3, ValueError, "concat: axis: expected an integer of at least -2"),
        ([X], True, TypeError, "concat: axis: expected an integer, got bool True"),
        ([X], None, TypeError, "concat: axis: expected an integer, got NoneType None"),
    ],
)
def test_wrong_concatenations(xs: Any, axis: Any, error: Any, message: str, backend: Any) -> None:
    with pytest.raises(error, match=f"^{message}"):
        backend.concat(xs, axis)


def test_wrong_parts(backend: Any) -> None:
    for shapes, error in (
        ([], ValueError),
        ((2, 3), TypeError),
        ([(2, 1), (2, 1)], ValueError),
        ([(2, 3), (1, 3)], ValueError),
        ([(2, 3), (2, -1)], ValueError),
        ([(2, 3), 3], TypeError),
        ("shapes", TypeError),
    ):
        with pytest.raises(error, match=r"^concat_backward: (shapes(\[\d\])?|dy): expected"):
            backend.concat_backward(X, shapes)


def test_a_result_that_fits_nowhere_is_named(backend: Any) -> None:
    """Small arguments can make it."""
    column = np.ones((2**22, 1), np.float32)
    for op in ("add", "multiply"):
        with pytest.raises(MemoryError, match=rf"^{op}: a, b: expected a result that fits in mem"):
            getattr(backend, op)(column, column.T)
