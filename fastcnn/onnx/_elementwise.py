"""Activations, functions of single numbers and arithmetic, as ONNX has them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from fastcnn._shapes import axis_of
from fastcnn.onnx._call import Call, operator
from fastcnn.onnx._tensor import Tensor, expanded, meeting, tensor_of

__all__: list[str] = []

_PLAIN = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "HardSwish": "hard_swish",
    "Mish": "mish",
    "Softplus": "softplus",
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
    "Abs": "abs",
    "Neg": "negative",
    "Reciprocal": "reciprocal",
    "Erf": "erf",
}
for _name, _op in _PLAIN.items():
    operator(_name)(partial(lambda op, c: c.apply(op), _op))

_ARITHMETIC = {
    "Add": "add",
    "Sum": "add",
    "Sub": "subtract",
    "Mul": "multiply",
    "Div": "divide",
    "Max": "maximum",
    "Min": "minimum",
    "Pow": "power",
    "PRelu": "prelu",
}


@operator(*_ARITHMETIC)
def _arithmetic(c: Call) -> Tensor:
    if c.opset < 7 and c.get("broadcast", 0):
        c.inputs[1] = _stretched(c)
    return c.meet(_ARITHMETIC[c.op])


def _stretched(c: Call) -> Any:
    """Return what opset 6 calls b: its axes meet those of a from `axis` on."""
    b = c.tensor(1)
    lead = c.get("axis", c.x.rank - b.rank)
    behind = c.x.rank - lead - b.rank
    return b.reshaped(c.backend, (*b.shape, *[1] * behind))


@operator("Mean")
def _mean(c: Call) -> Tensor:
    total = c.meet("add")
    return Tensor(
        c.backend.multiply(total.array, np.full(1, 1 / len(c.inputs), c.dtype)), total.order
    )


@operator("LeakyRelu")
def _leaky_relu(c: Call) -> Tensor:
    return c.apply("leaky_relu", negative_slope=c.get("alpha", 0.01))


@operator("Elu")
def _elu(c: Call) -> Tensor:
    return c.apply("elu", alpha=c.get("alpha", 1.0))


@operator("Celu")
def _celu(c: Call) -> Tensor:
    return c.apply("celu", alpha=c.get("alpha", 1.0))


@operator("Selu")
def _selu(c: Call) -> Tensor:
    alpha, gamma = c.get("alpha", 1.6732632), c.get("gamma", 1.0507010)
    if abs(alpha - 1.6732632423543772) < 1e-5 and abs(gamma - 1.0507009873554805) < 1e-5:
        return c.apply("selu")
    y = c.apply("elu", alpha=alpha)
    return Tensor(c.backend.multiply(y.array, np.full(1, gamma, c.dtype)), y.order)


@operator("Gelu")
def _gelu(c: Call) -> Tensor:
    if c.get("approximate", "none") == "tanh":
        return c.apply("gelu", approximate=True)
    return c.apply("gelu")


@operator("HardSigmoid")
def _hard_sigmoid(c: Call) -> Tensor:
    return c.apply("hard_sigmoid", alpha=c.get("alpha", 0.2), beta=c.get("beta", 0.5))


@operator("Softsign")
def _softsign(c: Call) -> Tensor:
    """Return x / (1 + |x|)."""
    below = c.backend.add(c.backend.abs(c.x.array), np.ones(1, c.dtype))
    return Tensor(c.backend.divide(c.x.array, below), c.x.order)


@operator("Clip")
def _clip(c: Call) -> Tensor:
    low, high = c.number("min", 1), c.number("max", 2)
    options: dict[str, Any] = {
        name: float(value)
        for name, value in (("low", low), ("high", high))
        if value is not None and math.isfinite(value) and abs(value) < 3.4e38
    }
    return c.apply("clip", **options) if options else c.x


@operator("Softmax", "LogSoftmax")
def _softmax(c: Call) -> Tensor:
    """Over one axis from opset 13 on, before over all axes from one on, as if they were one."""
    x, axis = c.x, c.get("axis", -1 if c.opset >= 13 else 1)
    axis = axis_of(axis, "axis", x.rank)
    before = x
    if c.opset < 13 and math.prod(x.shape[axis:]) != x.shape[axis]:
        x = x.reshaped(c.backend, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
        axis = 1
    order = (*(each for each in x.order if each != axis), axis)
    array = c.backend.softmax(x.stored(c.backend, order))
    if c.op == "LogSoftmax":
        array = c.backend.log(array)
    y = Tensor(array, order)
    return y if x is before else y.reshaped(c.backend, before.shape)


@operator("Dropout")
def _dropout(c: Call) -> Any:
    """In training by its ratio, else what it is given, and a mask of ones."""
    ratio = float(c.number("ratio", 1, 0.5))
    if not c.training or ratio == 0:
        return [c.x, np.broadcast_to(np.True_, c.x.shape)] if c.results > 1 else c.x
    if c.results > 1:
        raise ValueError("expected nobody to read its mask in training, got an operator that does")
    mask = c.backend.mask(c.x.array.shape, ratio)
    return Tensor(c.backend.dropout(c.x.array, mask, rate=ratio), c.x.order)


@operator("Identity", "Cast", "CastLike")
def _identity(c: Call) -> Any:
    """Numbers that are computed are floats of one width, whatever a file casts them to."""
    return c.inputs[0]


@operator("Floor", "Ceil", "Round", "Sign")
def _step(c: Call) -> Tensor:
    return c.apply(c.op.lower())


@operator("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")
def _compare(c: Call) -> Tensor:
    """Return 1 where it holds, else 0; floats stand for truth values."""
    a, b = c.inputs
    if c.op == "Equal":
        return c.meet("equal", a, b)
    strict = c.op in ("Less", "Greater")
    if c.op in ("Greater", "GreaterOrEqual"):
        a, b = b, a
    below = c.meet("less", a, b)
    return below if strict else c.meet("maximum", below, c.meet("equal", a, b))


@operator("And", "Or", "Not")
def _logic(c: Call) -> Tensor:
    if c.op == "Not":
        return c.meet("equal", c.x, np.zeros(1))
    return c.meet("minimum" if c.op == "And" else "maximum")


@operator("ThresholdedRelu")
def _thresholded(c: Call) -> Tensor:
    """Return x where it is more than alpha, else 0."""
    above = c.meet("less", np.full(1, c.get("alpha", 1.0)), c.x)
    return _picked(c, above, c.x, np.zeros(1))


def _picked(c: Call, *values: Any) -> Tensor:
    arrays, order = meeting(c.backend, c.dtype, *values)
    return Tensor(c.backend.where(*arrays), order)


@operator("Where")
def _where(c: Call) -> Tensor:
    condition, a, b = c.inputs
    if isinstance(condition, Tensor):
        return _picked(c, condition, a, b)
    condition = np.asarray(condition, np.bool_)
    if condition.all():
        return _expanded(c, a, condition)
    if not condition.any():
        return _expanded(c, b, condition)
    return _picked(c, condition, a, b)


def _expanded(c: Call, value: Any, condition: Any) -> Tensor:
    others = [each for each in c.inputs if each is not value]
    tensor = tensor_of(value, c.dtype)
    shape = np.broadcast_shapes(tensor.shape, *(tensor_of(x, c.dtype).shape for x in others))
    return expanded(c.backend, tensor, shape)
