"""Checks of options and the arithmetic of shapes, for the layers as for the ops.

A check takes (value, where), `where` being "Conv2D: stride", and returns the value that is meant.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Collection
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import DTypeLike

from fastcnn._sentences import did_you_mean
from fastcnn._types import Padding, Scale2D, Shape, Size2D

__all__ = [
    "BYTE_PLACES",
    "COORDINATES",
    "RESIZE_METHODS",
    "ROUNDINGS",
    "Pads",
    "argmax_dtype",
    "check_pool",
    "choice",
    "flag",
    "float_dtype",
    "identifier",
    "image_shape",
    "input_shape_of",
    "integer",
    "is_identifier",
    "kind_of",
    "name_or_none",
    "number",
    "one_or_several",
    "output_padding2d",
    "output_size",
    "padding2d",
    "pads_of",
    "pair",
    "real",
    "scale2d",
    "shape_of",
    "shown",
    "size2d",
    "transposed_size",
]

Pads = tuple[tuple[int, int], tuple[int, int]]

_LARGEST = 2**62  # sizes and their sums stay below the largest Py_ssize_t
_LONGEST_NAME = 100

BYTE_PLACES = 256  # of a window, which the place of its winner tells apart in a byte

# Of resize2d.
RESIZE_METHODS = ("nearest", "bilinear", "cubic")
COORDINATES = (
    "half_pixel",
    "pytorch_half_pixel",
    "half_pixel_symmetric",
    "align_corners",
    "asymmetric",
)
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


# ---------------------------------------------------------------------- what came
def shown(value: object) -> str:
    """Return a value as an error message shows it: on one line, and short."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python refuses to write out integers of thousands of digits
        return "an integer of thousands of digits"
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def kind_of(value: object) -> str:
    """Return the type and the value, for a message about a wrong type."""
    return f"{type(value).__name__} {shown(value)}"


# ---------------------------------------------------------------------- numbers and names
def integer(value: Any, where: str, minimum: int = 1, *, any_size: bool = False) -> int:
    """Return `value` as an int of at least `minimum`; TypeError for bool and for no integer.

    any_size: take one that is no size and may be larger than any, as a seed.
    """
    if type(value) is int and minimum <= value <= _LARGEST:  # at each call of an op, as a rule
        return value
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{where}: expected an integer, got {kind_of(value)}")
    try:
        result = operator.index(value)
    except TypeError:
        raise TypeError(f"{where}: expected an integer, got {kind_of(value)}") from None
    if result < minimum:
        raise ValueError(f"{where}: expected an integer of at least {minimum}, got {shown(result)}")
    if result > _LARGEST and not any_size:
        raise ValueError(f"{where}: expected an integer of at most 2**62, got {shown(result)}")
    return result


def integer_or_none(value: object, where: str) -> int | None:
    """Return an int of either sign, or None."""
    return None if value is None else integer(value, where, -_LARGEST)


def real(value: Any, where: str, *, any_size: bool = False) -> float:
    """Return `value` as a float: an infinite one and NaN too.

    any_size: an integer that no float holds is infinite, rather than refused.
    """
    if type(value) is not float and (
        isinstance(value, bool) or not isinstance(value, numbers.Real)
    ):
        raise TypeError(f"{where}: expected a number, got {kind_of(value)}")
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        if any_size:
            return math.inf if operator.gt(value, 0) else -math.inf
        raise ValueError(f"{where}: expected a number that fits a float, got more") from None


def number(
    value: Any, where: str, low: float = -math.inf, high: float = math.inf, *,
    open_low: bool = False, open_high: bool = False,
) -> float:  # fmt: skip
    """Return `value` as a finite float between `low` and `high`."""
    result = real(value, where)
    above = result > low if open_low else result >= low
    below = result < high if open_high else result <= high
    if not (math.isfinite(result) and above and below):
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        limits = "" if low == -math.inf and high == math.inf else f" in {interval}"
        raise ValueError(f"{where}: expected a finite number{limits}, got {value}")
    return result


