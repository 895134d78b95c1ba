"""Which kernel computes a convolution or a gradient of it: by shapes alone.

So a batch gives what its images give one by one, and an op what a plan gives.
"""

from __future__ import annotations

from typing import NamedTuple

from fastcnn._checks import by_shape, fits_memory, rank
from fastcnn._options import integer, output_size, padding2d, pads_of, pair, size2d
from fastcnn._types import Array, Padding, Shape, Size2D
from fastcnn.fast._base import Base

__all__ = ["ConvRules", "Geometry", "geometry_of", "is_pointwise", "sees_all"]

# When Winograd pays (benchmarks/paths.py): for each channel that a sum runs over it takes 36
# products a tile of 4x4 outputs instead of 9 an output, and the transforms cost as much as so many
# channels. Where tiles fit, 8 channels are enough. The weight gradient needs as many filters too:
# fewer leave the direct sum no lanes idle, for it may swap x and dy.
_TRANSFORMS = 24
_FEWEST_FILTERS = 8


class Geometry(NamedTuple):
    """The checked options of a convolution, as the kernels take them."""

    output: tuple[int, int]
    window: tuple[int, int, int, int, int, int]  # strides, pads (top, left), dilations
    groups: int

    @property
    def strides(self) -> tuple[int, int]:
        return self.window[:2]

    @property
    def pads(self) -> tuple[int, int]:
        return self.window[2:4]


@by_shape
def geometry_of(
    op: str,
    x: Array,
    w: Array,
    stride: Size2D,
    padding: Padding,
    dilation: Size2D,
    groups: int,
) -> Geometry:
    rank(x, f"{op}: x", "N, H, W, C")
    rank(w, f"{op}: w", "R, S, C, K")
    groups = integer(groups, f"{op}: groups")
    size, kernel, channels = x.shape[1:3], w.shape[:2], x.shape[3]
    if 0 in w.shape or channels == 0:
        raise ValueError(
            f"{op}: w: expected at least one channel, filter, row and column, "
            f"got w of shape {w.shape} for x of shape {x.shape}"
        )
    if channels % groups or w.shape[3] % groups:
        raise ValueError(
            f"{op}: groups: expected a divisor of the {channels} channels of x and of the "
            f"{w.shape[3]} filters of w, got {groups}"
        )
    if w.shape[2] * groups != channels:
        raise ValueError(
            f"{op}: w: expected shape (R, S, C // groups, K) with C // groups = "
            f"{channels // groups} for x of shape {x.shape} and groups = {groups}, got {w.shape}"
        )
    strides = pair(size2d(stride, f"{op}: stride"))
    dilations = pair(size2d(dilation, f"{op}: dilation"))
    pads = pads_of(padding2d(padding, f"{op}: padding"), size, kernel, strides, dilations)
    output = output_size(size, f"{op}: x", kernel, strides, pads, dilations)
    fits_memory((x.shape[0], *output, w.shape[3]), f"{op}: padding")
    # A stride that is never taken and a dilation between no taps may be of any size: as small
    # ones they mean the same, and no product of them overflows.
    window = (
        strides[0] if output[0] > 1 else 1,
        strides[1] if output[1] > 1 else 1,
        pads[0][0],
        pads[1][0],
        dilations[0] if kernel[0] > 1 else 1,
        dilations[1] if kernel[1] > 1 else 1,
    )
    return Geometry(output, window, groups)


def is_pointwise(x_shape: Shape, w: Array, geometry: Geometry) -> bool:
    """Whether w is 1x1 and no output sees padding."""
    if w.shape[:2] != (1, 1) or geometry.groups > 1 or geometry.window[2:4] != (0, 0):
        return False
    (p, q), (down, right) = geometry.output, geometry.strides
    return (p - 1) * down < x_shape[1] and (q - 1) * right < x_shape[2]


def sees_all(w: Array, geometry: Geometry) -> bool:
    """Whether every input has a tap that may reach it, so that a kernel writes its gradient."""
    axes = zip(w.shape[:2], geometry.strides, geometry.window[4:], strict=True)
    return all(stride == 1 or (size >= stride and dilation == 1) for size, stride, dilation in axes)


def _points(outputs: int, short_tiles: bool) -> int:
    """Return the points of Winograd's tiles along a side: six for four outputs, four for two."""
    fours = (outputs + 1) // 4 if short_tiles else -(-outputs // 4)
    return 6 * fours + (4 if outputs > 4 * fours else 0)


class ConvRules(Base):
    """The choice of a convolution's kernels, in one place for the result and both gradients."""

    def _algorithm_of(self, result: str, x_shape: Shape, w: Array, geometry: Geometry) -> str:
        """Return what computes a convolution's y, dx or dw (with db)."""
        if self._is_depthwise(w, geometry.groups):
            return "depthwise"
        if self._has_narrow_groups(w, geometry.groups):
            return "grouped"
        if result != "dw" and is_pointwise(x_shape, w, geometry):
            return "pointwise"
        if self._by_winograd(result, w, geometry):
            return "winograd"
        return "swapped" if result == "dw" and self._swaps(x_shape, w, geometry) else "direct"

    def _is_depthwise(self, w: Array, groups: int) -> bool:
        """Whether each channel has one filter, and there are enough of them to fill a vector."""
        least: int = self._load(w).depthwise_conv2d.LEAST_CHANNELS
        return groups >= least and w.shape[2] == 1 and w.shape[3] == groups

    def _has_narrow_groups(self, w: Array, groups: int) -> bool:
        """Whether several groups, each of as many filters as channels, fill a vector."""
        depth, filters = w.shape[2:]
        takes: bool = self._load(w).grouped_conv2d.takes(filters, depth)
        return takes and groups > 1 and filters == groups * depth

    def _by_winograd(self, result: str, w: Array, geometry: Geometry) -> bool:
        """Return whether Winograd's algorithm computes y, dx or dw.

        By the shape alone, of one image and the weights: a batch gives what its images give.
        """
        if self.convolution == "direct" or geometry.groups > 1 or w.shape[:2] != (3, 3):
            return False
        strides, dilations = geometry.strides, geometry.window[4:]
        if strides != (1, 1) or dilations != (1, 1):
            return False
        if self.convolution == "winograd":
            return True
        height, width = geometry.output
        channels, filters = w.shape[2:]
        if min(height, width) == 1 or (result == "dw" and filters < _FEWEST_FILTERS):
            return False
        short_tiles = result != "dw"
        products = _points(height, short_tiles) * _points(width, short_tiles)
        summed: int = filters if result == "dx" else channels
        return summed * (9 * height * width - products) >= _TRANSFORMS * products

    def _swaps(self, x_shape: Shape, w: Array, geometry: Geometry) -> bool:
        """Whether x and dy change places: few filters would leave lanes idle."""
        if geometry.groups > 1 or geometry.strides != (1, 1):
            return False
        r, s, c, k = w.shape
        kernel = self._load(w).conv2d_backward_weights
        swaps: bool = kernel.swaps(*x_shape[1:3], c, *geometry.output, k, r, s)
        return swaps
