"""Options that are bounds, or numbers one for each channel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastcnn._options import number, real

__all__ = ["limit", "limits", "number_or_each"]


def limit(value: Any, where: str) -> float | None:
    """Return a bound as a float, which may be infinite, or None for none."""
    result = None if value is None else real(value, where)
    if result is not None and math.isnan(result):
        raise ValueError(f"{where}: expected a number or None, got nan")
    return result


def limits(low: Any, high: Any, where: str) -> tuple[float, float]:
    """Return two bounds, infinite where there is none; ValueError unless low <= high."""
    lower, upper = limit(low, f"{where}: low"), limit(high, f"{where}: high")
    lower, upper = -math.inf if lower is None else lower, math.inf if upper is None else upper
    if not lower <= upper:
        raise ValueError(f"{where}: low: expected at most high, which is {upper:g}, got {lower:g}")
    return lower, upper


def number_or_each(value: Any, where: str, low: float = -math.inf) -> float | tuple[float, ...]:
    """Return a finite number of at least `low`, or several of them, one for each channel."""
    if isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim):
        return tuple(number(one, where, low) for one in value)
    return number(value, where, low)
