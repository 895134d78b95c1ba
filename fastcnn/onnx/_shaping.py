"""What moves, joins, cuts and sums up numbers, as ONNX has it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastcnn._shapes import axis_of
from fastcnn.onnx._call import Call, operator
from fastcnn.onnx._constants import (
    flattened,
    reduced_axes,
    reshaped,
    slices,
    split_sizes,
    squeezed,
    unsqueezed,
)
from fastcnn.onnx._tensor import Tensor, expanded, tensor_of

__all__: list[str] = []


@operator("Shape", "Size")
def _shape(c: Call) -> Any:
    """Return integers that depend on the shape at hand alone."""
    shape = c.x.shape
    if c.op == "Size":
        return np.array(math.prod(shape), np.int64)
    return np.array(shape[slice(c.get("start", 0), c.get("end"))], np.int64)


@operator("Transpose")
def _transpose(c: Call) -> Tensor:
    return c.x.transposed(c.get("perm") or range(c.x.rank)[::-1])


@operator("Reshape")
def _reshape(c: Call) -> Tensor:
    x = c.x
    asked = [int(size) for size in c.setting("shape", 1)]
    if asked and x.rank and (asked[0], x.shape[0]) == c.batch:
        # A file that was written for some number of images has that number in its shapes.
        c.inputs[1] = np.array([x.shape[0], *asked[1:]], np.int64)
    wanted = reshaped(c, x.shape)
    if math.prod(wanted) != math.prod(x.shape) and wanted and wanted[0] == 1:
        # A file that was written for one image says 1 where it means the batch.
        wanted = (x.shape[0], *wanted[1:])
        if -1 in c.setting("shape", 1):
            at = list(c.setting("shape", 1)).index(-1)
            rest = math.prod(size for axis, size in enumerate(wanted) if axis != at)
            wanted = tuple(
                math.prod(x.shape) // rest if axis == at else n for axis, n in enumerate(wanted)
            )
    if math.prod(wanted) != math.prod(x.shape):
        raise ValueError(f"expected a shape of {math.prod(x.shape)} numbers, got {wanted}")
    return x.reshaped(c.backend, wanted)


@operator("Flatten")
def _flatten(c: Call) -> Tensor:
    return c.x.reshaped(c.backend, flattened(c, c.x.shape))


@operator("Squeeze")
def _squeeze(c: Call) -> Tensor:
    return c.x.reshaped(c.backend, squeezed(c, c.x.shape))


@operator("Unsqueeze")
def _unsqueeze(c: Call) -> Tensor:
    return c.x.reshaped(c.backend, unsqueezed(c, c.x.shape))


@operator("Expand")
def _expand(c: Call) -> Tensor:
    wanted = tuple(int(size) for size in c.setting("shape", 1))
    return expanded(c.backend, c.x, np.broadcast_shapes(c.x.shape, wanted))


@operator("Tile")
def _tile(c: Call) -> Tensor:
    """As an axis of length 1 in front of each, which is expanded."""
    x, times = c.x, [int(each) for each in c.setting("repeats", 1)]
    whole = [many * size for many, size in zip(times, x.shape, strict=True)]
    if whole == list(x.shape):
        return x
    pairs = [pair for size in x.shape for pair in (1, size)]
    wanted = [pair for many, size in zip(times, x.shape, strict=True) for pair in (many, size)]
    return expanded(c.backend, x.reshaped(c.backend, pairs), wanted).reshaped(c.backend, whole)


@operator("Concat")
def _concat(c: Call) -> Tensor:
    given = [tensor_of(value, c.dtype) for value in c.inputs]
    axis = axis_of(c.get("axis", 1), "axis", given[0].rank)
    order = max(
        (each for each in given if not isinstance(each.array, np.ndarray)),
        key=lambda each: math.prod(each.shape),
        default=given[0],
    ).order
    arrays = [
        np.ascontiguousarray(each.array.transpose(order))
        if isinstance(each.array, np.ndarray)
        else each.stored(c.backend, order)
        for each in given
        if 0 not in each.shape
    ]
    if len(arrays) == 1:
        return Tensor(arrays[0], order)
    return Tensor(c.backend.concat(arrays, order.index(axis)), order)


@operator("Slice")
def _slice(c: Call) -> Tensor:
    x = c.x
    return cut(c, x, slices(c, x.shape))


def cut(c: Call, x: Tensor, parts: tuple[slice, ...]) -> Tensor:
    """Return a part of a tensor: a slice of each of the file's axes."""
    if all(part.indices(size) == (0, size, 1) for part, size in zip(parts, x.shape, strict=True)):
        return x
    mine = [parts[axis] for axis in x.order]
    array = c.backend.strided_slice(
        x.array,
        tuple(part.start for part in mine),
        tuple(part.stop for part in mine),
        tuple(part.step for part in mine),
    )
    return Tensor(array, x.order)


@operator("Split")
def _split(c: Call) -> list[Tensor]:
    x, axis = c.x, axis_of(c.get("axis", 0), "axis", c.x.rank)
    found, start = [], 0
    for size in split_sizes(c, x.shape[axis]):
        parts = [slice(None)] * x.rank
        parts[axis] = slice(start, start + size)
        found.append(cut(c, x, tuple(parts)))
        start += size
    return found


