"""Convolutions, and their adjoint, which enlarges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import ArrayLike

from fastcnn._contract.op import Op
from fastcnn._options import output_size, pads_of, pair, transposed_size
from fastcnn._types import Array, Padding, Shape, Size2D

__all__ = ["ROWS", "Convolution"]


class Convolution(Protocol):
    """See `fastcnn.backend.Backend`, whose rules hold for them."""

    def conv2d(
        self,
        x: ArrayLike,
        w: ArrayLike,
        b: ArrayLike | None = None,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
    ) -> Array:
        """Cross-correlate images with filters.

        y[n,p,q,k] = b[k] + sum over r,s,c of x[n, p*stride + r*dilation - pad_top,
        q*stride + s*dilation - pad_left, c] * w[r,s,c,k], c running over the channels of k's
        group. P = (H + pads - (R-1)*dilation - 1) // stride + 1, Q alike.

        x (N, H, W, C); w (R, S, C // groups, K); b (K,) or None. Returns y (N, P, Q, K), N from
        zero. An output size below one is a ValueError that shows the arithmetic.
        """

    def conv2d_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        w: ArrayLike,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
        input_gradient: bool = True,
        weight_gradient: bool = True,
    ) -> tuple[Array | None, Array | None, Array | None]:
        """Return (dx, dw, db), shaped like x, w and (K,): None for what is not asked for."""

    def conv2d_transpose(
        self,
        x: ArrayLike,
        w: ArrayLike,
        b: ArrayLike | None = None,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        output_padding: Size2D = 0,
        groups: int = 1,
    ) -> Array:
        """Lay filters on the output, each pixel its own times its value; the adjoint of conv2d.

        y[n, h*stride + r - pad_top, w*stride + s - pad_left, k] = b[k] + sum over h,w,r,s,c of
        x[n,h,w,c] * w[r,s,k,c], c running over the channels of k's group. P = (H - 1) * stride + R
        - pads + output_padding, Q alike; output_padding, a number or a pair, is less than the
        stride. With "same" P = H * stride, as in Keras, and output_padding is 0.

        x (N, H, W, C); w (R, S, K // groups, C), as Keras has it; b (K,) or None. Returns y
        (N, P, Q, K). An output size below one is a ValueError that shows the arithmetic.
        """

    def conv2d_transpose_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        w: ArrayLike,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        output_padding: Size2D = 0,
        groups: int = 1,
        input_gradient: bool = True,
        weight_gradient: bool = True,
    ) -> tuple[Array | None, Array | None, Array | None]:
        """Return (dx, dw, db), shaped like x, w and (K,): None for what is not asked for."""


def _conv2d(x: Shape, w: Shape, b: Shape | None = None, **options: Any) -> Sequence[Shape]:
    strides, dilations = pair(options.get("stride", 1)), pair(options.get("dilation", 1))
    pads = pads_of(options.get("padding", 0), x[1:3], w[:2], strides, dilations)
    size = output_size(x[1:3], "conv2d", w[:2], strides, pads, dilations)
    if w[2] * options.get("groups", 1) != x[3] or b not in (None, w[3:]):
        raise ValueError(f"conv2d: expected filters for the {x[3]} channels of x, got {w}, {b}")
    return ((x[0], *size, w[3]),)


def _conv2d_transpose(x: Shape, w: Shape, b: Shape | None = None, **options: Any) -> Any:
    strides, extra = pair(options.get("stride", 1)), pair(options.get("output_padding", 0))
    padding = options.get("padding", 0)
    size = transposed_size(x[1:3], "conv2d_transpose", padding, w[:2], strides, extra)
    return ((x[0], *size, w[2] * options.get("groups", 1)),)


ROWS = {
    "conv2d": Op(("y",), ("x", "w", "b"), _conv2d),
    "conv2d_transpose": Op(("y",), ("x", "w", "b"), _conv2d_transpose),
}
