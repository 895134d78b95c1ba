"""Convolutions and pools of images."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastcnn._types import Array, Padding, Scale2D, Size2D
from fastcnn.backend import Backend
from fastcnn.functional._call import backend_of, on_batch, with_names

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "conv2d",
    "conv2d_transpose",
    "global_avg_pool2d",
    "max_pool2d",
    "resize2d",
    "upsample2d",
]


@with_names(w="filters", b="bias")
def conv2d(
    x: ArrayLike,
    filters: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Size2D = 1,
    padding: Padding = 0,
    dilation: Size2D = 1,
    groups: int = 1,
    backend: str | Backend = "fast",
) -> Array:
    """Cross-correlate an image (H, W, C) or a batch (N, H, W, C) with filters (R, S, C, K).

    Returns (P, Q, K) or (N, P, Q, K), P = (H + pads - R) // stride + 1 and Q alike.
    See `fastcnn.backend.Backend.conv2d` for the options.
    """

    def op(batch: Array) -> Array:
        return backend_of(backend).conv2d(
            batch, filters, bias, stride=stride, padding=padding, dilation=dilation, groups=groups
        )

    return on_batch("conv2d", op, x)


@with_names(w="filters", b="bias")
def conv2d_transpose(
    x: ArrayLike,
    filters: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Size2D = 1,
    padding: Padding = 0,
    output_padding: Size2D = 0,
    groups: int = 1,
    backend: str | Backend = "fast",
) -> Array:
    """Lay filters (R, S, K, C) on the output, each pixel its own times its value.

    The adjoint of conv2d: an image (H, W, C) becomes (P, Q, K), P = (H - 1) * stride + R - pads +
    output_padding and Q alike, or with padding "same" H * stride.
    """

    def op(batch: Array) -> Array:
        return backend_of(backend).conv2d_transpose(
            batch,
            filters,
            bias,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            groups=groups,
        )

    return on_batch("conv2d_transpose", op, x)


@with_names()
def max_pool2d(
    x: ArrayLike,
    pool_size: Size2D = 2,
    *,
    stride: Size2D | None = None,
    padding: Padding = 0,
    dilation: Size2D = 1,
    ceil_mode: bool = False,
    backend: str | Backend = "fast",
) -> Array:
    """Return the largest value of each window; `stride` defaults to `pool_size`."""

    def op(batch: Array) -> Array:
        return backend_of(backend).max_pool2d(
            batch,
            pool_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            ceil_mode=ceil_mode,
        )[0]

    return on_batch("max_pool2d", op, x)


@with_names()
def avg_pool2d(
    x: ArrayLike,
    pool_size: Size2D = 2,
    *,
    stride: Size2D | None = None,
    padding: Padding = 0,
    dilation: Size2D = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    backend: str | Backend = "fast",
) -> Array:
    """Return the mean of each window; `stride` defaults to `pool_size`."""

    def op(batch: Array) -> Array:
        return backend_of(backend).avg_pool2d(
            batch,
            pool_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
        )

    return on_batch("avg_pool2d", op, x)


@with_names()
def adaptive_avg_pool2d(
    x: ArrayLike, output_size: Size2D, *, backend: str | Backend = "fast"
) -> Array:
    """Return the mean of each of as many windows as are asked for, (height, width)."""

    def op(batch: Array) -> Array:
        return backend_of(backend).adaptive_avg_pool2d(batch, output_size)

    return on_batch("adaptive_avg_pool2d", op, x)


@with_names()
def upsample2d(
    x: ArrayLike,
    factor: Size2D,
    *,
    method: str = "nearest",
    backend: str | Backend = "fast",
) -> Array:
    """Return images made larger by a whole factor; method: "nearest" or "bilinear"."""

    def op(batch: Array) -> Array:
        return backend_of(backend).upsample2d(batch, factor, method=method)

    return on_batch("upsample2d", op, x)


@with_names()
def resize2d(
    x: ArrayLike,
    size: Size2D,
    *,
    method: str = "nearest",
    coordinates: str = "half_pixel",
    rounding: str = "round_prefer_floor",
    scale: Scale2D | None = None,
    cubic_coefficient: float = -0.75,
    exclude_outside: bool = False,
    backend: str | Backend = "fast",
) -> Array:
    """Return images of any size (height, width); method: "nearest", "bilinear" or "cubic".

    See `fastcnn.backend.Backend.resize2d` for the options.
    """

    def op(batch: Array) -> Array:
        return backend_of(backend).resize2d(
            batch,
            size,
            method=method,
            coordinates=coordinates,
            rounding=rounding,
            scale=scale,
            cubic_coefficient=cubic_coefficient,
            exclude_outside=exclude_outside,
        )

    return on_batch("resize2d", op, x)


@with_names()
def global_avg_pool2d(x: ArrayLike, *, backend: str | Backend = "fast") -> Array:
    """Return the mean over height and width, (C,) for an image, (N, C) for a batch."""
    return on_batch("global_avg_pool2d", backend_of(backend).global_avg_pool2d, x)
