"""What moves numbers about: other shapes and orders, pads, parts, blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import ArrayLike

from fastcnn._contract.op import Op
from fastcnn._shapes import (
    expanded,
    from_blocks,
    indices_of,
    order_of,
    padded,
    reshaped,
    sliced,
    slices_of,
    to_blocks,
    widths_of,
)
from fastcnn._types import Array, Shape

__all__ = ["ROWS", "Shapes"]


class Shapes(Protocol):
    """See `fastcnn.backend.Backend`, whose rules hold for them."""

    # Of arrays of any rank, but for the blocks, which are of images. An axis below 0 is counted
    # from the end.
    def reshape(self, x: ArrayLike, shape: Sequence[int]) -> Array:
        """Return the numbers of x, in their order, in another shape; one size may be -1."""

    def reshape_backward(self, dy: ArrayLike, x_shape: tuple[int, ...]) -> Array:
        """Return dy in the shape of x."""

    def transpose(self, x: ArrayLike, axes: Sequence[int]) -> Array:
        """Return x with its axes in another order: axis i of the result is axis axes[i] of x."""

    def transpose_backward(self, dy: ArrayLike, axes: Sequence[int]) -> Array:
        """Return dy with its axes in the order of x."""

    def expand(self, x: ArrayLike, shape: Sequence[int]) -> Array:
        """Return x repeated as in a sum with an array of this shape (ONNX's Expand)."""

    def expand_backward(
        self, dy: ArrayLike, x_shape: tuple[int, ...], shape: Sequence[int]
    ) -> Array:
        """Return dy, summed over the axes along which x was repeated."""

    def pad(
        self,
        x: ArrayLike,
        widths: Sequence[tuple[int, int]],
        *,
        mode: str = "constant",
        value: float = 0.0,
    ) -> Array:
        """Return x with so many more places before and after it: a pair for each axis.

        In them is `value`, which may be infinite, or with mode "edge" the outermost number of x,
        or with "reflect" what lies as far on the other side of that, which is not repeated: 3 2 1 2
        3 of 1 2 3, so that fewer places are added than x has.
        """

    def pad_backward(
        self,
        dy: ArrayLike,
        x_shape: tuple[int, ...],
        widths: Sequence[tuple[int, int]],
        *,
        mode: str = "constant",
    ) -> Array:
        """Return dx of shape `x_shape`: each number of x has the sum of dy at all its places."""

    def strided_slice(
        self,
        x: ArrayLike,
        starts: Sequence[int | None] | None,
        stops: Sequence[int | None] | None,
        steps: Sequence[int | None] | None = None,
    ) -> Array:
        """Return x[starts[0]:stops[0]:steps[0], ...]: one of each for each axis.

        As in Python's slices numbers below 0 are counted from the end, those beyond it are cut off,
        steps may be below 0, and None is what is left out there. The result may be empty.
        """

    def strided_slice_backward(
        self,
        dy: ArrayLike,
        x_shape: tuple[int, ...],
        starts: Sequence[int | None] | None,
        stops: Sequence[int | None] | None,
        steps: Sequence[int | None] | None = None,
    ) -> Array:
        """Return dx of shape `x_shape`: dy where it was taken from, else 0."""

    def take(self, x: ArrayLike, indices: Sequence[int], axis: int = -1) -> Array:
        """Return the parts of x at these places along an axis, in their order; a place may recur.

        A place below 0 is counted from the end; one that is not there is a ValueError.
        """

    def take_backward(
        self, dy: ArrayLike, x_shape: tuple[int, ...], indices: Sequence[int], axis: int = -1
    ) -> Array:
        """Return dx of shape `x_shape`: the sums of the parts of dy that were taken there."""

    def depth_to_space(self, x: ArrayLike, block: int, *, mode: str = "DCR") -> Array:
        """Lay the channels of each pixel out as a block of pixels (ONNX's DepthToSpace).

        x (N, H, W, block**2 * K) -> y (N, H * block, W * block, K): y[n, h*block + i, w*block + j,
        k] is x[n,h,w,c] with c = (i*block + j)*K + k in mode "DCR", k*block**2 + i*block + j in
        mode "CRD", PyTorch's pixel shuffle (Shi et al., 2016).
        """

    def depth_to_space_backward(self, dy: ArrayLike, block: int, *, mode: str = "DCR") -> Array:
        """Return dx: space_to_depth of dy."""

    def space_to_depth(self, x: ArrayLike, block: int, *, mode: str = "DCR") -> Array:
        """Gather blocks of pixels in the channels of one: the inverse of depth_to_space.

        x (N, H * block, W * block, K) -> y (N, H, W, block**2 * K).
        """

    def space_to_depth_backward(self, dy: ArrayLike, block: int, *, mode: str = "DCR") -> Array:
        """Return dx: depth_to_space of dy."""


def _pad(x: Shape, widths: Any, mode: str = "constant", **options: Any) -> Sequence[Shape]:
    return (padded(x, widths_of(widths, "pad: widths", len(x)), mode, "pad: widths"),)


def _strided_slice(x: Shape, starts: Any, stops: Any, steps: Any = None) -> Sequence[Shape]:
    return (sliced(x, slices_of(x, starts, stops, steps, "strided_slice")),)


def _take(x: Shape, indices: Any, axis: int = -1) -> Sequence[Shape]:
    at = axis % len(x)
    return ((*x[:at], len(indices_of(indices, "take: indices", x[at])), *x[at + 1 :]),)


ROWS = {
    "reshape": Op(("y",), ("x",), lambda x, shape: (reshaped(x, shape, "reshape: shape"),)),
    "transpose": Op(
        ("y",),
        ("x",),
        lambda x, axes: (tuple(x[at] for at in order_of(axes, "transpose: axes", len(x))),),
    ),
    "expand": Op(("y",), ("x",), lambda x, shape: (expanded(x, shape, "expand: shape"),)),
    "pad": Op(("y",), ("x",), _pad),
    "strided_slice": Op(("y",), ("x",), _strided_slice),
    "take": Op(("y",), ("x",), _take),
    "depth_to_space": Op(
        ("y",),
        ("x",),
        lambda x, block, mode="DCR": (from_blocks(x, block, mode, "depth_to_space: x"),),
    ),
    "space_to_depth": Op(
        ("y",),
        ("x",),
        lambda x, block, mode="DCR": (to_blocks(x, block, mode, "space_to_depth: x"),),
    ),
}
