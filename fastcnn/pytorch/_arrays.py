"""The arrays that tensors become: each storage is read once, as far as it is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import BinaryIO

import numpy as np

from fastcnn._types import Array
from fastcnn.pytorch._tensors import STORED, Order, Place, Storage, Tensor, width_of

__all__ = ["arrays_of"]

_ROOM = 16 << 20  # bytes by which tensors that overlap may be more than the file


def arrays_of(
    tensors: Mapping[str, Tensor], places: Mapping[str, Place], file: BinaryIO, file_size: int
) -> dict[str, Array]:
    """Return the arrays of tensors whose storages are at these places of a file.

    They lie row by row. Each storage is read once; those of tensors that are the same numbers
    (tied weights) are one array.
    """
    of_storage: dict[str, dict[Tensor, list[str]]] = {}
    total = 0
    for name, tensor in tensors.items():
        same = of_storage.setdefault(tensor.storage.key, {}).setdefault(tensor, [])
        if not same:
            total += math.prod(tensor.shape) * width_of(tensor.dtype)
            _require_place(tensor.storage, places)
        same.append(name)
    if total > file_size + _ROOM:
        raise ValueError(f"its tensors are {total} bytes in a file of {file_size}: they overlap")
    found: dict[str, Array] = {}
    for key, distinct in of_storage.items():
        place = places[key]
        data = bytearray(place.size)
        file.seek(place.start)
        if file.readinto(data) != place.size:  # type: ignore[attr-defined]
            raise ValueError("it was cut off while it was read")
        for tensor, names in distinct.items():
            array = _array_of(tensor, data, place.order, alone=len(distinct) == 1)
            found.update(dict.fromkeys(names, array))
    return {name: found[name] for name in tensors}


def _require_place(storage: Storage, places: Mapping[str, Place]) -> None:
    if storage.key not in places:
        raise ValueError(f"it has no data for the storage {storage.key!r:.40}")
    width = width_of(storage.dtype)
    if places[storage.key].size != storage.whole * width:
        raise ValueError(
            f"the storage {storage.key!r:.40} has {places[storage.key].size} bytes, expected "
            f"{storage.whole} numbers of {width} bytes"
        )


def _array_of(tensor: Tensor, data: bytearray, order: Order, *, alone: bool) -> Array:
    """Return a tensor's array; in the storage's own memory where it is alone and fills it."""
    kind = np.dtype(STORED[tensor.dtype])
    if 0 in tensor.shape:
        return _widened(np.empty(tensor.shape, kind), tensor.dtype)
    width, storage = kind.itemsize, tensor.storage
    first = storage.start * width_of(storage.dtype) + tensor.offset * width
    strides = tuple(step * width for step in tensor.strides)
    view = np.ndarray(tensor.shape, kind.newbyteorder(order), data, first, strides)
    wide = _widened(view, tensor.dtype)
    if wide is not view:
        return np.asarray(wide, order="C")
    if alone and view.flags.c_contiguous and view.nbytes == len(data) and view.dtype == kind:
        return view
    return np.array(view, kind, order="C")


def _widened(array: Array, dtype: str) -> Array:
    """Return numbers of a dtype that NumPy hasn't as float32, half ones too; others as they are."""
    if dtype == "float16":
        return array.astype(np.float32)
    if dtype == "bfloat16":
        return np.asarray(np.left_shift(array, 16, dtype=np.uint32)).view(np.float32)
    if dtype == "bool":  # a byte of a file may be any
        return np.asarray(array.view(np.uint8) != 0)
    if dtype.startswith("float8"):
        return np.asarray(_float8(dtype)[array])
    return array


@cache
def _float8(dtype: str) -> Array:
    """Return what each byte is as a number of 8 bits (Micikevicius et al., 2022; OCP's e8m0)."""
    form = dtype.removeprefix("float8_")
    exponents, fractions = int(form[1]), int(form[3])
    byte = np.arange(256)
    values: Array
    if form == "e8m0fnu":
        values = 2.0 ** (byte - 127)
        values[255] = np.nan
        return values.astype(np.float32)
    bias = 2 ** (exponents - 1) - (0 if form.endswith("uz") else 1)
    exponent = byte >> fractions & (2**exponents - 1)
    fraction = (byte & (2**fractions - 1)) / 2**fractions
    values = np.where(
        exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent - bias)
    )
    top = byte & 0x7F
    if form == "e4m3fn":
        values[top == 0x7F] = np.nan
    elif form == "e5m2":
        values[top == 0x7C] = np.inf
        values[top > 0x7C] = np.nan
    values[byte >= 128] *= -1
    if form.endswith("uz"):
        values[128] = np.nan
    table: Array = values.astype(np.float32)
    return table
