"""Pooling made ready: options checked once a shape, and no argmax, which inference never reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastcnn._checks import float_arrays
from fastcnn._memory import empty
from fastcnn.backend import Array
from fastcnn.fast import _pool2d

if TYPE_CHECKING:
    from fastcnn.fast import FastBackend

__all__ = ["FRESH", "AvgPool2D", "GlobalAvgPool2D", "MaxPool2D", "Room"]

Call = Callable[[], object]


class Room(Protocol):
    """Where bound ops have their arrays from, uninitialised: the memory of a plan, or FRESH."""

    def make(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array for a result, which may share memory with what is read no more."""

    def keep(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array for an op alone."""


class _Fresh:
    """New arrays for each op."""

    make = keep = staticmethod(empty)


FRESH = _Fresh()


class _Pooling:
    """What prepared poolings share."""

    def __init__(self, backend: FastBackend, **options: Any) -> None:
        self._backend = backend
        self._options = options

    def __call__(self, x: Array) -> Array:
        call, y = self.bind(float_arrays(type(self).__name__, x=x)[0], FRESH)
        call()
        return y

    def bind(self, x: Array, room: Room) -> tuple[Call, Array]:
        """Return (call, y): each call computes y, an array of room's, from what is in x then."""
        raise NotImplementedError


class MaxPool2D(_Pooling):
    """max_pool2d, its first result."""

    def bind(self, x: Array, room: Room) -> tuple[Call, Array]:
        geometry = _pool2d._geometry("max_pool2d", x.shape, **self._options)
        y, team = room.make(geometry.y_shape, x.dtype), self._backend._team(x)
        kernel = self._backend._load(x).max_pool2d.max_pool2d
        return lambda: kernel(y, None, x, *geometry.options, team), y


class AvgPool2D(_Pooling):
    """avg_pool2d."""

    def __init__(self, backend: FastBackend, *, count_include_pad: bool, **options: Any) -> None:
        super().__init__(backend, **options)
        self._count_include_pad = count_include_pad

    def bind(self, x: Array, room: Room) -> tuple[Call, Array]:
        geometry = _pool2d._geometry("avg_pool2d", x.shape, **self._options)
        counted = _pool2d._counted_pads("avg_pool2d", geometry, self._count_include_pad)
        y, team = room.make(geometry.y_shape, x.dtype), self._backend._team(x)
        kernel = self._backend._load(x).avg_pool2d.avg_pool2d
        return lambda: kernel(y, x, *geometry.options, *counted, team), y


class GlobalAvgPool2D(_Pooling):
    """global_avg_pool2d."""

    def bind(self, x: Array, room: Room) -> tuple[Call, Array]:
        n, height, width, channels = x.shape
        kernels, team = self._backend._load(x).avg_pool2d, self._backend._team(x)
        y, rows = room.make((n, channels), x.dtype), x.reshape(n, -1)
        partial = room.keep((n, *kernels.sizes(height * width, channels)), np.dtype(np.float64))
        return lambda: kernels.global_avg_pool2d(y, partial, rows, team), y
