"""Products of two arrays, as where a gate scales channels (Hu et al., "Squeeze-and-Excitation")."""

from __future__ import annotations

from numpy.typing import ArrayLike

from ._broadcast import broadcast, sum_to
from ._checks import Array, array, check_shape, float_dtype, rounded, silent, zeros


@silent
def multiply(a: ArrayLike, b: ArrayLike) -> Array:
    """Return a * b, of shapes that broadcast as in NumPy, float32 or float64.

    TypeError for other or mixed dtypes, ValueError for shapes that do not broadcast.
    """
    dtype = float_dtype("multiply", a=a, b=b)
    a = array("multiply", "a", a, dtype, None)
    b = array("multiply", "b", b, dtype, None)
    y = zeros("multiply", broadcast("multiply", a.shape, b.shape), "a, b")
    y[...] = a
    y *= b
    return rounded(y, dtype)


@silent
def multiply_backward(dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Return (da, db), shaped like a and b, from dy, which has the shape of a * b.

    A number of a was multiplied by b at every place along which a was repeated: its gradient is
    the sum of dy * b over them; b's alike. Errors as in multiply.
    """
    op = "multiply_backward"
    dtype = float_dtype(op, dy=dy, a=a, b=b)
    a = array(op, "a", a, dtype, None)
    b = array(op, "b", b, dtype, None)
    y_shape = broadcast(op, a.shape, b.shape)
    dy = array(op, "dy", dy, dtype, None)
    check_shape(op, "dy", dy.shape, y_shape)
    return rounded(sum_to(dy * b, a.shape), dtype), rounded(sum_to(dy * a, b.shape), dtype)
