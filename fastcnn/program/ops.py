"""The table of ops: what each gives, and what its backward op gives.

The rest is read from signatures, those of the contract, `fastcnn.backend.Backend`. An op's
parameters that are arrays come first, then its options. The backward op of `f` is `f_backward`, and
the names of its parameters say what each is: "dy" the gradient of f's first result, the name of an
argument, result or option of f that one, "x_shape" the shape of f's x, "shapes" those of a list,
"dloss" 1, "input_gradient" and "weight_gradient" whether anybody needs these, "more" the gradient
of the first argument that it adds its own to.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastcnn._options import argmax_dtype, output_size, pads_of, pair, transposed_size
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._norm import running_statistics

__all__ = [
    "FUSED",
    "OPS",
    "Op",
    "backward_name",
    "method_of",
    "parameters_of",
    "result_dtype",
]


class Op(NamedTuple):
    """A row: what an op gives.

    results: their names; the first is what the next op sees. gradients: the arguments that have
    one, in the order in which the backward op returns them. shapes: a function of the arguments'
    shapes (None for an argument that is not given) and the options, which returns one shape a
    result; None for an op that only fusion makes. run: what computes an op that no backend has, as
    NumPy's reshape.
    """

    results: tuple[str, ...]
    gradients: tuple[str, ...]
    shapes: Callable[..., Sequence[Shape]] | None
    run: Callable[..., Any] | None = None


# ---------------------------------------------------------------------- shapes
def _same(x: Shape, *others: Shape | None, **options: Any) -> Sequence[Shape]:
    return (x,)


def _conv2d(x: Shape, w: Shape, b: Shape | None = None, **options: Any) -> Sequence[Shape]:
    strides, dilations = pair(options.get("stride", 1)), pair(options.get("dilation", 1))
    pads = pads_of(options.get("padding", 0), x[1:3], w[:2], strides, dilations)
    size = output_size(x[1:3], "conv2d", w[:2], strides, pads, dilations)
    if w[2] * options.get("groups", 1) != x[3] or b not in (None, w[3:]):
        raise ValueError(f"conv2d: expected filters for the {x[3]} channels of x, got {w}, {b}")
    return ((x[0], *size, w[3]),)


def _conv2d_transpose(x: Shape, w: Shape, b: Shape | None = None, **options: Any) -> Any:
    strides, extra = pair(options.get("stride", 1)), pair(options.get("output_padding", 0))
    padding = options.get("padding", 0)
    size = transposed_size(x[1:3], "conv2d_transpose", padding, w[:2], strides, extra)
    return ((x[0], *size, w[2] * options.get("groups", 1)),)


def _pool2d(x: Shape, pool_size: Any = 2, **options: Any) -> Shape:
    stride, window = options.get("stride"), pair(pool_size)
    strides = window if stride is None else pair(stride)
    pads = pads_of(options.get("padding", 0), x[1:3], window, strides)
    ceil_mode = options.get("ceil_mode", False)
    size = output_size(x[1:3], "pool2d", window, strides, pads, ceil_mode=ceil_mode)
    return (x[0], *size, x[3])


def _max_pool2d(x: Shape, **options: Any) -> Sequence[Shape]:
    y = _pool2d(x, **options)
    return y, y


def _batch_norm(x: Shape, gamma: Shape, beta: Shape, **options: Any) -> Sequence[Shape]:
    if not gamma == beta == x[-1:]:
        raise ValueError(
            f"batch_norm: expected gamma and beta of shape {x[-1:]}, got {gamma}, {beta}"
        )
    return x, gamma, gamma


def _linear(x: Shape, w: Shape, b: Shape | None = None, **options: Any) -> Sequence[Shape]:
    if len(x) != 2 or x[1] != w[0] or b not in (None, w[1:]):
        raise ValueError(f"linear: expected x of shape (N, {w[0]}), got {x}, {b}")
    return ((x[0], w[1]),)


def _add(a: Shape, b: Shape, **options: Any) -> Sequence[Shape]:
    return (np.broadcast_shapes(a, b),)


def _concat(xs: Sequence[Shape], axis: int = -1) -> Sequence[Shape]:
    first, at = xs[0], axis % len(xs[0])
    return ((*first[:at], sum(x[at] for x in xs), *first[at + 1 :]),)


def _upsample2d(x: Shape, factor: Any = 2, **options: Any) -> Sequence[Shape]:
    rows, columns = pair(factor)
    return ((x[0], x[1] * rows, x[2] * columns, x[3]),)


def _reshape(x: Shape, shape: Shape) -> Sequence[Shape]:
    if math.prod(x) != math.prod(shape):
        raise ValueError(f"reshape: expected a shape of {math.prod(x)} numbers, got {shape}")
    return (shape,)


# ---------------------------------------------------------------------- NumPy's
def _run_reshape(x: Array, *, shape: Shape) -> Array:
    return x.reshape(shape)


def _run_reshape_backward(dy: Array, x_shape: Shape) -> Array:
    return dy.reshape(x_shape)


def _run_dropout_mask(rng: np.random.Generator, *, shape: Shape, rate: float) -> Array:
    """Return which values stay."""
    return rng.random(shape, dtype=np.float32) >= rate


# ---------------------------------------------------------------------- the table
_ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "hard_swish", "sigmoid", "tanh")

OPS = {
    "conv2d": Op(("y",), ("x", "w", "b"), _conv2d),
    "conv2d_transpose": Op(("y",), ("x", "w", "b"), _conv2d_transpose),
    "max_pool2d": Op(("y", "argmax"), ("x",), _max_pool2d),
    "avg_pool2d": Op(("y",), ("x",), lambda x, **options: (_pool2d(x, **options),)),
    "global_avg_pool2d": Op(("y",), ("x",), lambda x: ((x[0], x[3]),)),
    "batch_norm": Op(("y", "mean", "variance"), ("x", "gamma", "beta"), _batch_norm),
    "batch_norm_inference": Op(("y",), ("x", "gamma", "beta"), _same),
    "linear": Op(("y",), ("x", "w", "b"), _linear),
    **dict.fromkeys((*_ACTIVATIONS, "softmax", "dropout"), Op(("y",), ("x",), _same)),
    "add": Op(("y",), ("a", "b"), _add),
    "multiply": Op(("y",), ("a", "b"), _add),
    "concat": Op(("y",), ("xs",), _concat),
    "upsample2d": Op(("y",), ("x",), _upsample2d),
    "softmax_cross_entropy": Op(
        ("loss", "probabilities"), ("logits",), lambda logits, *others, **options: ((), logits)
    ),
    "mean_squared_error": Op(("loss",), ("prediction",), lambda *arrays, **options: ((),)),
    "reshape": Op(("y",), ("x",), _reshape, _run_reshape),
    "reshape_backward": Op(("dx",), (), lambda dy, x_shape: (x_shape,), _run_reshape_backward),
    "dropout_mask": Op(("mask",), (), lambda shape, **options: (shape,), _run_dropout_mask),
    "running_statistics": Op(
        ("mean", "variance"),
        (),
        lambda running_mean, running_variance, **others: (running_mean, running_variance),
        running_statistics,
    ),
}


# Ops that fusion makes, and their backward ops: methods of the fast backend, see method_of. They
# are entered, here and in OPS, when fastcnn.fast._fusions is imported.
FUSED: dict[str, Callable[..., Any]] = {}


def method_of(backend: Any, op: str) -> Any:
    """Return what computes an op."""
    return getattr(backend, _method_name(op))


@cache
def _method_name(op: str) -> str:
    """Return an op's name as a backend's method; what is not in the contract is private to it."""
    return op if hasattr(Backend, op) else f"_{op}"


class Parameters(NamedTuple):
    """The names of the arrays that an op takes, and its options with their defaults."""

    arrays: tuple[str, ...]
    options: dict[str, Any]
    names: tuple[str, ...]  # of both


@cache
def parameters_of(op: str) -> Parameters:
    """Return what an op takes, but for the `rng` that a plan hands to an op of NumPy's."""
    row = OPS.get(op)
    if row is not None and row.run is not None:
        function: Any = row.run
    else:
        function = FUSED.get(op) or getattr(Backend, op, None)
        if function is None:  # what a plan alone knows
            return Parameters((), {}, ())
    arrays: list[str] = []
    options: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if "Array" in str(parameter.annotation):
            arrays.append(name)
        elif name not in ("self", "rng"):
            options[name] = parameter.default
    return Parameters(tuple(arrays), options, (*arrays, *options))


def backward_name(op: str) -> str:
    """Return the name of an op's backward op."""
    return f"{op}_backward"


def result_dtype(op: str, result: str, dtype: np.dtype[Any], options: dict[str, Any]) -> Any:
    """Return the dtype of an op's result, for arguments of that dtype."""
    if result == "argmax":
        return argmax_dtype(pair(options.get("pool_size", 2)))
    return np.dtype(np.bool_) if result == "mask" else dtype
