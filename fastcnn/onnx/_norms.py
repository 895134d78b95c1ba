"""Normalizations, as ONNX has them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn._shapes import axis_of
from fastcnn.onnx._call import Call, last, operator
from fastcnn.onnx._tensor import Tensor, channels_last, expanded
from fastcnn.onnx._windows import bias

__all__: list[str] = []


@operator("BatchNormalization")
def _batch_norm(c: Call) -> Tensor:
    """Of a layer BatchNorm, if the file has its numbers; it has statistics of its own to train."""
    x = c.x
    array = x.stored(c.backend, channels_last(x.rank))
    shape = array.shape
    if x.rank not in (2, 4):
        array = c.backend.reshape(array, (shape[0], 1, -1, shape[-1]))
    if c.module is not None and not c.module.built:  # where shapes alone are asked for
        y = array
    elif c.module is not None:
        y = c.backend.layer(c.module, array, training=c.training)[0]
    else:
        vectors = [c.tensor(at).stored(c.backend) for at in range(1, 5)]
        y = c.backend.batch_norm_inference(array, *vectors, epsilon=c.get("epsilon", 1e-5))
    return last(y if x.rank in (2, 4) else c.backend.reshape(y, shape), x.rank)


@operator("InstanceNormalization")
def _instance_norm(c: Call) -> Tensor:
    return _grouped(c, c.x.shape[1])


@operator("GroupNormalization")
def _group_norm(c: Call) -> Tensor:
    groups = c.needed("num_groups")
    if c.opset < 21:  # a number for each group
        channels = c.x.shape[1]
        for at in (1, 2):
            column = c.tensor(at).reshaped(c.backend, (groups, 1))
            whole = expanded(c.backend, column, (groups, channels // groups))
            c.inputs[at] = whole.reshaped(c.backend, (channels,))
    return _grouped(c, groups)


def _grouped(c: Call, groups: int) -> Tensor:
    x = c.x
    array = x.stored(c.backend, channels_last(x.rank))
    shape = array.shape
    if x.rank == 3:
        array = c.backend.reshape(array, (shape[0], 1, *shape[1:]))
    y = c.backend.group_norm(
        array, bias(c, 1), bias(c, 2), groups=groups, epsilon=c.get("epsilon", 1e-5)
    )
    return last(c.backend.reshape(y, shape) if x.rank == 3 else y, x.rank)


@operator("LayerNormalization")
def _layer_norm(c: Call) -> Any:
    """Over the axes from one to the last; its mean and 1 / deviation, too, where they are read."""
    x, axis = c.x, axis_of(c.get("axis", -1), "axis", c.x.rank)
    epsilon = c.get("epsilon", 1e-5)
    if axis > 0 and c.results == 1:
        options: dict[str, Any] = {"axis": axis - x.rank, "epsilon": epsilon}
        array = x.stored(c.backend)
        return Tensor(c.backend.layer_norm(array, bias(c, 1), bias(c, 2), **options))
    axes = tuple(at for at, each in enumerate(x.order) if each >= axis)
    mean = Tensor(c.backend.reduce_mean(x.array, axes, keepdims=True), x.order)
    centred = c.meet("subtract", x, mean)
    squares = c.meet("multiply", centred, centred)
    variance = Tensor(c.backend.reduce_mean(squares.array, axes, keepdims=True), x.order)
    root = c.apply("sqrt", c.meet("add", variance, np.full(1, epsilon)))
    scale = c.apply("reciprocal", root)
    y = c.meet("multiply", c.meet("multiply", centred, scale), c.inputs[1])
    return [y if c.input(2) is None else c.meet("add", y, c.inputs[2]), mean, scale]


@operator("LRN")
def _lrn(c: Call) -> Tensor:
    array = c.x.stored(c.backend, channels_last(c.x.rank))
    y = c.backend.local_response_norm(
        array,
        size=c.needed("size"),
        alpha=c.get("alpha", 1e-4),
        beta=c.get("beta", 0.75),
        k=c.get("bias", 1.0),
    )
    return last(y, c.x.rank)


@operator("LpNormalization")
def _lp_norm(c: Call) -> Tensor:
    x, axis = c.x, axis_of(c.get("axis", -1), "axis", c.x.rank)
    at = x.order.index(axis)
    if c.get("p", 2) == 1:
        size = c.backend.reduce_sum(c.backend.abs(x.array), at, keepdims=True)
    else:
        squares = c.backend.multiply(x.array, x.array)
        size = c.backend.sqrt(c.backend.reduce_sum(squares, at, keepdims=True))
    length = Tensor(size, x.order)
    zero = c.meet("equal", length, np.zeros(1))  # of which all numbers stay 0
    return c.meet("divide", x, c.meet("add", length, zero))
