"""Functions of single numbers, by NumPy: a row of the table each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import float_arrays, same_shape
from fastcnn._types import Array
from fastcnn.fast._memory_bound import MemoryBound

__all__ = ["Functions"]


class _Function(NamedTuple):
    """What computes a function; and its gradient in double, of dy and what forward took or gave."""

    forward: Any
    gradient: Callable[[Array, Array], Any]


_TABLE = {
    "exp": _Function(np.exp, lambda dy, y: dy * y),
    "log": _Function(np.log, lambda dy, x: dy / x),
    "sqrt": _Function(np.sqrt, lambda dy, y: dy / (2 * y)),
    "abs": _Function(np.abs, lambda dy, x: dy * np.sign(x)),
    "negative": _Function(np.negative, lambda dy, _: -dy),
    "reciprocal": _Function(np.reciprocal, lambda dy, y: -dy * y * y),
    # Its kernel is erf.pyx.
    "erf": _Function(None, lambda dy, x: dy * (2 / math.sqrt(math.pi) * np.exp(-x * x))),
}


class Functions(MemoryBound):
    """The ops of fastcnn._contract.functions."""

    def _function(self, op: str, x: ArrayLike) -> Array:
        (x,) = float_arrays(op, x=x)
        y = self._empty(x.shape, x.dtype)
        self._run(_write, y, _TABLE[op].forward, x)
        return y

    def _function_backward(self, op: str, dy: ArrayLike, **saved: ArrayLike) -> Array:
        """Return the gradient; `saved` is the one array that forward took or gave, if any."""
        dy, *arrays = float_arrays(op, dy=dy, **saved)
        for name, array in zip(saved, arrays, strict=True):
            same_shape(dy, f"{op}: dy", name, array)
        dx = self._empty(dy.shape, dy.dtype)
        gradient = _TABLE[op.removesuffix("_backward")].gradient
        self._run(_write_gradient, dx, gradient, dy, *arrays or (dy,))
        return dx

    def exp(self, x: ArrayLike) -> Array:
        return self._function("exp", x)

    def exp_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        return self._function_backward("exp_backward", dy, y=y)

    def log(self, x: ArrayLike) -> Array:
        return self._function("log", x)

    def log_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        return self._function_backward("log_backward", dy, x=x)

    def sqrt(self, x: ArrayLike) -> Array:
        return self._function("sqrt", x)

    def sqrt_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        return self._function_backward("sqrt_backward", dy, y=y)

    def abs(self, x: ArrayLike) -> Array:
        return self._function("abs", x)

    def abs_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        return self._function_backward("abs_backward", dy, x=x)

    def negative(self, x: ArrayLike) -> Array:
        return self._function("negative", x)

    def negative_backward(self, dy: ArrayLike) -> Array:
        return self._function_backward("negative_backward", dy)

    def reciprocal(self, x: ArrayLike) -> Array:
        return self._function("reciprocal", x)

    def reciprocal_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        return self._function_backward("reciprocal_backward", dy, y=y)

    def erf(self, x: ArrayLike) -> Array:
        (x,) = float_arrays("erf", x=x)
        y = self._empty(x.shape, x.dtype)
        if y.size:
            self._run(self._load(x).erf.erf, y.reshape(-1), x.reshape(-1), self._team(x))
        return y

    def erf_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        return self._function_backward("erf_backward", dy, x=x)


def _write(y: Array, function: Any, x: Array) -> None:
    with np.errstate(all="ignore"):
        function(x, out=y)


def _write_gradient(dx: Array, gradient: Any, dy: Array, saved: Array) -> None:
    with np.errstate(all="ignore"):
        dx[...] = gradient(dy.astype(np.float64), saved.astype(np.float64))
