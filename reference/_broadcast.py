"""Shapes that broadcast: how two arrays meet in a sum or product, and how gradients go back.

Shapes are aligned at their last axis; an axis of length 1, or one that is not there, is repeated.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._checks import Array, integer, shown


def shape_of(op: str, name: str, value: Any) -> tuple[int, ...]:
    """Return a tuple of any number of sizes that stands for an array which is not there."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{op}: {name}: expected a tuple of sizes, got {shown(value)}")
    return tuple(integer(op, name, size, 0) for size in value)


def broadcast(
    op: str, a_shape: tuple[int, ...], b_shape: tuple[int, ...], names: str = "a, b"
) -> tuple[int, ...]:
    """Return the shape of a sum of arrays of these shapes; ValueError where they do not fit."""
    rank = max(len(a_shape), len(b_shape))
    a_sizes = (1,) * (rank - len(a_shape)) + a_shape
    b_sizes = (1,) * (rank - len(b_shape)) + b_shape
    result = []
    for a_size, b_size in zip(a_sizes, b_sizes, strict=True):
        if a_size != b_size and 1 not in (a_size, b_size):
            raise ValueError(
                f"{op}: {names}: expected shapes that broadcast, got {shown(a_shape)} and "
                f"{shown(b_shape)}"
            )
        result.append(b_size if a_size == 1 else a_size)
    return tuple(result)


def sum_to(dy: Array, shape: tuple[int, ...]) -> Array:
    """Return dy summed over the axes along which an array of this shape was repeated."""
    sizes = (1,) * (dy.ndim - len(shape)) + shape
    for axis, size in enumerate(sizes):
        if size == 1:
            dy = np.sum(dy, axis=axis, keepdims=True)
    return dy.reshape(shape)
