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
from fastcnn.functional._losses import (
    binary_cross_entropy,
    dice,
    focal,
    huber,
    mean_absolute_error,
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
    "add",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "concat",
    "conv2d",
    "conv2d_transpose",
    "cross_entropy",
    "dice",
    "dropout",
    "elu",
    "focal",
    "gelu",
    "global_avg_pool2d",
    "hard_swish",
    "huber",
    "leaky_relu",
    "linear",
    "max_pool2d",
    "mean_absolute_error",
    "multiply",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
    "upsample2d",
]
