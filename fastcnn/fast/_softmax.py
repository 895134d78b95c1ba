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
    """softmax and its gradient."""

    def softmax(self, x: ArrayLike) -> Array:
        (x,) = float_arrays("softmax", x=x)
        _check("softmax", "x", x)
        y = self._empty(x.shape, x.dtype)
        if y.size:
            self._run(self._load(x).softmax.softmax, _rows(y), _rows(x), self._team(x))
        return y

    def softmax_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        dy, y = float_arrays("softmax_backward", dy=dy, y=y)
        _check("softmax_backward", "y", y)
        same_shape(dy, "softmax_backward: dy", "y", y)
        dx = self._empty(y.shape, y.dtype)
        if dx.size:
            kernel = self._load(y).softmax.softmax_backward
            self._run(kernel, _rows(dx), _rows(dy), _rows(y), self._team(y))
        return dx