def flag(value: object, where: str) -> bool:
    """Return a truth value; TypeError for anything but True and False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{where}: expected True or False, got {kind_of(value)}")
    return bool(value)


def choice(value: object, where: str, choices: Collection[str]) -> str:
    """Return `value`, which must be one of the names in `choices`."""
    listed = ", ".join(f'"{name}"' for name in choices)
    if not isinstance(value, str):
        raise TypeError(f"{where}: expected one of {listed}, got {kind_of(value)}")
    if value not in choices:
        raise ValueError(
            f"{where}: expected one of {listed}, got {shown(value)}{did_you_mean(value, choices)}"
        )
    return value


def float_dtype(value: DTypeLike, where: str = "dtype") -> np.dtype[Any]:
    """Return float32 or float64 as a dtype object, in native byte order."""
    try:
        dtype = np.dtype(value)
    except TypeError:
        raise TypeError(f"{where}: expected float32 or float64, got {shown(value)}") from None
    if dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise TypeError(f"{where}: expected float32 or float64, got {dtype}")
    return dtype.newbyteorder("=")


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
            f"{shown(value)}"
        )
    return value


# ---------------------------------------------------------------------- shapes
def shape_of(value: object, where: str, minimum: int = 1) -> Shape:
    """Return the shape of one array as a tuple of ints of at least `minimum`."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{where}: expected a shape such as (28, 28, 1), got {kind_of(value)}")
    return tuple(integer(size, where, minimum) for size in value)


def input_shape_of(value: object, where: str) -> Shape:
    """Return the shape of one input, without the batch axis: it has at least one other."""
    shape = shape_of(value, where)
    if not shape:
        raise ValueError(f"{where}: expected a shape such as (28, 28, 1), got ()")
    return shape


def one_or_several(
    value: object, where: str, each: Callable[[object, str], Shape] = shape_of
) -> Any:
    """Return what `each` makes of a shape, or a tuple of these where a model has several."""
    if isinstance(value, (tuple, list)) and value and isinstance(value[0], (tuple, list)):
        return tuple(each(one, where) for one in value)
    return each(value, where)


def image_shape(input_shape: Shape, layer: str) -> tuple[int, int, int]:
    """Return (H, W, C), or say that the layer takes images."""
    if len(input_shape) != 3:
        hint = "; nn.Flatten belongs after it" if len(input_shape) == 1 else ""
        raise ValueError(f"{layer}: expected an input of shape (H, W, C), got {input_shape}{hint}")
    return input_shape[0], input_shape[1], input_shape[2]


def size2d(value: Any, where: str, minimum: int = 1) -> Size2D:
    """Return an integer of at least `minimum` or a (height, width) pair, as it was given."""
    if isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim):
        if len(value) != 2:
            raise ValueError(
                f"{where}: expected a number or a (height, width) pair, got {shown(value)}"
            )
        return integer(value[0], where, minimum), integer(value[1], where, minimum)
    return integer(value, where, minimum)


def scale2d(value: Any, where: str) -> Scale2D | None:
    """Return a number above 0, a (height, width) pair of them, or None, as it was given."""
    if value is None:
        return None
    if isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim):
        if len(value) != 2:
            raise ValueError(
                f"{where}: expected a number or a (height, width) pair, got {shown(value)}"
            )
        height, width = (number(each, where, 0, open_low=True) for each in value)
        return height, width
    return number(value, where, 0, open_low=True)


def pair(size: Size2D) -> tuple[int, int]:
    """Return (height, width) of a number or a pair."""
    return size if isinstance(size, tuple) else (size, size)


def padding2d(value: Any, where: str) -> Padding:
    """Return a padding in the form in which it was given; see `pads_of`."""
    if isinstance(value, str):
        if value in ("valid", "same"):
            return value
    elif not isinstance(value, (tuple, list)) or not any(
        isinstance(each, (tuple, list)) for each in value
    ):
        return size2d(value, where, 0)
    elif len(value) == 2 and all(
        isinstance(each, (tuple, list)) and len(each) == 2 for each in value
    ):
        top, bottom, left, right = (integer(size, where, 0) for each in value for size in each)
        return (top, bottom), (left, right)
    raise ValueError(
        f"{where}: expected a number, a pair, ((top, bottom), (left, right)), "
        f'"valid" or "same", got {shown(value)}'
    )


