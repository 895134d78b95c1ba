"""HDF5 files as h5py writes them for Keras: groups, text attributes and plain arrays.

The HDF5 library trusts a file: a wrong byte may let it loop for good, and links may lead it to
other files. What is read here takes each part of a file about once, so that time and memory are
bounded by its size. Format: "HDF5 File Format Specification" 3.0, of The HDF Group: superblock 0,
object headers 1, groups by symbol tables. That is all that Keras needs; the rest is refused.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fastcnn._types import Array, Shape

__all__ = ["Data", "Group", "Hdf5"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NOWHERE = 2**64 - 1
_ROOM = 1 << 20  # bytes that may be read beside twice the file's
_MOST_PARTS = 200_000  # links and attributes of all groups
_MOST_AXES = 32
_LONGEST_NAME = 4096
_DAMAGED = "its HDF5 data are damaged or cut off"
_NEWER = "its HDF5 data are in a form that Keras does not write; let Keras or h5py write it anew"

# Messages of an object's header.
_SPACE, _LINKS, _TYPE, _LINK, _ELSEWHERE, _LAYOUT, _FILTERS = 1, 2, 3, 6, 7, 8, 11
_ATTRIBUTE, _MORE, _TABLE, _ATTRIBUTES = 12, 16, 17, 21
_SHARED = 2  # a flag of a message that is kept elsewhere


class Group:
    """A group: what it holds by name, read when it is asked for, and its text attributes."""

    def __init__(self, file: Hdf5, path: str, links: dict[str, int], texts: dict[str, Any]) -> None:
        self._file, self._links, self._found = file, links, dict[str, "Group | Data"]()
        self.path = path
        self.texts: dict[str, str | list[str]] = texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._links)

    def __contains__(self, name: str) -> bool:
        return name in self._links

    def __getitem__(self, name: str) -> Group | Data:
        """Return what a name stands for; of a name with slashes, what the last one does."""
        first, _, rest = name.partition("/")
        if first not in self._found:
            if first not in self._links:
                raise ValueError(f"it has no {self.path}{name:.120}")
            self._found[first] = self._file.thing_at(self._links[first], f"{self.path}{first}")
        found = self._found[first]
        if not rest:
            return found
        if not isinstance(found, Group):
            raise ValueError(f"it has no {self.path}{name:.120}")
        return found[rest]

    def group(self, name: str) -> Group | None:
        """Return a group in this one, None where there is none of that name."""
        found = self[name] if name in self._links else None
        return found if isinstance(found, Group) else None


class Data(NamedTuple):
    """An array: what it is, and where its numbers lie."""

    file: Hdf5
    path: str
    shape: Shape
    dtype: str  # of NumPy, or "bfloat16"
    at: int
    size: int
    inline: bytes | None  # the numbers, where they lie in its header

    def numbers(self) -> Array:
        """Return the numbers as they are in the file, bfloat16 as float32."""
        whole = self.inline if self.inline is not None else self.file.take(self.at, self.size)
        if self.dtype == "bfloat16":
            halves = np.frombuffer(whole, "<u2").astype(np.uint32)
            return np.left_shift(halves, 16).view(np.float32).reshape(self.shape)
        return np.frombuffer(whole, self.dtype).reshape(self.shape)


class Hdf5:
    """A file that is open for reading, of that many bytes; `root` is the group that has all."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._left = 2 * size + _ROOM
        self._parts = _MOST_PARTS
        self._heaps: dict[int, dict[int, bytes]] = {}
        start = self.take(0, 96)
        if not start.startswith(SIGNATURE):
            raise ValueError(_DAMAGED)
        if start[8] != 0 or start[13:15] != b"\x08\x08":
            raise ValueError(_NEWER)
        base, _, end, driver = struct.unpack_from("<4Q", start, 24)
        if base or driver != _NOWHERE:
            raise ValueError(_NEWER)
        if end > size:
            raise ValueError(f"its HDF5 data are cut off: {size} bytes of {end}")
        root = self.thing_at(struct.unpack_from("<Q", start, 64)[0], "")
        if not isinstance(root, Group):
            raise ValueError(_DAMAGED)
        self.root = root

    # ------------------------------------------------------------------ bytes
    def take(self, at: int, size: int) -> bytes:
        """Return bytes of the file."""
        if at + size > self._size:
            raise ValueError(_DAMAGED)
        self._left -= size
        if self._left < 0:
            raise ValueError("its HDF5 data overlap")
        self._file.seek(at)
        data = self._file.read(size)
        if len(data) != size:
            raise ValueError("it was cut off while it was read")
        return data

    def _count(self) -> None:
        self._parts -= 1
        if self._parts < 0:
            raise ValueError(f"its HDF5 data have more than {_MOST_PARTS} parts")

    # ------------------------------------------------------------------ objects
    def thing_at(self, address: int, path: str) -> Group | Data:
        """Return the group or the array whose header is there."""
        if address == _NOWHERE:
            raise ValueError(f"{path:.120} is a link, which is not followed")
        try:
            messages = list(self._messages(address))
            kinds = {kind for kind, _ in messages}
            if kinds & {_LINKS, _LINK, _ATTRIBUTES}:
                raise ValueError(_NEWER)
            if _TABLE in kinds:
                texts = dict(self._attributes(messages))
                table = next(body for kind, body in messages if kind == _TABLE)
                links = dict(self._links_of(*struct.unpack_from("<2Q", table)))
                return Group(self, f"{path}/" if path else "", links, texts)
            return self._data(messages, path)
        except (struct.error, IndexError):  # what is said to be there is not
            raise ValueError(_DAMAGED) from None

    def _messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        """Yield the kind and the body of each message of an object's header."""
        start = self.take(address, 16)
        version, _, count, _, size = struct.unpack_from("<2BH2L", start)
        if version != 1:
            raise ValueError(_NEWER if start.startswith(b"OHDR") else _DAMAGED)
        blocks = [(address + 16, size)]
        for where, length in blocks:  # which grows
            block = self.take(where, length)
            at = 0
            while at + 8 <= length and count:
                kind, size, flags = struct.unpack_from("<2HB", block, at)
                body = block[at + 8 : at + 8 + size]
                at += 8 + size
                count -= 1
                if len(body) < size:
                    raise ValueError(_DAMAGED)
                if kind == _MORE:
                    blocks.append(struct.unpack_from("<2Q", body))
                elif flags & _SHARED and kind in (_SPACE, _TYPE, _LAYOUT, _FILTERS):
                    raise ValueError(_NEWER)
                else:
                    yield kind, body

    # ------------------------------------------------------------------ groups
    def _links_of(self, tree: int, heap: int) -> Iterator[tuple[str, int]]:
        """Yield the names of a group and where what they stand for is."""
        start = self.take(heap, 32)
        size, _, where = struct.unpack_from("<3Q", start, 8)
        if not start.startswith(b"HEAP"):
            raise ValueError(_DAMAGED)
        names = self.take(where, size)
        nodes, seen = [tree], {tree}
        while nodes:
            node = nodes.pop()
            start = self.take(node, 24)
            if start.startswith(b"SNOD"):
                yield from self._symbols(node, struct.unpack_from("<H", start, 6)[0], names)
                continue
            if not start.startswith(b"TREE\0"):
                raise ValueError(_DAMAGED)
            count = struct.unpack_from("<H", start, 6)[0]
            # A key of 8 bytes, and then a child and a key for each.
            children = struct.unpack(f"<{2 * count + 1}Q", self.take(node + 24, 16 * count + 8))
            for child in children[2 * count - 1 :: -2] if count else ():
                if child in seen:
                    raise ValueError(_DAMAGED)
                seen.add(child)
                nodes.append(child)

    def _symbols(self, node: int, count: int, names: bytes) -> Iterator[tuple[str, int]]:
        entries = self.take(node + 8, 40 * count)
        for at in range(0, len(entries), 40):
            self._count()
            name, address, kind = struct.unpack_from("<2QL", entries, at)
            end = names.find(b"\0", name, name + _LONGEST_NAME)
            if name >= len(names) or end < 0:
                raise ValueError(_DAMAGED)
            yield _text(names[name:end]), _NOWHERE if kind == 2 else address

    # ------------------------------------------------------------------ arrays
    def _data(self, messages: list[tuple[int, bytes]], path: str) -> Data:
        bodies = dict(messages)
        if _ELSEWHERE in bodies:
            raise ValueError(f"{path:.120} has its numbers in another file, which is not opened")
        if _FILTERS in bodies:
            raise ValueError(f"{path:.120} is compressed, as Keras's files are not")
        if not {_SPACE, _TYPE, _LAYOUT} <= set(bodies):
            raise ValueError(_DAMAGED)
        shape, dtype = _shape(bodies[_SPACE]), _dtype(bodies[_TYPE], path)
        layout = bodies[_LAYOUT]
        inline, at, size = None, 0, 0
        if layout[0] != 3:
            raise ValueError(_NEWER)
        if layout[1] == 0:
            size = struct.unpack_from("<H", layout, 2)[0]
            inline = layout[4 : 4 + size]
        elif layout[1] == 1:
            at, size = struct.unpack_from("<2Q", layout, 2)
        else:
            raise ValueError(f"{path:.120} is cut in pieces, as Keras's arrays are not")
        wanted = math.prod(shape) * (2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)
        if not wanted:
            inline, size = b"", 0
        elif inline is None and at == _NOWHERE:
            raise ValueError(f"{path:.120} has no numbers in the file")
        if size != wanted or (inline is None and at + size > self._size):
            raise ValueError(_DAMAGED)
        return Data(self, path, shape, dtype, at, size, inline)

    # ------------------------------------------------------------------ attributes
    def _attributes(
        self, messages: list[tuple[int, bytes]]
    ) -> Iterator[tuple[str, str | list[str]]]:
        """Yield the attributes of an object that are text, or lists of it."""
        for kind, body in messages:
            if kind != _ATTRIBUTE:
                continue
            self._count()
            version, flags, name, of_type, of_space = struct.unpack_from("<2B3H", body)
            if version not in (1, 2, 3):
                raise ValueError(_DAMAGED)
            if version > 1 and flags & 3:  # its type is kept elsewhere: none of Keras's
                continue
            at = 9 if version == 3 else 8
            parts = []
            for size in (name, of_type, of_space):
                parts.append(body[at : at + size])
                at += size + (-size % 8 if version == 1 else 0)
            shape = _shape(parts[2])
            found = self._texts(parts[1], math.prod(shape), body[at:])
            if found is not None and len(shape) < 2:
                yield _text(parts[0]), found if shape else found[0]

    def _texts(self, kind: bytes, count: int, data: bytes) -> list[str] | None:
        """Return so many texts of a type; None of another type."""
        if not count:  # what an empty list is a list of, nobody knows
            return []
        size = struct.unpack_from("<L", kind, 4)[0]
        if len(data) < count * size:
            raise ValueError(_DAMAGED)
        if kind[0] & 15 == 3 and size:
            return [_text(data[at : at + size]) for at in range(0, count * size, size)]
        if kind[0] & 15 == 9 and kind[1] & 15 == 1 and size == 16:
            return [_text(self._kept(data, at)) for at in range(0, count * size, size)]
        return None

    def _kept(self, data: bytes, at: int) -> bytes:
        """Return a text of any length, which lies in a heap that objects share."""
        length, heap, index = struct.unpack_from("<LQL", data, at)
        if not length:
            return b""
        if heap not in self._heaps:
            self._heaps[heap] = dict(self._heap(heap))
        text = self._heaps[heap].get(index, b"")[:length]
        self._left -= length
        if len(text) < length or self._left < 0:
            raise ValueError(_DAMAGED)
        return text

    def _heap(self, address: int) -> Iterator[tuple[int, bytes]]:
        start = self.take(address, 16)
        size = struct.unpack_from("<Q", start, 8)[0]
        if not start.startswith(b"GCOL"):
            raise ValueError(_DAMAGED)
        whole = self.take(address, size)
        at = 16
        while at + 16 <= len(whole):
            self._count()
            index, _, _, length = struct.unpack_from("<2HLQ", whole, at)
            if not index:  # the rest is free
                break
            yield index, whole[at + 16 : at + 16 + length]
            at += 16 + length + -length % 8


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "replace")


