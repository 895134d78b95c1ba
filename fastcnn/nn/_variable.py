"""The arrays of a layer: parameters, which are trained, and buffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn._arrays import require_unmasked
from fastcnn._memory import copied
from fastcnn._types import Array, Shape

Draw = Callable[["np.random.Generator"], Array]  # quoted: numpy.random takes time to import

_FLOATS: tuple[np.dtype[Any], ...] = (np.dtype(np.float32), np.dtype(np.float64))


def _undeclared(rng: np.random.Generator) -> Array:
    raise RuntimeError(
        "build: expected a layer that declares its variables in declare(), got a copy of one that "
        "declared them before"
    )


class Variable:
    """A named array of a layer: its shape is known first, `data` once the model is built."""

    __slots__ = ("_data", "_draw", "shape")

    def __init__(self, shape: Shape, draw: Draw) -> None:
        self.shape = shape
        self._draw = draw
        self._data: Array = np.empty(0)

    def fill(self, rng: np.random.Generator, dtype: np.dtype[Any], where: str = "Variable") -> None:
        """Draw the initial values."""
        drawn = np.asarray(self._draw(rng))
        if drawn.shape != self.shape or drawn.dtype.kind not in "biuf":
            raise ValueError(
                f"{where}: draw: expected numbers of shape {self.shape}, got {drawn.dtype} of "
                f"shape {drawn.shape}"
            )
        self._data = copied(drawn, dtype)

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles take along: not the draw, which few pickles can hold.

        A layer without weights declares its variables anew before they are drawn.
        """
        slots = {name for cls in type(self).__mro__ for name in getattr(cls, "__slots__", ())}
        return {name: getattr(self, name) for name in sorted(slots - {"_draw"})}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._draw = _undeclared
        for name, value in state.items():
            setattr(self, name, value)
        self._data = copied(self._data, self._data.dtype)

    def _set(self, array: Array) -> None:
        present, who = getattr(self, "_data", None), type(self).__name__
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{who}: data: expected an array, got {type(array).__name__}")
        if array.shape != self.shape:
            raise ValueError(f"{who}: data: expected shape {self.shape}, got {array.shape}")
        kinds = _FLOATS
        if present is not None and present.shape == self.shape:  # it is filled
            kinds = (present.dtype,)
        if array.dtype not in kinds:
            wanted = " or ".join(map(str, kinds))
            raise TypeError(f"{who}: data: expected {wanted}, got {array.dtype}")
        require_unmasked(array, f"{who}: data")
        # Kernels take what lies row by row and may be written.
        self._data = array if array.flags.carray else copied(array, array.dtype)

    if TYPE_CHECKING:

        @property
        def data(self) -> Array: ...
        @data.setter
        def data(self, array: Array) -> None: ...
    else:  # read by each op: no function in Python stands between it and the slot
        data = property(attrgetter("_data"), _set, doc="Its numbers, of its shape and dtype.")


class Parameter(Variable):
    """An array that is trained; a backward pass leaves its gradient in `grad`."""

    __slots__ = ("grad",)

    def __init__(self, shape: Shape, draw: Draw) -> None:
        super().__init__(shape, draw)
        self.grad: Array | None = None


class Buffer(Variable):
    """An array that training changes without a gradient, such as a running mean.

    A forward pass leaves the next value in `update`; Module.apply_updates makes it the value.
    So a step that fails halfway, or whose loss is NaN, leaves buffers as it leaves weights.
    """

    __slots__ = ("update",)

    def __init__(self, shape: Shape, draw: Draw) -> None:
        super().__init__(shape, draw)
        self.update: Array | None = None
