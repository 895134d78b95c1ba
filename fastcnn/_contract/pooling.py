"""Pools of windows and of whole images, and what enlarges images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import ArrayLike

from fastcnn._contract.op import Op
from fastcnn._options import output_size, pads_of, pair
from fastcnn._types import Array, Padding, Shape, Size2D

__all__ = ["ROWS", "Pooling"]


class Pooling(Protocol):
    """See `fastcnn.backend.Backend`, whose rules hold for them."""

    def max_pool2d(
        self,
        x: ArrayLike,
        pool_size: Size2D = 2,
        *,
        stride: Size2D | None = None,
        padding: Padding = 0,
        dilation: Size2D = 1,
        ceil_mode: bool = False,
    ) -> tuple[Array, Array]:
        """Take the largest value of each window; pads count as -infinity.

        x (N, H, W, C). Returns y (N, P, Q, C) and argmax of the same shape: the place r*S + s
        of the winner in its R x S window, uint8 for windows of up to 256 places, else int32.
        The first maximum in row-major order wins; a NaN wins over every number, the first NaN
        over later ones. `stride` defaults to `pool_size`; padding is at most half the window.
        With `ceil_mode` a window may hang over the end, but none starts in the padding there.
        `dilation` is the distance between the pixels of a window, which is then (R - 1) * dilation
        + 1 high; where there is padding before an image, it is at least as large as the dilation.
        """

    def max_pool2d_backward(
        self,
        dy: ArrayLike,
        argmax: ArrayLike,
        x_shape: tuple[int, ...],
        pool_size: Size2D = 2,
        *,
        stride: Size2D | None = None,
        padding: Padding = 0,
        dilation: Size2D = 1,
        ceil_mode: bool = False,
    ) -> Array:
        """Return dx of shape `x_shape`: each gradient goes to its window's winner, sums add up."""

    def avg_pool2d(
        self,
        x: ArrayLike,
        pool_size: Size2D = 2,
        *,
        stride: Size2D | None = None,
        padding: Padding = 0,
        dilation: Size2D = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
    ) -> Array:
        """Take the mean of each window over the pixels inside the image.

        With `count_include_pad` the declared padding counts as zeros; the part of a window
        that hangs over the right or bottom padding (`ceil_mode`) is still not counted.
        x (N, H, W, C). Returns y (N, P, Q, C); sizes and dilation as in max_pool2d.
        """

    def avg_pool2d_backward(
        self,
        dy: ArrayLike,
        x_shape: tuple[int, ...],
        pool_size: Size2D = 2,
        *,
        stride: Size2D | None = None,
        padding: Padding = 0,
        dilation: Size2D = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
    ) -> Array:
        """Return dx of shape `x_shape`: each gradient is shared evenly by its window."""

    def global_avg_pool2d(self, x: ArrayLike) -> Array:
        """Return the mean over height and width: x (N, H, W, C) -> y (N, C)."""

    def global_avg_pool2d_backward(self, dy: ArrayLike, x_shape: tuple[int, ...]) -> Array:
        """Return dx of shape `x_shape`: dy / (H * W) at every pixel."""

    def adaptive_avg_pool2d(self, x: ArrayLike, output_size: Size2D) -> Array:
        """Take the mean of as many windows as are asked for: `output_size` is (P, Q).

        Output p is the mean of the rows floor(p * H / P) to ceil((p + 1) * H / P), that one not
        included, columns alike: PyTorch's windows, which may overlap. x (N, H, W, C). Returns y
        (N, P, Q, C).
        """

    def adaptive_avg_pool2d_backward(
        self, dy: ArrayLike, x_shape: tuple[int, ...], output_size: Size2D
    ) -> Array:
        """Return dx of shape `x_shape`: each gradient is shared evenly by its window."""

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


def _pool2d(x: Shape, pool_size: Any = 2, **options: Any) -> Shape:
    stride, window = options.get("stride"), pair(pool_size)
    strides = window if stride is None else pair(stride)
    dilation = pair(options.get("dilation", 1))
    pads = pads_of(options.get("padding", 0), x[1:3], window, strides, dilation)
    ceil_mode = options.get("ceil_mode", False)
    size = output_size(x[1:3], "pool2d", window, strides, pads, dilation, ceil_mode)
    return (x[0], *size, x[3])


def _max_pool2d(x: Shape, **options: Any) -> Sequence[Shape]:
    y = _pool2d(x, **options)
    return y, y


def _adaptive_avg_pool2d(x: Shape, output_size: Any) -> Sequence[Shape]:
    return ((x[0], *pair(output_size), x[3]),)


def _upsample2d(x: Shape, factor: Any = 2, **options: Any) -> Sequence[Shape]:
    rows, columns = pair(factor)
    return ((x[0], x[1] * rows, x[2] * columns, x[3]),)


ROWS = {
    "max_pool2d": Op(("y", "argmax"), ("x",), _max_pool2d),
    "avg_pool2d": Op(("y",), ("x",), lambda x, **options: (_pool2d(x, **options),)),
    "global_avg_pool2d": Op(("y",), ("x",), lambda x: ((x[0], x[3]),)),
    "adaptive_avg_pool2d": Op(("y",), ("x",), _adaptive_avg_pool2d),
    "upsample2d": Op(("y",), ("x",), _upsample2d),
}
