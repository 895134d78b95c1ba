"""The parts of a zip archive, as torch.save writes it: where each lies in the file.

Python's zipfile would make much of a small directory, and unpack what is compressed. Here all is
bounded by the file: parts are stored as they are, and none overlaps another.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

__all__ = ["Part", "data_of", "parts_of"]

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LARGEST_COMMENT = 0xFFFF
_LARGEST_DIRECTORY = 2 << 20  # bytes: that of 20,000 storages
_STORED, _ENCRYPTED = 0, 1
_IN_EXTRA, _EXTRA64 = 0xFFFFFFFF, 1


class Part(NamedTuple):
    """A part as the directory has it: where its own header lies, and how large it is."""

    header: int
    size: int
    plain: bool  # neither compressed nor encrypted
    name: bytes


def parts_of(file: BinaryIO, size: int) -> dict[str, Part]:
    """Return the parts of an archive of that many bytes by name; ValueError for what is none."""
    try:
        return _parts_of(file, size)
    except struct.error:
        raise ValueError("its zip archive is damaged or cut off") from None


def _parts_of(file: BinaryIO, size: int) -> dict[str, Part]:
    tail_start = max(0, size - _LARGEST_COMMENT - _END.size)
    file.seek(tail_start)
    tail = file.read(size - tail_start)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise ValueError("its zip archive is cut off")
    *_, count, length, start, _ = _END.unpack_from(tail, at)
    locator = at - _LOCATOR.size
    if locator >= 0 and tail.startswith(b"PK\x06\x07", locator):
        _, _, end64, _ = _LOCATOR.unpack_from(tail, locator)
        signature, *_, count, length, start = _END64.unpack(_bytes(file, end64, _END64.size, size))
        if signature != b"PK\x06\x06":
            raise ValueError("its zip archive is damaged")
    if length > _LARGEST_DIRECTORY:
        raise ValueError(f"its zip archive has a directory of {length} bytes")
    directory = _bytes(file, start, length, size)
    parts: dict[str, Part] = {}
    at = 0
    for _ in range(count):
        name, part, at = _part(directory, at)
        if ".." in name.replace("\\", "/").split("/") or name in parts:
            raise ValueError(f"its zip archive has a part of the name {name!r:.80}")
        parts[name] = part
    return parts


def _bytes(file: BinaryIO, start: int, count: int, size: int) -> bytes:
    if start + count > size:
        raise ValueError("its zip archive is damaged or cut off")
    file.seek(start)
    return file.read(count)


def _part(directory: bytes, at: int) -> tuple[str, Part, int]:
    """Return the part whose entry lies there, and where the next one does."""
    fields = _ENTRY.unpack_from(directory, at)
    signature, _, _, flags, method = fields[:5]
    packed, whole, in_name, in_extra, in_comment = fields[8:13]
    header = fields[16]
    at += _ENTRY.size
    name, extra = directory[at : at + in_name], directory[at + in_name : at + in_name + in_extra]
    at += in_name + in_extra + in_comment
    if signature != b"PK\x01\x02" or at > len(directory):
        raise ValueError("its zip archive is damaged")
    wide = _extra64(extra)
    # Of those that do not fit 32 bits, in this order.
    whole, packed, header = (
        wide.pop(0) if each == _IN_EXTRA and wide else each for each in (whole, packed, header)
    )
    plain = method == _STORED and not flags & _ENCRYPTED and packed == whole
    return name.decode("utf-8", "replace"), Part(header, whole, plain, name), at


def _extra64(extra: bytes) -> list[int]:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _EXTRA64:
            count = min(length, len(extra) - at - 4) // 8
            return list(struct.unpack_from(f"<{count}Q", extra, at + 4))
        at += 4 + length
    return []


def data_of(file: BinaryIO, part: Part, size: int) -> tuple[int, int]:
    """Return where the data of a part begin and end."""
    if not part.plain:
        raise ValueError("its zip archive is compressed or encrypted, as torch.save's is not")
    signature, *_, in_name, in_extra = _LOCAL.unpack(_bytes(file, part.header, _LOCAL.size, size))
    name = file.read(in_name)
    start = part.header + _LOCAL.size + in_name + in_extra
    if signature != b"PK\x03\x04" or name != part.name or start + part.size > size:
        raise ValueError("its zip archive is damaged or cut off")
    return start, start + part.size
