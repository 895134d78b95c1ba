"""The reference backend: every op of a convolutional network as loops a person can check.

It is the oracle: slow, and right. What a loop adds up is written out, one op a file, backward
directly below forward; the numbers are worked out in float64 and rounded once. It imports NumPy
and the standard library alone, checks its own arguments and computes its own output shapes, and
it can do everything that the fast backend can, training included.
"""

from __future__ import annotations

from .activations import (
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    hard_swish,
    hard_swish_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    tanh,
    tanh_backward,
)
from .adaptive_avg_pool2d import adaptive_avg_pool2d, adaptive_avg_pool2d_backward
from .add import add, add_backward
from .batch_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    batch_norm_inference_backward,
)
from .concat import concat, concat_backward
from .conv2d import conv2d, conv2d_backward
from .conv2d_transpose import conv2d_transpose, conv2d_transpose_backward
from .dropout import dropout, dropout_backward
from .linear import linear, linear_backward
from .lstm import lstm
from .mean_squared_error import mean_squared_error, mean_squared_error_backward
from .multiply import multiply, multiply_backward
from .optimizer import adam_step, sgd_step
from .pool2d import (
    avg_pool2d,
    avg_pool2d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
)
from .resize2d import resize2d, resize2d_backward
from .softmax import softmax, softmax_backward
from .softmax_cross_entropy import softmax_cross_entropy, softmax_cross_entropy_backward
from .upsample2d import upsample2d, upsample2d_backward

__all__ = [
    "adam_step",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "add",
    "add_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "batch_norm_inference_backward",
    "concat",
    "concat_backward",
    "conv2d",
    "conv2d_backward",
    "conv2d_transpose",
    "conv2d_transpose_backward",
    "dropout",
    "dropout_backward",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "hard_swish",
    "hard_swish_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "lstm",
    "max_pool2d",
    "max_pool2d_backward",
    "mean_squared_error",
    "mean_squared_error_backward",
    "multiply",
    "multiply_backward",
    "name",
    "relu",
    "relu_backward",
    "resize2d",
    "resize2d_backward",
    "sgd_step",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "tanh",
    "tanh_backward",
    "upsample2d",
    "upsample2d_backward",
]

name = "reference"
