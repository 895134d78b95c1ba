"""How much the constants of a file may become while they are worked out.

A file of a thousand bytes can ask for an array of any size, and for any number of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn._types import Array

__all__ = ["Room"]

_ROOM = 64 << 20  # bytes, whatever the size of a file
_WIDER = 8  # times as large as in the file: bytes that become doubles
# Weights that are one number over and over take no bytes in a file: test networks of the package
# onnx have 575 MB of them.
_FILLED = 1 << 30
_LOOKS = 32  # times that so many bytes may be read
# Operators that give what they are given, or a part of it.
_VIEWS = ("Flatten", "Identity", "Reshape", "Shape", "Size", "Slice", "Split", "Squeeze",
          "Transpose", "Unsqueeze")  # fmt: skip
# Operators whose results are as wide as they say.
_OWN_WIDTH = ("Cast", "ConstantOfShape", "NonZero")


class Room:
    """The bytes that may still be made, and those that may be read to make them.

    size: of the file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._most = self._left = _ROOM + _WIDER * size
        self._looks, self._filled = _LOOKS * self._left, _FILLED

    def take(self, node: Mapping[str, Any], given: Sequence[Array | None]) -> None:
        """Take what a node's result needs; ValueError where there is too little of it."""
        arrays = [each for each in given if each is not None]
        if node["op"] in _VIEWS or not arrays:
            return
        try:
            count = _COUNTS.get(node["op"], _together)(arrays, node["attributes"])
        except (ArithmeticError, LookupError, TypeError, ValueError):
            return  # arrays that do not fit: the operator says so
        widest = max(each.itemsize for each in arrays)
        made = int(count) * (8 if node["op"] in _OWN_WIDTH else widest)
        if node["op"] == "ConstantOfShape":
            self._filled -= 4 * int(count)  # of floats
            made = 0
            if self._filled < 0:
                raise ValueError(
                    f"{node['op']} {node['name']:.80}: expected less than {_FILLED} bytes that "
                    "are one number, got more"
                )
        self._left -= made
        self._looks -= made + sum(each.nbytes for each in arrays)
        if self._left < 0 or self._looks < 0:
            raise ValueError(
                f"{node['op']} {node['name']:.80}: expected constants of less than {self._most} "
                f"bytes in a file of its size, got more"
            )


# ---------------------------------------------------------------------- numbers in a result
def _together(arrays: list[Array], _: Any) -> int:
    """Of numbers that meet as in NumPy."""
    return int(math.prod(np.broadcast_shapes(*(each.shape for each in arrays))))


def _of_shape(arrays: list[Array], _: Any) -> int:
    return math.prod(int(size) for size in arrays[0].ravel())


def _expanded(arrays: list[Array], _: Any) -> int:
    wanted = tuple(int(size) for size in arrays[1].ravel())
    return math.prod(max(size, 1) for size in wanted) * int(arrays[0].size)


def _tiled(arrays: list[Array], _: Any) -> int:
    return int(arrays[0].size) * math.prod(int(times) for times in arrays[1].ravel())


def _ranged(arrays: list[Array], _: Any) -> int:
    start, stop, step = (float(each.reshape(-1)[0]) for each in arrays)
    return math.ceil((stop - start) / step) if step else 0


def _padded(arrays: list[Array], attributes: Any) -> int:
    pads = attributes["pads"] if "pads" in attributes else arrays[1].ravel()
    return math.prod(size + sum(max(int(each), 0) for each in pads) for size in arrays[0].shape)


def _multiplied(arrays: list[Array], _: Any) -> int:
    a, b = arrays
    rows = int(a.size) // max(a.shape[-1], 1)
    return int(rows * (int(b.size) // max(b.shape[-2], 1))) if b.ndim > 1 else rows


def _gathered(arrays: list[Array], attributes: Any) -> int:
    x, indices = arrays
    return int(int(x.size) // max(x.shape[attributes.get("axis", 0)], 1) * int(indices.size))


def _all(arrays: list[Array], _: Any) -> int:
    return sum(each.size for each in arrays) * max(each.ndim for each in arrays)


def _summed(arrays: list[Array], attributes: Any) -> int:
    """Of a reduction: no more than the numbers of all places along one axis."""
    return int(arrays[0].size) // max(min(arrays[0].shape, default=1), 1)


_COUNTS: dict[str, Callable[[list[Array], Any], int]] = {
    "Concat": _all,
    "ConstantOfShape": _of_shape,
    "Expand": _expanded,
    "Gather": _gathered,
    "MatMul": _multiplied,
    "NonZero": _all,
    "Pad": _padded,
    "Range": _ranged,
    "Tile": _tiled,
    **{f"Reduce{what}": _summed for what in ("Max", "Mean", "Min", "Prod", "Sum")},
}