@operator("Gather")
def _gather(c: Call) -> Tensor:
    x, axis = c.x, axis_of(c.get("axis", 0), "axis", c.x.rank)
    indices = c.constant(1)
    assert indices is not None
    flat = [int(at) for at in indices.reshape(-1)]
    if len(flat) == 1:
        at = axis_of(flat[0], "indices", x.shape[axis])
        parts = [slice(None)] * x.rank
        parts[axis] = slice(at, at + 1)
        y = cut(c, x, tuple(parts))
    else:
        y = Tensor(c.backend.take(x.array, flat, x.order.index(axis)), x.order)
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return y if shape == y.shape else y.reshaped(c.backend, shape)


@operator("Pad")
def _pad(c: Call) -> Tensor:
    x, pads = c.x, c.setting("pads", 1)
    axes = c.constant(3)
    at = [axis_of(int(axis), "axes", x.rank) for axis in (range(x.rank) if axes is None else axes)]
    half = len(pads) // 2
    widths = [(0, 0)] * x.rank
    for axis, before, after in zip(at, pads[:half], pads[half:], strict=True):
        widths[axis] = (int(before), int(after))
    if any(width < 0 for pair in widths for width in pair):
        parts = tuple(
            slice(max(-before, 0), size - max(-after, 0))
            for (before, after), size in zip(widths, x.shape, strict=True)
        )
        x = cut(c, x, parts)
        widths = [(max(before, 0), max(after, 0)) for before, after in widths]
    mode, value = c.get("mode", "constant"), c.number("value", 2, 0.0)
    if all(pair == (0, 0) for pair in widths):
        return x
    options: dict[str, Any] = {"value": float(value)} if mode == "constant" else {"mode": mode}
    array = c.backend.pad(x.array, tuple(widths[axis] for axis in x.order), **options)
    return Tensor(array, x.order)


# ---------------------------------------------------------------------- reductions
_REDUCTIONS = {
    "ReduceMean": "reduce_mean",
    "ReduceSum": "reduce_sum",
    "ReduceMax": "reduce_max",
    "ReduceMin": "reduce_min",
    "ReduceL2": "reduce_sum",
    "ReduceL1": "reduce_sum",
    "ReduceSumSquare": "reduce_sum",
}


@operator(*_REDUCTIONS)
def _reduce(c: Call) -> Tensor:
    x = c.x
    axes = reduced_axes(c, x.rank)
    if not axes:
        return x
    array = x.array
    if c.op in ("ReduceL2", "ReduceSumSquare"):
        array = c.backend.multiply(array, array)
    elif c.op == "ReduceL1":
        array = c.backend.abs(array)
    at = tuple(x.order.index(axis) for axis in axes)
    y = Tensor(getattr(c.backend, _REDUCTIONS[c.op])(array, at, keepdims=True), x.order)
    if c.op == "ReduceL2":
        y = Tensor(c.backend.sqrt(y.array), y.order)
    if c.get("keepdims", 1):
        return y
    shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    return y.reshaped(c.backend, shape)


# ---------------------------------------------------------------------- products
@operator("Gemm")
def _gemm(c: Call) -> Tensor:
    """Alpha * A' @ B' + beta * C; B lies (C, K) already in the layer that holds it."""
    alpha, beta = c.get("alpha", 1.0), c.get("beta", 1.0)
    a = c.x.transposed((1, 0)) if c.get("transA", 0) else c.x
    b = c.tensor(1)
    b = b.transposed((1, 0)) if c.get("transB", 0) else b
    bias = c.input(2)
    left, right = a.stored(c.backend), b.stored(c.backend)
    if bias is not None and alpha == beta == 1:
        vector = tensor_of(bias, c.dtype)
        if math.prod(vector.shape) == b.shape[1]:
            shape = (b.shape[1],)
            flat = vector.array if vector.shape == shape else _flat(c, vector, shape)
            return Tensor(c.backend.linear(left, right, flat))
    y = Tensor(c.backend.linear(left, right))
    if alpha != 1:
        y = c.meet("multiply", y, np.full(1, alpha))
    if bias is None:
        return y
    return c.meet("add", y, bias if beta == 1 else c.meet("multiply", bias, np.full(1, beta)))


def _flat(c: Call, vector: Tensor, shape: tuple[int, ...]) -> Any:
    if isinstance(vector.array, np.ndarray):
        return vector.array.reshape(shape)
    return c.backend.reshape(vector.array, shape)


@operator("MatMul")
def _matmul(c: Call) -> Tensor:
    """Rows times a matrix are a dense layer; of other ranks a product of each pair of matrices."""
    a, b = c.tensor(0), c.tensor(1)
    if b.rank == 2 and a.rank >= 2:
        rows = a.reshaped(c.backend, (math.prod(a.shape[:-1]), a.shape[-1]))
        y = Tensor(c.backend.linear(rows.stored(c.backend), b.stored(c.backend)))
        return y.reshaped(c.backend, (*a.shape[:-1], b.shape[1]))
    if b.rank == 1:
        column = b.reshaped(c.backend, (b.shape[0], 1))
        y = Tensor(c.backend.matmul(a.stored(c.backend), column.stored(c.backend)))
        return y.reshaped(c.backend, a.shape[:-1])
    if a.rank == 1:
        row = a.reshaped(c.backend, (1, a.shape[0]))
        y = Tensor(c.backend.matmul(row.stored(c.backend), b.stored(c.backend)))
        return y.reshaped(c.backend, (*b.shape[:-2], b.shape[-1]))
    return Tensor(c.backend.matmul(a.stored(c.backend), b.stored(c.backend)))
