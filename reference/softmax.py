"""Softmax and its logarithm over the last axis of an array of rank 1 or more."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, arrays_alike, rounded, silent


@silent
def softmax(x: ArrayLike) -> Array:
    """Return exp(x) / sum(exp(x)) over the last axis (Bridle, 1990), stable for any finite x.

    TypeError for other dtypes, ValueError for a last axis that is missing or empty.
    """
    dtype, [x] = arrays_alike("softmax", x=x)
    _check_last_axis("softmax", "x", x)
    # The largest exponent is 0, so that nothing overflows and the sum is at least 1.
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return rounded(e / np.sum(e, axis=-1, keepdims=True), dtype)


@silent
def softmax_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return y * (dy - sum(dy * y)) over the last axis; y is what softmax returned.

    dy and y of one shape and dtype; errors as in softmax.
    """
    dtype, [dy, y] = arrays_alike("softmax_backward", dy=dy, y=y)
    _check_last_axis("softmax_backward", "dy", dy)
    return rounded(y * (dy - np.sum(dy * y, axis=-1, keepdims=True)), dtype)


@silent
def log_softmax(x: ArrayLike) -> Array:
    """Return x - log(sum(exp(x))) over the last axis, stable for any finite x. Errors as there."""
    dtype, [x] = arrays_alike("log_softmax", x=x)
    _check_last_axis("log_softmax", "x", x)
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return rounded(shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True)), dtype)


@silent
def log_softmax_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dy - exp(y) * sum(dy) over the last axis; y is what log_softmax returned."""
    dtype, [dy, y] = arrays_alike("log_softmax_backward", dy=dy, y=y)
    _check_last_axis("log_softmax_backward", "dy", dy)
    return rounded(dy - np.exp(y) * np.sum(dy, axis=-1, keepdims=True), dtype)


def _check_last_axis(op: str, name: str, x: Array) -> None:
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(
            f"{op}: {name}: expected at least one value on the last axis, got shape {x.shape}"
        )
