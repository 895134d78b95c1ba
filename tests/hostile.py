"""Calls of every op that work, and what their refusal must look like once made wrong.

The error is a TypeError or a ValueError with one clear sentence that names the op and the
argument.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

F4, F8, I8 = np.float32, np.float64, np.int64
HUGE = 2**62
STATE = np.ones(3, F4)


def ones(*shape: int, dtype: Any = F4) -> np.ndarray:
    return np.ones(shape, dtype)


IMAGES, ROWS = ones(2, 6, 6, 4), ones(3, 4)
SQUARE = ones(2, 3, 3, 4)
PLACES = np.zeros((2, 3, 3, 4), np.uint8)
LABELS = np.array([0, 3, 1])
CALLS: dict[str, dict[str, Any]] = {
    "conv2d": {"x": IMAGES, "w": ones(3, 3, 2, 6), "b": ones(6), "groups": 2},
    "conv2d_backward": {
        "dy": ones(2, 4, 4, 6),
        "x": IMAGES,
        "w": ones(3, 3, 2, 6),
        "groups": 2,
    },
    "conv2d_transpose": {"x": IMAGES, "w": ones(3, 3, 3, 4), "b": ones(6), "groups": 2},
    "conv2d_transpose_backward": {
        "dy": ones(2, 8, 8, 6),
        "x": IMAGES,
        "w": ones(3, 3, 3, 4),
        "groups": 2,
    },
    "max_pool2d": {"x": IMAGES},
    "max_pool2d_backward": {"dy": SQUARE, "argmax": PLACES, "x_shape": IMAGES.shape},
    "avg_pool2d": {"x": IMAGES},
    "avg_pool2d_backward": {"dy": SQUARE, "x_shape": IMAGES.shape},
    "global_avg_pool2d": {"x": IMAGES},
    "global_avg_pool2d_backward": {"dy": ones(2, 4), "x_shape": IMAGES.shape},
    "batch_norm": {"x": IMAGES, "gamma": ones(4), "beta": ones(4)},
    "batch_norm_backward": {
        "dy": IMAGES,
        "x": IMAGES,
        "gamma": ones(4),
        "mean": ones(4),
        "variance": ones(4),
    },
    "batch_norm_inference": {
        "x": IMAGES,
        "gamma": ones(4),
        "beta": ones(4),
        "mean": ones(4),
        "variance": ones(4),
    },
    "batch_norm_inference_backward": {
        "dy": IMAGES,
        "x": IMAGES,
        "gamma": ones(4),
        "mean": ones(4),
        "variance": ones(4),
    },
    "layer_norm": {"x": IMAGES, "gamma": ones(4), "beta": ones(4)},
    "layer_norm_backward": {"dy": IMAGES, "x": IMAGES, "gamma": ones(4)},
    "group_norm": {"x": IMAGES, "gamma": ones(4), "beta": ones(4), "groups": 2},
    "group_norm_backward": {"dy": IMAGES, "x": IMAGES, "gamma": ones(4), "groups": 2},
    "local_response_norm": {"x": IMAGES},
    "local_response_norm_backward": {"dy": IMAGES, "x": IMAGES},
    "add": {"a": IMAGES, "b": ones(4)},
    "add_backward": {"dy": IMAGES, "a_shape": IMAGES.shape, "b_shape": (4,)},
    "multiply": {"a": IMAGES, "b": ones(2, 1, 1, 4)},
    "multiply_backward": {"dy": IMAGES, "a": IMAGES, "b": ones(2, 1, 1, 4)},
    "prelu": {"x": IMAGES, "slope": ones(4)},
    "prelu_backward": {"dy": IMAGES, "x": IMAGES, "slope": ones(4)},
    "concat": {"xs": [IMAGES, IMAGES]},
    "concat_backward": {"dy": IMAGES, "shapes": [(2, 6, 6, 1), (2, 6, 6, 3)]},
    "upsample2d": {"x": IMAGES, "factor": 2, "method": "bilinear"},
    "upsample2d_backward": {"dy": IMAGES, "x_shape": (2, 3, 2, 4), "factor": (2, 3)},
    "adaptive_avg_pool2d": {"x": IMAGES, "output_size": (2, 4)},
    "adaptive_avg_pool2d_backward": {"dy": IMAGES, "x_shape": (2, 3, 9, 4), "output_size": 6},
    "resize2d": {"x": IMAGES, "size": (4, 9), "method": "bilinear"},
    "resize2d_backward": {"dy": IMAGES, "x_shape": (2, 3, 2, 4), "size": 6},
    "lstm": {
        "x": ones(3, 5, 4),
        "w": ones(4, 8),
        "r": ones(2, 8),
        "b": ones(8),
        "h0": ones(3, 2),
        "c0": ones(3, 2),
    },
    "linear": {"x": ROWS, "w": ones(4, 5), "b": ones(5)},
    "linear_backward": {"dy": ones(3, 5), "x": ROWS, "w": ones(4, 5)},
    "dropout": {"x": ROWS, "mask": ROWS > 0, "rate": 0.5},
    "dropout_backward": {"dy": ROWS, "mask": ROWS > 0, "rate": 0.5},
    "softmax_cross_entropy": {
        "logits": ROWS,
        "labels": LABELS,
        "class_weights": ones(4),
        "sample_weights": ones(3),
    },
    "softmax_cross_entropy_backward": {
        "dloss": 1.0,
        "probabilities": ROWS,
        "labels": LABELS,
        "class_weights": ones(4),
        "sample_weights": ones(3),
    },
    "mean_squared_error": {"prediction": ROWS, "target": ROWS},
    "mean_squared_error_backward": {"dloss": 1.0, "prediction": ROWS, "target": ROWS},
    "mean_absolute_error": {"prediction": ROWS, "target": ROWS, "sample_weights": ones(3)},
    "mean_absolute_error_backward": {
        "dloss": 1.0,
        "prediction": ROWS,
        "target": ROWS,
        "sample_weights": ones(3),
    },
    "huber": {"prediction": ROWS, "target": ROWS, "delta": 1.0, "sample_weights": ones(3)},
    "huber_backward": {
        "dloss": 1.0,
        "prediction": ROWS,
        "target": ROWS,
        "delta": 1.0,
        "sample_weights": ones(3),
    },
    "binary_cross_entropy": {"logits": ROWS, "target": ROWS, "sample_weights": ones(3)},
    "binary_cross_entropy_backward": {
        "dloss": 1.0,
        "logits": ROWS,
        "target": ROWS,
        "sample_weights": ones(3),
    },
    "focal": {"logits": ROWS, "target": ROWS, "gamma": 2.0, "sample_weights": ones(3)},
    "focal_backward": {
        "dloss": 1.0,
        "logits": ROWS,
        "target": ROWS,
        "gamma": 2.0,
        "sample_weights": ones(3),
    },
    "dice": {"logits": ROWS, "target": ROWS, "smooth": 1.0, "sample_weights": ones(3)},
    "dice_backward": {
        "dloss": 1.0,
        "probabilities": ROWS,
        "target": ROWS,
        "smooth": 1.0,
        "sample_weights": ones(3),
    },
    "sgd_step": {
        "w": STATE,
        "dw": STATE,
        "velocity": STATE,
        "learning_rate": 0.1,
        "momentum": 0.9,
    },
    "adam_step": {
        "w": STATE,
        "dw": STATE,
        "m": STATE,
        "v": STATE,
        "step": 1,
        "learning_rate": 0.1,
    },
    "softmax": {"x": ROWS},
    "softmax_backward": {"dy": ROWS, "y": ROWS},
}
for _saved, _ops in {
    "x": "leaky_relu hard_swish elu selu celu gelu silu mish softplus",
    "y": "relu clip hard_sigmoid sigmoid tanh",
}.items():
    for _op in _ops.split():
        CALLS |= {_op: {"x": ROWS}, f"{_op}_backward": {"dy": ROWS, _saved: ROWS}}

CALLS |= {
    "reshape": {"x": IMAGES, "shape": (2, -1)},
    "reshape_backward": {"dy": ROWS, "x_shape": (12,)},
    "transpose": {"x": IMAGES, "axes": (0, 3, 1, 2)},
    "transpose_backward": {"dy": IMAGES, "axes": (0, 3, 1, 2)},
    "expand": {"x": ones(6, 1), "shape": (2, 1, 4)},
    "expand_backward": {"dy": ones(2, 6, 4), "x_shape": (6, 1), "shape": (2, 1, 4)},
    "pad": {"x": ROWS, "widths": ((0, 1), (2, 2)), "mode": "reflect"},
    "pad_backward": {"dy": ones(4, 8), "x_shape": (3, 4), "widths": ((0, 1), (2, 2))},
    "strided_slice": {"x": ROWS, "starts": (1, 0), "stops": (3, None)},
    "strided_slice_backward": {
        "dy": ones(2, 4),
        "x_shape": (3, 4),
        "starts": (1, 0),
        "stops": (3, None),
    },
    "take": {"x": ROWS, "indices": (3, 0)},
    "take_backward": {"dy": ones(3, 2), "x_shape": (3, 4), "indices": (3, 0)},
    "depth_to_space": {"x": IMAGES, "block": 2},
    "depth_to_space_backward": {"dy": IMAGES, "block": 2},
    "space_to_depth": {"x": IMAGES, "block": 2},
    "space_to_depth_backward": {"dy": IMAGES, "block": 2},
    "subtract": {"a": IMAGES, "b": ones(4)},
    "subtract_backward": {"dy": IMAGES, "a_shape": IMAGES.shape, "b_shape": (4,)},
    "matmul": {"a": ones(2, 3, 4), "b": ones(4, 5)},
    "matmul_backward": {"dy": ones(2, 3, 5), "a": ones(2, 3, 4), "b": ones(4, 5)},
    "log_softmax": {"x": ROWS},
    "log_softmax_backward": {"dy": ROWS, "y": ROWS},
    "negative": {"x": ROWS},
    "negative_backward": {"dy": ROWS},
}
for _op in ("reduce_sum", "reduce_mean"):
    CALLS |= {_op: {"x": ROWS, "axis": 1}}
    CALLS |= {f"{_op}_backward": {"dy": ones(3), "x_shape": (3, 4), "axis": 1}}
for _op in ("reduce_max", "reduce_min"):
    CALLS |= {_op: {"x": ROWS, "axis": 1}, f"{_op}_backward": {"dy": ones(3), "x": ROWS, "axis": 1}}
for _op in ("divide", "power", "maximum", "minimum"):
    CALLS |= {_op: {"a": IMAGES, "b": ones(4)}}
    CALLS |= {f"{_op}_backward": {"dy": IMAGES, "a": IMAGES, "b": ones(4)}}
for _op, _saved in {"exp": "y", "log": "x", "sqrt": "y", "abs": "x"}.items():
    CALLS |= {_op: {"x": ROWS}, f"{_op}_backward": {"dy": ROWS, _saved: ROWS}}
for _op, _saved in {"reciprocal": "y", "erf": "x"}.items():
    CALLS |= {_op: {"x": ROWS}, f"{_op}_backward": {"dy": ROWS, _saved: ROWS}}

for _op in ("equal", "less"):
    CALLS |= {_op: {"a": IMAGES, "b": ones(4)}}
for _op in ("floor", "ceil", "round", "sign"):
    CALLS |= {_op: {"x": ROWS}}
CALLS |= {
    "where": {"condition": IMAGES, "a": ones(4), "b": IMAGES},
    "where_backward": {
        "dy": IMAGES,
        "condition": IMAGES,
        "a_shape": IMAGES.shape,
        "b_shape": (4,),
    },
}

TRANSPOSED = ("conv2d_transpose", "conv2d_transpose_backward")
CONVS = tuple(op for op in CALLS if op.startswith("conv") and op not in TRANSPOSED)
POOLS = ("max_pool2d", "max_pool2d_backward", "avg_pool2d", "avg_pool2d_backward")
NORMS = tuple(op for op in CALLS if op.startswith(("batch_norm", "layer_norm", "group_norm")))
BROADCAST = ("add", "multiply", "multiply_backward", "subtract", "divide", "divide_backward")
BROADCAST += ("power", "power_backward", "maximum", "maximum_backward")
BROADCAST += ("minimum", "minimum_backward", "equal", "less", "where", "where_backward")
# Whose options say what shape fits, and are named with it.
OF_OPTIONS = ("pad", "take", "strided_slice", "reshape", "transpose", "expand")
OF_OPTIONS += ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "matmul")
BROADCAST += ("prelu", "prelu_backward")
LOSSES = ("softmax_cross_entropy", "softmax_cross_entropy_backward")
STEPS = ("sgd_step", "adam_step")


def call(backend: Any, op: str, **changes: Any) -> Any:
    arguments = CALLS[op] | changes
    if op in STEPS:  # their arrays are written to
        arguments = {
            name: value.copy() if value is STATE else value for name, value in arguments.items()
        }
    return getattr(backend, op)(**arguments)


def refuses(backend: Any, error: Any, op: str, names: str, **changes: Any) -> None:
    """Check that the call raises `error` with a message like "op: name: ..."; names: "x|w"."""
    with pytest.raises(error) as caught:
        call(backend, op, **changes)
    assert caught.type in (TypeError, ValueError)
    message = str(caught.value)
    assert re.match(rf"{op}: .*\b({names})\b", message), message
    assert "\n" not in message
