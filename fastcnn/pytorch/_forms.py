"""The forms of PyTorch's files: each becomes what was saved, and where its data lie.

Today's is a zip archive with a pickle and a part for each storage. The one of before PyTorch 1.6 is
a row of pickles with the storages behind them. The third is safetensors.
"""

from __future__ import annotations

import json
import math
from typing import Any, BinaryIO

from fastcnn._reading import brief, header_of, kind_of
from fastcnn.pytorch._names import NAMES, storage_of
from fastcnn.pytorch._opcodes import SAVE_THE_STATE, Machine
from fastcnn.pytorch._tensors import (
    MOST_AXES,
    Order,
    Place,
    Storage,
    Tensor,
    count,
    require_apart,
    require_inside,
    width_of,
)
from fastcnn.pytorch._zip import data_of, parts_of

__all__ = ["contents_of"]

_MAGIC = 0x1950A86A20F9469CFC6C  # with which a file of the old form begins, pickled
_PROTOCOL = 1001
_LARGEST_HEADER = 2 << 20  # bytes of JSON, which becomes about twenty times as much
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    "BOOL": "bool",
}


def contents_of(file: BinaryIO, size: int) -> tuple[Any, dict[str, Place]]:
    """Return what a file holds, tensors as Tensor, and the places of storages by their keys."""
    header = header_of(file)
    file.seek(0)
    start = file.read(4)
    if header is not None:
        return _safetensors(header, size)
    if start.startswith(b"PK"):
        return _archive(file, size)
    if start.startswith(b"\x80"):
        return _pickles(file, size)
    raise ValueError(f"got {kind_of(file)}")


# ---------------------------------------------------------------------- since PyTorch 1.6
def _archive(file: BinaryIO, size: int) -> tuple[Any, dict[str, Place]]:
    parts = parts_of(file, size)
    if any(name.endswith("/constants.pkl") for name in parts):
        raise ValueError(f"got a TorchScript archive, which is a program; {SAVE_THE_STATE}")
    pickles = [name for name in parts if f"/{name}".endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"got a zip archive with {len(pickles)} parts data.pkl, expected one")
    root = pickles[0].removesuffix("data.pkl")
    where = {name: data_of(file, part, size) for name, part in parts.items()}
    require_apart((parts[name].header, end) for name, (_, end) in where.items())
    order: Order = "<"
    if (said := where.get(f"{root}byteorder")) is not None:
        file.seek(said[0])
        order = ">" if file.read(min(said[1] - said[0], 8)) == b"big" else "<"
    start, end = where[f"{root}data.pkl"]
    file.seek(start)
    # Read as it comes: a pickle that is too large for a state dict is never in memory.
    value = Machine(file, end - start, size // 4, NAMES, storage_of).read()
    data = f"{root}data/"
    return value, {
        name.removeprefix(data): Place(start, end - start, order)
        for name, (start, end) in where.items()
        if name.startswith(data)
    }


# ---------------------------------------------------------------------- before it
def _pickles(file: BinaryIO, size: int) -> tuple[Any, dict[str, Place]]:
    widths: dict[str, int] = {}

    def persistent(said: Any) -> Storage:
        storage = storage_of(said)
        widths[storage.key] = width_of(storage.dtype)
        return storage

    file.seek(0)
    machine = Machine(file, size, size // 4, NAMES, persistent)
    if machine.read() != _MAGIC:
        raise ValueError("got a pickle of Python, which torch.save did not write")
    if machine.read() != _PROTOCOL:
        raise ValueError(f"expected version {_PROTOCOL} of PyTorch's old form, got another")
    machine.read()  # of the machine that wrote it; the numbers are little-endian everywhere
    value, keys = machine.read(), machine.read()
    if type(keys) is not list or not all(isinstance(key, (str, int)) for key in keys):
        raise ValueError("its pickle is damaged")
    places: dict[str, Place] = {}
    at = file.tell()
    for key in map(str, keys):
        if key not in widths or key in places:
            raise ValueError(f"it lists the storage {key!r:.40}, which it does not use, or twice")
        file.seek(at)
        length = int.from_bytes(file.read(8), "little") * widths[key]
        at += 8 + length
        if at > size:
            raise ValueError("its data are cut off")
        places[key] = Place(at - length, length)
    return value, places


# ---------------------------------------------------------------------- safetensors
def _safetensors(header: bytes, size: int) -> tuple[Any, dict[str, Place]]:
    if len(header) > _LARGEST_HEADER:
        raise ValueError(f"it has a header of {len(header)} bytes")
    try:
        said = json.loads(header[8:].decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is damaged: {brief(error, 100)}") from None
    metadata = said.pop("__metadata__", {})
    if isinstance(metadata, dict) and "fastcnn" in metadata:
        raise ValueError("got a file of fastcnn, which fastcnn.load or Trainer.load_state reads")
    tensors: dict[str, Tensor] = {}
    places: dict[str, Place] = {}
    for name, each in said.items():
        dtype, shape, (start, end) = _described(each, name)
        length = end - start
        if not 0 <= start <= end <= size - len(header):
            raise ValueError(f"{name!r:.80} lies outside of the file")
        many, rest = divmod(length, width_of(dtype))
        if rest or math.prod(shape) != many:
            raise ValueError(f"{name!r:.80}: expected numbers of shape {shape}, got {length} bytes")
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        storage = Storage(name, dtype, 0, many, many)
        tensors[name] = require_inside(Tensor(storage, dtype, 0, shape, strides))
        places[name] = Place(len(header) + start, length)
    require_apart((place.start, place.start + place.size) for place in places.values())
    return tensors, places


def _described(said: Any, name: str) -> tuple[str, tuple[int, ...], list[int]]:
    """Return dtype, shape, and where the numbers begin and end."""
    if not isinstance(said, dict):
        raise ValueError(f"{name!r:.80}: expected an object in the header")
    dtype: Any = said.get("dtype")
    shape: Any = said.get("shape")
    ends: Any = said.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"{name!r:.80}: expected one of {', '.join(_DTYPES)}, got {dtype!r:.20}")
    for sizes in (shape, ends):
        if not isinstance(sizes, list) or len(sizes) > MOST_AXES:
            raise ValueError(f"{name!r:.80}: expected a shape and offsets in the header")
        for size in sizes:
            count(size, f"{name!r:.80}: shape and offsets")
    if len(ends) != 2:
        raise ValueError(f"{name!r:.80}: expected two offsets, got {len(ends)}")
    return _DTYPES[dtype], tuple(shape), ends
