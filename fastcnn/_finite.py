"""A step that would leave infinities or NaN in a model is refused before it changes anything."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from fastcnn._preparation import preparation
from fastcnn.backend import Backend
from fastcnn.nn._variable import Buffer, Parameter

__all__ = ["wild_gradient", "wild_update"]

_ROOM = 1e-4  # for the sum of steps that a velocity is


def wild_update(buffers: Mapping[str, Buffer]) -> str | None:
    """Return the name of a buffer whose next value is not finite, or None."""
    for name, buffer in buffers.items():
        if buffer.update is not None and not np.isfinite(buffer.update).all():
            return name
    return None


def wild_gradient(
    parameters: Mapping[str, Parameter], backend: Backend, *, squared: bool
) -> str | None:
    """Return the name of a parameter whose gradient is not finite, or too large, or None.

    squared: the optimizer keeps squares. Those that overflow stay so: the weight moves no more.
    """
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    if not gradients:
        return None
    largest = float(np.finfo(next(iter(gradients.values())).dtype).max)
    limit = math.sqrt(largest) if squared else largest * _ROOM
    prepared = preparation(backend)
    if prepared is not None and prepared.within(list(gradients.values()), limit):
        return None
    for name, gradient in gradients.items():
        if not (np.abs(gradient) < limit).all():  # NaN is not
            return name
    return None
