"""Local response normalization on the compiled kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, same_shape
from fastcnn._options import integer, number
from fastcnn._types import Array
from fastcnn.fast._layer_norm import check_rows
from fastcnn.fast._memory_bound import MemoryBound

__all__ = ["LocalResponseNorm"]


class LocalResponseNorm(MemoryBound):
    """local_response_norm and its gradient."""

    def local_response_norm(
        self,
        x: ArrayLike,
        *,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
    ) -> Array:
        return self._response("local_response_norm", 2, size, alpha, beta, k, x=x)

    def local_response_norm_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        *,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
    ) -> Array:
        return self._response("local_response_norm_backward", 3, size, alpha, beta, k, dy=dy, x=x)

    def _response(
        self,
        op: str,
        room: int,
        size: int,
        alpha: float,
        beta: float,
        k: float,
        **arguments: ArrayLike,
    ) -> Array:
        """Run a kernel, which takes rows of doubles as room for each thread."""
        arrays = float_arrays(op, **arguments)
        x = arrays[-1]
        check_rows(op, x)
        same_shape(arrays[0], f"{op}: dy", "x", x)
        size = integer(size, f"{op}: size")
        alpha, beta = number(alpha, f"{op}: alpha", 0), number(beta, f"{op}: beta", 0)
        k = number(k, f"{op}: k", 0, open_low=True)
        result = self._empty(x.shape, x.dtype)
        if result.size:
            channels, threads = x.shape[-1], self._team(x)
            rows = [array.reshape(-1, channels) for array in (result, *arrays)]
            workspace = self._empty((threads, room * channels), np.dtype(np.float64))
            kernel = getattr(self._load(x).local_response_norm, op)
            self._run(kernel, *rows, size, alpha, beta, k, workspace, threads)
        return result
