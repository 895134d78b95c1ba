"""What is wrong with images, most likely, and what to type instead."""

from __future__ import annotations

import math
import os
import sys
import warnings

import numpy as np

from fastcnn._types import Array

__all__ = ["layout_hint", "shape_hint", "warn_of_bytes", "warn_of_layout"]

_CHANNELS = (1, 3)  # of images as they come
_MOST_IN_UNITS = 32.0  # floats above it are no images from 0 to 1, and not standardized


def shape_hint(shape: tuple[int, ...], input_shape: tuple[int, ...]) -> str:
    """Return what to do where a model takes inputs of another shape, or nothing."""
    rank = len(input_shape)
    last_first = "channels come last: np.moveaxis(x, {}, -1)"
    if (*shape[1:], 1) == input_shape:
        return "; add the axis of channels: x[..., None]"
    if shape == input_shape:
        return "; add the axis of the batch: x[None]"
    if (*shape, 1) == input_shape:
        return "; add the axes of batch and channels: x[None, ..., None]"
    if rank == 3 and len(shape) == 4 and (*shape[2:], shape[1]) == input_shape:
        return f"; {last_first.format(1)}"
    if rank == 3 and len(shape) == 3 and (*shape[1:], shape[0]) == input_shape:
        return f"; add the axis of the batch, and {last_first.format(0)}[None]"
    if len(shape) == 2 and shape[1] == math.prod(input_shape):
        return f"; reshape them: x.reshape(-1, {', '.join(map(str, input_shape))})"
    return ""


def layout_hint(shape: tuple[int, ...]) -> str:
    """Return what to do with a batch that a new model can't be built for, or nothing."""
    if _is_channels_first(shape):
        return "; images are (n, H, W, C), channels last: np.moveaxis(x, 1, -1)"
    if len(shape) == 3 and shape[-1] in _CHANNELS:
        return "; images are (n, H, W, C); add the axis of the batch: x[None]"
    if len(shape) == 3:
        return "; images are (n, H, W, C); add the axis of channels: x[..., None]"
    return ""


def warn_of_layout(shape: tuple[int, ...], where: str) -> None:
    """Warn of images that a new model was built for, though they look like channels-first ones."""
    if _is_channels_first(shape):
        warnings.warn(
            f"{where}: shape {shape} was taken for images of height {shape[1]} with {shape[3]} "
            "channels; if the channels come first, the model needs them last: "
            "np.moveaxis(x, 1, -1)",
            UserWarning,
            stacklevel=_of_the_caller(),
        )


def _is_channels_first(shape: tuple[int, ...]) -> bool:
    if len(shape) != 4 or shape[1] not in _CHANNELS or shape[3] in _CHANNELS:
        return False
    return min(shape[2:]) >= 8 and max(shape[2:]) <= 4 * min(shape[2:])


def warn_of_bytes(images: Array, where: str) -> None:
    """Warn of floats that look like bytes; the first 32 images are looked at."""
    if images.dtype.kind != "f" or images.ndim != 4:
        return
    some = images[:32]
    low, high = some.min(), some.max()
    if low >= 0 and _MOST_IN_UNITS < high <= np.iinfo(np.uint8).max:
        warnings.warn(
            f"{where}: floats up to {high:g} are taken as they are (uint8 is divided by 255); "
            f"models learn better from 0 to 1: divide by 255",
            UserWarning,
            stacklevel=_of_the_caller(),
        )


def _of_the_caller() -> int:
    """Return the stacklevel at which a warning names the line that called the package."""
    folder, level = os.path.dirname(__file__), 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(folder):
        frame, level = frame.f_back, level + 1
    return level
