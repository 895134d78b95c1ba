"""Operators on what is known without a batch: constants, and the arithmetic of shapes.

By NumPy, with ONNX's rules where these differ: integer division cuts towards zero, Gather and
Slice count from the end, a Cast to an integer cuts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastcnn._shapes import axis_of
from fastcnn._types import Array
from fastcnn.onnx._call import Call

__all__ = ["DTYPES", "NUMPY"]

# TensorProto.DataType of the types that arrays are made of.
DTYPES = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    4: np.uint16,
    5: np.int16,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
    12: np.uint32,
    13: np.uint64,
}


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind not in "iu" or b.dtype.kind not in "iu":
        return np.asarray(a / b)
    if not np.all(b):
        raise ValueError("expected integers to divide by, got zero")
    quotient, rest = np.divmod(a, b)
    return np.asarray(quotient + ((rest != 0) & ((a < 0) != (b < 0))), a.dtype)


def _gather(c: Call) -> Array:
    x, indices = c.inputs
    return np.asarray(np.take(x, indices, axis=c.get("axis", 0)))


def _slice(c: Call) -> Array:
    x = c.inputs[0]
    return np.asarray(x[slices(c, x.shape)])


def slices(c: Call, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return what a Slice takes of an array of this shape, one of each for each axis."""
    starts, stops = c.setting("starts", 1), c.setting("ends", 2)
    axes = c.setting("axes", 3) or list(range(len(starts)))
    steps = c.setting("steps", 4) or [1] * len(starts)
    found = [slice(None)] * len(shape)
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        size = shape[axis]
        if step < 0:  # what lies before the first number is no place that Python's slices know
            first = min(start + size * (start < 0), size - 1)
            end = max(stop + size * (stop < 0), -1)
            found[axis] = slice(first, end if end >= 0 else None, step) if first >= 0 else slice(0)
        else:
            found[axis] = slice(start, stop, step)
    return tuple(found)


