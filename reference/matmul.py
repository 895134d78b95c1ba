"""Products of matrices, or of stacks of them, as of queries and keys (Vaswani et al., 2017).

M rows of a, K columns of a and rows of b, N columns of b.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._broadcast import broadcast, sum_to
from ._checks import (
    Array,
    array,
    check_shape,
    float_dtype,
    rounded,
    shown,
    silent,
    zeros,
)


@silent
def matmul(a: ArrayLike, b: ArrayLike) -> Array:
    """Return y (..., M, N) of a (..., M, K) and b (..., K, N), float32 or float64.

    y[..., m, n] = sum over k of a[..., m, k] * b[..., k, n]; the axes in front of the matrices
    broadcast. TypeError for other or mixed dtypes, ValueError for shapes that do not fit.
    """
    op = "matmul"
    dtype = float_dtype(op, a=a, b=b)
    a = array(op, "a", a, dtype, None)
    b = array(op, "b", b, dtype, None)
    lead, M, K, N = _sizes(op, a.shape, b.shape)
    y = zeros(op, (*lead, M, N), "a, b")
    wide_a, wide_b = _repeated(a, lead), _repeated(b, lead)
    for at in np.ndindex(lead):
        for m in range(M):
            for k in range(K):
                y[(*at, m)] += wide_a[(*at, m, k)] * wide_b[(*at, k)]
    return rounded(y, dtype)


@silent
def matmul_backward(dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Return (da, db), shaped like a and b, from dy, which has the shape of their product.

    da[..., m, k] = sum over n of dy[..., m, n] * b[..., k, n], db[..., k, n] = sum over m of
    a[..., m, k] * dy[..., m, n], both summed over matrices that were repeated. Errors as there.
    """
    op = "matmul_backward"
    dtype = float_dtype(op, dy=dy, a=a, b=b)
    a = array(op, "a", a, dtype, None)
    b = array(op, "b", b, dtype, None)
    lead, M, K, N = _sizes(op, a.shape, b.shape)
    dy = array(op, "dy", dy, dtype, None)
    check_shape(op, "dy", dy.shape, (*lead, M, N))
    wide_a, wide_b = _repeated(a, lead), _repeated(b, lead)
    da, db = zeros(op, (*lead, M, K)), zeros(op, (*lead, K, N))
    for at in np.ndindex(lead):
        for m in range(M):
            for k in range(K):
                da[(*at, m, k)] = np.sum(dy[(*at, m)] * wide_b[(*at, k)])
                db[(*at, k)] += wide_a[(*at, m, k)] * dy[(*at, m)]
    return (
        rounded(sum_to(da, a.shape), dtype),
        rounded(sum_to(db, b.shape), dtype),
    )


def _sizes(
    op: str, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
) -> tuple[tuple[int, ...], int, int, int]:
    """Return the axes in front of the matrices of the product, M, K and N."""
    fits = len(a_shape) > 1 and len(b_shape) > 1 and a_shape[-1] == b_shape[-2]
    lead: tuple[int, ...] = ()
    try:
        lead = broadcast(op, a_shape[:-2], b_shape[:-2])
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{op}: a, b: expected matrices (..., M, K) and (..., K, N) whose other axes "
            f"broadcast, got shapes {shown(a_shape)} and {shown(b_shape)}"
        )
    return lead, a_shape[-2], a_shape[-1], b_shape[-1]


def _repeated(matrices: Array, lead: tuple[int, ...]) -> Array:
    return np.broadcast_to(matrices, (*lead, *matrices.shape[-2:]))
