"""Quantized operators, computed in floats: the integers of a file are exact in them.

What a quantized network computes is an integer times a scale. Products and sums of bytes stay
below 2**24 for up to 258 summands of 255 * 255, so that float32 holds them exactly; beyond that
they round as all sums of float32 do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn._shapes import axis_of
from fastcnn.onnx._call import OPERATORS, Call, operator
from fastcnn.onnx._tensor import Tensor, tensor_of

__all__: list[str] = []

_RANGES = {"uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767)}


def _along(c: Call, at: int, rank: int) -> Any:
    """Return a scale or zero point, of one number or one for each place along an axis."""
    value = c.input(at)
    if value is None or isinstance(value, Tensor):
        return value
    array = np.asarray(value, np.float64)
    if array.size == 1:
        return array.reshape(1).astype(c.dtype)
    shape = [1] * rank
    shape[axis_of(c.get("axis", 1), "axis", rank)] = -1
    return array.reshape(shape).astype(c.dtype)


@operator("QuantizeLinear")
def _quantize(c: Call) -> Tensor:
    """clip(round(x / scale) + zero), the integers as floats; halves go to even ones."""
    zero = c.input(2)
    kind = "uint8" if zero is None or isinstance(zero, Tensor) else str(zero.dtype)
    low, high = _RANGES.get(kind, (0, 255))
    y = c.apply("round", c.meet("divide", c.x, _along(c, 1, c.x.rank)))
    shift = _along(c, 2, c.x.rank)
    y = y if shift is None else c.meet("add", y, shift)
    return c.apply("clip", y, low=float(low), high=float(high))


@operator("DequantizeLinear")
def _dequantize(c: Call) -> Tensor:
    shift = _along(c, 2, c.x.rank)
    y = c.x if shift is None else c.meet("subtract", c.x, shift)
    return c.meet("multiply", y, _along(c, 1, c.x.rank))


@operator("DynamicQuantizeLinear")
def _dynamic(c: Call) -> list[Tensor]:
    """Return x as bytes, their scale and zero point, by the least and the largest number of x."""
    x = c.x
    axes = tuple(range(x.rank))
    zero = np.zeros(1, c.dtype)
    high = c.meet("maximum", Tensor(c.backend.reduce_max(x.array, axes)), zero)
    low = c.meet("minimum", Tensor(c.backend.reduce_min(x.array, axes)), zero)
    scale = c.meet("divide", c.meet("subtract", high, low), np.full(1, 255))
    shift = c.apply("round", c.apply("negative", c.meet("divide", low, scale)))
    shift = c.apply("clip", shift, low=0.0, high=255.0)
    y = c.meet("add", c.apply("round", c.meet("divide", x, scale)), shift)
    return [c.apply("clip", y, low=0.0, high=255.0), scale, shift]


@operator("ConvInteger", "MatMulInteger")
def _integers(c: Call) -> Tensor:
    """Return a product of integers from which their zero points were taken."""
    given = [tensor_of(c.inputs[0], c.dtype), tensor_of(c.inputs[1], c.dtype)]
    for at in (0, 1):
        shift = c.input(at + 2)
        if shift is not None:
            if not isinstance(shift, Tensor) and np.size(shift) > 1:
                # One for each filter, row or column.
                behind = {"ConvInteger": given[1].rank - 1, "MatMulInteger": 1 - at}[c.op]
                shift = np.reshape(shift, (-1, *[1] * behind))
            given[at] = c.meet("subtract", given[at], shift)
    op = "Conv" if c.op == "ConvInteger" else "MatMul"
    y: Tensor = OPERATORS[op](Call(op, given, c.attributes, c.opset, c.backend, c.dtype))
    return y
