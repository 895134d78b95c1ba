"""The reference's own checks: they turn what a caller gives into what the loops expect.

Every message is one sentence that names the op, the argument, what was expected and what came.
A wrong type or dtype is a TypeError, a wrong shape or value a ValueError.

The loops work in float64 and round once, at the end, to the dtype of the arguments (`rounded`),
so that what the oracle answers in float32 is the right answer and not its own rounding error.
"""

from __future__ import annotations

import math
import numbers
import operator
import sys
from contextlib import suppress
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Size2D = int | tuple[int, int]
Scale2D = float | tuple[float, float]
Padding = str | int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]

# Infinities and NaN follow IEEE 754 without a word, as they do in a compiled kernel, whatever
# the caller's np.seterr says.
silent = np.errstate(all="ignore")

_LARGEST = 2**62  # sizes and their sums stay below the largest number of an index


# ---------------------------------------------------------------------- arrays
def as_array(op: str, name: str, value: ArrayLike) -> Array:
    """Return `value` as an array of real numbers of at most 64 bits, none of them masked."""
    arrays = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(each, np.ma.MaskedArray) and np.ma.is_masked(each) for each in arrays):
        raise ValueError(
            f"{op}: {name}: expected an array without masked numbers, got some that are; its "
            "method filled(0) puts numbers in their place"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists whose lengths differ
        raise ValueError(f"{op}: {name}: expected an array, got {error}") from error
    if array.dtype.kind not in "biuf" or array.dtype.type is np.longdouble:
        raise TypeError(
            f"{op}: {name}: expected float32 or float64, or integers to convert, "
            f"got dtype {array.dtype}"
        )
    return array


def float_dtype(op: str, **arrays: ArrayLike | None) -> np.dtype[Any]:
    """Return the dtype that the float arguments of one call share, float32 if there is none.

    Arguments that are None were not given. Raises TypeError for a mix of float32 and float64.
    """
    shared = ""
    dtype: np.dtype[Any] = np.dtype(np.float32)
    for name, value in arrays.items():
        if value is None:
            continue
        found = as_array(op, name, value).dtype
        if found.type not in (np.float32, np.float64):
            continue
        native = found.newbyteorder("=")
        if shared and native != dtype:
            raise TypeError(f"{op}: {name}: expected {dtype} as {shared} has, got {native}")
        shared, dtype = name, native
    return dtype


def array(
    op: str, name: str, value: ArrayLike, dtype: np.dtype[Any], axes: tuple[str | int, ...] | None
) -> Array:
    """Return `value`, converted to `dtype`, as a C-contiguous float64 array.

    `axes` holds the expected length of each axis, or its letter where any length does; None
    stands for any shape. Only an axis "N" may be empty.
    """
    numbers_ = as_array(op, name, value)
    if axes is not None:
        check_shape(op, name, numbers_.shape, axes)
    # A view can be larger than any memory: what is certain is an error of the value.
    kind: type[Exception] = ValueError
    if numbers_.size * 8 <= sys.maxsize:
        try:
            return np.asarray(numbers_.astype(dtype, copy=False), dtype=np.float64, order="C")
        except MemoryError:
            kind = MemoryError
    raise kind(
        f"{op}: {name}: expected an array that fits in memory as float64, "
        f"got shape {numbers_.shape}"
    )


def arrays_alike(op: str, **arrays: ArrayLike) -> tuple[np.dtype[Any], list[Array]]:
    """Return the dtype of arrays that must agree in dtype and shape, and these arrays."""
    dtype = float_dtype(op, **arrays)
    checked: list[Array] = []
    for name, value in arrays.items():
        axes = checked[0].shape if checked else None
        checked.append(array(op, name, value, dtype, axes))
    return dtype, checked


def check_shape(op: str, name: str, shape: tuple[int, ...], axes: tuple[str | int, ...]) -> None:
    """Raise ValueError unless `shape` fits `axes`, which are as in `array`."""
    expected = "(" + ", ".join(map(str, axes)) + ("," if len(axes) == 1 else "") + ")"
    if len(shape) != len(axes):
        raise ValueError(
            f"{op}: {name}: expected an array of rank {len(axes)} {expected}, "
            f"got rank {len(shape)} with shape {shape}"
        )
    for length, axis in zip(shape, axes, strict=True):
        if isinstance(axis, int) and length != axis:
            raise ValueError(f"{op}: {name}: expected shape {expected}, got {shape}")
        if isinstance(axis, str) and axis != "N" and length == 0:
            raise ValueError(
                f"{op}: {name}: expected shape {expected} with {axis} of at least 1, got {shape}"
            )


def zeros(op: str, shape: tuple[int, ...], cause: str = "") -> Array:
    """Return float64 zeros; ValueError where the number of bytes does not fit an address.

    cause: the argument that makes a result so large.
    """
    where = f"{op}: {cause}" if cause else op
    kind: type[Exception] = ValueError
    if math.prod(shape) * 8 <= sys.maxsize:
        try:
            return np.zeros(shape)
        except MemoryError:
            kind = MemoryError
    raise kind(f"{where}: expected a result that fits in memory, got one of shape {shape}")


def rounded(value: ArrayLike, dtype: np.dtype[Any]) -> Array:
    """Return a fresh, C-contiguous array of `dtype`: the one rounding of a result."""
    return np.array(value, dtype=dtype, order="C")


def own_memory(op: str, **updated: Array) -> None:
    """Raise ValueError unless the arrays that a step writes to lie apart from each other."""
    for (other, before), (name, after) in combinations(updated.items(), 2):
        if np.shares_memory(before, after):
            raise ValueError(
                f"{op}: {name}: expected memory of its own, got an array that overlaps {other}"
            )


def updatable(op: str, name: str, value: Array) -> Array:
    """Return `value` if a step can be written into it: the optimizers' weights and state."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{op}: {name}: expected an array, got {type(value).__name__}")
    if value.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(
            f"{op}: {name}: expected float32 or float64 in native byte order, "
            f"got dtype {value.dtype.str}"
        )
    if not value.flags.c_contiguous or not value.flags.writeable:
        kind = "one that is not C-contiguous" if value.flags.writeable else "a read-only one"
        raise ValueError(f"{op}: {name}: expected a C-contiguous, writable array, got {kind}")
    return value


# ---------------------------------------------------------------------- numbers and options
def shown(value: Any) -> str:
    """Return a value as a message shows it: on one line, and not a long one."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python writes out no int of more than some thousand digits
        text = "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def kind_of(value: Any) -> str:
    """Return the type and the value, as a message about a wrong type shows them."""
    return f"{type(value).__name__} {shown(value)}"


def integer(op: str, name: str, value: Any, minimum: int) -> int:
    """Return an int of at least `minimum`; NumPy's integers are taken, truth values are not."""
    number = None
    if not isinstance(value, (bool, np.bool_)):  # NumPy 2.2 warns before it gives an index of one
        with suppress(TypeError):
            number = operator.index(value)
    if number is None:
        raise TypeError(f"{op}: {name}: expected an integer, got {kind_of(value)}")
    if not minimum <= number <= _LARGEST:
        raise ValueError(
            f"{op}: {name}: expected an integer of at least {minimum} and at most 2**62, "
            f"got {shown(number)}"
        )
    return number


def is_sequence(value: Any) -> bool:
    """Return whether an option is several numbers and not one."""
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def pair(op: str, name: str, value: Any, minimum: int = 1) -> tuple[int, int]:
    """Return (height, width) of a number, which stands for both, or of a pair."""
    if not is_sequence(value):
        number = integer(op, name, value, minimum)
        return number, number
    if len(value) != 2:
        raise ValueError(
            f"{op}: {name}: expected a number or a (height, width) pair, got {shown(value)}"
        )
    return integer(op, name, value[0], minimum), integer(op, name, value[1], minimum)


def shape4(op: str, name: str, value: Any) -> tuple[int, int, int, int]:
    """Return (N, H, W, C) of a tuple that stands for an array which is not there."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{op}: {name}: expected a tuple (N, H, W, C), got {shown(value)}")
    if len(value) != 4:
        raise ValueError(f"{op}: {name}: expected four sizes (N, H, W, C), got {shown(value)}")
    n, h, w, c = (integer(op, name, size, int(axis > 0)) for axis, size in enumerate(value))
    return n, h, w, c


def choice(op: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return one of some names."""
    listed = ", ".join(f'"{each}"' for each in choices)
    if not isinstance(value, str):
        raise TypeError(f"{op}: {name}: expected one of {listed}, got {kind_of(value)}")
    if value not in choices:
        raise ValueError(f"{op}: {name}: expected one of {listed}, got {shown(value)}")
    return value


def flag(op: str, name: str, value: Any) -> bool:
    """Return a truth value; numbers are not taken for one."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{op}: {name}: expected True or False, got {kind_of(value)}")
    return bool(value)


def real(op: str, name: str, value: Any) -> float:
    """Return a float of any real number, infinities and NaN included."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{op}: {name}: expected a number, got {kind_of(value)}")
    try:
        return float(value)
    except OverflowError:  # an int of more than 308 digits
        return math.inf


