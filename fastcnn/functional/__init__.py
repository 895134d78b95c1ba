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
from fastcnn.functional._recurrent import lstm
from fastcnn.functional._windows import (
    adaptive_avg_pool2d,
    avg_pool2d,
    conv2d,
    conv2d_transpose,
    global_avg_pool2d,
    max_pool2d,
    resize2d,
    upsample2d,
)

__all__ = [
    "adaptive_avg_pool2d",
    "add",
    "avg_pool2d",
    "batch_norm",
    "concat",
    "conv2d",
    "conv2d_transpose",
    "cross_entropy",
    "dropout",
    "elu",
    "gelu",
    "global_avg_pool2d",
    "hard_swish",
    "leaky_relu",
    "linear",
    "lstm",
    "max_pool2d",
    "multiply",
    "relu",
    "resize2d",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
    "upsample2d",
]
