"""Softmax on the compiled kernels."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, same_shape
from fastcnn._types import Array
from fastcnn.fast._memory_bound import MemoryBound

__all__ = ["Softmax"]


def _check(op: str, name: str, array: Array) -> None:
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(
            f"{op}: {name}: expected at least one value on the last axis, got shape {array.shape}"
        )


def _rows(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])


class Softmax(MemoryBound):
    """softmax, log_softmax and their gradients."""

    def _over_rows(self, op: str, x: ArrayLike) -> Array:
        (x,) = float_arrays(op, x=x)
        _check(op, "x", x)
        y = self._empty(x.shape, x.dtype)
        if y.size:
            kernel = getattr(self._load(x).softmax, op)
            self._run(kernel, _rows(y), _rows(x), self._team(x))
        return y

    def _over_rows_backward(self, op: str, dy: ArrayLike, y: ArrayLike) -> Array:
        dy, y = float_arrays(op, dy=dy, y=y)
        _check(op, "y", y)
        same_shape(dy, f"{op}: dy", "y", y)
        dx = self._empty(y.shape, y.dtype)
        if dx.size:
            kernel = getattr(self._load(y).softmax, op)
            self._run(kernel, _rows(dx), _rows(dy), _rows(y), self._team(y))
        return dx

    def softmax(self, x: ArrayLike) -> Array:
        return self._over_rows("softmax", x)

    def softmax_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        return self._over_rows_backward("softmax_backward", dy, y)

    def log_softmax(self, x: ArrayLike) -> Array:
        return self._over_rows("log_softmax", x)

    def log_softmax_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        return self._over_rows_backward("log_softmax_backward", dy, y)
