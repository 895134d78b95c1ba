"""Tensors as PyTorch's files tell of them.

A file says of a tensor in which storage it begins, its shape and its strides; a storage is a run of
bytes somewhere in the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np

__all__ = [
    "MOST_AXES",
    "STORED",
    "Order",
    "Place",
    "Storage",
    "Tensor",
    "count",
    "require_apart",
    "require_inside",
    "width_of",
]

# What each dtype of PyTorch is stored as. Those that NumPy hasn't become float32, as half does:
# each of their numbers is one of float32.
STORED: dict[str, str] = {
    **{name: name for name in ("float64", "float32", "float16")},
    **{name: name for name in ("int64", "int32", "int16", "int8", "bool")},
    **{name: name for name in ("uint64", "uint32", "uint16", "uint8")},
    "bfloat16": "uint16",
    **{f"float8_{form}": "uint8" for form in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")},
}
MOST_AXES = 32
_LARGEST = 2**62


class Storage(NamedTuple):
    """`size` numbers behind the first `start` of the storage that the file calls `key`."""

    key: str
    dtype: str
    start: int
    size: int
    whole: int  # how many numbers that storage has


class Tensor(NamedTuple):
    """A tensor; all but the storage in numbers of its dtype."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


Order = Literal["<", ">"]


class Place(NamedTuple):
    """Where bytes lie in a file, and in which order those of a number."""

    start: int
    size: int
    order: Order = "<"


def width_of(dtype: str) -> int:
    """Return how many bytes a number has."""
    return 1 if dtype == "bytes" else np.dtype(STORED[dtype]).itemsize


def count(value: Any, what: str) -> int:
    """Return a whole number that counts something; ValueError for other values."""
    if type(value) is not int or not 0 <= value < _LARGEST:
        got = f"{value}" if type(value) is int else type(value).__name__
        raise ValueError(f"{what}: expected a count, got {got}")
    return value


def require_inside(tensor: Tensor) -> Tensor:
    """Return a tensor that lies in its storage, ValueError for others.

    Offset and strides that say nothing become 0: of no numbers, and along an axis of one place.
    """
    storage, dtype, start, shape, strides = tensor
    if math.prod(max(n, 1) for n in shape) * 8 > _LARGEST:
        raise ValueError(f"it holds a tensor of shape {shape}, which no memory holds")
    size = storage.size * width_of(storage.dtype) // width_of(dtype)
    last = start + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if 0 not in shape and last >= size:
        raise ValueError(
            f"it holds a tensor of shape {shape} and strides {strides} from {start} on in a "
            f"storage of {size} numbers"
        )
    if 0 in shape:
        return tensor._replace(offset=0, strides=(0,) * len(shape))
    steps = (step if n > 1 else 0 for n, step in zip(shape, strides, strict=True))
    return tensor._replace(strides=tuple(steps))


def require_apart(places: Iterable[tuple[int, int]]) -> None:
    """Refuse runs of bytes, (start, end) of each, that overlap."""
    before = 0
    for start, end in sorted(places):
        if start < before:
            raise ValueError("some of its data overlap")
        before = max(before, end)
