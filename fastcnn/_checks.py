"""What an op accepts: any array-like becomes what a kernel takes, or one clear sentence."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array
from fastcnn._types import Array, Shape

__all__ = [
    "FLOATS",
    "by_shape",
    "fits_memory",
    "float_arrays",
    "rank",
    "same_shape",
    "shape",
    "too_large",
]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_READY = 0x0001 | 0x0100  # NumPy's flags of a C-contiguous, aligned array
_PLAIN = (int, str, type(None))
_MOST_KNOWN = 512  # results that a check remembers
# Arrays that may be None.
_OPTIONAL = ("b", "h0", "c0", "labels", "class_weights", "sample_weights")


Check = TypeVar("Check", bound=Callable[..., Any])


def by_shape(check: Check) -> Check:
    """Let a check that returns something remember it, for most calls repeat earlier ones.

    Of float arrays it may look at the shapes alone. Options that are not plain, or are given by
    name, are looked at each time: True would pass for 1, and what holds others can change.
    """
    known: dict[tuple[Any, ...], Any] = {}

    @wraps(check)
    def remembered(*arguments: Any, **others: Any) -> Any:
        if others:
            return check(*arguments, **others)
        key = []
        for value in arguments:
            if type(value) in _PLAIN:
                key.append(value)
            elif type(value) is np.ndarray and value.dtype.kind == "f":
                key.append(value.shape)
            else:
                return check(*arguments)
        shapes = tuple(key)
        result = known.get(shapes)
        if result is None:
            result = check(*arguments)
            if len(known) >= _MOST_KNOWN:
                known.clear()
            known[shapes] = result
        return result

    return cast("Check", remembered)


def float_arrays(op: str, **arguments: ArrayLike | None) -> list[Array]:
    """Return the arguments as C-contiguous, aligned, native arrays of one float dtype.

    float32 and float64 are kept, boolean, integer and float16 arrays converted to the dtype
    of the others (float32 where there is none). An optional array that is None stays None,
    whatever the annotation says: it spares every other argument a check. Raises TypeError for
    other dtypes and for a mix of float32 and float64.
    """
    arrays: list[Any] = []
    if _are_ready(arguments):
        arrays.extend(arguments.values())
        return arrays
    common: np.dtype[Any] | None = None
    first = ""
    for name, value in arguments.items():
        if value is None and name in _OPTIONAL:
            arrays.append(None)
            continue
        array = as_array(value, f"{op}: {name}")
        arrays.append(array)
        kind = array.dtype.newbyteorder("=")
        if kind in FLOATS:
            if common is None:
                common, first = kind, name
            elif kind != common:
                raise TypeError(
                    f"{op}: {name}: expected {common} like {first}, got {kind}; convert one"
                )
        elif array.dtype.kind not in "biu" and kind != np.float16:
            raise TypeError(
                f"{op}: {name}: expected an array of float32 or float64, got {array.dtype}"
            )
    common = common or FLOATS[0]
    converted: list[Any] = [
        a if a is None else _converted(op, name, a, common)
        for name, a in zip(arguments, arrays, strict=True)
    ]
    return converted


def _converted(op: str, name: str, array: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array, C-contiguous, aligned and of a dtype.

    A view can be larger than any memory: ValueError where that is certain, else MemoryError.
    """
    kind: type[Exception] = ValueError
    if array.size * dtype.itemsize <= sys.maxsize:
        try:
            return np.require(array, dtype, ("C", "A"))
        except MemoryError:
            kind = MemoryError
    raise kind(
        f"{op}: {name}: expected an array that fits in memory as {dtype}, got shape {array.shape}"
    )


def _are_ready(arguments: dict[str, Any]) -> bool:
    """Return whether all arguments are what a kernel takes: the usual case, found out quickly."""
    common: Any = None
    for name, value in arguments.items():
        if value is None and name in _OPTIONAL:
            continue
        if type(value) is not np.ndarray or value.flags.num & _READY != _READY:
            return False
        kind = value.dtype
        if kind is not common:
            if kind not in FLOATS or (common is not None and kind != common):
                return False  # by `is`: dtype("float64") == None
            common = kind
    return common is not None


def rank(array: Array, where: str, letters: str, *other_letters: str) -> None:
    """Check that an array has as many axes as one of the letter lists, e.g. "N, H, W, C"."""
    for choice in (letters, *other_letters):
        if array.ndim == choice.count(",") + 1:
            return
    wanted = " or ".join(
        f"{choice.count(',') + 1} ({choice})" for choice in (letters, *other_letters)
    )
    raise ValueError(
        f"{where}: expected an array of rank {wanted}, "
        f"got rank {array.ndim} with shape {array.shape}"
    )


def shape(array: Array, where: str, expected: Shape, why: str = "") -> None:
    """Check that an array has the expected shape."""
    if array.shape != expected:
        reason = f" ({why})" if why else ""
        raise ValueError(f"{where}: expected shape {expected}{reason}, got {array.shape}")


def fits_memory(result: Shape, where: str) -> None:
    """Check that a result, as float64, has a number of bytes that an address can hold.

    NumPy counts those of one image where there is none.
    """
    if math.prod(size or 1 for size in result) * 8 > sys.maxsize:
        raise ValueError(too_large(result, where))


def too_large(result: Shape, where: str) -> str:
    """Return what to say of a result that there is no memory for; `where` names what made it so."""
    return f"{where}: expected a result that fits in memory, got one of shape {result}"


def same_shape(array: Array, where: str, other_name: str, other: Array) -> None:
    """Check that two arrays have one shape."""
    shape(array, where, other.shape, f"that of {other_name}")
