"""What each op of a program is in an ONNX file: the table, and ops of windows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastcnn._options import pads_of, pair
from fastcnn._types import Shape
from fastcnn.onnx._emit import Emitted, Emitter
from fastcnn.onnx._tensor import Tensor

__all__ = ["FIRST", "WRITTEN", "Writing"]

FIRST = (0, 3, 1, 2)  # our axes (N, H, W, C) in the order of ONNX's images
WRITTEN: dict[str, Callable[..., Any]] = {}


class Writing:
    """One op as it is written: the emitter, the shapes of its results, the name of the first."""

    def __init__(self, emit: Emitter, shapes: list[Shape], name: str, open_size: bool) -> None:
        self.emit, self.shapes, self.name, self.open_size = emit, shapes, name, open_size

    def node(
        self, op: str, inputs: list[Any], order: tuple[int, ...] | None, **attributes: Any
    ) -> Tensor:
        """Return the op's result, by a node whose result has our axes in this order."""
        (shape, *_) = self.shapes
        order = tuple(range(len(shape))) if order is None else order
        array = self.emit.node(
            op, inputs, tuple(shape[axis] for axis in order), self.name, **attributes
        )
        return Tensor(array, order)

    def step(self, op: str, *inputs: Any, shape: Shape | None = None, **attributes: Any) -> Emitted:
        """Return a result on the way, of the first input's shape unless another is given."""
        return self.emit.node(op, list(inputs), shape or inputs[0].shape, self.name, **attributes)

    def images(self, x: Tensor) -> Any:
        return x.stored(self.emit, FIRST)


def written(*ops: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function that writes these ops, of (writing, *arrays, **options)."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        WRITTEN.update(dict.fromkeys(ops, function))
        return function

    return enter


# ---------------------------------------------------------------------- windows
def _window(
    at: Writing, x: Tensor, kernel: tuple[int, int], stride: Any, padding: Any, dilation: Any = 1
) -> dict[str, Any]:
    strides, dilations = pair(stride), pair(dilation)
    options: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(strides)}
    if dilations != (1, 1):
        options["dilations"] = list(dilations)
    if at.open_size and padding == "same":
        return {**options, "auto_pad": "SAME_UPPER"}
    (top, bottom), (left, right) = pads_of(padding, x.shape[1:3], kernel, strides, dilations)
    return {**options, "pads": [top, left, bottom, right]}


