"""The forward ops by themselves, in the vocabulary of *Implementing CNNs from scratch*.

Images are (height, width, depth), or a batch of them (n, height, width, depth), and come back
as they were given; filters are (height, width, in, out). Every function takes
`backend="fast"`, `"reference"` or a backend object. Errors are those of the backend's op, in the
names of the function: TypeError for a wrong dtype, ValueError for a wrong shape or value.
"""

from __future__ import annotations

from fastcnn.functional._activations import (
    elu,
    gelu,
    hard_swish,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    tanh,
)
from fastcnn.functional._arithmetic import (
    add,
    batch_norm,
    concat,
    cross_entropy,
    dropout,
    linear,
    multiply,
)
from fastcnn.functional._functions import (
    abs,
    divide,
    erf,
    exp,
    log,
    matmul,
    maximum,
    minimum,
    negative,
    power,
    reciprocal,
    sqrt,
    subtract,
)
from fastcnn.functional._shapes import (
    depth_to_space,
    expand,
    pad,
    reduce_max,
    reduce_mean,
    reduce_min,
    reduce_sum,
    reshape,
    space_to_depth,
    strided_slice,
    take,
    transpose,
)
from fastcnn.functional._windows import (
    avg_pool2d,
    conv2d,
    conv2d_transpose,
    global_avg_pool2d,
    max_pool2d,
    upsample2d,
)

__all__ = [
    "abs",
    "add",
    "avg_pool2d",
    "batch_norm",
    "concat",
    "conv2d",
    "conv2d_transpose",
    "cross_entropy",
    "depth_to_space",
    "divide",
    "dropout",
    "elu",
    "erf",
    "exp",
    "expand",
    "gelu",
    "global_avg_pool2d",
    "hard_swish",
    "leaky_relu",
    "linear",
    "log",
    "log_softmax",
    "matmul",
    "max_pool2d",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "pad",
    "power",
    "reciprocal",
    "reduce_max",
    "reduce_mean",
    "reduce_min",
    "reduce_sum",
    "relu",
    "reshape",
    "sigmoid",
    "silu",
    "softmax",
    "space_to_depth",
    "sqrt",
    "strided_slice",
    "subtract",
    "take",
    "tanh",
    "transpose",
    "upsample2d",
]
