"""What an op accepts: any array-like becomes what a kernel takes, or one clear sentence."""

from __future__ import annotations

import math
import numbers
import operator
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from fastcnn import _arrays
from fastcnn._types import Array, Padding, Size2D

__all__ = [
    "as_array",
    "by_shape",
    "fits_memory",
    "flag",
    "float_arrays",
    "fraction",
    "integer",
    "number",
    "output_size",
    "pads",
    "pair",
    "positive",
    "rank",
    "same_shape",
    "shape",
    "shown",
    "too_large",
]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
Pads = tuple[tuple[int, int], tuple[int, int]]
_READY = 0x0001 | 0x0100  # NumPy's flags of a C-contiguous, aligned array
_LARGEST = 2**62  # sizes and their sums stay below the largest Py_ssize_t
_PLAIN = (int, str, type(None))
_MOST_KNOWN = 512  # results that a check remembers
_OPTIONAL = ("b", "labels", "class_weights", "sample_weights")  # arrays that may be None


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


def shown(value: Any) -> str:
    """Return a value as an error message shows it: on one line, and short."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python refuses to write out integers of thousands of digits
        return "an integer of thousands of digits"
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def as_array(op: str, name: str, value: Any) -> Array:
    """Return `value` as an array of whatever dtype; see fastcnn._arrays.as_array."""
    return value if type(value) is np.ndarray else _arrays.as_array(value, f"{op}: {name}")


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
        array = as_array(op, name, value)
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
        if common is None:
            common = value.dtype
            if common not in FLOATS:
                return False
        elif value.dtype != common:
            return False
    return common is not None


def rank(op: str, name: str, array: Array, letters: str, *other_letters: str) -> None:
    """Check that an array has as many axes as one of the letter lists, e.g. "N, H, W, C"."""
    for choice in (letters, *other_letters):
        if array.ndim == choice.count(",") + 1:
            return
    wanted = " or ".join(
        f"{choice.count(',') + 1} ({choice})" for choice in (letters, *other_letters)
    )
    raise ValueError(
        f"{op}: {name}: expected an array of rank {wanted}, "
        f"got rank {array.ndim} with shape {array.shape}"
    )


def shape(op: str, name: str, array: Array, expected: tuple[int, ...], why: str = "") -> None:
    """Check that an array has the expected shape."""
    if array.shape != expected:
        reason = f" ({why})" if why else ""
        raise ValueError(f"{op}: {name}: expected shape {expected}{reason}, got {array.shape}")


def fits_memory(op: str, name: str, result: tuple[int, ...]) -> None:
    """Check that a result, as float64, has a number of bytes that an address can hold.

    NumPy counts those of one image where there is none.
    """
    if math.prod(size or 1 for size in result) * 8 > sys.maxsize:
        raise ValueError(too_large(op, name, result))


def too_large(op: str, name: str, result: tuple[int, ...]) -> str:
    """Return what to say of a result that there is no memory for; `name` made it so."""
    return f"{op}: {name}: expected a result that fits in memory, got one of shape {result}"


def same_shape(op: str, name: str, array: Array, other_name: str, other: Array) -> None:
    """Check that two arrays have one shape."""
    shape(op, name, array, other.shape, f"that of {other_name}")


def integer(op: str, name: str, value: Any, minimum: int = 1) -> int:
    """Return `value` as an int of at least `minimum`; TypeError for bool and for no integer."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{op}: {name}: expected an integer, got {shown(value)}")
    try:
        result = operator.index(value)
    except TypeError:
        raise TypeError(f"{op}: {name}: expected an integer, got {shown(value)}") from None
    if result < minimum:
        raise ValueError(
            f"{op}: {name}: expected an integer of at least {minimum}, got {shown(result)}"
        )
    if result > _LARGEST:
        raise ValueError(f"{op}: {name}: expected an integer of at most 2**62, got {shown(result)}")
    return result


