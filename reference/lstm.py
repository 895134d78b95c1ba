"""Long short-term memory (Hochreiter and Schmidhuber, 1997; with a forget gate, Gers et al., 2000).

N batch, T steps, C values in, K units. The gates are i, f, g and o, in this order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, array, flag, float_dtype, rounded, silent, zeros


@silent
def lstm(
    x: ArrayLike,
    w: ArrayLike,
    r: ArrayLike,
    b: ArrayLike | None = None,
    *,
    h0: ArrayLike | None = None,
    c0: ArrayLike | None = None,
    reverse: bool = False,
) -> tuple[Array, Array, Array]:
    """Return y (N, T, K) and the last states h and c (N, K), float32 or float64.

    x (N, T, C), w (C, 4 * K), r (K, 4 * K), b (4 * K,) or None; h0 and c0 (N, K) or None for zeros.
    TypeError for other or mixed dtypes, ValueError for shapes that do not fit.
    """
    op = "lstm"
    dtype = float_dtype(op, x=x, w=w, r=r, b=b, h0=h0, c0=c0)
    x = array(op, "x", x, dtype, ("N", "T", "C"))
    N, T, C = x.shape
    r = array(op, "r", r, dtype, ("K", "4 * K"))
    K = r.shape[0]
    if r.shape != (K, 4 * K):
        raise ValueError(f"{op}: r: expected shape (K, 4 * K), got {r.shape}")
    w = array(op, "w", w, dtype, (C, 4 * K))
    b = zeros(op, (4 * K,)) if b is None else array(op, "b", b, dtype, (4 * K,))
    h = zeros(op, (N, K)) if h0 is None else array(op, "h0", h0, dtype, (N, K)).copy()
    c = zeros(op, (N, K)) if c0 is None else array(op, "c0", c0, dtype, (N, K)).copy()
    steps = range(T - 1, -1, -1) if flag(op, "reverse", reverse) else range(T)

    y = zeros(op, (N, T, K), "x")
    for n in range(N):
        for t in steps:
            z = b.copy()
            for j in range(4 * K):
                z[j] += np.sum(x[n, t] * w[:, j]) + np.sum(h[n] * r[:, j])
            i, f, g, o = z[:K], z[K : 2 * K], z[2 * K : 3 * K], z[3 * K :]
            c[n] = _sigmoid(f) * c[n] + _sigmoid(i) * np.tanh(g)
            h[n] = _sigmoid(o) * np.tanh(c[n])
            y[n, t] = h[n]
    return rounded(y, dtype), rounded(h, dtype), rounded(c, dtype)


def _sigmoid(z: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-z)))
