"""Checks of the layers' constructor arguments, and the arithmetic of their output shapes."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import DTypeLike

from fastcnn._sentences import did_you_mean
from fastcnn._types import Padding, Size2D

Shape = tuple[int, ...]
Pads = tuple[tuple[int, int], tuple[int, int]]


def integer(value: object, where: str, minimum: int = 1) -> int:
    """Return `value` as an int of at least `minimum`; a bool or a float is a TypeError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{where}: expected an integer, got {_said(value)}")
    if value < minimum:
        raise ValueError(f"{where}: expected an integer of at least {minimum}, got {value!s:.80}")
    return int(value)


def number(
    value: object, where: str, low: float, high: float = math.inf, *, open_low: bool = False,
    open_high: bool = False,
) -> float:  # fmt: skip
    """Return `value` as a finite float between `low` and `high`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise TypeError(f"{where}: expected a number, got {_said(value)}")
    try:
        result = float(value)
    except OverflowError:
        raise ValueError(f"{where}: expected a number that fits a float, got more") from None
    above = result > low if open_low else result >= low
    below = result < high if open_high else result <= high
    if not (math.isfinite(result) and above and below):
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        raise ValueError(f"{where}: expected a finite number in {interval}, got {value}")
    return result


def flag(value: object, where: str) -> bool:
    """Return `value`, which must be True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{where}: expected True or False, got {_said(value)}")
    return bool(value)


def choice(value: object, where: str, choices: Collection[str]) -> str:
    """Return `value`, which must be one of the names in `choices`."""
    if not isinstance(value, str):
        raise TypeError(f"{where}: expected one of {_listed(choices)}, got {_said(value)}")
    if value not in choices:
        raise ValueError(
            f"{where}: expected one of {_listed(choices)}, got {value!r:.80}"
            f"{did_you_mean(value, choices)}"
        )
    return value


def size2d(value: object, where: str, minimum: int = 1) -> Size2D:
    """Return an integer of at least `minimum` or a (height, width) pair, as it was given."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{where}: expected a number or a pair, got {value!r:.80}")
        return integer(value[0], where, minimum), integer(value[1], where, minimum)
    return integer(value, where, minimum)


def pair(size: Size2D) -> tuple[int, int]:
    """Return (height, width) of a number or a pair."""
    return size if isinstance(size, tuple) else (size, size)


def padding2d(value: object, where: str) -> Padding:
    """Return one of the forms of padding that the backends take, as it was given."""
    if isinstance(value, str):
        return choice(value, where, ("valid", "same"))
    if not isinstance(value, (tuple, list)):
        return integer(value, where, 0)
    if len(value) == 2 and all(isinstance(v, (tuple, list)) and len(v) == 2 for v in value):
        (top, bottom), (left, right) = value
        return (
            (integer(top, where, 0), integer(bottom, where, 0)),
            (integer(left, where, 0), integer(right, where, 0)),
        )
    if len(value) == 2 and not any(isinstance(v, (tuple, list)) for v in value):
        return integer(value[0], where, 0), integer(value[1], where, 0)
    raise ValueError(
        f'{where}: expected a number, a pair, ((top, bottom), (left, right)), "valid" or "same", '
        f"got {value!r:.80}"
    )


def pads_of(padding: Padding, sizes: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> Pads:
    """Return ((top, bottom), (left, right)); "same" is TensorFlow's, the odd pixel after."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        ends = []
        for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
            total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
            ends.append((total // 2, total - total // 2))
        return ends[0], ends[1]
    if isinstance(padding, tuple):
        height, width = padding
        return (
            height if isinstance(height, tuple) else (height, height),
            width if isinstance(width, tuple) else (width, width),
        )
    count = integer(padding, "padding", 0)
    return (count, count), (count, count)


def window_shape(
    layer: str,
    input_shape: Shape,
    kernel_size: Size2D,
    stride: Size2D,
    padding: Padding,
    dilation: Size2D = 1,
    ceil_mode: bool = False,
) -> tuple[int, int]:
    """Return the output's (height, width) for windows that slide over an (H, W, C) image."""
    kernel, steps, gaps = pair(kernel_size), pair(stride), pair(dilation)
    pads = pads_of(padding, input_shape[:2], kernel, steps, gaps)
    result = []
    for axis, name in enumerate(("height", "width")):
        n, k, s, d = input_shape[axis], kernel[axis], steps[axis], gaps[axis]
        before, after = pads[axis]
        room = n + before + after - (k - 1) * d - 1
        count = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (count - 1) * s >= n + before:
            count -= 1  # the last window would start in the padding at the end
        if count < 1:
            raise ValueError(
                f"{layer}: expected an input {name} that holds at least one window, got "
                f"({n} + {before + after} padding - ({k} - 1) * {d} - 1) // {s} + 1 = {count} "
                f"for input {input_shape}"
            )
        result.append(count)
    return result[0], result[1]


def input_shape_of(value: object, where: str) -> Shape:
    """Return the shape of one input, without the batch axis, as a tuple of positive ints."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{where}: expected a shape such as (28, 28, 1), got {_said(value)}")
    if not value:
        raise ValueError(f"{where}: expected a shape such as (28, 28, 1), got ()")
    return tuple(integer(size, where) for size in value)


def input_shapes_of(value: object, where: str) -> Any:
    """Return the shape of one input, or a tuple of shapes where a model has several inputs."""
    if isinstance(value, (tuple, list)) and value and isinstance(value[0], (tuple, list)):
        return tuple(input_shape_of(each, where) for each in value)
    return input_shape_of(value, where)


def image_shape(layer: str, input_shape: Shape) -> tuple[int, int, int]:
    """Return (H, W, C), or say that the layer takes images."""
    if len(input_shape) != 3:
        hint = "; nn.Flatten belongs after it" if len(input_shape) == 1 else ""
        raise ValueError(f"{layer}: expected an input of shape (H, W, C), got {input_shape}{hint}")
    return input_shape[0], input_shape[1], input_shape[2]


def float_dtype(value: DTypeLike, where: str = "dtype") -> np.dtype[Any]:
    """Return float32 or float64 as a dtype object, in native byte order."""
    try:
        dtype = np.dtype(value)
    except TypeError:
        raise TypeError(f"{where}: expected float32 or float64, got {value!r:.80}") from None
    if dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise TypeError(f"{where}: expected float32 or float64, got {dtype}")
    return dtype.newbyteorder("=")


_LONGEST_NAME = 100


def name_or_none(value: object, where: str) -> str | None:
    """Return a name, or None for none."""
    return None if value is None else identifier(value, where)


def is_identifier(value: object) -> TypeGuard[str]:
    """Return whether a value may be a name."""
    return isinstance(value, str) and value.isidentifier() and len(value) <= _LONGEST_NAME


def identifier(value: object, where: str) -> str:
    """Return a name, which may become an argument, an attribute and a part of a file's name."""
    if not is_identifier(value):
        raise ValueError(
            f"{where}: expected letters, digits and underscores, at most {_LONGEST_NAME}, got "
            f"{value!r:.80}"
        )
    return value


def _said(value: object) -> str:
    return f"{type(value).__name__} {value!r}"[:80]


def _listed(choices: Collection[str]) -> str:
    return ", ".join(f'"{name}"' for name in choices)