@written("conv2d")
def _conv2d(
    at: Writing,
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    options = _window(at, x, (w.shape[0], w.shape[1]), stride, padding, dilation)
    given = [at.images(x), w.stored(at.emit, (3, 2, 0, 1)), b and b.array]
    return at.node("Conv", given, FIRST, group=groups, **options)


@written("conv2d_transpose")
def _conv2d_transpose(
    at: Writing,
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
) -> Tensor:
    strides, kernel, extra = pair(stride), w.shape[:2], list(pair(output_padding))
    (top, bottom), (left, right) = pads_of(padding, at.shapes[0][1:3], kernel, strides)
    reached = [s * (n - 1) + k for s, n, k in zip(strides, x.shape[1:3], kernel, strict=True)]
    # What no window reaches of an image that is padded to be "same".
    extra = [
        max(asked, out + sum(pads) - reach)
        for asked, out, pads, reach in zip(
            extra, at.shapes[0][1:3], ((top, bottom), (left, right)), reached, strict=True
        )
    ]
    given = [at.images(x), w.stored(at.emit, (3, 2, 0, 1)), b and b.array]
    return at.node(
        "ConvTranspose",
        given,
        FIRST,
        group=groups,
        kernel_shape=list(kernel),
        strides=list(strides),
        pads=[top, left, bottom, right],
        output_padding=extra if any(extra) else None,
    )


@written("max_pool2d")
def _max_pool2d(
    at: Writing,
    x: Tensor,
    *,
    pool_size: Any = 2,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    dilation: Any = 1,
) -> Tensor:
    kernel = pair(pool_size)
    stride = kernel if stride is None else stride
    options = _window(at, x, kernel, stride, padding, dilation)
    if ceil_mode and not at.open_size:  # before opset 22 the last window was of another rule
        ceil_mode = False
        options["pads"] = _reaching(options, x.shape[1:3], at.shapes[0][1:3])
    return at.node("MaxPool", [at.images(x)], FIRST, ceil_mode=int(ceil_mode), **options)


def _reaching(options: dict[str, Any], size: Shape, out: Shape) -> list[int]:
    """Return the pads with which the last of so many windows ends at the end."""
    dilations = options.get("dilations", (1, 1))
    top, left, *_ = options["pads"]
    behind = [
        max((count - 1) * stride + (k - 1) * dilation + 1 - n - before, 0)
        for count, stride, k, dilation, n, before in zip(
            out, options["strides"], options["kernel_shape"], dilations, size, (top, left),
            strict=True,
        )
    ]  # fmt: skip
    return [top, left, *behind]


@written("avg_pool2d")
def _avg_pool2d(
    at: Writing,
    x: Tensor,
    *,
    pool_size: Any = 2,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Tensor:
    kernel = pair(pool_size)
    options = _window(at, x, kernel, kernel if stride is None else stride, padding, dilation)
    if "dilations" in options and at.emit.opset < 19:
        raise ValueError(f"expected opset 19 for means of dilated windows, got {at.emit.opset}")
    flags = {"ceil_mode": int(ceil_mode), "count_include_pad": int(count_include_pad)}
    return at.node("AveragePool", [at.images(x)], FIRST, **flags, **options)


@written("adaptive_avg_pool2d")
def _adaptive_avg_pool2d(at: Writing, x: Tensor, *, output_size: Any) -> Tensor:
    """As products with the shares that rows and columns have in each mean."""
    if at.open_size:
        raise ValueError("expected means of windows of one size, got ones that depend on it")
    n, channels, rows, columns = (x.shape[axis] for axis in FIRST)
    down, right = (_shares(size, count) for size, count in
                   zip((rows, columns), at.shapes[0][1:3], strict=True))  # fmt: skip
    shape = (n, channels, rows, right.shape[1])
    narrow = at.step("MatMul", at.images(x), right.astype(at.emit.dtype), shape=shape)
    return at.node("MatMul", [np.ascontiguousarray(down.T, at.emit.dtype), narrow], FIRST)


def _shares(size: int, count: int) -> Any:
    """Return a matrix (size, count): in column p one divided by the places of mean p, at these."""
    found = np.zeros((size, count))
    for p in range(count):
        first, end = p * size // count, -(-(p + 1) * size // count)
        found[first:end, p] = 1 / (end - first)
    return found


@written("global_avg_pool2d")
def _global_avg_pool2d(at: Writing, x: Tensor) -> Tensor:
    n, channels = at.shapes[0]
    pooled = at.step("GlobalAveragePool", at.images(x), shape=(n, channels, 1, 1))
    return Tensor(at.emit.node("Flatten", [pooled], (n, channels), at.name, axis=1))


@written("upsample2d")
def _upsample2d(at: Writing, x: Tensor, *, factor: Any, method: str = "nearest") -> Tensor:
    rows, columns = pair(factor)
    scales = np.array([1, 1, rows, columns], np.float32)
    if method == "nearest":
        rule = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
                "nearest_mode": "floor"}  # fmt: skip
    else:
        rule = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return at.node("Resize", [at.images(x), None, scales], FIRST, **rule)


@written("resize2d")
def _resize2d(
    at: Writing,
    x: Tensor,
    *,
    size: Any,
    method: str = "nearest",
    coordinates: str = "half_pixel",
    rounding: str = "round_prefer_floor",
    scale: Any = None,
    cubic_coefficient: float = -0.75,
    exclude_outside: bool = False,
) -> Tensor:
    modes = {"nearest": "nearest", "bilinear": "linear", "cubic": "cubic"}
    options: dict[str, Any] = {
        "mode": modes[method],
        "coordinate_transformation_mode": coordinates,
    }
    if method == "nearest":
        options["nearest_mode"] = rounding
    if method == "cubic":
        options["cubic_coeff_a"] = cubic_coefficient
    if exclude_outside:
        options["exclude_outside"] = 1
    if scale is not None:
        ratios = scale if isinstance(scale, (tuple, list)) else (scale, scale)
        scales = np.array([1, 1, *ratios], np.float32)
        given = [math.floor(n * float(each)) for n, each in
                 zip(x.shape[1:3], scales[2:], strict=True)]  # fmt: skip
        if given != list(at.shapes[0][1:3]):
            raise ValueError(f"expected the size that its scale gives, {given}, got {size}")
        return at.node("Resize", [at.images(x), None, scales], FIRST, **options)
    _, rows, columns, _ = at.shapes[0]
    if at.open_size:
        raise ValueError("expected a scale for images of any size, got a size")
    # Only the scale of an axis may be asked for beside the batch, whose size is open.
    ratios = [rows / x.shape[1], columns / x.shape[2]]
    scales = np.array([1, 1, *ratios], np.float32)
    lengths = [math.floor(length * float(ratio)) for length, ratio in
               zip(x.shape[1:3], scales[2:], strict=True)]  # fmt: skip
    if lengths != [rows, columns] and at.emit.opset >= 18:
        sizes = at.emit.integers(rows, columns)
        return at.node("Resize", [at.images(x), None, None, sizes], FIRST, axes=[2, 3], **options)
    return at.node("Resize", [at.images(x), None, scales], FIRST, **options)


@written("depth_to_space", "space_to_depth")
def _blocks(at: Writing, x: Tensor, *, block: int, mode: str = "DCR", op: str = "") -> Tensor:
    if len(at.shapes[0]) and at.shapes[0][3] < x.shape[3]:
        return at.node("DepthToSpace", [at.images(x)], FIRST, blocksize=block, mode=mode)
    if mode == "DCR":
        return at.node("SpaceToDepth", [at.images(x)], FIRST, blocksize=block)
    if at.open_size:
        raise ValueError("expected space_to_depth in mode DCR for images of any size, got CRD")
    n, rows, columns, channels = at.shapes[0]
    shape = (n, channels, rows, columns)
    blocks = Tensor(at.step("SpaceToDepth", at.images(x), shape=shape, blocksize=block))
    parts = (n, block * block, channels // block**2, rows, columns)
    apart = blocks.reshaped(at.emit, parts).transposed((0, 2, 1, 3, 4))
    return apart.reshaped(at.emit, shape).transposed((0, 2, 3, 1))
