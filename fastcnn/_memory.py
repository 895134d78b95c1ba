"""Arrays from the pool of `fastcnn._kernels._memory`."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from fastcnn._kernels import _memory
from fastcnn._kernels._memory import ALIGNMENT, Arena, same_bytes
from fastcnn._types import Array

__all__ = [
    "ALIGNMENT",
    "Arena",
    "copied",
    "empty",
    "is_pooled",
    "same_bytes",
    "zeros",
]


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return an uninitialised C-contiguous array, its data aligned to 64 bytes."""
    size = math.prod(shape) * dtype.itemsize
    if size == 0:
        return np.empty(shape, dtype)
    if size > sys.maxsize:
        raise MemoryError(f"a result of shape {shape} is larger than any address space")
    return np.ndarray(shape, dtype, _memory.Block(size))


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return an array of zeros like `empty`."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def copied(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return a copy of an array like `empty`: a kernel reads it a whole cache line at a time."""
    copy = empty(array.shape, dtype)
    copy[...] = array
    return copy


def memory_of(array: Array) -> Array:
    """Return the array whose memory an array is a view of: itself, unless it is one."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def is_pooled(array: Array) -> bool:
    """Return whether an array lies in memory of the pool, as what the functions above return."""
    return isinstance(memory_of(array).base, _memory.Block)
