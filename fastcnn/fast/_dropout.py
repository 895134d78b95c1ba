"""Dropout on the compiled kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array
from fastcnn._checks import float_arrays
from fastcnn._options import number
from fastcnn._types import Array, Shape
from fastcnn.fast._memory_bound import MemoryBound

__all__ = ["Dropout"]


class Dropout(MemoryBound):
    """dropout and its gradient."""

    def dropout(self, x: ArrayLike, mask: ArrayLike, *, rate: float) -> Array:
        return self._masked("dropout", mask, rate, x=x)

    def dropout_backward(self, dy: ArrayLike, mask: ArrayLike, *, rate: float) -> Array:
        return self._masked("dropout_backward", mask, rate, dy=dy)

    def _masked(self, op: str, mask: ArrayLike, rate: float, **argument: ArrayLike) -> Array:
        """Run a kernel on the one argument: both directions do the same."""
        ((name, _),) = argument.items()
        (array,) = float_arrays(op, **argument)
        mask = as_array(mask, f"{op}: mask")
        if mask.dtype != np.bool_:
            raise TypeError(f"{op}: mask: expected dtype bool, got {mask.dtype}")
        if not _fits(mask.shape, array.shape):
            raise ValueError(
                f"{op}: mask: expected shape {array.shape}, that of {name}, or 1 for axes along "
                f"which it is repeated, got {mask.shape}"
            )
        rate = number(rate, f"{op}: rate", 0, 1, open_high=True)
        result = self._empty(array.shape, array.dtype)
        if result.size:
            if mask.shape != array.shape:
                repeated = self._empty(array.shape, np.dtype(np.bool_))
                self._run(np.copyto, repeated, mask)
                mask = repeated
            bits = np.ascontiguousarray(mask).reshape(-1).view(np.uint8)
            kernel = getattr(self._load(array).dropout, op)
            self._run(kernel, result.reshape(-1), array.reshape(-1), bits, rate, self._team(array))
        return result


def _fits(mask: Shape, shape: Shape) -> bool:
    """Return whether a mask is of a shape, but for axes of length 1, along which it is repeated."""
    return len(mask) == len(shape) and all(
        length in (1, size) for length, size in zip(mask, shape, strict=True)
    )
