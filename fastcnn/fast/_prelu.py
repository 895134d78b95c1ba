"""PReLU on the compiled kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import shape
from fastcnn._types import Array
from fastcnn.fast._broadcast import Broadcast, Meeting, meeting, operands, sum_into

__all__ = ["PReLU"]

_DOUBLE = np.dtype(np.float64)


class PReLU(Broadcast):
    """prelu and its gradients."""

    def prelu(self, x: ArrayLike, slope: ArrayLike) -> Array:
        x, slope = operands("prelu", x=x, slope=slope)
        pair = _meeting("prelu", x, slope)
        y = self._empty(x.shape, x.dtype)
        if y.size == 0:
            return y
        if pair.times == 0:
            self._run(_sloped_into, y, x, slope)
            return y
        part = slope.reshape(pair.outer, pair.inner)
        flat = y.reshape(-1), x.reshape(-1)
        self._run(self._load(x).prelu.prelu, *flat, part, pair.times, self._team(x))
        return y

    def prelu_backward(self, dy: ArrayLike, x: ArrayLike, slope: ArrayLike) -> tuple[Array, Array]:
        op = "prelu_backward"
        dy, x, slope = operands(op, dy=dy, x=x, slope=slope)
        pair = _meeting(op, x, slope)
        shape(dy, f"{op}: dy", x.shape, "that of prelu's result")
        dx = self._empty(x.shape, x.dtype)
        if dx.size == 0:
            return dx, self._zeros(slope.shape, x.dtype)
        dslope = self._empty(slope.shape, x.dtype)
        if pair.times == 0:
            self._run(_gradients_into, dx, dslope, dy, x, slope)
            return dx, dslope
        kernels, part = self._load(x), (pair.outer, pair.inner)
        size = kernels.multiply.workspace_size(pair.outer, pair.times, pair.inner)
        self._run(
            kernels.prelu.prelu_backward,
            dx.reshape(-1),
            dslope.reshape(part),
            dy.reshape(-1),
            x.reshape(-1),
            slope.reshape(part),
            self._room(size, _DOUBLE),
            pair.times,
            self._team(x),
        )
        return dx, dslope


def _meeting(op: str, x: Array, slope: Array) -> Meeting:
    """Return how slopes are repeated along x, whose shape is that of the result."""
    pair = meeting(op, x.shape, slope.shape, "x, slope")
    if pair.shape != x.shape:
        raise ValueError(
            f"{op}: slope: expected a shape that broadcasts to {x.shape}, that of x, "
            f"got {slope.shape}"
        )
    return pair


# Where the axes along which slopes are repeated lie apart:
def _sloped_into(y: Array, x: Array, slope: Array) -> None:
    with np.errstate(all="ignore"):
        np.copyto(y, np.where(x > 0, x, slope * x))


def _gradients_into(dx: Array, dslope: Array, dy: Array, x: Array, slope: Array) -> None:
    with np.errstate(all="ignore"):
        np.copyto(dx, np.where(x > 0, dy, slope * dy))
        sum_into(dslope, np.where(x > 0, 0.0, dy.astype(np.float64) * x))
