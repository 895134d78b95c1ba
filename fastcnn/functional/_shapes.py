"""What moves numbers about, and reductions: of arrays of any rank, with their batch axis."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from fastcnn._types import Array, Axis
from fastcnn.backend import Backend
from fastcnn.functional._call import backend_of, on_batch, with_names

__all__ = [
    "depth_to_space",
    "expand",
    "pad",
    "reduce_max",
    "reduce_mean",
    "reduce_min",
    "reduce_sum",
    "reshape",
    "space_to_depth",
    "strided_slice",
    "take",
    "transpose",
]


@with_names()
def reshape(x: ArrayLike, shape: Sequence[int], *, backend: str | Backend = "fast") -> Array:
    """Return the numbers of x, in their order, in another shape; one size may be -1."""
    return backend_of(backend).reshape(x, shape)


@with_names()
def transpose(x: ArrayLike, axes: Sequence[int], *, backend: str | Backend = "fast") -> Array:
    """Return x with its axes in another order."""
    return backend_of(backend).transpose(x, axes)


@with_names()
def expand(x: ArrayLike, shape: Sequence[int], *, backend: str | Backend = "fast") -> Array:
    """Return x repeated as in a sum with an array of this shape."""
    return backend_of(backend).expand(x, shape)


@with_names()
def pad(
    x: ArrayLike,
    widths: Sequence[tuple[int, int]],
    *,
    mode: str = "constant",
    value: float = 0.0,
    backend: str | Backend = "fast",
) -> Array:
    """Return x with more places, a pair (before, after) for each axis.

    mode: "constant" for `value`, "edge" for the outermost number, "reflect" for a mirror there.
    """
    return backend_of(backend).pad(x, widths, mode=mode, value=value)


@with_names()
def strided_slice(
    x: ArrayLike,
    starts: Sequence[int | None] | None,
    stops: Sequence[int | None] | None,
    steps: Sequence[int | None] | None = None,
    *,
    backend: str | Backend = "fast",
) -> Array:
    """Return x[starts[0]:stops[0]:steps[0], ...], one of each for each axis."""
    return backend_of(backend).strided_slice(x, starts, stops, steps)


@with_names()
def take(
    x: ArrayLike, indices: Sequence[int], axis: int = -1, *, backend: str | Backend = "fast"
) -> Array:
    """Return the parts of x at these places along an axis."""
    return backend_of(backend).take(x, indices, axis)


@with_names()
def depth_to_space(
    x: ArrayLike, block: int, *, mode: str = "DCR", backend: str | Backend = "fast"
) -> Array:
    """Lay the channels of each pixel out as a block of pixels; "CRD" is PyTorch's pixel shuffle."""

    def op(batch: Array) -> Array:
        return backend_of(backend).depth_to_space(batch, block, mode=mode)

    return on_batch("depth_to_space", op, x)


@with_names()
def space_to_depth(
    x: ArrayLike, block: int, *, mode: str = "DCR", backend: str | Backend = "fast"
) -> Array:
    """Gather blocks of pixels in the channels of one: the inverse of depth_to_space."""

    def op(batch: Array) -> Array:
        return backend_of(backend).space_to_depth(batch, block, mode=mode)

    return on_batch("space_to_depth", op, x)


# ---------------------------------------------------------------------- reductions
@with_names()
def reduce_sum(
    x: ArrayLike, axis: Axis = None, *, keepdims: bool = False, backend: str | Backend = "fast"
) -> Array:
    """Return the sums of x along one axis, several or all."""
    return backend_of(backend).reduce_sum(x, axis, keepdims=keepdims)


@with_names()
def reduce_mean(
    x: ArrayLike, axis: Axis = None, *, keepdims: bool = False, backend: str | Backend = "fast"
) -> Array:
    """Return the means of x along one axis, several or all."""
    return backend_of(backend).reduce_mean(x, axis, keepdims=keepdims)


@with_names()
def reduce_max(
    x: ArrayLike, axis: Axis = None, *, keepdims: bool = False, backend: str | Backend = "fast"
) -> Array:
    """Return the largest numbers of x along one axis, several or all."""
    return backend_of(backend).reduce_max(x, axis, keepdims=keepdims)


@with_names()
def reduce_min(
    x: ArrayLike, axis: Axis = None, *, keepdims: bool = False, backend: str | Backend = "fast"
) -> Array:
    """Return the smallest numbers of x along one axis, several or all."""
    return backend_of(backend).reduce_min(x, axis, keepdims=keepdims)
