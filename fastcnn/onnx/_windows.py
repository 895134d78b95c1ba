"""Convolutions, pools and resizing, as ONNX has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn._shapes import axis_of
from fastcnn.onnx._call import Call, last, operator
from fastcnn.onnx._tensor import Tensor, channels_last

__all__: list[str] = []


# ---------------------------------------------------------------------- windows
class _Window:
    """The window of a convolution or pool, of rank 1 or 2, as numbers of rows and columns.

    Images of rank 1 are images of one row.
    """

    def __init__(self, c: Call, x: Tensor, kernel: Sequence[int]) -> None:
        rank = x.rank - 2
        if rank not in (1, 2):
            raise ValueError(f"expected images of one or two axes, got shape {x.shape}")
        self.rank, self.batch = rank, x.shape[0]
        size = x.shape[2:]
        kernel = [int(each) for each in kernel]
        strides = c.get("strides") or [1] * rank
        dilations = c.get("dilations") or [1] * rank
        pads = c.get("pads") or [0] * (2 * rank)
        if not len(kernel) == len(strides) == len(dilations) == len(pads) // 2 == rank:
            raise ValueError(f"expected {rank} numbers for each of kernel, strides and dilations")
        auto = c.get("auto_pad", "NOTSET")
        widths = list(zip(pads[:rank], pads[rank:], strict=True))
        if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", ""):
            raise ValueError(f"expected an auto_pad of ONNX, got {auto:.40}")
        if auto == "VALID":
            widths = [(0, 0)] * rank
        elif auto in ("SAME_UPPER", "SAME_LOWER"):
            widths = [
                _same(n, k, stride, dilation, auto == "SAME_LOWER")
                for n, k, stride, dilation in zip(size, kernel, strides, dilations, strict=True)
            ]
        ones = [1] * (2 - rank)
        self.kernel = (*ones, *kernel)
        self.strides = (*ones, *strides)
        self.dilations = (*ones, *dilations)
        self.padding: Any = (*([(0, 0)] * (2 - rank)), *widths)

    @property
    def is_wide(self) -> bool:
        """Whether there is more padding than half a window, the most that our pools have."""
        reaches = ((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))
        return any(
            2 * pad > reach
            for pads, reach in zip(self.padding, reaches, strict=True)
            for pad in pads
        )

    def images(self, c: Call, x: Tensor) -> Any:
        """Return a tensor as images (N, H, W, C)."""
        if self.rank == 2:
            return x.stored(c.backend, channels_last(4))
        array = x.stored(c.backend, channels_last(3))
        n, length, channels = array.shape
        return c.backend.reshape(array, (n, 1, length, channels))

    def tensor(self, c: Call, array: Any) -> Tensor:
        """Return what a kernel gives as a tensor."""
        if self.rank == 2:
            return last(array)
        n, _, length, channels = array.shape
        return last(c.backend.reshape(array, (n, length, channels)), 3)


def _same(size: int, kernel: int, stride: int, dilation: int, lower: bool) -> tuple[int, int]:
    """Return the padding with which an output has size / stride places, rounded up."""
    whole = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return (whole - whole // 2, whole // 2) if lower else (whole // 2, whole - whole // 2)


# ---------------------------------------------------------------------- convolutions
def filters(c: Call) -> Any:
    """Return a convolution's weights as kernels take them: (R, S, C // groups, K).

    Those of a file, (K, C // groups, R, S), lie so already in the layer that holds them; what is
    computed is moved. Those of a transposed one, (C, K // groups, R, S), become
    (R, S, K // groups, C) by the same move.
    """
    w = c.tensor(1)
    if w.rank != c.x.rank:
        raise ValueError(f"expected weights of rank {c.x.rank}, got shape {w.shape}")
    if w.rank == 3:
        w = w.reshaped(c.backend, (*w.shape[:2], 1, w.shape[2]))
    return w.stored(c.backend, (2, 3, 1, 0))


def bias(c: Call, at: int) -> Any:
    """Return a vector (K,) that may be left out."""
    return None if c.input(at) is None else c.tensor(at).stored(c.backend)


@operator("Conv")
def _conv(c: Call) -> Tensor:
    w = filters(c)
    window = _Window(c, c.x, w.shape[2 - (c.x.rank - 2) : 2])
    y = c.backend.conv2d(
        window.images(c, c.x),
        w,
        bias(c, 2),
        stride=window.strides,
        padding=window.padding,
        dilation=window.dilations,
        groups=c.get("group", 1),
    )
    return window.tensor(c, y)


@operator("ConvTranspose")
def _conv_transpose(c: Call) -> Tensor:
    w = filters(c)
    rank = c.x.rank - 2
    window = _Window(c, c.x, w.shape[2 - rank : 2])
    w = _dilated(c, w, window.dilations)
    window.kernel = tuple(w.shape[:2])
    extra = [*[0] * (2 - rank), *(c.get("output_padding") or [0] * rank)]
    padding = [list(each) for each in window.padding]
    size = c.x.shape[2:]
    wanted = c.get("output_shape")
    auto = c.get("auto_pad", "NOTSET")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(size, window.strides[2 - rank :], strict=True)]
    if wanted is not None:
        for axis, length in enumerate(wanted[-rank:]):
            at = axis + 2 - rank
            whole = window.strides[at] * (size[axis] - 1) + extra[at] + window.kernel[at] - length
            if whole < 0:  # more than the windows reach: zeros behind
                extra[at], whole = extra[at] - whole, 0
            small, large = whole // 2, whole - whole // 2
            # The odd pixel is cut at the end for SAME_UPPER, else at the head.
            padding[at] = [small, large] if auto == "SAME_UPPER" else [large, small]
    y = c.backend.conv2d_transpose(
        window.images(c, c.x),
        w,
        bias(c, 2),
        stride=window.strides,
        padding=tuple(map(tuple, padding)),
        output_padding=tuple(extra),
        groups=c.get("group", 1),
    )
    return window.tensor(c, y)


def _dilated(c: Call, w: Any, dilations: tuple[int, ...]) -> Any:
    """Return filters (R, S, ...) with zeros between their taps."""
    if dilations == (1, 1):
        return w
    (r, s, *rest), (down, right) = w.shape, dilations
    w = c.backend.reshape(w, (r, 1, s, 1, *rest))
    w = c.backend.pad(w, ((0, 0), (0, down - 1), (0, 0), (0, right - 1), (0, 0), (0, 0)))
    w = c.backend.reshape(w, (r * down, s * right, *rest))
    ends = ((r - 1) * down + 1, (s - 1) * right + 1, None, None)
    return c.backend.strided_slice(w, (None,) * 4, ends)


# ---------------------------------------------------------------------- pools
@operator("MaxPool")
def _max_pool(c: Call) -> Tensor:
    window = _Window(c, c.x, c.needed("kernel_shape"))
    x, padding = window.images(c, c.x), window.padding
    if window.is_wide:
        widths = ((0, 0), *padding, (0, 0))
        x = c.backend.pad(x, widths, value=-math.inf)
        padding = 0
    y, _ = c.backend.max_pool2d(
        x,
        window.kernel,
        stride=window.strides,
        padding=padding,
        dilation=window.dilations,
        ceil_mode=bool(c.get("ceil_mode", 0)),
    )
    return window.tensor(c, y)


@operator("AveragePool")
def _average_pool(c: Call) -> Tensor:
    window = _Window(c, c.x, c.needed("kernel_shape"))
    x, whole = window.images(c, c.x), bool(c.get("count_include_pad", 0))
    if window.is_wide and not c.get("ceil_mode", 0):
        return window.tensor(c, _averages(c, x, window, whole))
    y = c.backend.avg_pool2d(
        x,
        window.kernel,
        stride=window.strides,
        padding=window.padding,
        dilation=window.dilations,
        ceil_mode=bool(c.get("ceil_mode", 0)),
        count_include_pad=whole,
    )
    return window.tensor(c, y)


def _averages(c: Call, x: Any, window: _Window, whole: bool) -> Any:
    """Return the means of windows that lie in the padding as far as they like.

    As a convolution of each channel by itself.
    """
    options: dict[str, Any] = {"stride": window.strides, "padding": window.padding}
    options["dilation"] = window.dilations
    channels, area = x.shape[3], math.prod(window.kernel)
    w = c.filled((*window.kernel, 1, channels), 1 / area)
    y = c.backend.conv2d(x, w, groups=channels, **options)
    if whole:
        return y
    counts: list[list[int]] = [
        [
            sum(0 <= p * stride + k * dilation - pads[0] < size for k in range(kernel))
            for p in range(length)
        ]
        for length, size, kernel, stride, dilation, pads in zip(
            y.shape[1:3], x.shape[1:3], window.kernel, window.strides, window.dilations,
            window.padding, strict=True
        )
    ]  # fmt: skip
    scale = area / np.outer(counts[0], counts[1]).reshape(1, *y.shape[1:3], 1)
    return c.backend.multiply(y, scale.astype(c.dtype))


@operator("GlobalAveragePool")
def _global_average_pool(c: Call) -> Tensor:
    if c.x.rank != 4:
        return _over_pixels(c, "reduce_mean")
    y = c.backend.global_avg_pool2d(c.images())
    n, channels = y.shape
    return last(c.backend.reshape(y, (n, 1, 1, channels)))


@operator("GlobalMaxPool")
def _global_max_pool(c: Call) -> Tensor:
    return _over_pixels(c, "reduce_max")


def _over_pixels(c: Call, op: str) -> Tensor:
    rank = c.x.rank
    array = c.x.stored(c.backend, channels_last(rank))
    axes = tuple(range(1, rank - 1))
    return last(getattr(c.backend, op)(array, axes, keepdims=True), rank)


# ---------------------------------------------------------------------- other sizes
_METHODS = {"nearest": "nearest", "linear": "bilinear", "bilinear": "bilinear", "cubic": "cubic"}


@operator("Resize", "Upsample")
def _resize(c: Call) -> Tensor:
    x = c.x
    if c.op == "Upsample" or c.opset < 11:
        scales, sizes, rule = c.setting("scales", 1), None, "asymmetric"
        options = {"rounding": "floor"}
    else:
        scales, sizes = c.setting("scales", 2), c.setting("sizes", 3)
        rule = c.get("coordinate_transformation_mode", "half_pixel")
        options = {"rounding": c.get("nearest_mode", "round_prefer_floor")}
    method = _METHODS[c.get("mode", "nearest")]
    if c.get("antialias", 0):
        raise ValueError("expected no antialias, got some")
    if rule == "tf_crop_and_resize":
        raise ValueError(f"expected another coordinate_transformation_mode than {rule}")
    axes = [axis_of(axis, "axes", x.rank) for axis in c.get("axes") or range(x.rank)]
    size, ratio = list(x.shape), [1.0] * x.rank
    if sizes:
        policy = c.get("keep_aspect_ratio_policy", "stretch")
        found = [wanted / x.shape[axis] for axis, wanted in zip(axes, sizes, strict=True)]
        for at, (axis, wanted) in enumerate(zip(axes, sizes, strict=True)):
            if axis == 0:  # a file that was written for one image says 1 where it means the batch
                continue
            ratio[axis], size[axis] = found[at], int(wanted)
            if policy != "stretch":
                ratio[axis] = (min if policy == "not_larger" else max)(found)
                size[axis] = math.floor(ratio[axis] * x.shape[axis] + 0.5)
        given = None
    else:
        if not scales:
            raise ValueError("expected scales or sizes, got neither")
        for axis, scale in zip(axes, scales, strict=True):
            ratio[axis], size[axis] = scale, math.floor(x.shape[axis] * scale)
        given = ratio
    return _resized(c, x, size, given, method, rule, options)


def _resized(
    c: Call,
    x: Tensor,
    size: list[int],
    scale: list[float] | None,
    method: str,
    rule: str,
    options: dict[str, Any],
) -> Tensor:
    moved = [axis for axis in range(x.rank) if size[axis] != x.shape[axis]]
    if not moved and rule != "asymmetric":
        return x
    rank = x.rank
    if rank == 3:
        array = x.stored(c.backend, channels_last(3))
        n, length, channels = array.shape
        array = c.backend.reshape(array, (n, 1, length, channels))
        pair, ratio = (1, size[2]), None if scale is None else (1.0, scale[2])
    elif rank == 4 and not {0, 1} & set(moved):
        array = x.stored(c.backend, channels_last(4))
        pair, ratio = (size[2], size[3]), None if scale is None else (scale[2], scale[3])
    else:
        raise ValueError(f"expected images of another size, got {x.shape} to become {tuple(size)}")
    if method != "nearest":
        options = {}
    if method == "cubic":
        options["cubic_coefficient"] = c.get("cubic_coeff_a", -0.75)
        options["exclude_outside"] = bool(c.get("exclude_outside", 0))
    y = c.backend.resize2d(array, pair, method=method, coordinates=rule, scale=ratio, **options)
    if rank == 3:
        y = c.backend.reshape(y, (y.shape[0], y.shape[2], y.shape[3]))
    return last(y, rank)


@operator("DepthToSpace")
def _depth_to_space(c: Call) -> Tensor:
    mode = c.get("mode", "DCR")
    return last(c.backend.depth_to_space(c.images(), c.needed("blocksize"), mode=mode))


@operator("SpaceToDepth")
def _space_to_depth(c: Call) -> Tensor:
    mode = c.get("mode", "DCR")
    return last(c.backend.space_to_depth(c.images(), c.needed("blocksize"), mode=mode))
