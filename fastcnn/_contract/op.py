"""A row of the table of ops: what an op gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastcnn._types import Shape

__all__ = ["Op", "broadcast", "same"]


class Op(NamedTuple):
    """What an op gives.

    results: their names; the first is what the next op sees. gradients: the arguments that have
    one, in the order in which the backward op returns them. shapes: a function of the arguments'
    shapes (None for an argument that is not given) and the options, which returns one shape a
    result; None for an op that only fusion makes. run: what computes an op that no backend has, as
    the mask of dropout.
    """

    results: tuple[str, ...]
    gradients: tuple[str, ...]
    shapes: Callable[..., Sequence[Shape]] | None
    run: Callable[..., Any] | None = None


def same(x: Shape, *others: Shape | None, **options: Any) -> Sequence[Shape]:
    """Return the shape of the first argument."""
    return (x,)


def broadcast(a: Shape, b: Shape, **options: Any) -> Sequence[Shape]:
    """Return the shape of two arguments that broadcast as in NumPy."""
    return (np.broadcast_shapes(a, b),)