def reshaped(c: Call, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that a Reshape asks for: 0 keeps an axis, -1 is what is left."""
    wanted = [int(size) for size in c.setting("shape", 1)]
    if not c.get("allowzero", 0):
        wanted = [shape[at] if size == 0 else size for at, size in enumerate(wanted)]
    if -1 in wanted:
        known = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = math.prod(shape) // max(known, 1)
    return tuple(wanted)


def _listed(axes: Any) -> list[int]:
    return axes if isinstance(axes, list) else [axes]


def unsqueezed(c: Call, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape with axes of length 1 put in."""
    axes = c.setting("axes", 1)
    axes = _listed(axes)
    rank = len(shape) + len(axes)
    at = {axis_of(axis, "axes", rank) for axis in axes}
    if len(at) < len(axes):
        raise ValueError(f"expected axes that differ, got {axes}")
    rest = iter(shape)
    return tuple(1 if axis in at else next(rest) for axis in range(rank))


def squeezed(c: Call, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without these axes of length 1, or without all of them."""
    axes = c.setting("axes", 1)
    if axes is None:
        return tuple(size for size in shape if size != 1)
    axes = _listed(axes)
    gone = {axis_of(axis, "axes", len(shape)) for axis in axes}
    if any(shape[axis] != 1 for axis in gone):
        raise ValueError(f"expected axes of length 1 at {sorted(gone)}, got shape {shape}")
    return tuple(size for axis, size in enumerate(shape) if axis not in gone)


def flattened(c: Call, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the shape of a matrix: axes in front of one and those from it on."""
    axis = c.get("axis", 1)
    axis = len(shape) if axis == len(shape) else axis_of(axis, "axis", len(shape))
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def reduced_axes(c: Call, rank: int) -> tuple[int, ...]:
    """Return the axes of a reduction, which may be none, from 0 on."""
    axes = c.setting("axes", 1)
    if axes is None or axes == []:
        return () if c.get("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(axis_of(axis, "axes", rank) for axis in _listed(axes))


def _reduced(function: Callable[..., Any]) -> Callable[[Call], Array]:
    def run(c: Call) -> Array:
        x = c.inputs[0]
        axes, keep = reduced_axes(c, x.ndim), bool(c.get("keepdims", 1))
        if function is np.mean and x.size == 0:
            raise ValueError("expected at least one number, got none")
        return np.asarray(function(x, axis=axes, keepdims=keep), x.dtype)

    return run


def split_sizes(c: Call, length: int) -> list[int]:
    """Return the lengths of the parts of a Split."""
    sizes = c.setting("split", 1)
    if sizes is not None:
        if sum(sizes) != length or min(sizes, default=-1) < 0:
            raise ValueError(f"expected parts of {length} in all, got {sizes!s:.80}")
        return [int(size) for size in sizes]
    count = c.results
    if c.get("num_outputs", count) != count:
        raise ValueError(f"expected {count} parts, got num_outputs {c.get('num_outputs')}")
    size = -(-length // count)
    return [min(size, length - at * size) for at in range(count)]


def _split(c: Call) -> list[Array]:
    x, axis = c.inputs[0], c.get("axis", 0)
    ends = np.cumsum(split_sizes(c, x.shape[axis]))[:-1]
    return list(np.split(x, ends, axis))


def _constant_of_shape(c: Call) -> Array:
    value = np.asarray(c.get("value", np.zeros(1, np.float32))).reshape(-1)[0]
    return np.broadcast_to(value, [int(size) for size in c.inputs[0]])  # of no bytes yet


def _cast(c: Call) -> Array:
    x = c.inputs[0]
    with np.errstate(all="ignore"):
        return np.asarray(x, DTYPES.get(c.get("to"), x.dtype))


def _clip(c: Call) -> Array:
    low, high = c.number("min", 1), c.number("max", 2)
    return np.asarray(np.clip(c.inputs[0], low, high), c.inputs[0].dtype)


def _pad(c: Call) -> Array:
    x, pads = c.inputs[0], c.setting("pads", 1)
    half = len(pads) // 2
    mode, value = c.get("mode", "constant"), c.number("value", 2, 0)
    widths = list(zip(pads[:half], pads[half:], strict=True))
    if mode == "constant":
        return np.pad(x, widths, constant_values=value)
    return np.asarray(np.pad(x, widths, mode=mode))


def _where(c: Call) -> Array:
    return np.asarray(np.where(*c.inputs))


def _range(c: Call) -> Array:
    start, stop, step = (value.reshape(-1)[0] for value in c.inputs)
    return np.asarray(np.arange(start, stop, step, dtype=c.inputs[0].dtype))


def _folded(function: Callable[..., Any]) -> Callable[[Call], Array]:
    """Return a function of two or more inputs, pair by pair."""

    def run(c: Call) -> Array:
        result = c.inputs[0]
        for other in c.inputs[1:]:
            result = function(result, other)
        return np.asarray(result)

    return run


def _dequantized(c: Call) -> Array:
    x, scale, *zero = c.inputs
    shape = [1] * x.ndim
    if scale.size > 1:
        shape[c.get("axis", 1)] = -1
    shift = zero[0].astype(np.float32).reshape(shape) if zero and zero[0] is not None else 0
    return np.asarray((x.astype(np.float32) - shift) * scale.reshape(shape))


def _shape(c: Call) -> Array:
    shape = c.inputs[0].shape
    return np.array(shape[slice(c.get("start", 0), c.get("end"))], np.int64)


NUMPY: dict[str, Callable[[Call], Any]] = {
    "Abs": lambda c: np.abs(c.inputs[0]),
    "Add": _folded(np.add),
    "And": _folded(np.logical_and),
    "Cast": _cast,
    "Ceil": lambda c: np.ceil(c.inputs[0]),
    "Clip": _clip,
    "Concat": lambda c: np.concatenate(c.inputs, c.get("axis", 0)),
    "ConstantOfShape": _constant_of_shape,
    "Cos": lambda c: np.cos(c.inputs[0]),
    "CumSum": lambda c: np.cumsum(c.inputs[0], int(c.inputs[1].reshape(-1)[0])),
    "DequantizeLinear": _dequantized,
    "Div": _folded(_divide),
    "Equal": _folded(np.equal),
    "Exp": lambda c: np.exp(c.inputs[0]),
    "Expand": lambda c: c.inputs[0] * np.ones([int(n) for n in c.inputs[1]], c.inputs[0].dtype),
    "Flatten": lambda c: c.inputs[0].reshape(flattened(c, c.inputs[0].shape)),
    "Floor": lambda c: np.floor(c.inputs[0]),
    "Gather": _gather,
    "Greater": _folded(np.greater),
    "GreaterOrEqual": _folded(np.greater_equal),
    "Identity": lambda c: c.inputs[0],
    "Less": _folded(np.less),
    "LessOrEqual": _folded(np.less_equal),
    "Log": lambda c: np.log(c.inputs[0]),
    "MatMul": _folded(np.matmul),
    "Max": _folded(np.maximum),
    "Min": _folded(np.minimum),
    "Mod": lambda c: (np.fmod if c.get("fmod", 0) else np.mod)(*c.inputs),
    "Mul": _folded(np.multiply),
    "Neg": lambda c: -c.inputs[0],
    "NonZero": lambda c: np.array(np.nonzero(c.inputs[0]), np.int64),
    "Not": lambda c: np.logical_not(c.inputs[0]),
    "Or": _folded(np.logical_or),
    "Pad": _pad,
    "Pow": lambda c: np.power(*c.inputs).astype(c.inputs[0].dtype),
    "Range": _range,
    "Reciprocal": lambda c: np.reciprocal(c.inputs[0]),
    "ReduceMax": _reduced(np.max),
    "ReduceMean": _reduced(np.mean),
    "ReduceMin": _reduced(np.min),
    "ReduceProd": _reduced(np.prod),
    "ReduceSum": _reduced(np.sum),
    "Reshape": lambda c: c.inputs[0].reshape(reshaped(c, c.inputs[0].shape)),
    "Round": lambda c: np.round(c.inputs[0]),
    "Shape": _shape,
    "Sin": lambda c: np.sin(c.inputs[0]),
    "Size": lambda c: np.array(c.inputs[0].size, np.int64),
    "Slice": _slice,
    "Split": _split,
    "Sqrt": lambda c: np.sqrt(c.inputs[0]),
    "Squeeze": lambda c: c.inputs[0].reshape(squeezed(c, c.inputs[0].shape)),
    "Sub": _folded(np.subtract),
    "Sum": _folded(np.add),
    "Tile": lambda c: np.tile(c.inputs[0], [int(n) for n in c.inputs[1]]),
    "Transpose": lambda c: np.transpose(c.inputs[0], c.get("perm")),
    "Unsqueeze": lambda c: c.inputs[0].reshape(unsqueezed(c, c.inputs[0].shape)),
    "Where": _where,
}
