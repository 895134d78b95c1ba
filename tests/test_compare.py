"""The comparator sees what it is there to see, and lets pass what it should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from calls import FUSED, OPS
from compare import (
    TOLERANCE,
    assert_close,
    assert_results,
    assert_same,
    assert_same_bits,
    assert_within,
    gamma,
    roundoff,
    tolerance,
    untouched,
)

EXPECTED = np.array([[1.0, -2.0], [np.nan, np.inf]])


@pytest.mark.parametrize("op", TOLERANCE)
def test_small_errors_pass_and_larger_ones_do_not(op: str, dtype: np.dtype[np.float64]) -> None:
    of_each, of_largest, of_dy = tolerance(op, dtype)
    allowed = (2 * of_each + 2 * of_largest + 3 * of_dy) * roundoff(dtype)  # the largest is -2
    good, bad = EXPECTED.copy(), EXPECTED.copy()
    good[0, 1] += 0.4 * allowed
    bad[0, 1] += 2 * allowed + 4 * roundoff(dtype)
    assert_close(good.astype(dtype), EXPECTED, op, largest_dy=3)
    with pytest.raises(AssertionError):
        assert_close(bad.astype(dtype), EXPECTED, op, largest_dy=3)


def test_every_tolerance_is_of_an_op() -> None:
    assert set(TOLERANCE) - {"default"} <= {op.removeprefix("_") for op in (*OPS, *FUSED)}


def test_a_backward_op_has_its_own_tolerance_or_that_of_its_forward() -> None:
    assert tolerance("conv2d_backward") == TOLERANCE["conv2d_backward"]
    assert tolerance("leaky_relu_backward") == TOLERANCE["leaky_relu"]
    assert tolerance("avg_pool2d_backward") == TOLERANCE["default"]


def test_a_small_value_has_a_small_tolerance_where_it_counts_alone() -> None:
    expected = np.array([1.0, 1e-20])
    wrong = np.array([1.0, 2e-20])
    assert_close(wrong, expected, "conv2d")
    with pytest.raises(AssertionError, match=r"worst at \(1,\)"):
        assert_close(wrong, expected, "sigmoid")


@pytest.mark.parametrize(
    "wrong",
    [
        np.array([[1.0, -2.0], [0.0, np.inf]]),
        np.array([[1.0, -2.0], [np.nan, -np.inf]]),
        np.array([[1.0, np.nan], [np.nan, np.inf]]),
        np.array([[1.0, np.inf], [np.nan, np.inf]]),
        EXPECTED.T.copy().T,
        EXPECTED[None],
        EXPECTED[:, :1],
        None,
        1.0,
    ],
)
def test_nan_infinity_shape_and_layout_count(wrong: Any) -> None:
    for check in (assert_close, assert_same):
        with pytest.raises(AssertionError):
            check(wrong, EXPECTED)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: a.astype(a.dtype.newbyteorder()),
        lambda a: a.view(np.ma.MaskedArray),
        lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),  # read-only
        lambda a: np.frombuffer(b"_" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    ],
)
def test_a_result_is_plain_native_aligned_and_writable(spoil: Any) -> None:
    assert_within(EXPECTED.copy(), EXPECTED, 0)
    with pytest.raises(AssertionError):
        assert_within(spoil(EXPECTED.copy()), EXPECTED, 0)


@pytest.mark.parametrize("kind", [np.complex128, np.int64, np.float16, np.longdouble])
def test_a_result_is_of_float32_or_float64(kind: Any) -> None:
    with pytest.raises(AssertionError):
        assert_within(np.ones(3, kind), np.ones(3), 0)


def test_a_bound_holds_for_each_element() -> None:
    expected, bound = np.array([1.0, 1000.0]), np.array([0.0, 1.0])
    assert_within(np.array([1.0, 1000.5]), expected, bound)
    for wrong in ([1.5, 1000.0], [1.0, 1001.5], [1.0, np.nan]):
        with pytest.raises(AssertionError):
            assert_within(np.array(wrong), expected, bound)


def test_a_bound_that_is_no_number_allows_nothing() -> None:
    with pytest.raises(AssertionError):
        assert_within(np.array([1.0]), np.array([2.0]), np.array([np.nan]))


def test_overflow_and_subnormal_numbers_are_those_of_the_result() -> None:
    assert_within(np.array([np.inf], np.float32), np.array([1e39]), 0)
    assert_within(np.array([0.0], np.float32), np.array([1e-39]), 0)
    for wrong, expected in (([3e38], [1e39]), ([0.0], [1e-37]), ([np.inf], [3e38])):
        with pytest.raises(AssertionError):
            assert_within(np.array(wrong, np.float32), np.array(expected), 0)


def test_gamma_is_the_error_of_n_roundings() -> None:
    assert gamma(1, np.float32) == pytest.approx(2.0**-24, rel=1e-6)
    assert gamma(1000, np.float64) == pytest.approx(1000 * 2.0**-53, rel=1e-9)


def test_same_means_the_same() -> None:
    assert_same(EXPECTED.copy(), EXPECTED)
    with pytest.raises(AssertionError):
        assert_same(EXPECTED + 1e-15, EXPECTED)
    with pytest.raises(AssertionError):
        assert_same(EXPECTED.astype(np.float32), EXPECTED, np.float64)


@pytest.mark.parametrize(
    "other",
    [
        (np.array([0.0, -0.0]), None),
        (np.array([0.0, 0.0]), np.array([0.0])),
        (np.array([0.0, 0.0]),),
        (np.array([0.0, 0.0], np.float32), None),
        (np.array([[0.0, 0.0]]), None),
        (0.0, None),
    ],
)
def test_same_bits_are_the_same_bits(other: tuple[Any, ...]) -> None:
    results = (np.array([0.0, 0.0]), None)
    assert_same_bits(results, (np.zeros(2), None))
    with pytest.raises((AssertionError, ValueError)):
        assert_same_bits(results, other)


@pytest.mark.parametrize(
    "wrong",
    [
        (EXPECTED, np.array([3], np.int64), None, 0.5),
        (EXPECTED, np.array([4], np.uint8), None, 0.5),
        (EXPECTED, np.array([3], np.uint8), EXPECTED, 0.5),
        (EXPECTED, np.array([3], np.uint8), None, np.float64(0.5)),
        (EXPECTED, np.array([3], np.uint8), None, 0.51),
        (EXPECTED.astype(np.float32), np.array([3], np.uint8), None, 0.5),
        (EXPECTED, np.array([3], np.uint8), None),
    ],
)
def test_each_result_counts(wrong: tuple[Any, ...]) -> None:
    expected = (EXPECTED, np.array([3], np.uint8), None, 0.5)
    assert_results(tuple(expected), expected, "conv2d", np.float64)
    with pytest.raises(AssertionError):
        assert_results(wrong, expected, "conv2d", np.float64)


def test_a_write_to_an_input_is_seen() -> None:
    x = np.zeros(3)
    with untouched(x, None, 3):
        pass
    with pytest.raises(AssertionError, match="written"), untouched(x):
        x[1] = -0.0
