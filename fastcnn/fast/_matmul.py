"""Products of stacks of matrices: those of linear layers, one matrix after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._checks import shape
from fastcnn._shapes import multiplied
from fastcnn._types import Array, Shape
from fastcnn.fast._broadcast import operands, sum_into
from fastcnn.fast._linear import Linear

__all__ = ["MatMul"]


class MatMul(Linear):
    """matmul and its gradients.

    BLAS would choose by the sizes in which order to add, and so by the batch.
    """

    def matmul(self, a: ArrayLike, b: ArrayLike) -> Array:
        op = "matmul"
        a, b = operands(op, a=a, b=b)
        y_shape = multiplied(a.shape, b.shape, f"{op}: a, b")
        y = self._result(op, "a, b", y_shape, a.dtype)
        if a.size == 0 or b.size == 0:
            self._run(y.fill, 0)
        elif b.ndim == 2:  # one matrix for all
            self._linear_into(y.reshape(-1, y_shape[-1]), a.reshape(-1, a.shape[-1]), b)
        else:
            lead, room = y_shape[:-2], self._weights_room(b)
            each_a, each_b = _repeated(a, lead), _repeated(b, lead)
            for at in np.ndindex(lead):
                self._linear_into(y[at], each_a[at], each_b[at], room=room)
        return y

    def matmul_backward(self, dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
        op = "matmul_backward"
        dy, a, b = operands(op, dy=dy, a=a, b=b)
        y_shape = multiplied(a.shape, b.shape, f"{op}: a, b")
        shape(dy, f"{op}: dy", y_shape, "that of matmul's result")
        if dy.size == 0 or a.size == 0:
            return self._zeros(a.shape, a.dtype), self._zeros(b.shape, b.dtype)
        room, sums = self._weights_room(b), self._empty(b.shape[-1:], dy.dtype)
        if b.ndim == 2:
            da, db = self._empty(a.shape, a.dtype), self._empty(b.shape, b.dtype)
            rows_da, rows_dy, rows_a = (each.reshape(-1, each.shape[-1]) for each in (da, dy, a))
            self._linear_dx_into(rows_da, rows_dy, b, room)
            self._linear_dw_into(db, sums, rows_dy, rows_a)
            return da, db
        lead = y_shape[:-2]
        each_a, each_b = _repeated(a, lead), _repeated(b, lead)
        das, dbs = (self._empty(each.shape, dy.dtype) for each in (each_a, each_b))
        for at in np.ndindex(lead):
            self._linear_dx_into(das[at], dy[at], each_b[at], room)
            self._linear_dw_into(dbs[at], sums, dy[at], each_a[at])
        return self._folded(das, a), self._folded(dbs, b)

    def _weights_room(self, b: Array) -> Array:
        """Return room in which one matrix after the other is packed, as it is or transposed."""
        size = self._load(b).pointwise_conv2d.workspace_size
        k, n = b.shape[-2:]
        return self._room(max(size(k, n), size(n, k)), b.dtype)

    def _folded(self, gradients: Array, like: Array) -> Array:
        """Return the gradients of all matrices, summed over those that are one."""
        if gradients.shape == like.shape:
            return gradients
        total = self._empty(like.shape, like.dtype)
        self._run(sum_into, total, gradients)
        return total


def _repeated(matrices: Array, lead: Shape) -> Array:
    """Return a view with these axes in front of the matrices."""
    return np.broadcast_to(matrices, (*lead, *matrices.shape[-2:]))
