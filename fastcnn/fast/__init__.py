"""The fast backend: checks its arguments, allocates results, calls a compiled kernel."""

from __future__ import annotations

from fastcnn.fast._activations import Activations
from fastcnn.fast._batch_norm import BatchNorm
from fastcnn.fast._conv2d import Conv2D
from fastcnn.fast._dropout import Dropout
from fastcnn.fast._linear import Linear
from fastcnn.fast._losses import Losses
from fastcnn.fast._optimizer import Optimizer
from fastcnn.fast._pool2d import Pool2D
from fastcnn.fast._softmax import Softmax

__all__ = ["FastBackend"]


class FastBackend(
    Conv2D, Pool2D, BatchNorm, Linear, Activations, Softmax, Dropout, Losses, Optimizer
):
    """The ops of `fastcnn.backend.Backend` on compiled kernels.

    Parameters
    ----------
    isa
        The instruction set, one of `fastcnn.show_config()`'s; None takes FASTCNN_ISA or the
        widest that this CPU has.
    num_threads
        Threads an op uses; None follows `fastcnn.set_num_threads`. Results have the same bits
        for every number of threads.

    Raises
    ------
    ValueError
        If the instruction set cannot run here, or num_threads is below one.
    """
