"""A competitor's results are compared before it is timed: a fast wrong answer is no figure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastcnn.backend import Array

__all__ = ["TOLERANCE", "disagreement"]

# Of the largest magnitude expected. A float32 sum of n terms errs by some sqrt(n) * 6e-8, and the
# longest ones here (a weight's gradient over a batch of images) have 1e5 terms; a wrong layout
# or a forgotten term is off by about 1.
TOLERANCE = 1e-4


def disagreement(actual: Mapping[str, Array], expected: Mapping[str, Array]) -> str | None:
    """Return a sentence on the first array that is not as expected, None where all are."""
    for name, right in expected.items():
        got = actual.get(name)
        if got is None or got.shape != right.shape:
            shape = None if got is None else got.shape
            return f"{name}: expected shape {right.shape}, got {shape}"
        scale = float(np.max(np.abs(right), initial=0.0)) or 1.0
        error = float(np.max(np.abs(got.astype(np.float64) - right), initial=0.0)) / scale
        if not error <= TOLERANCE:  # NaN is no agreement
            return f"{name}: expected an error of at most {TOLERANCE:g}, got {error:.2g}"
    return None