def _shape(space: bytes) -> Shape:
    version, rank, kind = space[0], space[1], space[3]
    if version not in (1, 2) or rank > _MOST_AXES:
        raise ValueError(_DAMAGED)
    if version == 2 and kind == 2:  # of nothing
        return (0,)
    return struct.unpack_from(f"<{rank}Q", space, 8 if version == 1 else 4)


def _dtype(kind: bytes, path: str) -> str:
    """Return the dtype of numbers: NumPy's, or "bfloat16"."""
    family, size = kind[0] & 15, struct.unpack_from("<L", kind, 4)[0]
    order = ">" if kind[1] & 1 else "<"
    if family == 0 and size in (1, 2, 4, 8):
        return f"{order}{'i' if kind[1] & 8 else 'u'}{size}"
    if family == 1 and size in (2, 4, 8) and not kind[1] & 64:
        places = struct.unpack_from("<2H4BL", kind, 8)
        if places == _IEEE[size]:
            return f"{order}f{size}"
        if places == _BFLOAT16 and order == "<":
            return "bfloat16"
    if family == 5 and size == 2:  # two bytes that h5py has no name for: Keras's bfloat16
        return "bfloat16"
    raise ValueError(f"{path:.120} is of a type that no weights have")


# Offset and precision of a float in bits, place and size of exponent and fraction, and the bias.
_IEEE = {
    2: (0, 16, 10, 5, 0, 10, 15),
    4: (0, 32, 23, 8, 0, 23, 127),
    8: (0, 64, 52, 11, 0, 52, 1023),
}
_BFLOAT16 = (0, 16, 7, 8, 0, 7, 127)
