"""PReLU: a ReLU whose slopes below zero are learned (He et al., 2015)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._broadcast import broadcast, sum_to
from ._checks import Array, array, check_shape, float_dtype, rounded, shown, silent


@silent
def prelu(x: ArrayLike, slope: ArrayLike) -> Array:
    """Return x where x > 0, else slope * x, shaped like x, float32 or float64.

    slope: any shape that broadcasts to that of x as in NumPy: (C,) has one for each channel, (1,)
    one for all. TypeError for other or mixed dtypes, ValueError for shapes that do not.
    """
    dtype = float_dtype("prelu", x=x, slope=slope)
    x = array("prelu", "x", x, dtype, None)
    slope = array("prelu", "slope", slope, dtype, None)
    _check_slope("prelu", x, slope)
    return rounded(np.where(x > 0, x, slope * x), dtype)


@silent
def prelu_backward(dy: ArrayLike, x: ArrayLike, slope: ArrayLike) -> tuple[Array, Array]:
    """Return (dx, dslope), shaped like x and slope.

    dx is dy where x > 0, else slope * dy. A slope was multiplied by x wherever x was not above
    zero and the slope was repeated to: its gradient is the sum of dy * x over these places.
    """
    op = "prelu_backward"
    dtype = float_dtype(op, dy=dy, x=x, slope=slope)
    x = array(op, "x", x, dtype, None)
    slope = array(op, "slope", slope, dtype, None)
    _check_slope(op, x, slope)
    dy = array(op, "dy", dy, dtype, None)
    check_shape(op, "dy", dy.shape, x.shape)
    dslope = sum_to(np.where(x > 0, 0.0, dy * x), slope.shape)
    return rounded(np.where(x > 0, dy, slope * dy), dtype), rounded(dslope, dtype)


def _check_slope(op: str, x: Array, slope: Array) -> None:
    if broadcast(op, x.shape, slope.shape, "x, slope") != x.shape:
        raise ValueError(
            f"{op}: slope: expected a shape that broadcasts to {x.shape}, that of x, "
            f"got {shown(slope.shape)}"
        )
