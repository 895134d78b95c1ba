"""A step that would leave infinities or NaN in a model is refused before it changes anything."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from fastcnn.nn._variable import Buffer, Parameter

__all__ = ["wild_gradient", "wild_update"]

_LARGEST = {size: float(np.finfo(f"f{size}").max) for size in (4, 8)}  # by bytes of a number
_ROOM = 1e-4  # for the sum of steps that a velocity is


def wild_update(buffers: Mapping[str, Buffer]) -> str | None:
    """Return the name of a buffer whose next value is not finite, or None."""
    for name, buffer in buffers.items():
        if buffer.update is not None and not np.isfinite(buffer.update).all():
            return name
    return None


def wild_gradient(parameters: Mapping[str, Parameter], *, squared: bool) -> str | None:
    """Return the name of a parameter whose gradient is not finite, or too large, or None.

    squared: the optimizer keeps squares. Those that overflow stay so: the weight moves no more.
    """
    for name, parameter in parameters.items():
        gradient = parameter.grad
        if gradient is None or not gradient.size:
            continue
        flat = gradient.reshape(-1)  # two quick passes and no array, as `abs` would make
        low, high = np.minimum.reduce(flat), np.maximum.reduce(flat)
        limit = _LARGEST[flat.itemsize]
        limit = math.sqrt(limit) if squared else limit * _ROOM
        if not (-limit < low and high < limit):  # NaN is neither
            return name
    return None
