"""The part of the backend contract for networks with branches: what joins two paths, what enlarges.

Sums, products and concatenations of the arrays of several paths, as in residual networks,
squeeze-and-excite and U-Nets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from numpy.typing import ArrayLike

from fastcnn._types import Array, Padding, Size2D

__all__ = ["Branches"]


class Branches(Protocol):
    """The joining ops of `fastcnn.backend.Backend`, whose rules hold for them too."""

    # ------------------------------------------------------------------ sums and products
    # Of arrays of any rank, whose shapes broadcast as in NumPy: aligned at the last axis, and an
    # axis of length 1, or one that is not there, is repeated.
    def add(self, a: ArrayLike, b: ArrayLike) -> Array:
        """Return a + b: of equal shapes, images and a vector (C,), or any that broadcast."""

    def add_backward(
        self, dy: ArrayLike, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        """Return (da, db): dy, summed over the axes along which a or b was repeated.

        A gradient of the shape of dy may be dy itself and no copy of it.
        """

    def multiply(self, a: ArrayLike, b: ArrayLike) -> Array:
        """Return a * b: of equal shapes, images and gates (N, 1, 1, C), or any that broadcast."""

    def multiply_backward(self, dy: ArrayLike, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
        """Return (da, db): dy * b and dy * a, summed over the axes of a repetition as in add."""

    # ------------------------------------------------------------------ concatenation
    def concat(self, xs: Sequence[ArrayLike], axis: int = -1) -> Array:
        """Return a list of arrays joined along an axis: the last, of channels, by default.

        At least one array, of one rank and of one shape but for that axis; a list or tuple of them.
        """

    def concat_backward(
        self, dy: ArrayLike, shapes: Sequence[tuple[int, ...]], axis: int = -1
    ) -> list[Array]:
        """Return the parts of dy that belong to arrays of these shapes, in their order."""

    # ------------------------------------------------------------------ upsampling
    def upsample2d(self, x: ArrayLike, factor: Size2D, *, method: str = "nearest") -> Array:
        """Make images larger by a whole factor, a number or a (height, width) pair.

        "nearest" repeats each pixel. "bilinear" interpolates between pixel centres, as Keras's
        UpSampling2D and PyTorch with align_corners=False: output p is the value at (p + 1/2) /
        factor - 1/2, and outside the outermost centres theirs. x (N, H, W, C). Returns y
        (N, H * factor, W * factor, C).
        """

    def upsample2d_backward(
        self, dy: ArrayLike, x_shape: tuple[int, ...], factor: Size2D, *, method: str = "nearest"
    ) -> Array:
        """Return dx of shape `x_shape`: each gradient goes to the pixels its output was made of."""

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
