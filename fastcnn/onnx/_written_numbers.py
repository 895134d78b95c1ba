"""Normalizations, functions of numbers, arithmetic and products, in an ONNX file."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from fastcnn.onnx._tensor import Tensor, meeting
from fastcnn.onnx._written import FIRST, Writing, written

__all__: list[str] = []


# ---------------------------------------------------------------------- normalization
@written("batch_norm_inference")
def _batch_norm(
    at: Writing,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
) -> Tensor:
    order = FIRST if x.rank == 4 else None
    vectors = [each.array for each in (gamma, beta, mean, variance)]
    given = [x.stored(at.emit, order), *vectors]
    return at.node("BatchNormalization", given, order, epsilon=epsilon)


@written("layer_norm")
def _layer_norm(
    at: Writing,
    x: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
) -> Tensor:
    array = x.stored(at.emit)
    shape = x.shape[axis:]
    scale = np.ones(shape, at.emit.dtype) if gamma is None else gamma.stored(at.emit)
    shift = None if beta is None else beta.stored(at.emit)
    if at.emit.opset >= 17:
        given = [array, scale, shift]
        return at.node("LayerNormalization", given, None, axis=axis, epsilon=epsilon)
    count = len(shape)
    axes = list(range(-count, 0))
    one = (*x.shape[: x.rank - count], *[1] * count)
    mean = at.step("ReduceMean", array, shape=one, axes=axes)
    centred = at.step("Sub", array, mean)
    squares = at.step("Mul", centred, centred)
    variance = at.step("ReduceMean", squares, shape=one, axes=axes)
    root = at.step("Sqrt", at.step("Add", variance, at.emit.number(epsilon)))
    y = at.step("Mul", at.step("Div", centred, root), scale)
    return Tensor(y if shift is None else at.step("Add", y, shift))


@written("group_norm")
def _group_norm(
    at: Writing,
    x: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    groups: int,
    epsilon: float = 1e-5,
) -> Tensor:
    """By InstanceNormalization of each group as one row: at every opset."""
    order = FIRST if x.rank == 4 else None
    array, emit = x.stored(at.emit, order), at.emit
    n, channels = array.shape[:2]
    whole = (n, groups, math.prod(array.shape[1:]) // groups)
    rows = at.step("Reshape", array, emit.integers(0, groups, -1), shape=whole)
    ones, zeros = np.ones(groups, emit.dtype), np.zeros(groups, emit.dtype)
    y = at.step("InstanceNormalization", rows, ones, zeros, epsilon=epsilon)
    sizes = at.step("Shape", array, shape=(x.rank,))
    y = at.step("Reshape", y, sizes, shape=array.shape)
    behind = [1] * (len(array.shape) - 2)
    for op, vector in (("Mul", gamma), ("Add", beta)):
        if vector is not None:
            y = at.step(op, y, emit.reshape(vector.array, (channels, *behind)))
    return Tensor(y, order)


@written("local_response_norm")
def _lrn(at: Writing, x: Tensor, **options: Any) -> Tensor:
    order, size = FIRST if x.rank == 4 else None, options.get("size", 5)
    if size % 2 and x.rank > 2:
        options["bias"] = options.pop("k", 1.0)
        return at.node("LRN", [x.stored(at.emit, order)], order, **{**options, "size": size})
    # ONNX Runtime has it of odd sizes and of images alone: a product with a band of ones.
    number, array = at.emit.number, x.stored(at.emit)
    offsets = np.subtract.outer(np.arange(x.shape[-1]), np.arange(x.shape[-1]))
    band = (-((size - 1) // 2) <= offsets) & (offsets <= size // 2)
    share = options.get("alpha", 1e-4) / size
    squares = at.step("MatMul", at.step("Mul", array, array), (band * share).astype(at.emit.dtype))
    below = at.step("Add", squares, number(options.get("k", 1.0)))
    return at.node("Div", [array, at.step("Pow", below, number(options.get("beta", 0.75)))], None)


# ---------------------------------------------------------------------- of single numbers
_SAME = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "selu": "Selu",
    "softplus": "Softplus",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "negative": "Neg",
    "reciprocal": "Reciprocal",
    "erf": "Erf",
    "round": "Round",
    "floor": "Floor",
    "ceil": "Ceil",
    "sign": "Sign",
}


def _function(op: str, at: Writing, x: Tensor, **options: Any) -> Tensor:
    return at.node(op, [x.array], x.order, **options)


for _ours, _theirs in _SAME.items():
    written(_ours)(partial(_function, _theirs))


@written("leaky_relu")
def _leaky_relu(at: Writing, x: Tensor, *, negative_slope: float = 0.01) -> Tensor:
    return _function("LeakyRelu", at, x, alpha=negative_slope)


@written("elu")
def _elu(at: Writing, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return _function("Elu", at, x, alpha=alpha)


@written("celu")
def _celu(at: Writing, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return _function("Celu", at, x, alpha=alpha)


@written("hard_sigmoid")
def _hard_sigmoid(at: Writing, x: Tensor, *, alpha: float = 1 / 6, beta: float = 0.5) -> Tensor:
    return _function("HardSigmoid", at, x, alpha=alpha, beta=beta)


@written("clip")
def _clip(at: Writing, x: Tensor, *, low: float | None = None, high: float | None = None) -> Tensor:
    bounds = [None if each is None else at.emit.number(each) for each in (low, high)]
    return at.node("Clip", [x.array, *bounds], x.order)


@written("silu")
def _silu(at: Writing, x: Tensor) -> Tensor:
    return at.node("Mul", [x.array, at.step("Sigmoid", x.array)], x.order)


@written("hard_swish")
def _hard_swish(at: Writing, x: Tensor) -> Tensor:
    if at.emit.opset >= 14:
        return _function("HardSwish", at, x)
    gate = at.step("HardSigmoid", x.array, alpha=1 / 6, beta=0.5)
    return at.node("Mul", [x.array, gate], x.order)


@written("mish")
def _mish(at: Writing, x: Tensor) -> Tensor:
    if at.emit.opset >= 18:
        return _function("Mish", at, x)
    gate = at.step("Tanh", at.step("Softplus", x.array))
    return at.node("Mul", [x.array, gate], x.order)


@written("gelu")
def _gelu(at: Writing, x: Tensor, *, approximate: bool = False) -> Tensor:
    if at.emit.opset >= 20:
        return _function("Gelu", at, x, approximate="tanh" if approximate else "none")
    number = at.emit.number
    if approximate:
        cube = at.step("Mul", at.step("Mul", x.array, x.array), x.array)
        inner = at.step("Add", x.array, at.step("Mul", cube, number(0.044715)))
        gate = at.step("Tanh", at.step("Mul", inner, number(math.sqrt(2 / math.pi))))
    else:
        gate = at.step("Erf", at.step("Mul", x.array, number(math.sqrt(0.5))))
    half = at.step("Mul", x.array, number(0.5))
    return at.node("Mul", [half, at.step("Add", gate, number(1.0))], x.order)


def _softmax(op: str, at: Writing, x: Tensor) -> Tensor:
    return _function(op, at, x, axis=x.order.index(x.rank - 1))


written("softmax")(partial(_softmax, "Softmax"))
written("log_softmax")(partial(_softmax, "LogSoftmax"))


# ---------------------------------------------------------------------- numbers that meet
_MEETING = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "maximum": "Max",
    "minimum": "Min",
    "power": "Pow",
    "prelu": "PRelu",
}


def _meeting(op: str, at: Writing, **values: Tensor) -> Tensor:
    arrays, order = meeting(at.emit, at.emit.dtype, *values.values())
    return at.node(op, arrays, order)


for _ours, _theirs in _MEETING.items():
    written(_ours)(partial(_meeting, _theirs))


@written("linear")
def _linear(at: Writing, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    given = [x.stored(at.emit), w.stored(at.emit), b and b.array]
    return at.node("Gemm", given, None)


@written("matmul")
def _matmul(at: Writing, a: Tensor, b: Tensor) -> Tensor:
    return at.node("MatMul", [a.stored(at.emit), b.stored(at.emit)], None)


@written("concat")
def _concat(at: Writing, xs: list[Tensor], *, axis: int = -1) -> Tensor:
    order = max(xs, key=lambda each: math.prod(each.shape)).order
    arrays = [each.stored(at.emit, order) for each in xs]
    return at.node("Concat", arrays, order, axis=order.index(axis % len(order)))