def limit(op: str, name: str, value: Any) -> float:
    """Return a float that may be infinite, but no NaN, and no infinity that was a number."""
    number = real(op, name, value)
    if math.isnan(number) or (math.isinf(number) and isinstance(value, int)):
        raise ValueError(f"{op}: {name}: expected a number or None, got {shown(value)}")
    return number


def finite(op: str, name: str, value: Any) -> float:
    """Return a finite float."""
    number = real(op, name, value)
    if not math.isfinite(number):
        raise ValueError(f"{op}: {name}: expected a finite number, got {number}")
    return number


def positive(op: str, name: str, value: Any) -> float:
    """Return a finite float above zero."""
    number = real(op, name, value)
    if not 0 < number < math.inf:
        raise ValueError(f"{op}: {name}: expected a finite number above 0, got {number}")
    return number


def not_negative(op: str, name: str, value: Any) -> float:
    """Return a finite float of zero or more."""
    number = real(op, name, value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{op}: {name}: expected a finite number of at least 0, got {number}")
    return number


def fraction(op: str, name: str, value: Any, *, one: bool) -> float:
    """Return a float from 0 to 1, 1 itself only if `one`."""
    number = real(op, name, value)
    if not (0 <= number < 1 or (one and number == 1)):
        interval = "[0, 1]" if one else "[0, 1)"
        raise ValueError(f"{op}: {name}: expected a number in {interval}, got {number}")
    return number
