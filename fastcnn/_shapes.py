"""The arithmetic of shapes: what ops leave that move, pick or gather numbers along axes.

For layers, ops and rows of programs alike; a check takes (value, where), as in _options.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastcnn._options import choice, integer, shape_of, shown
from fastcnn._types import Shape

__all__ = [
    "BLOCK_MODES",
    "PAD_MODES",
    "Widths",
    "axes_of",
    "axis_of",
    "bounds_of",
    "divides",
    "expanded",
    "fits",
    "from_blocks",
    "indices_of",
    "last_axes",
    "multiplied",
    "order_of",
    "padded",
    "reduced",
    "reshaped",
    "sliced",
    "slices_of",
    "to_blocks",
    "widths_of",
]

Widths = tuple[tuple[int, int], ...]  # before and after, of each axis

PAD_MODES = ("constant", "reflect", "edge")
BLOCK_MODES = ("DCR", "CRD")


# ---------------------------------------------------------------------- axes
def axis_of(value: Any, where: str, rank: int) -> int:
    """Return an axis of so many as a number from 0; below 0 it is counted from the end."""
    axis = integer(value, where, -(rank or 2**62))
    if rank == 0:
        raise ValueError(f"{where}: expected an array that has axes, got one of rank 0")
    if axis >= rank:
        raise ValueError(f"{where}: expected an integer from {-rank} to {rank - 1}, got {axis}")
    return axis % rank


def axes_of(value: Any, where: str, rank: int) -> Shape:
    """Return axes in their order: those of None are all, an integer is one."""
    if value is None:
        return tuple(range(rank))
    if not _is_sequence(value):
        return (axis_of(value, where, rank),)
    axes = sorted(axis_of(each, where, rank) for each in value)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{where}: expected each axis once, got {shown(value)}")
    return tuple(axes)


def order_of(value: Any, where: str, rank: int) -> Shape:
    """Return the axes of a transposition: each of them once, in a new order."""
    axes = [axis_of(each, where, rank) for each in _sequence(value, where, "axes")]
    if sorted(axes) != list(range(rank)):
        raise ValueError(f"{where}: expected each of {rank} axes once, got {shown(value)}")
    return tuple(axes)


def reduced(x_shape: Shape, axes: Shape, keepdims: bool) -> Shape:
    """Return what a reduction over these axes leaves."""
    if keepdims:
        return tuple(1 if at in axes else size for at, size in enumerate(x_shape))
    return tuple(size for at, size in enumerate(x_shape) if at not in axes)


# ---------------------------------------------------------------------- sizes
def reshaped(x_shape: Shape, value: Any, where: str) -> Shape:
    """Return a shape of as many numbers; one size may be -1, which is what the others leave."""
    sizes = shape_of(value, where, -1)
    count, rest = math.prod(x_shape), math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and rest and count % rest == 0:
        sizes = tuple(count // rest if size == -1 else size for size in sizes)
    if -1 in sizes or math.prod(sizes) != count:
        raise ValueError(f"{where}: expected a shape of {count} numbers, got {shown(value)}")
    return sizes


def expanded(x_shape: Shape, value: Any, where: str) -> Shape:
    """Return the shape in which x meets an array of this shape, both repeated as in a sum."""
    shape = shape_of(value, where, 0)
    try:
        return tuple(np.broadcast_shapes(x_shape, shape))
    except ValueError:
        raise ValueError(
            f"{where}: expected a shape that broadcasts with {x_shape}, got {shown(value)}"
        ) from None


def multiplied(a_shape: Shape, b_shape: Shape, where: str) -> Shape:
    """Return the shape of a product of matrices, or of stacks of them that broadcast."""
    lead = None
    if len(a_shape) > 1 and len(b_shape) > 1 and a_shape[-1] == b_shape[-2]:
        try:
            lead = np.broadcast_shapes(a_shape[:-2], b_shape[:-2])
        except ValueError:
            lead = None
    if lead is None:
        raise ValueError(
            f"{where}: expected matrices (..., M, K) and (..., K, N) whose other axes broadcast, "
            f"got shapes {shown(a_shape)} and {shown(b_shape)}"
        )
    return (*lead, a_shape[-2], b_shape[-1])


# ---------------------------------------------------------------------- pads
def widths_of(value: Any, where: str, rank: int) -> Widths:
    """Return the widths of pads: a pair (before, after) for each axis."""
    pairs = _sequence(value, where, "(before, after) pairs")
    if len(pairs) != rank or not all(_is_sequence(pair) and len(pair) == 2 for pair in pairs):
        raise ValueError(
            f"{where}: expected a pair (before, after) for each of {rank} axes, got {shown(value)}"
        )
    return tuple((integer(pair[0], where, 0), integer(pair[1], where, 0)) for pair in pairs)


def padded(x_shape: Shape, widths: Widths, mode: Any, where: str) -> Shape:
    """Return a padded shape; ValueError for a mode that finds too little to copy.

    where: "op: widths".
    """
    choice(mode, f"{where.partition(':')[0]}: mode", PAD_MODES)
    for axis, (size, ends) in enumerate(zip(x_shape, widths, strict=True)):
        if mode == "edge" and size == 0 < max(ends):
            raise ValueError(f"{where}: expected none along the empty axis {axis}, got {ends}")
        if mode == "reflect" and max(ends) >= max(size, 1):
            raise ValueError(
                f'{where}: expected fewer than the {size} places of axis {axis} in mode "reflect", '
                f"got {ends}"
            )
    sizes = zip(x_shape, widths, strict=True)
    return tuple(before + size + after for size, (before, after) in sizes)


# ---------------------------------------------------------------------- what is picked
def slices_of(x_shape: Shape, starts: Any, stops: Any, steps: Any, op: str) -> tuple[slice, ...]:
    """Return the slice of each axis; None stands for what it does in Python's own."""
    rank = len(x_shape)
    first = bounds_of(starts, f"{op}: starts", rank) or (None,) * rank
    last = bounds_of(stops, f"{op}: stops", rank) or (None,) * rank
    step = bounds_of(steps, f"{op}: steps", rank) or (None,) * rank
    if 0 in step:
        raise ValueError(f"{op}: steps: expected none of 0, got {shown(steps)}")
    return tuple(map(slice, first, last, step))


