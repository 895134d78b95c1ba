"""Images from files, in the size that a model takes: for `fastcnn predict`."""

from __future__ import annotations

import math
import os
import warnings
from typing import Any, BinaryIO, Final

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
    with open(path, "rb") as file:
        try:
            shape, fortran_order, dtype = _read_header(file)
        except Exception as error:  # NumPy's parser fails in many ways, TokenError among them
            raise ValueError(f"{path}: expected a .npy file of an array: {error}") from None
        if dtype.newbyteorder("=") not in (np.uint8, np.float16, np.float32, np.float64):
            raise ValueError(f"{path}: expected uint8 or float numbers, got {dtype}")
        # believed only as far as the file goes, before anything is allocated
        size = math.prod(shape) * dtype.itemsize
        held = os.fstat(file.fileno()).st_size - file.tell()
        if size != held:
            raise ValueError(
                f"{path}: expected the {size} bytes of an array of shape {shape}, got {held}"
            )
        flat = np.frombuffer(file.read(), dtype)
    array = flat.reshape(shape, order="F" if fortran_order else "C")
    shapes = [input_shape]
    if input_shape[-1] == 1 and len(input_shape) > 1:
        shapes.append(input_shape[:-1])
    for shape in shapes:
        if array.shape == shape:
            return _native(array).reshape(1, *input_shape)
        if array.shape[1:] == shape and len(array) > 0:
            return _native(array).reshape(len(array), *input_shape)
    raise ValueError(
        f"{path}: expected an array of shape {' or '.join(map(str, shapes))}, with or without a "
        f"batch axis before it, got {array.shape}"
    )


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        header = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        header = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"versions 1.0 and 2.0 are known, not {version[0]}.{version[1]}")
    if min(header[0], default=0) < 0:
        raise ValueError(f"its shape is {header[0]}")
    return header


def _native(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("="), order="C")


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
