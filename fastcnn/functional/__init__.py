"""The forward ops by themselves, in the vocabulary of *Implementing CNNs from scratch*.

Images are (height, width, depth), or a batch of them (n, height, width, depth), and come back
as they were given; filters are (height, width, in, out). Every function takes
`backend="fast"`, `"reference"` or a backend object. Errors are those of the backend's op, in the
names of the function: TypeError for a wrong dtype, ValueError for a wrong shape or value.
"""

from __future__ import annotations

from fastcnn.functional._activations import (
    celu,
    clip,
    elu,
    gelu,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    mish,
    prelu,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
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
    "celu",
    "clip",
    "concat",
    "conv2d",
    "conv2d_transpose",
    "cross_entropy",
    "dropout",
    "elu",
    "gelu",
    "global_avg_pool2d",
    "hard_sigmoid",
    "hard_swish",
    "leaky_relu",
    "linear",
    "max_pool2d",
    "mish",
    "multiply",
    "prelu",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
    "upsample2d",
]
