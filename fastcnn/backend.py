"""The backend contract: every op that a model needs, declared once.

Two backends satisfy it. `fastcnn.reference` (a module of Python loops) says what the right
answer is; `fastcnn.FastBackend` (an object over compiled kernels) computes it quickly. mypy
checks both against this Protocol, and the tests compare every signature.

Rules that hold for every op:

- Shapes: activations are (N, H, W, C), filters (R, S, C // groups, K), vectors (C,).
  N batch, H W input height and width, C input channels, K filters, R S kernel height and
  width, P Q output height and width.
- Numbers: all float arguments of one call share one dtype, float32 or float64, and so do the
  results; a mix is refused. Boolean, integer and float16 arrays are converted to the dtype of
  the others (float32 where there is none); complex, object, string and extended-precision
  arrays are refused.
- Any layout, alignment and byte order is accepted, read-only too, and never written to.
  Results are fresh, C-contiguous and in native byte order.
- Errors: TypeError for a wrong type or dtype, ValueError for a wrong shape or value, naming the
  argument, what was expected and what came.
- Backward ops take the gradient of the loss with respect to the forward op's result (`dy`),
  then what forward saved, then forward's options.

`stride`, `dilation` and `pool_size` are a number or a (height, width) pair. `padding` is a
number, a pair (height, width), four numbers ((top, bottom), (left, right)), "valid" (none) or
"same" (TensorFlow's: output = ceil(input / stride), the odd pixel goes after).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from fastcnn._contract.activations import Activations
from fastcnn._contract.arithmetic import Arithmetic
from fastcnn._contract.choices import Choices
from fastcnn._contract.convolution import Convolution
from fastcnn._contract.functions import Functions
from fastcnn._contract.losses import Losses
from fastcnn._contract.normalization import Normalization
from fastcnn._contract.pooling import Pooling
from fastcnn._contract.recurrent import Recurrent
from fastcnn._contract.reductions import Reductions
from fastcnn._contract.resizing import Resizing
from fastcnn._contract.shapes import Shapes
from fastcnn._contract.steps import Steps
from fastcnn._types import Array, Padding, Size2D

__all__ = [
    "Array",
    "Backend",
    "Padding",
    "Size2D",
]


@runtime_checkable
class Backend(
    Convolution,
    Pooling,
    Resizing,
    Recurrent,
    Normalization,
    Arithmetic,
    Reductions,
    Shapes,
    Functions,
    Choices,
    Activations,
    Losses,
    Steps,
    Protocol,
):
    """Every op of a backend, forward and backward; see the module's page for common rules."""
