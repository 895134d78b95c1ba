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
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastcnn._contract import ROWS, Op
from fastcnn._options import argmax_dtype, pair
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


# ---------------------------------------------------------------------- NumPy's
def _run_dropout_mask(rng: np.random.Generator, *, shape: Shape, rate: float) -> Array:
    """Return which values stay."""
    return rng.random(shape, dtype=np.float32) >= rate


OPS = {
    **ROWS,
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
