"""The fast backend: checks its arguments, allocates results, calls a compiled kernel."""

from __future__ import annotations

from fastcnn.fast._adaptive_pool2d import AdaptivePool2D
from fastcnn.fast._batch_norm_relu_unmasked import BatchNormReluUnmasked
from fastcnn.fast._batches import Batches
from fastcnn.fast._choices import Choices
from fastcnn.fast._concat import Concat
from fastcnn.fast._conv2d_batch_norm_relu_depthwise import Conv2DBatchNormReluDepthwise
from fastcnn.fast._conv2d_transpose import Conv2DTranspose
from fastcnn.fast._costs import Costs
from fastcnn.fast._dice import Dice
from fastcnn.fast._dropout import Dropout
from fastcnn.fast._elementwise import Elementwise
from fastcnn.fast._functions import Functions
from fastcnn.fast._group_norm import GroupNorm
from fastcnn.fast._layer_norm import LayerNorm
from fastcnn.fast._local_response_norm import LocalResponseNorm
from fastcnn.fast._losses import Losses
from fastcnn.fast._lstm import LSTM
from fastcnn.fast._matmul import MatMul
from fastcnn.fast._multiply import Multiply
from fastcnn.fast._optimizer import Optimizer
from fastcnn.fast._prelu import PReLU
from fastcnn.fast._reductions import Reductions
from fastcnn.fast._resize2d import Resize2D
from fastcnn.fast._shapes import Shapes
from fastcnn.fast._softmax import Softmax
from fastcnn.fast._upsample2d import Upsample2D

__all__ = ["FastBackend"]


class FastBackend(
    BatchNormReluUnmasked,
    Conv2DBatchNormReluDepthwise,
    LayerNorm,
    GroupNorm,
    LocalResponseNorm,
    MatMul,
    Dice,
    LSTM,
    Softmax,
    Dropout,
    Conv2DTranspose,
    Multiply,
    Elementwise,
    PReLU,
    Concat,
    Shapes,
    Reductions,
    Functions,
    Choices,
    Upsample2D,
    Resize2D,
    AdaptivePool2D,
    Losses,
    Costs,
    Optimizer,
    Batches,
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
    convolution
        How 3x3 kernels of stride 1, without dilation or groups, convolve: "direct", "winograd",
        or "auto", which takes Winograd's algorithm where it is faster, by the shapes of one image
        and of the weights alone. Others are always direct. It is F(4x4, 3x3) in conv2d, its input
        gradient and in front of ReLU and 2x2 pools, with two outputs a side of a tile instead of
        four where one or two are left at a rim, and F(3x3, 4x4) in the weight gradient of conv2d.

    Notes
    -----
    Winograd's algorithm (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016)
    computes a tile of outputs at once, ``A^T [sum over c of (G w G^T) * (B^T x B)] A``, and rounds
    at other places than the direct sum. For F(4x4, 3x3) over C channels no error exceeds ``gamma(C
    + 27) * (|A^T| [sum over c of (|G| |w| |G^T|) * (|B^T| |x| |B|)] |A| + |b|)`` with ``gamma(n) =
    n * u / (1 - n * u)``, u = 2**-24 or 2**-53: at most 176 times what the direct sum's bound would
    be if all of x were as large as the largest; shorter tiles stay below it, and what a pool takes
    of them within the largest bound of a window's outputs. On random numbers the error is about
    twice that of "direct". An output that sees zeros alone is the bias itself, so that ReLU lets no
    gradient through a blank margin. An infinite or NaN input makes the tiles that see it NaN, an
    infinite or NaN weight all outputs of its filter; "direct" keeps them to where they belong.
    "direct" is exact on small integers.

    The weight gradient exchanges the parts: dy is the weights, 4x4 at a time, and the sum is over
    the T tiles that cover all images' dy. No error exceeds ``gamma(T + 29) * |A^T| [sum over t of
    (|G| |dy| |G^T|) * (|B^T| |x| |B|)] |A|``, at most 176 times ``gamma(T + 29)`` times the sum of
    abs(dy) times the largest of x; on random numbers the error is 1.3 to 3 times that of "direct".
    An infinite or NaN input spoils the gradient of its channel, an infinite or NaN dy that of its
    filter. The bias's gradient is a plain sum.

    Numbers of all exponents are welcome: where the reference finds a number of the dtype, this
    backend does, within the op's bound. The limits are sums in float32: a convolution, a linear
    layer, a product of matrices or their gradients, and max_pool2d_backward where windows overlap,
    may be infinite or NaN where the absolute values of their terms add up to more than float32's
    largest number, 3.4e38 (by Winograd's algorithm, of its own terms, or 32 times the largest
    input); what lies between ops that are computed as one is a number of the dtype; and a step of
    sgd_step or adam_step whose g, velocity or v is beyond it is infinite, or none.

    Raises
    ------
    TypeError
        If `isa` or `convolution` is no name, or num_threads no integer.
    ValueError
        If the instruction set cannot run here, num_threads is below one, or `convolution` is
        unknown.
    """

    _takes_plans = True  # see fastcnn._fast; its subclasses don't
