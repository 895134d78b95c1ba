"""The fast backend: checks its arguments, allocates results, calls a compiled kernel."""

from __future__ import annotations

from fastcnn.fast._batch_norm_block import BatchNormBlock
from fastcnn.fast._conv_block import ConvBlock
from fastcnn.fast._dropout import Dropout
from fastcnn.fast._linear import Linear
from fastcnn.fast._losses import Losses
from fastcnn.fast._optimizer import Optimizer
from fastcnn.fast._prepared import Preparation
from fastcnn.fast._softmax import Softmax

__all__ = ["FastBackend"]


class FastBackend(ConvBlock, BatchNormBlock, Linear, Softmax, Dropout, Losses, Optimizer):
    """The ops of `fastcnn.backend.Backend` on compiled kernels.

    Parameters
    ----------
    isa
        The instruction set, one of `fastcnn.show_config()`'s; None takes FASTCNN_ISA or the
        widest that this CPU has.
    num_threads
        Threads an op uses; None follows `fastcnn.set_num_threads`. Results have the same bits
        for every number of threads.
    convolution
        How conv_block convolves: "direct", "winograd" wherever it can be (3x3 kernels of stride
        1 in front of 2x2 pools), or "auto", which chooses by shape.

    Raises
    ------
    ValueError
        If the instruction set cannot run here, num_threads is below one, or `convolution` is
        unknown.
    """

    @property
    def prepared(self) -> Preparation:
        """Ops made ready for weights that stay; inference uses them where a backend has them."""
        return Preparation(self)
