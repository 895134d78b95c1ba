"""Inverted dropout with a mask that the caller draws (Srivastava et al., 2014)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._checks import Array, arrays_alike, as_array, fraction, rounded, silent


@silent
def dropout(x: ArrayLike, mask: ArrayLike, *, rate: float) -> Array:
    """Return x / (1 - rate) where the mask is True, else 0.

    x of any shape, float32 or float64; mask boolean of the same shape, or with axes of length 1,
    along which it is repeated; 0 <= rate < 1. TypeError for other dtypes, ValueError for shapes
    that do not fit and other rates.
    """
    dtype, [x] = arrays_alike("dropout", x=x)
    mask = _mask("dropout", mask, x.shape)
    rate = fraction("dropout", "rate", rate, one=False)
    return rounded(np.where(mask, x / (1 - rate), 0.0), dtype)


@silent
def dropout_backward(dy: ArrayLike, mask: ArrayLike, *, rate: float) -> Array:
    """Return dy / (1 - rate) where the mask is True, else 0. Errors as in dropout."""
    dtype, [dy] = arrays_alike("dropout_backward", dy=dy)
    mask = _mask("dropout_backward", mask, dy.shape)
    rate = fraction("dropout_backward", "rate", rate, one=False)
    return rounded(np.where(mask, dy / (1 - rate), 0.0), dtype)


def _mask(op: str, mask: ArrayLike, shape: tuple[int, ...]) -> Array:
    mask = as_array(op, "mask", mask)
    if mask.dtype != np.bool_:
        raise TypeError(f"{op}: mask: expected dtype bool, got {mask.dtype}")
    if mask.ndim != len(shape) or any(
        length not in (1, size) for length, size in zip(mask.shape, shape, strict=True)
    ):
        raise ValueError(
            f"{op}: mask: expected shape {shape}, or 1 for axes along which it is repeated, got "
            f"{mask.shape}"
        )
    return mask
