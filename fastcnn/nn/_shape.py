"""Layers that move numbers about: other shapes and orders, pads, parts, blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn._options import (
    choice,
    image_shape,
    integer,
    padding2d,
    pads_of,
    real,
    shape_of,
    shown,
)
from fastcnn._sentences import explained
from fastcnn._shapes import (
    BLOCK_MODES,
    PAD_MODES,
    axis_of,
    bounds_of,
    from_blocks,
    padded,
    reshaped,
    sliced,
    slices_of,
    to_blocks,
)
from fastcnn._types import Array, Padding, Shape
from fastcnn.backend import Backend
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._symbol import Symbol

__all__ = [
    "Cropping2D",
    "DepthToSpace",
    "Pad2D",
    "Permute",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "split",
]


class Reshape(Module):
    """The numbers of an input, in their order, in another shape.

    target_shape: without the batch axis; one size may be -1, which is what the others leave.
    """

    def __init__(self, target_shape: Sequence[int], *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.target_shape = shape_of(target_shape, "Reshape: target_shape", -1)

    def declare(self, input_shape: Shape) -> Shape:
        return reshaped(input_shape, self.target_shape, "Reshape: target_shape")

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        shape = x.shape
        new = reshaped(shape[1:], self.target_shape, "Reshape: target_shape")
        return x.reshape(len(x), *new), lambda dy: dy.reshape(shape)


class Permute(Module):
    """An input with its axes in another order, as in Keras.

    dims: which axis of the input each axis of the output is, counted from 1, for the batch axis is
    0: Permute((2, 1, 3)) exchanges height and width of images.
    """

    def __init__(self, dims: Sequence[int], *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.dims = shape_of(dims, "Permute: dims")

    def declare(self, input_shape: Shape) -> Shape:
        rank = len(input_shape)
        if sorted(self.dims) != list(range(1, rank + 1)):
            raise ValueError(
                f"Permute: dims: expected each of the axes from 1 to {rank} once, got {self.dims}"
            )
        return tuple(input_shape[axis - 1] for axis in self.dims)

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        axes = (0, *self.dims)
        return backend.transpose(x, axes), lambda dy: backend.transpose_backward(dy, axes)


class Pad2D(Module):
    """Images with more pixels around them: (H, W, C) -> (H + pads, W + pads, C).

    padding: a number, a (height, width) pair or ((top, bottom), (left, right)). mode: "constant"
    fills them with `value`, "edge" with the outermost pixels, "reflect" mirrors the image there,
    whose outermost pixels are not repeated.
    """

    def __init__(
        self,
        padding: Padding = 1,
        *,
        mode: str = "constant",
        value: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.padding = _numbers2d(padding, "Pad2D: padding")
        self.mode = choice(mode, "Pad2D: mode", PAD_MODES)
        self.value = real(value, "Pad2D: value")

    def _widths(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0), *pads_of(self.padding, (), (), ()), (0, 0))

    def declare(self, input_shape: Shape) -> Shape:
        image_shape(input_shape, "Pad2D")
        return padded(input_shape, self._widths()[1:], self.mode, "Pad2D: padding")

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        x_shape, widths, mode = x.shape, self._widths(), self.mode
        return (
            backend.pad(x, widths, mode=mode, value=self.value),
            lambda dy: backend.pad_backward(dy, x_shape, widths, mode=mode),
        )


# ---------------------------------------------------------------------- parts
class Slice(Module):
    """A part of an input, as Python's slices say which: x[:, starts[0]:stops[0]:steps[0], ...].

    starts, stops, steps: one for each axis without the batch axis, or None for what is left out in
    a slice; steps of images may be below 0: they turn them over.
    """

    def __init__(
        self,
        starts: Sequence[int | None] | None = None,
        stops: Sequence[int | None] | None = None,
        steps: Sequence[int | None] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.starts = bounds_of(starts, "Slice: starts")
        self.stops = bounds_of(stops, "Slice: stops")
        self.steps = bounds_of(steps, "Slice: steps")

    def declare(self, input_shape: Shape) -> Shape:
        slices = slices_of(input_shape, self.starts, self.stops, self.steps, "Slice")
        shape = sliced(input_shape, slices)
        if 0 in shape:
            raise ValueError(
                f"Slice: stops: expected a part of {input_shape} that is not empty, got {shape}"
            )
        return shape

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        bounds = (self.starts, self.stops, self.steps)
        return _taken(x, backend, *(each and (None, *each) for each in bounds))


class Cropping2D(Module):
    """Images without pixels at their rims: (H, W, C) -> (H - rows, W - columns, C), as in Keras.

    cropping: a number, a (height, width) pair or ((top, bottom), (left, right)).
    """

    def __init__(self, cropping: Padding = 1, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.cropping = _numbers2d(cropping, "Cropping2D: cropping")

    def _bounds(self, sizes: Shape) -> Any:
        (top, bottom), (left, right) = pads_of(self.cropping, (), (), ())
        return (top, left, 0), (sizes[0] - bottom, sizes[1] - right, sizes[2])

    def declare(self, input_shape: Shape) -> Shape:
        image_shape(input_shape, "Cropping2D")
        starts, stops = self._bounds(input_shape)
        if any(stop <= start for start, stop in zip(starts, stops, strict=True)):
            raise ValueError(
                f"Cropping2D: cropping: expected one that leaves a pixel of {input_shape}, got "
                f"{self.cropping}"
            )
        return tuple(stop - start for start, stop in zip(starts, stops, strict=True))

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        starts, stops = self._bounds(x.shape[1:])
        return _taken(x, backend, (None, *starts), (None, *stops), None)


class Split(Module):
    """An input cut along an axis, of channels by default, into parts: it gives several outputs.

    sizes: of the parts along the axis, which add up to its length. axis: of one input, without the
    batch axis, from 0 on or counted from the end.
    """

    def __init__(self, sizes: Sequence[int], axis: int = -1, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.sizes = shape_of(sizes, "Split: sizes")
        self.axis = integer(axis, "Split: axis", -(2**31))
        if len(self.sizes) < 2:
            raise ValueError(f"Split: sizes: expected two at least, got {shown(sizes)}")

    def declare(self, input_shape: Shape) -> Any:
        at = axis_of(self.axis, "Split: axis", len(input_shape))
        if sum(self.sizes) != input_shape[at]:
            raise ValueError(
                f"Split: sizes: expected a sum of {input_shape[at]}, the length of axis "
                f"{self.axis} of {input_shape}, got {self.sizes}"
            )
        return tuple((*input_shape[:at], size, *input_shape[at + 1 :]) for size in self.sizes)

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> Any:
        rank = len(x.shape)
        at = axis_of(self.axis, "Split: axis", rank - 1) + 1
        parts, end = [], 0
        for size in self.sizes:
            start, end = end, end + size
            starts, stops = ((*(None,) * at, edge, *(None,) * (rank - at - 1))
                             for edge in (start, end))  # fmt: skip
            parts.append(backend.strided_slice(x, starts, stops))
        return tuple(parts), lambda dys: backend.concat(list(dys), at)


@explained
def split(symbol: Symbol, sizes: Sequence[int], axis: int = -1) -> list[Symbol]:
    """Return the parts of a symbol along an axis: Split called on it."""
    result: Any = Split(sizes, axis)(symbol)
    return list(result)


def _taken(x: Array, backend: Backend, *bounds: Any) -> tuple[Array, Backward]:
    x_shape = x.shape
    return (
        backend.strided_slice(x, *bounds),
        lambda dy: backend.strided_slice_backward(dy, x_shape, *bounds),
    )


# ---------------------------------------------------------------------- blocks
class _Blocks(Module):
    """What both layers of blocks share: their options."""

    def __init__(self, block: int, *, mode: str = "DCR", name: str | None = None) -> None:
        super().__init__(name=name)
        who = type(self).__name__
        self.block = integer(block, f"{who}: block")
        self.mode = choice(mode, f"{who}: mode", BLOCK_MODES)


class DepthToSpace(_Blocks):
    """The channels of each pixel laid out as a block: (H, W, C) -> (H*block, W*block, C/block**2).

    mode: "DCR", as in ONNX and TensorFlow, where the channels of a pixel of the block lie side by
    side, or "CRD", PyTorch's PixelShuffle, where the pixels of a channel do.
    """

    def declare(self, input_shape: Shape) -> Shape:
        image_shape(input_shape, "DepthToSpace")
        return from_blocks((1, *input_shape), self.block, self.mode, "DepthToSpace: x")[1:]

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        block, mode = self.block, self.mode
        return (
            backend.depth_to_space(x, block, mode=mode),
            lambda dy: backend.depth_to_space_backward(dy, block, mode=mode),
        )


class SpaceToDepth(_Blocks):
    """Blocks of pixels gathered in the channels of one: the inverse of DepthToSpace."""

    def declare(self, input_shape: Shape) -> Shape:
        image_shape(input_shape, "SpaceToDepth")
        return to_blocks((1, *input_shape), self.block, self.mode, "SpaceToDepth: x")[1:]

    def forward(
        self,
        x: Array,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Array, Backward]:
        block, mode = self.block, self.mode
        return (
            backend.space_to_depth(x, block, mode=mode),
            lambda dy: backend.space_to_depth_backward(dy, block, mode=mode),
        )


# ---------------------------------------------------------------------- options
def _numbers2d(value: Any, where: str) -> Padding:
    """Return a padding as it was given; ValueError for one that depends on a window."""
    if isinstance(value, str):
        raise TypeError(
            f"{where}: expected a number, a pair or ((top, bottom), (left, right)), got "
            f"{shown(value)}"
        )
    return padding2d(value, where)