def bounds_of(value: Any, where: str, rank: int | None = None) -> tuple[int | None, ...] | None:
    """Return the numbers of slices, each an integer of any size or None; None for none at all.

    rank: how many there have to be.
    """
    if value is None:
        return None
    numbers = _sequence(value, where, "integers")
    if rank is not None and len(numbers) != rank:
        raise ValueError(f"{where}: expected one for each of {rank} axes, got {shown(value)}")
    return tuple(
        None if each is None else integer(each, where, -(2**63), any_size=True) for each in numbers
    )


def sliced(x_shape: Shape, slices: tuple[slice, ...]) -> Shape:
    """Return the shape of what slices take."""
    sizes = zip(slices, x_shape, strict=True)
    return tuple(len(range(*one.indices(size))) for one, size in sizes)


def indices_of(value: Any, where: str, size: int) -> Shape:
    """Return places along an axis of this size as numbers from 0."""
    places = tuple(integer(each, where, -size) for each in _sequence(value, where, "integers"))
    for place in places:
        if place >= size:
            raise ValueError(f"{where}: expected integers from {-size} to {size - 1}, got {place}")
    return tuple(place % size for place in places)


# ---------------------------------------------------------------------- blocks
def from_blocks(x_shape: Shape, block: Any, mode: Any, where: str) -> Shape:
    """Return the shape of images (N, H * block, W * block, C / block**2); where: "op: x"."""
    n, height, width, channels = _images(x_shape, where)
    size = _block(block, mode, where)
    if channels % size**2:
        raise ValueError(
            f"{where}: expected a multiple of {size**2} channels, block**2, got {channels}"
        )
    return n, height * size, width * size, channels // size**2


def to_blocks(x_shape: Shape, block: Any, mode: Any, where: str) -> Shape:
    """Return the shape of images (N, H / block, W / block, C * block**2); where: "op: x"."""
    n, height, width, channels = _images(x_shape, where)
    size = _block(block, mode, where)
    if height % size or width % size:
        raise ValueError(
            f"{where}: expected height and width that are multiples of {size}, got "
            f"{height} x {width}"
        )
    return n, height // size, width // size, channels * size**2


def _images(x_shape: Shape, where: str) -> Shape:
    if len(x_shape) != 4 or 0 in x_shape[1:]:
        raise ValueError(
            f"{where}: expected images (N, H, W, C) of one pixel and one channel at least, got "
            f"shape {x_shape}"
        )
    return x_shape


def _block(block: Any, mode: Any, where: str) -> int:
    op = where.partition(":")[0]
    choice(mode, f"{op}: mode", BLOCK_MODES)
    return integer(block, f"{op}: block")


# ---------------------------------------------------------------------- what came
def _is_sequence(value: Any) -> bool:
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _sequence(value: Any, where: str, what: str) -> Any:
    if not _is_sequence(value):
        raise TypeError(f"{where}: expected a tuple of {what}, got {shown(value)}")
    return value


def last_axes(axis: Any, where: str, rank: int) -> int:
    """Return, as a number from 1, where the last axes begin; the first is not among them."""
    first = integer(axis, where, -rank)
    if first >= rank or first % rank == 0:
        raise ValueError(
            f"{where}: expected an axis of x of rank {rank} that is not the first, got "
            f"{shown(axis)}"
        )
    return first % rank


def divides(groups: Any, where: str, channels: int) -> int:
    """Return a number of groups into which so many channels can be cut."""
    count = integer(groups, where)
    if channels % count:
        raise ValueError(f"{where}: expected a divisor of {channels} channels, got {count}")
    return count


# ---------------------------------------------------------------------- windows


def fits(shape: Shape, expected: Any) -> bool:
    """Return whether a shape is the expected one, in which None stands for any size."""
    return shape == expected or (
        len(shape) == len(expected)
        and all(own in (size, None) for size, own in zip(shape, expected, strict=True))
    )
