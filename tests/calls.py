"""A valid call of every op of the contract, of any size: what the tests vary, spoil and repeat.

`arguments(op, rng, dtype, ...)` returns the arguments by name, `run(backend, op, arguments)` the
results as a tuple. Ops and parameters come from the Protocol; an op without a builder here fails
`tests/test_contract.py`. `FUSED` are the fast backend's own ops, of which there are calls too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from branch_calls import BRANCHES
from choice_calls import CHOICES
from fused_calls import FUSED_BUILDERS
from loss_calls import LOSSES
from norm_calls import NORMS
from recurrent_calls import RECURRENT
from resampling_calls import RESAMPLING
from shape_calls import SHAPES
from step_calls import STEPS, softmax_of

from fastcnn._contract.activations import ROWS
from fastcnn.backend import Array, Backend
from fastcnn.program.ops import parameters_of

Arguments = dict[str, Any]

OPS = [name for name in dir(Backend) if not name.startswith("_")]
FUSED = list(FUSED_BUILDERS)

# Of single numbers, and what the backward op of each is given: x or y.
ACTIVATIONS = [op for op in ROWS if parameters_of(op).arrays == ("x",) and "softmax" not in op]
SAVED = {op: parameters_of(f"{op}_backward").arrays[1] for op in ACTIVATIONS}

# What an op writes to; every other argument of every op stays as it is.
UPDATED = {"sgd_step": ("w", "velocity"), "adam_step": ("w", "m", "v")}


def parameters(op: str) -> list[inspect.Parameter]:
    """Return the parameters that the contract declares for an op, without self."""
    return list(inspect.signature(getattr(Backend, op)).parameters.values())[1:]


def run(backend: Any, op: str, arguments: Arguments) -> tuple[Any, ...]:
    """Call an op; return its results as a tuple: for a step, copies of what it updated."""
    if op in UPDATED:
        arguments = {
            name: value.copy() if name in UPDATED[op] and _is_plain(value) else value
            for name, value in arguments.items()
        }
        result = getattr(backend, op)(**arguments)
        assert result is None
        return tuple(arguments[name] for name in UPDATED[op])
    result = getattr(backend, op)(**arguments)
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def each(change: Callable[[Array], Any], value: Any) -> Any:
    """Return a changed array, or a list with its arrays changed; another value as it is."""
    if isinstance(value, list):
        return [each(change, one) for one in value]
    return change(value) if isinstance(value, np.ndarray) else value


def _is_plain(value: Any) -> bool:
    """Whether a step may write to a value: another it must refuse, and not be given a copy of."""
    return type(value) is np.ndarray and value.flags.c_contiguous and value.flags.writeable


@dataclass
class Draw:
    """Random arrays of one dtype, for images of one size."""

    rng: np.random.Generator
    dtype: Any
    backend: Any
    images: int
    height: int
    width: int
    channels: int

    def normal(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape).astype(self.dtype)

    def uniform(self, *shape: int) -> Array:
        return self.rng.uniform(0.25, 2, shape).astype(self.dtype)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.images, self.height, self.width, self.channels

    @property
    def rows(self) -> int:
        return self.images * self.height


def _conv2d(draw: Draw) -> Arguments:
    filters = max(68 - draw.channels, 1)  # odd where the channels are even: all widths meet
    return {
        "x": draw.normal(*draw.shape),
        "w": draw.normal(3, 2, draw.channels, filters),
        "b": draw.normal(filters),
        "stride": (1, 2),
        "padding": ((1, 0), (1, 1)),
        "dilation": (2, 1),
        "groups": 1,
    }


def _conv2d_backward(draw: Draw) -> Arguments:
    arguments = _conv2d(draw)
    filters = len(arguments.pop("b"))
    n, h, w, _ = draw.shape
    return {
        "dy": draw.normal(n, h - 3, w // 2 + 1, filters),
        **arguments,
        "input_gradient": True,
        "weight_gradient": True,
    }


def _pool(draw: Draw) -> Arguments:
    apart = min(draw.width, 2)
    return {
        "pool_size": (2, 3),
        "stride": (2, 1),
        "padding": ((1, 1), (apart, apart)),
        "dilation": (1, apart),
        "ceil_mode": True,
    }


def _pooled(draw: Draw) -> tuple[int, int, int, int]:
    n, h, w, c = draw.shape
    return n, h // 2 + 1, w, c


def _max_pool2d(draw: Draw) -> Arguments:
    # Rounded, so that windows hold ties.
    return {"x": np.round(2 * draw.normal(*draw.shape)), **_pool(draw)}


def _max_pool2d_backward(draw: Draw) -> Arguments:
    forward = _max_pool2d(draw)
    _, argmax = draw.backend.max_pool2d(**forward)
    dy = draw.normal(*_pooled(draw))
    return {"dy": dy, "argmax": argmax, "x_shape": draw.shape, **_pool(draw)}


def _avg_pool2d(draw: Draw) -> Arguments:
    return {"x": draw.normal(*draw.shape), **_pool(draw), "count_include_pad": True}


def _avg_pool2d_backward(draw: Draw) -> Arguments:
    return {
        "dy": draw.normal(*_pooled(draw)),
        "x_shape": draw.shape,
        **_pool(draw),
        "count_include_pad": True,
    }


def _global_avg_pool2d(draw: Draw) -> Arguments:
    return {"x": draw.normal(*draw.shape)}


def _global_avg_pool2d_backward(draw: Draw) -> Arguments:
    return {"dy": draw.normal(draw.images, draw.channels), "x_shape": draw.shape}


def _normalized(draw: Draw) -> Arguments:
    c = draw.channels
    return {
        "x": 3 + 2 * draw.normal(*draw.shape),
        "gamma": draw.normal(c),
        "beta": draw.normal(c),
        "epsilon": 1e-3,
    }


def _batch_norm_inference(draw: Draw) -> Arguments:
    c = draw.channels
    return {**_normalized(draw), "mean": draw.normal(c), "variance": draw.uniform(c)}


def _batch_norm_inference_backward(draw: Draw) -> Arguments:
    arguments = _batch_norm_inference(draw)
    del arguments["beta"]
    return {"dy": draw.normal(*draw.shape), **arguments}


def _batch_norm_backward(draw: Draw) -> Arguments:
    arguments = _batch_norm_inference_backward(draw)
    axes = (0, 1, 2)
    arguments["mean"] = arguments["x"].mean(axes)
    arguments["variance"] = arguments["x"].var(axes)
    return arguments


def _linear(draw: Draw) -> Arguments:
    filters = max(68 - draw.channels, 1)
    return {
        "x": draw.normal(draw.rows, draw.channels),
        "w": draw.normal(draw.channels, filters),
        "b": draw.normal(filters),
    }


def _linear_backward(draw: Draw) -> Arguments:
    arguments = _linear(draw)
    filters = len(arguments.pop("b"))
    return {
        "dy": draw.normal(draw.rows, filters),
        **arguments,
        "input_gradient": True,
        "weight_gradient": True,
    }


def _one_input(draw: Draw) -> Arguments:
    return {"x": 3 * draw.normal(*draw.shape)}


def _gradient_of(saved: Callable[[Array], Array], name: str) -> Callable[[Draw], Arguments]:
    def build(draw: Draw) -> Arguments:
        values = saved(3 * draw.normal(*draw.shape)).astype(draw.dtype)
        return {"dy": draw.normal(*draw.shape), name: values}

    return build


def _with(build: Callable[[Draw], Arguments], **options: float) -> Callable[[Draw], Arguments]:
    return lambda draw: {**build(draw), **options}


def _itself(x: Array) -> Array:
    return x


def _gelu(draw: Draw) -> Arguments:
    return {**_one_input(draw), "approximate": bool(draw.rng.integers(2))}


def _dropout(draw: Draw) -> Arguments:
    mask = draw.rng.random(draw.shape) < 0.7
    return {"x": draw.normal(*draw.shape), "mask": mask, "rate": 0.3}


def _dropout_backward(draw: Draw) -> Arguments:
    arguments = _dropout(draw)
    return {"dy": arguments.pop("x"), **arguments}


BUILDERS: dict[str, Callable[[Draw], Arguments]] = {
    "conv2d": _conv2d,
    "conv2d_backward": _conv2d_backward,
    "max_pool2d": _max_pool2d,
    "max_pool2d_backward": _max_pool2d_backward,
    "avg_pool2d": _avg_pool2d,
    "avg_pool2d_backward": _avg_pool2d_backward,
    "global_avg_pool2d": _global_avg_pool2d,
    "global_avg_pool2d_backward": _global_avg_pool2d_backward,
    "batch_norm": _normalized,
    "batch_norm_backward": _batch_norm_backward,
    "batch_norm_inference": _batch_norm_inference,
    "batch_norm_inference_backward": _batch_norm_inference_backward,
    "linear": _linear,
    "linear_backward": _linear_backward,
    "relu": _one_input,
    "relu_backward": _gradient_of(lambda x: np.maximum(x, 0), "y"),
    "leaky_relu": _with(_one_input, negative_slope=0.25),
    "leaky_relu_backward": _with(_gradient_of(_itself, "x"), negative_slope=0.25),
    "clip": _with(_one_input, low=-1.25, high=2.5),
    "clip_backward": _with(_gradient_of(lambda x: x.clip(-1.25, 2.5), "y"), low=-1.25, high=2.5),
    "hard_sigmoid": _with(_one_input, alpha=0.3, beta=0.4),
    "hard_sigmoid_backward": _with(
        _gradient_of(lambda x: (0.3 * x + 0.4).clip(0, 1), "y"), alpha=0.3, beta=0.4
    ),
    "hard_swish": _one_input,
    "hard_swish_backward": _gradient_of(_itself, "x"),
    "elu": _with(_one_input, alpha=0.7),
    "elu_backward": _with(_gradient_of(_itself, "x"), alpha=0.7),
    "selu": _one_input,
    "selu_backward": _gradient_of(_itself, "x"),
    "celu": _with(_one_input, alpha=0.7),
    "celu_backward": _with(_gradient_of(_itself, "x"), alpha=0.7),
    "gelu": _gelu,
    "gelu_backward": lambda draw: {"dy": draw.normal(*draw.shape), **_gelu(draw)},
    "silu": _one_input,
    "silu_backward": _gradient_of(_itself, "x"),
    "mish": _one_input,
    "mish_backward": _gradient_of(_itself, "x"),
    "softplus": _one_input,
    "softplus_backward": _gradient_of(_itself, "x"),
    "sigmoid": _one_input,
    "sigmoid_backward": _gradient_of(lambda x: 1 / (1 + np.exp(-x)), "y"),
    "tanh": _one_input,
    "tanh_backward": _gradient_of(np.tanh, "y"),
    "softmax": _one_input,
    "softmax_backward": _gradient_of(softmax_of, "y"),
    "dropout": _dropout,
    "dropout_backward": _dropout_backward,
    **STEPS,
    **BRANCHES,
    **NORMS,
    **RESAMPLING,
    **SHAPES,
    **CHOICES,
    **LOSSES,
    **RECURRENT,
}


def arguments(
    op: str,
    rng: np.random.Generator,
    dtype: Any,
    backend: Any,
    *,
    images: int = 2,
    height: int = 5,
    width: int = 4,
    channels: int = 3,
) -> Arguments:
    """Return valid arguments of an op; `backend` finds the argmax that a backward op is given."""
    draw = Draw(rng, np.dtype(dtype), backend, images, height, width, channels)
    return (BUILDERS | FUSED_BUILDERS)[op](draw)
