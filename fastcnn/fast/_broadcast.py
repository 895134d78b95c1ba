"""How the arrays of a sum or product meet: alike, or one repeated along the other."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays
from fastcnn._options import shown
from fastcnn._types import Array
from fastcnn.fast._memory_bound import MemoryBound

__all__ = [
    "Broadcast",
    "Meeting",
    "apply_into",
    "meeting",
    "operands",
    "products_into",
    "sum_into",
]


class Meeting(NamedTuple):
    """The shape of a result, and how one of its two arguments is repeated along the other.

    The whole is (outer, times, inner), what is repeated (outer, inner). Where the axes of the
    repetition lie apart, or each of the two is repeated, `times` is 0: NumPy takes these.
    """

    shape: tuple[int, ...]
    swapped: bool  # whether it is the first that is repeated
    outer: int
    times: int
    inner: int

    @property
    def alike(self) -> bool:
        return self.times == 1


def operands(op: str, **arrays: ArrayLike) -> list[Array]:
    """Return the checked arguments; none of them may be left out, unlike a bias of that name."""
    for name, value in arrays.items():
        if value is None:
            raise TypeError(f"{op}: {name}: expected an array of float32 or float64, got None")
    return float_arrays(op, **arrays)


def meeting(
    op: str, a_shape: tuple[int, ...], b_shape: tuple[int, ...], names: str = "a, b"
) -> Meeting:
    """Return how two arrays meet; ValueError where their shapes do not broadcast."""
    found = _meeting(a_shape, b_shape)
    if found is None:
        raise ValueError(
            f"{op}: {names}: expected shapes that broadcast, got {shown(a_shape)} and "
            f"{shown(b_shape)}"
        )
    return found


@lru_cache(maxsize=512)
def _meeting(a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> Meeting | None:
    rank = max(len(a_shape), len(b_shape))
    a, b = ((1,) * (rank - len(shape)) + shape for shape in (a_shape, b_shape))
    if any(m != n and 1 not in (m, n) for m, n in zip(a, b, strict=True)):
        return None
    shape = tuple(n if m == 1 else m for m, n in zip(a, b, strict=True))
    swapped = a != shape
    whole, part = (b, a) if swapped else (a, b)
    repeated = [axis for axis in range(rank) if part[axis] != shape[axis]]
    if whole != shape:
        return Meeting(shape, False, 0, 0, 0)
    first, end = (repeated[0], repeated[-1] + 1) if repeated else (0, 0)
    if any(part[axis] != 1 for axis in range(first, end)):
        return Meeting(shape, False, 0, 0, 0)
    outer, times, inner = (math.prod(shape[cut]) for cut in (slice(first), slice(first, end),
                                                             slice(end, None)))  # fmt: skip
    return Meeting(shape, swapped, outer, times, inner)


def sum_into(part: Array, dy: Array) -> None:
    """Write dy to part, summed by NumPy in double over the axes along which it was repeated."""
    with np.errstate(all="ignore"):
        part[...] = dy if part.shape == dy.shape else _summed(dy, part.shape)


def _summed(dy: Array, shape: tuple[int, ...]) -> Array:
    lead = dy.ndim - len(shape)
    axes = (*range(lead), *(lead + i for i, size in enumerate(shape) if size == 1))
    total = np.sum(dy, axis=axes, dtype=np.float64, keepdims=True)
    return total.astype(dy.dtype).reshape(shape)


def apply_into(y: Array, function: np.ufunc, a: Array, b: Array) -> None:
    """Write function(a, b) to y by NumPy."""
    with np.errstate(all="ignore"):
        function(a, b, out=y)


def products_into(da: Array, db: Array, dy: Array, a: Array, b: Array) -> None:
    """Write the gradients of a * b by NumPy: products of float32 are exact in double."""
    with np.errstate(all="ignore"):
        wide = dy.astype(np.float64)
        sum_into(da, wide * b)
        sum_into(db, wide * a)


class Broadcast(MemoryBound):
    """What sums and products of two arrays share."""

    def _joined(self, op: str, function: np.ufunc, a: ArrayLike, b: ArrayLike) -> Array:
        """Return function(a, b) by the kernels of an op, or by NumPy where it repeats both."""
        a, b = operands(op, a=a, b=b)
        pair = meeting(op, a.shape, b.shape)
        y = self._result(op, "a, b", pair.shape, a.dtype)
        if pair.times == 0:
            self._run(apply_into, y, function, a, b)
            return y
        if y.size == 0:
            return y
        kernels, threads = getattr(self._load(a), op), self._team(y)
        if pair.swapped:
            a, b = b, a
        flat = y.reshape(-1), a.reshape(-1)
        if pair.alike:
            self._run(getattr(kernels, op), *flat, b.reshape(-1), threads)
        else:
            part = b.reshape(pair.outer, pair.inner)
            self._run(getattr(kernels, f"{op}_repeated"), *flat, part, pair.times, threads)
        return y
