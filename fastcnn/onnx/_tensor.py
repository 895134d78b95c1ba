"""Arrays of an ONNX graph, which has channels first, kept in the order that kernels want.

A tensor has the axes of the file in an order of its own. A Transpose is another order and moves
nothing, and a Reshape moves nothing where it splits and joins axes that lie side by side, in their
order: so an image stays (N, H, W, C) through gates and attention, a channel shuffle moves it once,
and the transposes that exporters of NHWC frameworks write cancel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn._types import Array, Shape

__all__ = ["Tensor", "channels_last", "expanded", "meeting", "tensor_of"]


def channels_last(rank: int) -> tuple[int, ...]:
    """Return the order of axes that kernels want: (0, 2, 3, 1) of images."""
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


class Tensor:
    """An array of a backend whose axis i is the file's axis order[i]."""

    def __init__(self, array: Any, order: Sequence[int] | None = None) -> None:
        self.array = array
        self.order = tuple(range(len(array.shape)) if order is None else order)

    @property
    def shape(self) -> Shape:
        """The shape that the file means."""
        found = dict(zip(self.order, self.array.shape, strict=True))
        return tuple(found[axis] for axis in range(len(found)))

    @property
    def rank(self) -> int:
        return len(self.order)

    def __repr__(self) -> str:
        return f"Tensor({self.shape}, order={self.order})"

    def stored(self, backend: Any, order: Sequence[int] | None = None) -> Any:
        """Return the array with the file's axes in this order, as they are in the file by default.

        It is the array itself, or another shape of it, where only axes of length 1 move.
        """
        wanted = tuple(range(self.rank) if order is None else order)
        if wanted == self.order:
            return self.array
        if self._lies(wanted):
            shape = self.shape
            return backend.reshape(self.array, tuple(shape[axis] for axis in wanted))
        return backend.transpose(self.array, [self.order.index(axis) for axis in wanted])

    def transposed(self, axes: Sequence[int]) -> Tensor:
        """Return what ONNX's Transpose gives, without moving anything."""
        place = {axis: new for new, axis in enumerate(axes)}
        return Tensor(self.array, [place[axis] for axis in self.order])

    def reshaped(self, backend: Any, shape: Sequence[int]) -> Tensor:
        """Return the numbers in the file's order in another shape.

        The axes that become others are brought side by side, where the first of them lies.
        """
        new = tuple(shape)
        groups = _groups(self.shape, new)
        if groups is None:
            return Tensor(backend.reshape(self.stored(backend), new))
        groups = sorted(groups, key=lambda group: self._place(group[0]))
        before = [axis for old, _ in groups for axis in old]
        order = [axis for _, after in groups for axis in after]
        array = self.array if self._lies(before) else self.stored(backend, before)
        return Tensor(backend.reshape(array, tuple(new[axis] for axis in order)), order)

    def _place(self, axes: range) -> float:
        """Return where the first of these axes lies; in front of its place if they are of 1."""
        lengths = self.shape
        places = [self.order.index(axis) for axis in axes if lengths[axis] != 1]
        if places:
            return min(places)
        return self.order.index(axes[0]) - 0.5 if axes else math.inf

    def _lies(self, order: Sequence[int]) -> bool:
        """Return whether the numbers lie in this order already."""
        shape = self.shape
        wanted, found = (
            [axis for axis in each if shape[axis] != 1] for each in (order, self.order)
        )
        return wanted == found


def _groups(old: Shape, new: Shape) -> list[tuple[range, range]] | None:
    """Return which axes of one shape become which of another: the smallest groups, in order.

    None where there are no numbers.
    """
    if 0 in old or 0 in new:
        return None
    groups: list[tuple[range, range]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        first_i, first_j = i, j
        m = n = 1
        if i < len(old):
            m, i = old[i], i + 1
        if j < len(new):
            n, j = new[j], j + 1
        while m != n:
            if m < n:
                m, i = m * old[i], i + 1
            else:
                n, j = n * new[j], j + 1
        groups.append((range(first_i, i), range(first_j, j)))
    return groups


# ---------------------------------------------------------------------- two that meet
def tensor_of(value: Tensor | Array, dtype: np.dtype[Any]) -> Tensor:
    """Return a constant as a tensor; a tensor as it is."""
    return value if isinstance(value, Tensor) else Tensor(np.asarray(value, dtype))


def meeting(
    backend: Any, dtype: np.dtype[Any], *values: Tensor | Array
) -> tuple[list[Any], tuple[int, ...]]:
    """Return arrays that broadcast as the file's do, and the order of the result's axes.

    It is the order of the largest of them; the axes of length 1 in front of others are left out.
    """
    given = [tensor_of(value, dtype) for value in values]
    rank = max(each.rank for each in given)
    leader = max(
        (each for each in given if each.rank == rank), key=lambda each: math.prod(each.shape)
    )
    return [_aligned(each, leader.order, backend) for each in given], leader.order


def _aligned(tensor: Tensor, order: tuple[int, ...], backend: Any) -> Any:
    """Return an array whose axes meet those of a tensor of this order, counted from the end."""
    if tensor.order == order:
        return tensor.array
    lead = len(order) - tensor.rank
    own = [axis - lead for axis in order if axis >= lead]
    shape = tensor.shape
    wanted = [1 if axis < lead else shape[axis - lead] for axis in order]
    while len(wanted) > 1 and wanted[0] == 1:
        del wanted[0]
    if isinstance(tensor.array, np.ndarray):
        places = [tensor.order.index(axis) for axis in own]
        return np.ascontiguousarray(tensor.array.transpose(places)).reshape(wanted)
    array = tensor.stored(backend, own)
    return array if tuple(array.shape) == tuple(wanted) else backend.reshape(array, tuple(wanted))


def expanded(backend: Any, tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a tensor with its axes of length 1, and those in front of it, of these lengths."""
    if tuple(shape) == tensor.shape:
        return tensor
    lead = len(shape) - tensor.rank
    order = (*range(lead), *(axis + lead for axis in tensor.order))
    array = tensor.array
    if lead:
        array = backend.reshape(array, (*[1] * lead, *array.shape))
    return Tensor(backend.expand(array, tuple(shape[axis] for axis in order)), order)
