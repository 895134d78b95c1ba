"""The fully connected layer's op. N batch, C values in, K values out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, array, flag, float_dtype, rounded, silent, zeros


@silent
def linear(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> Array:
    """Return y (N, K) of x (N, C), w (C, K) and b (K,) or None, float32 or float64.

    y[n,k] = b[k] + sum over c of x[n,c] * w[c,k]. TypeError for other or mixed dtypes, ValueError
    for shapes that do not fit.
    """
    dtype = float_dtype("linear", x=x, w=w, b=b)
    x = array("linear", "x", x, dtype, ("N", "C"))
    w = array("linear", "w", w, dtype, ("C", "K"))
    N, _, K = _sizes("linear", x, w)
    b = zeros("linear", (K,)) if b is None else array("linear", "b", b, dtype, (K,))

    y = zeros("linear", (N, K))
    for n in range(N):
        for k in range(K):
            y[n, k] = np.sum(x[n] * w[:, k]) + b[k]
    return rounded(y, dtype)


@silent
def linear_backward(
    dy: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    *,
    input_gradient: bool = True,
    weight_gradient: bool = True,
) -> tuple[Array | None, Array | None, Array | None]:
    """Return (dx, dw, db), shaped like x, w and (K,), of dy (N, K): None for what is not asked for.

    Errors as in linear.
    """
    op = "linear_backward"
    dtype = float_dtype(op, dy=dy, x=x, w=w)
    x = array(op, "x", x, dtype, ("N", "C"))
    w = array(op, "w", w, dtype, ("C", "K"))
    N, C, K = _sizes(op, x, w)
    dy = array(op, "dy", dy, dtype, (N, K))
    input_gradient = flag(op, "input_gradient", input_gradient)
    weight_gradient = flag(op, "weight_gradient", weight_gradient)

    dx, dw, db = np.zeros((N, C)), np.zeros((C, K)), np.zeros(K)
    for n in range(N):
        for k in range(K):
            dw[:, k] += dy[n, k] * x[n]
            db[k] += dy[n, k]
            if input_gradient:
                dx[n] += dy[n, k] * w[:, k]
    return (
        rounded(dx, dtype) if input_gradient else None,
        rounded(dw, dtype) if weight_gradient else None,
        rounded(db, dtype) if weight_gradient else None,
    )


def _sizes(op: str, x: Array, w: Array) -> tuple[int, int, int]:
    """Return N, C, K of x and w; ValueError where they disagree about C."""
    if x.shape[1] != w.shape[0]:
        raise ValueError(
            f"{op}: w: expected shape (C, K) with C = {x.shape[1]} as x has, got {w.shape}"
        )
    return x.shape[0], x.shape[1], w.shape[1]
