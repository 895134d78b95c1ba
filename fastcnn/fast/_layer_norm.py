"""Layer normalization on the compiled kernels, and what norms share that may have no factors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, same_shape, shape
from fastcnn._options import number
from fastcnn._shapes import last_axes
from fastcnn._types import Array, Shape
from fastcnn.fast._memory_bound import MemoryBound

__all__ = ["LayerNorm", "Scaled", "check_rows"]


def check_rows(op: str, x: Array) -> None:
    """Refuse what has no samples on a first axis, or no numbers in a sample."""
    if x.ndim < 2:
        raise ValueError(
            f"{op}: x: expected an array of rank 2 or more, got rank {x.ndim} with shape {x.shape}"
        )
    if 0 in x.shape[1:]:
        raise ValueError(f"{op}: x: expected at least one value a sample, got shape {x.shape}")


class Scaled(MemoryBound):
    """Norms whose gamma and beta may be None."""

    def _arrays(self, op: str, given: dict[str, ArrayLike | None]) -> dict[str, Array]:
        """Return the arrays that are there; x and dy must be."""
        there = {
            name: value for name, value in given.items() if value is not None or name in ("x", "dy")
        }
        return dict(zip(there, float_arrays(op, **there), strict=True))

    def _vector(
        self, op: str, arrays: dict[str, Array], name: str, expected: Shape, why: str
    ) -> Array:
        """Return gamma or beta, flat, or what it is where it is None."""
        if name in arrays:
            shape(arrays[name], f"{op}: {name}", expected, why)
            return arrays[name].reshape(-1)
        vector = self._empty((math.prod(expected),), arrays["x"].dtype)
        self._run(vector.fill, 1 if name == "gamma" else 0)
        return vector


class LayerNorm(Scaled):
    """layer_norm and its gradients."""

    def layer_norm(
        self,
        x: ArrayLike,
        gamma: ArrayLike | None = None,
        beta: ArrayLike | None = None,
        *,
        axis: int = -1,
        epsilon: float = 1e-5,
    ) -> Array:
        op = "layer_norm"
        arrays = self._arrays(op, {"x": x, "gamma": gamma, "beta": beta})
        rows, row_shape = _rows(op, arrays["x"], axis)
        gamma, beta = (
            self._vector(op, arrays, name, row_shape, "that of a row of x")
            for name in ("gamma", "beta")
        )
        epsilon = number(epsilon, f"{op}: epsilon", 0, open_low=True)
        y = self._empty(arrays["x"].shape, rows.dtype)
        if y.size:
            kernel = self._load(rows).layer_norm.layer_norm
            self._run(kernel, y.reshape(rows.shape), rows, gamma, beta, epsilon, self._team(rows))
        return y

    def layer_norm_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike | None = None,
        *,
        axis: int = -1,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array]:
        op = "layer_norm_backward"
        arrays = self._arrays(op, {"dy": dy, "x": x, "gamma": gamma})
        dy, x = arrays["dy"], arrays["x"]
        rows, row_shape = _rows(op, x, axis)
        same_shape(dy, f"{op}: dy", "x", x)
        gamma = self._vector(op, arrays, "gamma", row_shape, "that of a row of x")
        epsilon = number(epsilon, f"{op}: epsilon", 0, open_low=True)
        dx = self._empty(x.shape, x.dtype)
        if dx.size == 0:
            return dx, self._zeros(row_shape, x.dtype), self._zeros(row_shape, x.dtype)
        dgamma, dbeta = self._empty(row_shape, x.dtype), self._empty(row_shape, x.dtype)
        kernels = self._load(x).layer_norm
        parts, width = kernels.layer_norm_parts(len(rows)), rows.shape[1]
        self._run(
            kernels.layer_norm_backward,
            dx.reshape(rows.shape),
            dgamma.reshape(-1),
            dbeta.reshape(-1),
            dy.reshape(rows.shape),
            rows,
            gamma,
            epsilon,
            self._empty((parts, 2, width), np.dtype(np.float64)),
            self._empty((parts, 2 * width), x.dtype),
            self._team(x),
        )
        return dx, dgamma, dbeta


def _rows(op: str, x: Array, axis: int) -> tuple[Array, Shape]:
    """Return x as rows of what the axes from `axis` on hold, and the shape of a row."""
    check_rows(op, x)
    row_shape = x.shape[last_axes(axis, f"{op}: axis", x.ndim) :]
    return x.reshape(-1, math.prod(row_shape)), row_shape
