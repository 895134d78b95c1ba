"""A step that would leave infinities or NaN in a model is refused before it changes anything."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from fastcnn.nn._module import Buffer, Parameter

__all__ = ["wild_gradient", "wild_update"]

# Gradients are squared, by Adam for good: a weight whose square overflowed would stay as it is.
_LARGEST = {size: math.sqrt(np.finfo(f"f{size}").max) for size in (4, 8)}


def wild_update(buffers: Mapping[str, Buffer]) -> str | None:
    """Return the name of a buffer whose next value is not finite, or None."""
    for name, buffer in buffers.items():
        if buffer.update is not None and not np.isfinite(buffer.update).all():
            return name
    return None


def wild_gradient(parameters: Mapping[str, Parameter]) -> str | None:
    """Return the name of a parameter whose gradient or its square is not finite, or None."""
    for name, parameter in parameters.items():
        gradient = parameter.grad
        if gradient is None or not gradient.size:
            continue
        flat = gradient.reshape(-1)  # two quick passes and no array, as `abs` would make
        low, high = np.minimum.reduce(flat), np.maximum.reduce(flat)
        limit = _LARGEST[flat.itemsize]
        if not (-limit < low and high < limit):  # NaN is neither
            return name
    return None
