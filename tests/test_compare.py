from __future__ import annotations

import numpy as np
import pytest
from compare import TOLERANCE, assert_close, assert_same

EXPECTED = np.array([[1.0, -2.0], [np.nan, np.inf]])


@pytest.mark.parametrize("op", TOLERANCE)
def test_small_errors_pass_and_larger_ones_do_not(op: str, dtype: np.dtype[np.float64]) -> None:
    step = 2 * TOLERANCE[op][int(dtype == np.float64)]
    assert_close((EXPECTED * (1 + 0.4 * step)).astype(dtype), EXPECTED, op)
    with pytest.raises(AssertionError):
        assert_close((EXPECTED * (1 + 2 * step)).astype(dtype), EXPECTED, op)


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
    ],
)
def test_nan_infinity_shape_and_layout_count(wrong: np.ndarray) -> None:
    for check in (assert_close, assert_same):
        with pytest.raises(AssertionError):
            check(wrong, EXPECTED)


def test_same_means_the_same() -> None:
    assert_same(EXPECTED.copy(), EXPECTED)
    with pytest.raises(AssertionError):
        assert_same(EXPECTED + 1e-15, EXPECTED)


def test_a_scalar_is_no_array() -> None:
    with pytest.raises(AssertionError):
        assert_close(np.float64(1), 1.0)
