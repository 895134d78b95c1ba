"""A step that would leave infinities or NaN in a model is refused before it changes anything."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from fastcnn._backends import as_fast
from fastcnn.backend import Backend
from fastcnn.nn._variable import Buffer, Parameter

__all__ = ["largest_gradient", "wild_gradient", "wild_update"]

_LARGEST = {size: float(np.finfo(f"f{size}").max) for size in (4, 8)}  # by bytes of a number
_ROOM = 1e-4  # for the sum of steps that a velocity is


def wild_update(buffers: Mapping[str, Buffer], backend: Backend) -> str | None:
    """Return the name of a buffer whose next value is not finite, or None."""
    updates = [buffer.update for buffer in buffers.values() if buffer.update is not None]
    if not updates:
        return None
    largest, fast = _LARGEST.get(np.asarray(updates[0]).itemsize), as_fast(backend)
    if largest and fast is not None and fast._within(updates, largest):
        return None
    for name, buffer in buffers.items():
        if buffer.update is not None and not np.isfinite(buffer.update).all():
            return name
    return None


def largest_gradient(size: int, rate: float, squared: bool) -> float:
    """Return what no number of a gradient may reach; 0 where each is too large.

    size: bytes of a number. rate: by what a step multiplies it, at most. squared: the optimizer
    keeps squares. Those that overflow stay so: the weight moves no more.
    """
    largest = _LARGEST[size]
    if rate > largest * _ROOM:
        return 0.0
    return math.sqrt(largest) if squared else largest * _ROOM / max(1.0, rate)


def wild_gradient(
    parameters: Mapping[str, Parameter], backend: Backend, *, rate: float, squared: bool
) -> str | None:
    """Return the name of a parameter whose gradient is not finite, or too large, or None.

    rate, squared: as for `largest_gradient`.
    """
    gradients = [p.grad for p in parameters.values() if p.grad is not None]
    if not gradients:
        return None
    limit = largest_gradient(gradients[0].itemsize, rate, squared)
    fast = as_fast(backend)
    if limit and fast is not None and fast._within(gradients, limit):
        return None
    for name, parameter in parameters.items():
        if parameter.grad is not None and not (np.abs(parameter.grad) < limit).all():  # nor is NaN
            return name
    return None
