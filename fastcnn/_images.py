"""Images from files, in the size that a model takes: for `fastcnn predict`."""

from __future__ import annotations

import math
import os
from typing import Any, BinaryIO

import numpy as np

from fastcnn._pictures import MODES, read_picture
from fastcnn._shapes import fits
from fastcnn._types import Array

__all__ = ["read_images"]


def read_images(
    path: str, input_shape: tuple[int, ...], *, invert: bool = False
) -> tuple[list[str], Array]:
    """Return (labels, x): x (n, *input_shape) of a .npy or an image file, and a name for each.

    A size that is None in input_shape is the file's own. Arrays may lack the batch axis, or the
    channel axis of one channel. Image files become grey or RGB uint8 of the input's size
    (`read_picture` says how), `invert`ed on demand. Raises ValueError for content of another kind
    or shape, OSError for a file that cannot be read, MemoryError for one that memory does not hold.
    """
    if os.path.isdir(path):
        raise ValueError(
            f"{path}: expected a .npy or an image file, got a folder; name the files in it, as "
            f"{os.path.join(path, '*')} does"
        )
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path}: expected a .npy or an image file, got a pipe or a device")
    with open(path, "rb") as file:
        is_array = file.read(6) == b"\x93NUMPY"
        file.seek(0)
        if not is_array:
            x = _read_picture(file, path, input_shape)
            return [path], 255 - x if invert else x
        x = _read_array(file, path, input_shape)
    # only the file of a single image goes by its bare name
    return ([path] if len(x) == 1 else [f"{path}[{i}]" for i in range(len(x))]), x


def _read_picture(file: BinaryIO, path: str, input_shape: tuple[int, ...]) -> Array:
    if len(input_shape) != 3 or input_shape[2] not in MODES:
        raise ValueError(
            f"{path}: expected a .npy file, since the model's input {input_shape} is no grey or "
            "RGB image"
        )
    try:
        return read_picture(file, path, *input_shape)[np.newaxis]
    except ModuleNotFoundError:
        raise ValueError(
            f"{path}: expected a .npy file; image files need Pillow: pip install 'fastcnn[images]'"
        ) from None


def _read_array(file: BinaryIO, path: str, input_shape: tuple[int, ...]) -> Array:
    try:
        shape, fortran_order, dtype = _read_header(file)
    except Exception as error:  # NumPy's parser fails in many ways, TokenError among them
        raise ValueError(f"{path}: expected a .npy file of an array: {str(error)[:200]}") from None
    if dtype.newbyteorder("=") not in (np.uint8, np.float16, np.float32, np.float64):
        raise ValueError(f"{path}: expected uint8 or float numbers, got {str(dtype)[:80]}")
    # believed only as far as the file goes, before anything is allocated
    size = math.prod(shape) * dtype.itemsize
    held = os.fstat(file.fileno()).st_size - file.tell()
    if size != held:
        raise ValueError(
            f"{path}: expected the {size} bytes of an array of shape {shape}, got {held}"
        )
    try:
        flat = np.frombuffer(file.read(), dtype)
    except MemoryError:
        raise MemoryError(f"{path}, an array of {size:,} bytes") from None
    array = flat.reshape(shape, order="F" if fortran_order else "C")
    shapes = [input_shape]
    if input_shape[-1] == 1 and len(input_shape) > 1:
        shapes.append(input_shape[:-1])
    for shape in shapes:
        last = input_shape[len(shape) :]  # the axis of channels, if that is missing
        if fits(array.shape, shape):
            return _native(array).reshape(1, *array.shape, *last)
        if fits(array.shape[1:], shape) and len(array) > 0:
            return _native(array).reshape(*array.shape, *last)
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
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")
