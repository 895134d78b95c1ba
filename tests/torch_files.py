"""Files as PyTorch writes them, put together byte by byte: honest ones, and others."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

KINDS = {"float32": "Float", "float64": "Double", "int64": "Long", "uint8": "Byte"}


# ---------------------------------------------------------------------- pickles
def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def several(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def numbers(values: Sequence[int]) -> bytes:
    return several(*map(number, values))


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def called(function: bytes, *arguments: bytes) -> bytes:
    return function + several(*arguments) + b"R"


def items(pairs: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in pairs.items()) + b"u"


def pickled(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


def stored(key: str, size: int, kind: str = "float32", *, old: bool = False) -> bytes:
    """What stands for a storage; old: in files of before PyTorch 1.6."""
    parts = text("storage"), named("torch", f"{KINDS[kind]}Storage"), text(key), text("cpu")
    return several(*parts, number(size), *([b"N"] if old else [])) + b"Q"


REBUILD = named("torch._utils", "_rebuild_tensor_v2")
HOOKS = called(named("collections", "OrderedDict"))


def tensor(storage: bytes, shape: Sequence[int], strides: Sequence[int], offset: int = 0) -> bytes:
    return called(
        REBUILD, storage, number(offset), numbers(shape), numbers(strides), b"\x89", HOOKS
    )


def strides_of(array: np.ndarray) -> list[int]:
    return [step // array.itemsize for step in array.strides]


def state(arrays: Mapping[str, np.ndarray], *, old: bool = False) -> bytes:
    """The pickle of a state dict: a storage for each array."""
    tensors = {
        name: tensor(
            stored(str(at), array.size, str(array.dtype), old=old), array.shape, strides_of(array)
        )
        for at, (name, array) in enumerate(arrays.items())
    }
    return pickled(items(tensors))


# ---------------------------------------------------------------------- files
def archive(
    pickle: bytes,
    storages: Mapping[str, bytes],
    *,
    root: str = "archive",
    method: int = 0,
    order: str = "little",
) -> bytes:
    """A file as PyTorch writes it since 1.6."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as parts:
        parts.writestr(f"{root}/data.pkl", pickle)
        parts.writestr(f"{root}/byteorder", order)
        for key, data in storages.items():
            parts.writestr(f"{root}/data/{key}", data)
        parts.writestr(f"{root}/version", "3\n")
    return file.getvalue()


def old_file(pickle: bytes, storages: Mapping[str, tuple[int, bytes]]) -> bytes:
    """A file as PyTorch wrote it before 1.6: storages are (how many numbers, their bytes)."""
    keys = pickled(b"](" + b"".join(map(text, storages)) + b"e")
    head = pickled(number(0x1950A86A20F9469CFC6C)) + pickled(number(1001)) + pickled(b"}")
    data = b"".join(struct.pack("<Q", count) + data for count, data in storages.values())
    return head + pickle + keys + data


def safe_file(tensors: Mapping[str, Any], data: bytes) -> bytes:
    """A safetensors file of what the header says of tensors."""
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header + data


ARRAYS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "conv.bias": np.array([0.5, -2], np.float64),
    "count": np.array(7, np.int64),
}


def honest() -> dict[str, bytes]:
    """A small file of each form, of ARRAYS."""
    bare = {str(at): array.tobytes() for at, array in enumerate(ARRAYS.values())}
    counted = {str(at): (each.size, each.tobytes()) for at, each in enumerate(ARRAYS.values())}
    said, at = {}, 0
    for name, array in ARRAYS.items():
        dtype = {"float32": "F32", "float64": "F64", "int64": "I64"}[str(array.dtype)]
        ends = [at, at := at + array.nbytes]
        said[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": ends}
    return {
        "archive": archive(state(ARRAYS), bare),
        "old": old_file(state(ARRAYS, old=True), counted),
        "safetensors": safe_file(said, b"".join(bare.values())),
    }
