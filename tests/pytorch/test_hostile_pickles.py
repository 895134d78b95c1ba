"""Pickles that grow, or take long: what each opcode is charged bounds both."""

from __future__ import annotations

import struct
import time
from contextlib import suppress
from pathlib import Path

import pytest
from test_hostile_files import STORAGE, refused, zipped
from torch_files import (
    REBUILD,
    called,
    items,
    named,
    number,
    numbers,
    old_file,
    pickled,
    several,
    tensor,
    text,
)

from fastcnn import pytorch
from fastcnn.pytorch import _opcodes


def nested(count: int) -> bytes:
    """A tuple of a tuple of itself: to look at all of it takes 2 ** count steps."""
    return b")" + b"2\x86" * count


ORDERED = named("collections", "OrderedDict")
GROWING = {
    "a tuple of itself": nested(100),
    "a key of itself": b"}" + nested(100) + b"K\x01s",
    "a value of itself": items({"a": nested(100)}),
    "lists": b"]" * 40_000,
    "dicts": b"}" * 40_000,
    "full dicts": b"}(" + b"".join(number(n) + b"N" for n in range(40_000)) + b"u",
    "marks": b"(" * 40_000,
    "depth": b"]" * 4_000 + b"a" * 3_999,
    "depth of tuples": b")" + b"\x85" * 4_000,
    "a long way to nothing": b"N0" * 100_000,
    "numbers": b"J\x01\x02\x03\x04" * 40_000,
    "a large memo": b"N" + b"".join(b"r" + struct.pack("<I", at) for at in range(30_000)),
    "a long text": text("é" * 300_000),
    "texts": text("a" * 1000) * 2_000,
    "a tuple of many": b"(" + b"N" * 40_000 + b"tq\x00" + b"h\x00\x85" * 4_000,
    "calls": (ORDERED + b")R") * 10_000,
    "calls of a list": b"](" + b"](K\x01Ne" * 999 + b"eq\x00" + (ORDERED + b"h\x00\x85R") * 99,
    "tensors": b"".join(tensor(STORAGE, [1] * 30, [0] * 30) for _ in range(700)),
    "storages": STORAGE * 4_000,
}


@pytest.mark.parametrize("kind", GROWING)
def test_pickles_that_grow(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an opcode is charged is what it takes, or more."""
    budget = 1 << 20
    monkeypatch.setattr(_opcodes, "BUDGET", budget)
    for data in (zipped(GROWING[kind]), old_file(pickled(GROWING[kind]), {})):
        assert refused(data, tmp_path, room=budget + 100_000 + len(data) // 4)


ONE_HASH = 2**61 - 1  # Python's hash of a multiple of it is 0


@pytest.mark.parametrize("kind", ["keys", "strides"])
def test_numbers_of_one_hash(kind: str, tmp_path: Path) -> None:
    """A dict of them takes the square of its length."""
    count = 10_000
    if kind == "keys":
        value = b"}(" + b"".join(number(at * ONE_HASH) + b"N" for at in range(count)) + b"u"
    else:
        ones = several(*[b"K\x01"] * 14)
        value = items(
            {
                str(at): called(
                    REBUILD,
                    STORAGE,
                    b"K\x00",
                    ones,
                    numbers([ONE_HASH * (at >> axis & 1) for axis in range(14)]),
                    b"N",
                    b"N",
                )
                for at in range(count // 2)
            }
        )
    path = tmp_path / "hostile"
    path.write_bytes(zipped(value))
    start = time.perf_counter()
    with suppress(ValueError):
        pytorch.load_state(path)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "value",
    [
        b"]" * 1_000_000,
        b"\x8b" + struct.pack("<i", 1_000_000) + bytes(1_000_000),
        b"\x8b" + struct.pack("<i", -1),
        b"\x8d" + struct.pack("<Q", 2**63),
        b"B" + struct.pack("<I", 2**31),
        b"\x80\xff",
    ],
)
def test_counts_that_are_too_large(value: bytes, tmp_path: Path) -> None:
    assert refused(zipped(value), tmp_path)


def test_a_text_of_less_than_nothing(tmp_path: Path) -> None:
    value = b"T" + struct.pack("<i", -5)
    assert refused(zipped(value), tmp_path) == "its pickle holds a text of less than no bytes"
