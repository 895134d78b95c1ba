"""Images of another size, made by interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import ArrayLike

from fastcnn._contract.op import Op
from fastcnn._options import pair
from fastcnn._types import Array, Scale2D, Shape, Size2D

__all__ = ["ROWS", "Resizing"]


class Resizing(Protocol):
    """See `fastcnn.backend.Backend`, whose rules hold for them."""

    def resize2d(
        self,
        x: ArrayLike,
        size: Size2D,
        *,
        method: str = "nearest",
        coordinates: str = "half_pixel",
        rounding: str = "round_prefer_floor",
        scale: Scale2D | None = None,
        cubic_coefficient: float = -0.75,
        exclude_outside: bool = False,
    ) -> Array:
        """Make images of any size: x (N, H, W, C) -> y (N, P, Q, C), `size` being (P, Q).

        Along each axis output p of P has a place among the H pixels, whose centres are 0 to H - 1.
        With the ratio P / H, or the `scale`, a number or a (height, width) pair, where it is given,
        `coordinates` say which:

        - "half_pixel": (p + 1/2) / ratio - 1/2, as Keras and as PyTorch with align_corners=False;
        - "pytorch_half_pixel": the same, but 0 where P is 1;
        - "half_pixel_symmetric": (p + 1/2 - P / 2) / ratio + H / 2 - 1/2, the same but for what a
          `scale` leaves over of a pixel, of which each end has a half;
        - "align_corners": p * (H - 1) / (P - 1), and 0 where P is 1; there is no ratio;
        - "asymmetric": p / ratio.

        `method` is one of:

        - "nearest" takes one pixel, as `rounding` says: "round_prefer_floor" and
          "round_prefer_ceil" the nearer one, and of two as near that before or behind, "floor" and
          "ceil" that before or behind always. A quotient by `scale` is first rounded to float32, as
          files have scales: 1 / 0.1 is 10.
        - "bilinear" takes the two pixels around the place, along each axis, by linear
          interpolation; outside the outermost centres it gives their values.
        - "cubic" takes four, by the convolution kernel of Keys (1981) with this coefficient; pixels
          outside the image are those of its rim, or with `exclude_outside` none: the weights of the
          others are then divided by their sum.

        A pixel of weight 0 is not looked at. Names and rules are those of ONNX's Resize; PyTorch's
        "nearest" is "asymmetric" with "floor", its "nearest-exact" "half_pixel" with
        "round_prefer_ceil".
        """

    def resize2d_backward(
        self,
        dy: ArrayLike,
        x_shape: tuple[int, ...],
        size: Size2D,
        *,
        method: str = "nearest",
        coordinates: str = "half_pixel",
        rounding: str = "round_prefer_floor",
        scale: Scale2D | None = None,
        cubic_coefficient: float = -0.75,
        exclude_outside: bool = False,
    ) -> Array:
        """Return dx of shape `x_shape`: each gradient goes to the pixels its output was made of."""


def _resize2d(x: Shape, size: Any, **options: Any) -> Sequence[Shape]:
    return ((x[0], *pair(size), x[3]),)


ROWS = {
    "resize2d": Op(("y",), ("x",), _resize2d),
}
