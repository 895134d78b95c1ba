"""Read the IDX files in which MNIST and Fashion-MNIST are published, gzipped or plain.

An IDX file of unsigned bytes is, big-endian: the magic number 0x00000800 + rank, one uint32
per axis, then the bytes in C order (http://yann.lecun.com/exdb/mnist, "file formats").
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np

from fastcnn._types import Array

__all__ = ["IMAGES", "LABELS", "read_idx"]

IMAGES: Final = 2051  # magic number of a file of rank 3: images
LABELS: Final = 2049  # of rank 1: labels
_KIND: Final = {IMAGES: "images", LABELS: "labels"}

# A gzip file can claim, and hold, a thousand times its own size. This much is believed:
_GZIP_ALLOWANCE: Final = 60 * 2**20
_GZIP_RATIO: Final = 2


def read_idx(path: str | os.PathLike[str], magic: int) -> Array:
    """Read the file that should begin with `magic` (IMAGES or LABELS).

    Returns uint8 of shape (n, rows, columns) or (n,). Whether the file is gzipped is seen from
    its content, not its name. No more is read than the header announces, plus one byte to see
    that nothing follows. Raises ValueError, naming the file, for any other content, OSError
    for a file that cannot be read.
    """
    path = Path(path)
    with open(path, "rb") as raw:
        file_size = os.fstat(raw.fileno()).st_size
        gzipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not gzipped:
            return _read(raw, path, magic, file_size, gzipped=False)
        try:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _read(cast(BinaryIO, unpacked), path, magic, file_size, gzipped=True)
        except EOFError:
            raise ValueError(f"{path}: truncated: the gzip data ends before its end mark") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip data: {error}") from None


def _read(file: BinaryIO, path: Path, magic: int, file_size: int, *, gzipped: bool) -> Array:
    head = file.read(4)
    found = int.from_bytes(head, "big")
    if len(head) < 4 or found != magic:
        what = f"{found} ({_KIND[found]})" if found in _KIND else str(found)
        what = what if len(head) == 4 else f"{len(head)} bytes"
        raise ValueError(
            f"{path}: expected an IDX file of {_KIND[magic]}, magic number {magic}, got {what}"
        )
    rank = magic & 0xFF
    head = file.read(4 * rank)
    if len(head) < 4 * rank:
        raise ValueError(f"{path}: truncated: the file ends within its header")
    shape = struct.unpack(f">{rank}I", head)
    size = math.prod(shape)
    if size == 0:
        raise ValueError(f"{path}: expected {_KIND[magic]}, got an empty array of shape {shape}")

    # The size is believed only as far as the file's own size backs it, before any allocation.
    held = file_size - 4 - 4 * rank
    if not gzipped and size != held:
        state = "truncated" if held < size else "too long"
        raise ValueError(
            f"{path}: {state}: its header announces shape {shape}, that is {size} bytes, "
            f"but {held} follow"
        )
    if gzipped and size > _GZIP_RATIO * file_size + _GZIP_ALLOWANCE:
        raise ValueError(
            f"{path}: its header announces shape {shape}, that is {size} bytes, too much for a "
            f"gzip file of {file_size} bytes to be trusted; if it is right, unpack it with gunzip"
        )

    data = np.empty(size, dtype=np.uint8)
    view = data.data
    filled = 0
    while filled < size:
        count = file.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError(
                f"{path}: truncated: its header announces shape {shape}, that is {size} bytes, "
                f"but {filled} follow"
            )
        filled += count
    if file.read(1):
        raise ValueError(
            f"{path}: too long: its header announces shape {shape}, that is {size} bytes, "
            "but more follow"
        )
    return data.reshape(shape)
