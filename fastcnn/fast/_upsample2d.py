"""Upsampling on the compiled kernels."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, rank, shape
from fastcnn._options import pair, shown, size2d
from fastcnn._types import Array, Size2D
from fastcnn.fast._memory_bound import MemoryBound
from fastcnn.fast._pool2d import _shape4

__all__ = ["Upsample2D"]


def _is_bilinear(op: str, method: Any) -> bool:
    if not isinstance(method, str):
        raise TypeError(f'{op}: method: expected "nearest" or "bilinear", got {shown(method)}')
    if method not in ("nearest", "bilinear"):
        raise ValueError(f'{op}: method: expected "nearest" or "bilinear", got {shown(method)}')
    return method == "bilinear"


class Upsample2D(MemoryBound):
    """upsample2d and its gradient."""

    def upsample2d(self, x: ArrayLike, factor: Size2D, *, method: str = "nearest") -> Array:
        op = "upsample2d"
        (x,) = float_arrays(op, x=x)
        rank(x, f"{op}: x", "N, H, W, C")
        if 0 in x.shape[1:]:
            raise ValueError(
                f"{op}: x: expected at least one pixel and one channel, got shape {x.shape}"
            )
        factors, bilinear = pair(size2d(factor, f"{op}: factor")), _is_bilinear(op, method)
        n, height, width, channels = x.shape
        y_shape = (n, height * factors[0], width * factors[1], channels)
        y = self._result(op, "factor", y_shape, x.dtype)
        if y.size:
            kernel = self._load(x).upsample2d.upsample2d
            self._run(kernel, y, x, *factors, bilinear, self._team(y))
        return y

    def upsample2d_backward(
        self, dy: ArrayLike, x_shape: tuple[int, ...], factor: Size2D, *, method: str = "nearest"
    ) -> Array:
        op = "upsample2d_backward"
        (dy,) = float_arrays(op, dy=dy)
        n, height, width, channels = _shape4(op, x_shape)
        factors, bilinear = pair(size2d(factor, f"{op}: factor")), _is_bilinear(op, method)
        y_shape = (n, height * factors[0], width * factors[1], channels)
        shape(dy, f"{op}: dy", y_shape, "that of upsample2d's result")
        dx = self._empty((n, height, width, channels), dy.dtype)
        if dx.size:
            kernel = self._load(dy).upsample2d.upsample2d_backward
            self._run(kernel, dx, dy, *factors, bilinear, self._team(dy))
        return dx
