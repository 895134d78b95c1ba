"""How near is near enough: the one comparator of the tests, and its table of tolerances."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# The largest error allowed, in units of the largest expected magnitude, float32 and float64.
# The unit roundoffs are 6e-8 and 1.1e-16: sums of up to some thousand terms of either sign
# stay within about 50 of them, exp and its kin within a few of their own and of their sums'.
TOLERANCE = {
    "default": (4e-6, 1e-14),
    # Sums over many positions whose terms cancel: the largest entry of dw or dx can be much
    # smaller than the terms that make it.
    "conv2d_backward": (1e-5, 1e-13),
    "linear_backward": (1e-5, 1e-13),
    # x - mean loses what the mean's rounding hides, and the backward terms cancel.
    "batch_norm": (1e-5, 1e-13),
    "batch_norm_backward": (3e-5, 1e-12),
    # Many steps, each rounded to the dtype of the weights.
    "sgd_step": (1e-5, 1e-13),
    "adam_step": (1e-5, 1e-13),
}


def assert_close(
    actual: Any, expected: ArrayLike, op: str = "default", *, scale: float = 0.0
) -> None:
    """Check values, shape and layout of a result; `expected` may be of a wider dtype.

    `scale` is the magnitude of what was added up, where that is known to cancel.
    """
    expected = np.asarray(expected)
    assert isinstance(actual, np.ndarray), type(actual)
    assert actual.dtype in (np.dtype(np.float32), np.dtype(np.float64)), actual.dtype
    assert actual.flags.c_contiguous
    assert actual.shape == expected.shape
    tolerance = TOLERANCE.get(op, TOLERANCE["default"])[int(actual.dtype == np.float64)]
    finite = np.isfinite(expected)
    scale = np.max(np.abs(expected[finite]), initial=scale)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    np.testing.assert_allclose(actual[finite], expected[finite], rtol=0, atol=tolerance * scale)


def assert_same(actual: Any, expected: ArrayLike) -> None:
    """Check that a result equals what is expected, bit for bit but for the signs of zeros."""
    expected = np.asarray(expected)
    assert isinstance(actual, np.ndarray), type(actual)
    assert actual.flags.c_contiguous
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)
