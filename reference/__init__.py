"""The reference backend: every op of a convolutional network as loops a person can check.

It is the oracle: slow, and right. What a loop adds up is written out, one op a file, backward
directly below forward; the numbers are worked out in float64 and rounded once. It imports NumPy
and the standard library alone, checks its own arguments and computes its own output shapes, and
it can do everything that the fast backend can, training included.
"""

from __future__ import annotations

from .activations import (
    celu,
    celu_backward,
    clip,
    clip_backward,
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    hard_sigmoid,
    hard_sigmoid_backward,
    hard_swish,
    hard_swish_backward,
    leaky_relu,
    leaky_relu_backward,
    mish,
    mish_backward,
    relu,
    relu_backward,
    selu,
    selu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softplus,
    softplus_backward,
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
from .binary_cross_entropy import binary_cross_entropy, binary_cross_entropy_backward
from .choices import ceil, equal, floor, less, round, sign, where, where_backward
from .concat import concat, concat_backward
from .conv2d import conv2d, conv2d_backward
from .conv2d_transpose import conv2d_transpose, conv2d_transpose_backward
from .depth_to_space import (
    depth_to_space,
    depth_to_space_backward,
    space_to_depth,
    space_to_depth_backward,
)
from .dice import dice, dice_backward
from .dropout import dropout, dropout_backward
from .elementwise import (
    divide,
    divide_backward,
    maximum,
    maximum_backward,
    minimum,
    minimum_backward,
    power,
    power_backward,
    subtract,
    subtract_backward,
)
from .expand import expand, expand_backward
from .focal import focal, focal_backward
from .functions import (
    abs,
    abs_backward,
    erf,
    erf_backward,
    exp,
    exp_backward,
    log,
    log_backward,
    negative,
    negative_backward,
    reciprocal,
    reciprocal_backward,
    sqrt,
    sqrt_backward,
)
from .group_norm import group_norm, group_norm_backward
from .huber import huber, huber_backward
from .layer_norm import layer_norm, layer_norm_backward
from .linear import linear, linear_backward
from .local_response_norm import local_response_norm, local_response_norm_backward
from .lstm import lstm
from .matmul import matmul, matmul_backward
from .mean_absolute_error import mean_absolute_error, mean_absolute_error_backward
from .mean_squared_error import mean_squared_error, mean_squared_error_backward
from .multiply import multiply, multiply_backward
from .optimizer import adam_step, sgd_step
from .pad import pad, pad_backward
from .pool2d import (
    avg_pool2d,
    avg_pool2d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
)
from .prelu import prelu, prelu_backward
from .reduce import (
    reduce_max,
    reduce_max_backward,
    reduce_mean,
    reduce_mean_backward,
    reduce_min,
    reduce_min_backward,
    reduce_sum,
    reduce_sum_backward,
)
from .reshape import reshape, reshape_backward
from .resize2d import resize2d, resize2d_backward
from .softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from .softmax_cross_entropy import softmax_cross_entropy, softmax_cross_entropy_backward
from .strided_slice import strided_slice, strided_slice_backward
from .take import take, take_backward
from .transpose import transpose, transpose_backward
from .upsample2d import upsample2d, upsample2d_backward

__all__ = [
    "abs",
    "abs_backward",
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
    "binary_cross_entropy",
    "binary_cross_entropy_backward",
    "ceil",
    "celu",
    "celu_backward",
    "clip",
    "clip_backward",
    "concat",
    "concat_backward",
    "conv2d",
    "conv2d_backward",
    "conv2d_transpose",
    "conv2d_transpose_backward",
    "depth_to_space",
    "depth_to_space_backward",
    "dice",
    "dice_backward",
    "divide",
    "divide_backward",
    "dropout",
    "dropout_backward",
    "elu",
    "elu_backward",
    "equal",
    "erf",
    "erf_backward",
    "exp",
    "exp_backward",
    "expand",
    "expand_backward",
    "floor",
    "focal",
    "focal_backward",
    "gelu",
    "gelu_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "group_norm",
    "group_norm_backward",
    "hard_sigmoid",
    "hard_sigmoid_backward",
    "hard_swish",
    "hard_swish_backward",
    "huber",
    "huber_backward",
    "layer_norm",
    "layer_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "less",
    "linear",
    "linear_backward",
    "local_response_norm",
    "local_response_norm_backward",
    "log",
    "log_backward",
    "log_softmax",
    "log_softmax_backward",
    "lstm",
    "matmul",
    "matmul_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "maximum",
    "maximum_backward",
    "mean_absolute_error",
    "mean_absolute_error_backward",
    "mean_squared_error",
    "mean_squared_error_backward",
    "minimum",
    "minimum_backward",
    "mish",
    "mish_backward",
    "multiply",
    "multiply_backward",
    "name",
    "negative",
    "negative_backward",
    "pad",
    "pad_backward",
    "power",
    "power_backward",
    "prelu",
    "prelu_backward",
    "reciprocal",
    "reciprocal_backward",
    "reduce_max",
    "reduce_max_backward",
    "reduce_mean",
    "reduce_mean_backward",
    "reduce_min",
    "reduce_min_backward",
    "reduce_sum",
    "reduce_sum_backward",
    "relu",
    "relu_backward",
    "reshape",
    "reshape_backward",
    "resize2d",
    "resize2d_backward",
    "round",
    "selu",
    "selu_backward",
    "sgd_step",
    "sigmoid",
    "sigmoid_backward",
    "sign",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "softplus",
    "softplus_backward",
    "space_to_depth",
    "space_to_depth_backward",
    "sqrt",
    "sqrt_backward",
    "strided_slice",
    "strided_slice_backward",
    "subtract",
    "subtract_backward",
    "take",
    "take_backward",
    "tanh",
    "tanh_backward",
    "transpose",
    "transpose_backward",
    "upsample2d",
    "upsample2d_backward",
    "where",
    "where_backward",
]

name = "reference"
