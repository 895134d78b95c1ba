"""Group normalization on the compiled kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import rank, same_shape
from fastcnn._options import number
from fastcnn._shapes import divides
from fastcnn._types import Array
from fastcnn.fast import _wide
from fastcnn.fast._layer_norm import Scaled, check_rows

__all__ = ["GroupNorm"]

_WHY = "one for each channel of x"


class GroupNorm(Scaled):
    """group_norm and its gradients."""

    def group_norm(
        self,
        x: ArrayLike,
        gamma: ArrayLike | None = None,
        beta: ArrayLike | None = None,
        *,
        groups: int,
        epsilon: float = 1e-5,
    ) -> Array:
        op = "group_norm"
        arrays = self._arrays(op, {"x": x, "gamma": gamma, "beta": beta})
        x = arrays["x"]
        pixels = _pixels(op, x)
        channels = x.shape[-1:]
        gamma, beta = (self._vector(op, arrays, name, channels, _WHY) for name in ("gamma", "beta"))
        groups = divides(groups, f"{op}: groups", *channels)
        epsilon = number(epsilon, f"{op}: epsilon", 0, open_low=True)
        y = self._empty(x.shape, x.dtype)
        if y.size:
            kernels = self._load(x).group_norm
            parts, width = kernels.group_norm_sizes(*pixels.shape[1:])
            threads = self._team(x)
            self._run(
                kernels.group_norm,
                y.reshape(pixels.shape),
                pixels,
                gamma,
                beta,
                groups,
                epsilon,
                self._empty((len(x), 1 + parts, 2 * groups), np.dtype(np.float64)),
                self._empty((len(x), 3, width), x.dtype),
                self._empty((threads, 5 * width), x.dtype),
                self._empty((len(x),), np.dtype(np.uint8)),
                threads,
                _wide.group_norm,
            )
        return y

    def group_norm_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike | None = None,
        *,
        groups: int,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array]:
        op = "group_norm_backward"
        arrays = self._arrays(op, {"dy": dy, "x": x, "gamma": gamma})
        dy, x = arrays["dy"], arrays["x"]
        pixels = _pixels(op, x)
        channels = x.shape[-1:]
        same_shape(dy, f"{op}: dy", "x", x)
        gamma = self._vector(op, arrays, "gamma", channels, _WHY)
        groups = divides(groups, f"{op}: groups", *channels)
        epsilon = number(epsilon, f"{op}: epsilon", 0, open_low=True)
        dx = self._empty(x.shape, x.dtype)
        if dx.size == 0:
            return dx, self._zeros(channels, x.dtype), self._zeros(channels, x.dtype)
        dgamma, dbeta = self._empty(channels, x.dtype), self._empty(channels, x.dtype)
        kernels = self._load(x).group_norm
        parts, width = kernels.group_norm_sizes(*pixels.shape[1:])
        wide, threads = np.dtype(np.float64), self._team(x)
        self._run(
            kernels.group_norm_backward,
            dx.reshape(pixels.shape),
            dgamma,
            dbeta,
            dy.reshape(pixels.shape),
            pixels,
            gamma,
            groups,
            epsilon,
            self._empty((len(x), 1 + parts, 2 * groups + 2 * len(gamma)), wide),
            self._empty((2, len(gamma)), wide),
            self._empty((len(x), 4, width), x.dtype),
            self._empty((threads, 5 * width), x.dtype),
            self._empty((len(x),), np.dtype(np.uint8)),
            threads,
            _wide.group_norm_backward,
        )
        return dx, dgamma, dbeta


def _pixels(op: str, x: Array) -> Array:
    """Return x as (N, pixels, C)."""
    rank(x, f"{op}: x", "N, C", "N, H, W, C")
    check_rows(op, x)
    return x.reshape(len(x), -1 if x.size else 1, x.shape[-1])
