"""Images from files, in the size that a model takes: for `fastcnn predict`."""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np

from fastcnn.backend import Array

__all__ = ["read_images"]

_MODES: Final = {1: "L", 3: "RGB"}  # Pillow's names by number of channels


def read_images(
    path: str, input_shape: tuple[int, ...], *, invert: bool = False
) -> tuple[list[str], Array]:
    """Return (labels, x): x (n, *input_shape) of a .npy or an image file, and a name for each.

    Arrays may lack the batch axis, or the channel axis of one channel. Image files become grey
    or RGB uint8 of the input's size, `invert`ed on demand. Raises ValueError for content of
    another kind or shape, OSError for a file that cannot be read.
    """
    with open(path, "rb") as file:
        is_array = file.read(6) == b"\x93NUMPY"
    if not is_array:
        return [path], _read_image(path, input_shape, invert)
    x = _read_array(path, input_shape)
    # only the file of a single image goes by its bare name
    return ([path] if len(x) == 1 else [f"{path}[{i}]" for i in range(len(x))]), x


def _read_array(path: str, input_shape: tuple[int, ...]) -> Array:
    try:
        # mapped: a header that announces more than the file holds is an error, not memory
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OverflowError, SyntaxError) as error:
        raise ValueError(f"{path}: expected a .npy file of an array: {error}") from None
    if array.dtype != np.uint8 and array.dtype not in (np.float16, np.float32, np.float64):
        raise ValueError(f"{path}: expected uint8 or float numbers, got {array.dtype}")
    shapes = [input_shape]
    if input_shape[-1] == 1 and len(input_shape) > 1:
        shapes.append(input_shape[:-1])
    for shape in shapes:
        if array.shape == shape:
            return np.array(array).reshape(1, *input_shape)
        if array.shape[1:] == shape and len(array) > 0:
            return np.array(array).reshape(len(array), *input_shape)
    raise ValueError(
        f"{path}: expected an array of shape {' or '.join(map(str, shapes))}, with or without a "
        f"batch axis before it, got {array.shape}"
    )


def _read_image(path: str, input_shape: tuple[int, ...], invert: bool) -> Array:
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ModuleNotFoundError:
        raise ValueError(
            f"{path}: expected a .npy file; image files need Pillow: pip install 'fastcnn[images]'"
        ) from None

    if len(input_shape) != 3 or input_shape[2] not in _MODES:
        raise ValueError(
            f"{path}: expected a .npy file, since the model's input {input_shape} is no grey or "
            "RGB image"
        )
    height, width, channels = input_shape
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                if opened.mode.startswith(("I", "F")):  # Pillow would clip these at 255
                    raise ValueError(f"8 bits a pixel are expected, its mode is {opened.mode}")
                image = ImageOps.exif_transpose(opened).convert(_MODES[channels])
    except UnidentifiedImageError:
        raise ValueError(f"{path}: expected a .npy or an image file, got neither") from None
    except (
        OSError,
        ValueError,
        SyntaxError,  # Pillow's word for a broken PNG
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ValueError(f"{path}: expected an image that can be read: {error}") from None
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    x = np.asarray(image, dtype=np.uint8).reshape(1, *input_shape)
    return 255 - x if invert else x
