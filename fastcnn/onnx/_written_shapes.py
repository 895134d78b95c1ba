"""What moves, cuts and sums up numbers, in an ONNX file."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastcnn._types import Shape
from fastcnn.onnx._tensor import Tensor
from fastcnn.onnx._written import Writing, written

__all__: list[str] = []


@written("reshape")
def _reshape(at: Writing, x: Tensor, *, shape: Shape) -> Tensor:
    if at.open_size and not all(_is_flat(shape) for shape in (x.shape, at.shapes[0])):
        raise ValueError(f"expected shapes for images of any size, got {x.shape} to be another")
    return x.reshaped(at.emit, at.shapes[0])


def _is_flat(shape: Shape) -> bool:
    """Return whether a shape has no rows and columns that could be more."""
    return len(shape) < 3 or (len(shape) == 4 and shape[1:3] == (1, 1))


@written("transpose")
def _transpose(at: Writing, x: Tensor, *, axes: tuple[int, ...]) -> Tensor:
    return x.transposed([axis % x.rank for axis in axes])


@written("expand")
def _expand(at: Writing, x: Tensor, *, shape: Shape) -> Tensor:
    whole = at.shapes[0]
    if x.shape[0] != whole[0] or x.rank != len(whole):
        raise ValueError("expected an expand of axes behind the batch, got one of the batch")
    order = x.order
    asked = [1 if axis == 0 else whole[axis] for axis in order]
    return at.node("Expand", [x.array, at.emit.integers(*asked)], order)


@written("pad")
def _pad(
    at: Writing, x: Tensor, *, widths: Any, mode: str = "constant", value: float = 0.0
) -> Tensor:
    moved = [widths[axis] for axis in x.order]
    pads = at.emit.integers(*(before for before, _ in moved), *(after for _, after in moved))
    given = [x.array, pads, at.emit.number(value) if mode == "constant" else None]
    return at.node("Pad", given, x.order, mode=mode)


@written("strided_slice")
def _slice(at: Writing, x: Tensor, *, starts: Any, stops: Any, steps: Any = None) -> Tensor:
    chosen: list[tuple[int, int, int, int]] = []
    for axis in range(x.rank):
        part = [None if each is None or axis >= len(each) else each[axis]
                for each in (starts, stops, steps)]  # fmt: skip
        start, stop, step = part
        if part != [None, None, None] and slice(*part) != slice(None):
            step = 1 if step is None else step
            first = (0 if step > 0 else 2**62) if start is None else start
            end = (2**62 if step > 0 else -(2**62)) if stop is None else stop
            chosen.append((first, end, x.order.index(axis), step))
    if not chosen:
        return x
    columns = [at.emit.integers(*column) for column in zip(*chosen, strict=True)]
    return at.node("Slice", [x.array, *columns], x.order)


@written("take")
def _take(at: Writing, x: Tensor, *, indices: Any, axis: int = -1) -> Tensor:
    place = x.order.index(axis % x.rank)
    return at.node("Gather", [x.array, at.emit.integers(*indices)], x.order, axis=place)


_REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_mean": "ReduceMean",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
}


def _reduce(op: str, at: Writing, x: Tensor, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    axes = range(x.rank) if axis is None else (axis if isinstance(axis, (tuple, list)) else [axis])
    axes = sorted(each % x.rank for each in axes)
    places = [x.order.index(each) for each in axes]
    as_input = at.emit.opset >= (13 if op == "ReduceSum" else 18)
    given = [x.array, at.emit.integers(*places)] if as_input else [x.array]
    options = {} if as_input else {"axes": places}
    kept = [
        1 if each in axes else length for each, length in zip(x.order, x.array.shape, strict=True)
    ]
    y = at.emit.node(op, given, tuple(kept), at.name, keepdims=1, **options)
    whole = Tensor(y, x.order)
    return whole if keepdims else whole.reshaped(at.emit, at.shapes[0])


for _ours, _theirs in _REDUCTIONS.items():
    written(_ours)(partial(_reduce, _theirs))
