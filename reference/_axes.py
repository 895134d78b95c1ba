"""Axes, and what is picked along them: the reference's own checks of such options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ._checks import integer, is_sequence, shown

Axis = int | Sequence[int] | None


def axis_of(op: str, name: str, value: Any, rank: int) -> int:
    """Return an axis of so many as a number from 0; below 0 it is counted from the end."""
    axis = integer(op, name, value, -(rank or 2**62))
    if rank == 0:
        raise ValueError(f"{op}: {name}: expected an array that has axes, got one of rank 0")
    if axis >= rank:
        raise ValueError(
            f"{op}: {name}: expected an integer from {-rank} to {rank - 1}, got {shown(axis)}"
        )
    return axis % rank


def axes_of(op: str, name: str, value: Any, rank: int) -> tuple[int, ...]:
    """Return one axis or several in their order; all where the value is None."""
    if value is None:
        return tuple(range(rank))
    if not is_sequence(value):
        return (axis_of(op, name, value, rank),)
    axes = [axis_of(op, name, each, rank) for each in value]
    if len(set(axes)) != len(axes):
        raise ValueError(f"{op}: {name}: expected each axis once, got {shown(value)}")
    return tuple(sorted(axes))


def sequence(op: str, name: str, value: Any) -> Any:
    """Return a tuple, list or array of options; TypeError for others."""
    if not is_sequence(value):
        raise TypeError(f"{op}: {name}: expected a tuple, got {shown(value)}")
    return value