def pads_of(
    padding: Padding, sizes: Shape, kernel: Shape, stride: Shape, dilation: Shape = (1, 1)
) -> Pads:
    """Return any form of padding as ((top, bottom), (left, right)).

    "same" is TensorFlow's: output = ceil(input / stride), the odd pixel goes after.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        ends = []
        for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
            total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
            ends.append((total // 2, total - total // 2))
        return ends[0], ends[1]
    height, width = padding if isinstance(padding, tuple) else (padding, padding)
    return (
        height if isinstance(height, tuple) else (height, height),
        width if isinstance(width, tuple) else (width, width),
    )


def output_size(
    sizes: Shape,
    where: str,
    kernel: Shape,
    stride: Shape,
    pads: Pads = ((0, 0), (0, 0)),
    dilation: Shape = (1, 1),
    ceil_mode: bool = False,
) -> tuple[int, int]:
    """Return the (height, width) that windows leave, which slide over images of these sizes.

    ValueError, with the arithmetic, below one; so that no size overflows, also above 2**62.
    """
    result = []
    for axis, name in enumerate(("height", "width")):
        n, k, s, (before, after) = sizes[axis], kernel[axis], stride[axis], pads[axis]
        d, padded = dilation[axis], n + before + after
        span = (k - 1) * d + 1
        if padded > _LARGEST or span > _LARGEST:
            raise ValueError(
                f"{where}: expected a padded {name} and a dilated window of at most 2**62, got "
                f"{padded} and {span}"
            )
        places = padded - span
        count = (-(-places // s) if ceil_mode else places // s) + 1
        if ceil_mode and (count - 1) * s >= n + before:
            count -= 1  # a window that hangs over the end must not start in the padding there
        if n < 1 or count < 1:
            raise ValueError(
                f"{where}: expected an input {name} that holds at least one window, got "
                f"({n} + {before} + {after} - ({k} - 1) * {d} - 1) // {s} + 1 = {count} "
                f"for an image of {sizes[0]} x {sizes[1]}"
            )
        result.append(count)
    return result[0], result[1]


def check_pool(
    sizes: Shape, where: str, window: Shape, pads: Pads, dilation: Shape = (1, 1)
) -> None:
    """Refuse a pooling of which a window may see no pixel, by its padding or its dilation."""
    for axis, name in enumerate(("height", "width")):
        n, d, (before, after) = sizes[axis], dilation[axis], pads[axis]
        span = (window[axis] - 1) * d + 1
        if 2 * max(before, after) > span:
            raise ValueError(
                f"{where}: padding: expected at most half the window's {name} of {span}, got "
                f"{before} and {after}"
            )
        if before and d > n > 0:
            raise ValueError(
                f"{where}: dilation: expected at most the input's {name} of {n}, before which "
                f"there is padding, got {d}"
            )


def output_padding2d(value: Any, where: str, stride: Shape, padding: Padding) -> Size2D:
    """Return an output_padding as it was given; ValueError for one that says nothing."""
    result = size2d(value, where, 0)
    for more, step in zip(pair(result), stride, strict=True):
        if more >= step:
            raise ValueError(f"{where}: expected less than the stride of {step}, got {more}")
        if padding == "same" and more:
            raise ValueError(
                f'{where}: expected 0 with padding "same", whose output is the input times the '
                f"stride, got {more}"
            )
    return result


def transposed_size(
    sizes: Shape, where: str, padding: Padding, kernel: Shape, stride: Shape, extra: Shape
) -> tuple[int, int]:
    """Return the (height, width) from which a convolution leaves these sizes.

    extra: the output_padding, which says from which of several. ValueError below one.
    """
    if padding == "same":
        return sizes[0] * stride[0], sizes[1] * stride[1]
    pads = pads_of(padding, sizes, kernel, stride)
    result = []
    for axis, name in enumerate(("height", "width")):
        n, k, s, more, pad = sizes[axis], kernel[axis], stride[axis], extra[axis], sum(pads[axis])
        size = (n - 1) * s + k - pad + more
        if size < 1:
            raise ValueError(
                f"{where}: expected an input that leaves an output {name} of at least 1, got "
                f"({n} - 1) * {s} + {k} - {pad} + {more} = {size} for an image of "
                f"{sizes[0]} x {sizes[1]}"
            )
        result.append(size)
    return result[0], result[1]


def argmax_dtype(window: Shape) -> np.dtype[Any]:
    """Return the dtype of max_pool2d's argmax, which holds every place of the window."""
    return np.dtype(np.uint8 if window[0] * window[1] <= BYTE_PLACES else np.int32)
