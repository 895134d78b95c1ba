"""The types of arrays and options that the whole library names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

__all__ = ["Array", "Axis", "Padding", "Scale2D", "Shape", "Size2D"]

Array = NDArray[Any]
Axis = int | Sequence[int] | None  # one, several, or all
Shape = tuple[int, ...]
Size2D = int | tuple[int, int]
Scale2D = float | tuple[float, float]
Padding = str | int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]