def number(
    op: str, name: str, value: Any, minimum: float = -np.inf, maximum: float = np.inf
) -> float:
    """Return `value` as a finite float in [minimum, maximum]."""
    if type(value) is not float and (
        isinstance(value, bool) or not isinstance(value, numbers.Real)
    ):
        raise TypeError(f"{op}: {name}: expected a number, got {shown(value)}")
    try:
        result = float(value)
    except OverflowError:
        raise ValueError(f"{op}: {name}: expected a number that fits a float, got more") from None
    if not (minimum <= result <= maximum) or abs(result) == np.inf:
        limits = f" in [{minimum:g}, {maximum:g}]" if maximum < np.inf or minimum > -np.inf else ""
        raise ValueError(f"{op}: {name}: expected a finite number{limits}, got {result}")
    return result


def positive(op: str, name: str, value: Any) -> float:
    """Return `value` as a finite float above zero."""
    result = number(op, name, value)
    if result <= 0:
        raise ValueError(f"{op}: {name}: expected a finite number above 0, got {result}")
    return result


def fraction(op: str, name: str, value: Any) -> float:
    """Return `value` as a float of at least 0 and below 1."""
    result = number(op, name, value)
    if not 0 <= result < 1:
        raise ValueError(f"{op}: {name}: expected a number in [0, 1), got {result}")
    return result


def flag(op: str, name: str, value: Any) -> bool:
    """Return a truth value; TypeError for anything but True and False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{op}: {name}: expected True or False, got {shown(value)}")
    return bool(value)


def pair(op: str, name: str, value: Size2D, minimum: int = 1) -> tuple[int, int]:
    """Return a number or a (height, width) pair as a pair of ints of at least `minimum`."""
    if isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim):
        if len(value) != 2:
            raise ValueError(
                f"{op}: {name}: expected a number or a (height, width) pair, got {shown(value)}"
            )
        return integer(op, name, value[0], minimum), integer(op, name, value[1], minimum)
    both = integer(op, name, value, minimum)
    return both, both


def pads(
    op: str,
    padding: Padding,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> Pads:
    """Return any form of padding as ((top, bottom), (left, right)).

    "same" is TensorFlow's: output = ceil(input / stride), the odd pixel goes after.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding == "same":
            return (
                _same(size[0], kernel[0], stride[0], dilation[0]),
                _same(size[1], kernel[1], stride[1], dilation[1]),
            )
        raise ValueError(
            f"{op}: padding: expected a number, a pair, ((top, bottom), (left, right)), "
            f'"valid" or "same", got {shown(padding)}'
        )
    if isinstance(padding, (tuple, list)) and any(isinstance(p, (tuple, list)) for p in padding):
        nested: Any = padding
        if len(nested) != 2 or any(not isinstance(p, (tuple, list)) or len(p) != 2 for p in nested):
            raise ValueError(
                f"{op}: padding: expected ((top, bottom), (left, right)), got {shown(padding)}"
            )
        top, bottom, left, right = (integer(op, "padding", v, 0) for p in nested for v in p)
        return (top, bottom), (left, right)
    vertical, horizontal = pair(op, "padding", padding, 0)  # type: ignore[arg-type]
    return (vertical, vertical), (horizontal, horizontal)


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    out = -(-size // stride)
    total = max(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return total // 2, total - total // 2


def output_size(
    op: str,
    axis: str,
    size: int,
    pad: tuple[int, int],
    kernel: int,
    stride: int,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> int:
    """Return the output size along one axis; ValueError, with the arithmetic, below one."""
    span = (kernel - 1) * dilation + 1
    padded = size + pad[0] + pad[1]
    if padded > _LARGEST or span > _LARGEST:
        raise ValueError(
            f"{op}: padding, dilation: expected a padded {axis} and a window of at most 2**62, "
            f"got {padded} and {span}"
        )
    room = padded - span
    result = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (result - 1) * stride >= size + pad[0]:
        result -= 1  # a window that hangs over the end must not start in the padding there
    if size < 1 or result < 1:
        raise ValueError(
            f"{op}: x: expected a {axis} that leaves an output of at least 1, got {size}: "
            f"({size} + {pad[0]} + {pad[1]} - {span}) // {stride} + 1 = {result}"
        )
    return result
