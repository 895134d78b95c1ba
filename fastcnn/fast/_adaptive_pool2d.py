"""Adaptive pooling on the compiled kernels."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, rank, shape
from fastcnn._options import pair, size2d
from fastcnn._types import Array, Size2D
from fastcnn.fast._pool2d import _shape4
from fastcnn.fast._resample import Resample, windows

__all__ = ["AdaptivePool2D"]


class AdaptivePool2D(Resample):
    """adaptive_avg_pool2d and its gradient."""

    def adaptive_avg_pool2d(self, x: ArrayLike, output_size: Size2D) -> Array:
        op = "adaptive_avg_pool2d"
        (x,) = float_arrays(op, x=x)
        rank(x, f"{op}: x", "N, H, W, C")
        if 0 in x.shape[1:]:
            raise ValueError(
                f"{op}: x: expected at least one pixel and one channel, got shape {x.shape}"
            )
        rows, columns = pair(size2d(output_size, f"{op}: output_size"))
        n, height, width, channels = x.shape
        y = self._result(op, "output_size", (n, rows, columns, channels), x.dtype)
        if y.size:
            self._resample(y, x, windows(rows, height), windows(columns, width), means=True)
        return y

    def adaptive_avg_pool2d_backward(
        self, dy: ArrayLike, x_shape: tuple[int, ...], output_size: Size2D
    ) -> Array:
        op = "adaptive_avg_pool2d_backward"
        (dy,) = float_arrays(op, dy=dy)
        n, height, width, channels = _shape4(op, x_shape)
        rows, columns = pair(size2d(output_size, f"{op}: output_size"))
        y_shape = (n, rows, columns, channels)
        shape(dy, f"{op}: dy", y_shape, "that of adaptive_avg_pool2d's result")
        dx = self._result(op, "x_shape", (n, height, width, channels), dy.dtype)
        if dx.size:
            down = windows(rows, height, backward=True)
            right = windows(columns, width, backward=True)
            self._resample(dx, dy, down, right)
        return dx
