"""Files that mean harm: one sentence each, within bounds of memory and time, and nothing is run."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_files import (
    ARRAYS,
    HOOKS,
    REBUILD,
    archive,
    called,
    honest,
    items,
    named,
    number,
    numbers,
    old_file,
    pickled,
    safe_file,
    several,
    state,
    stored,
    tensor,
    text,
)

from fastcnn import pytorch

ROOM = 64 << 20
SECONDS = 20  # with memory traced, on a crowded machine


def refused(data: bytes, tmp_path: Path, room: int = ROOM) -> str:
    """What is said of a file; it takes at most twice its size and the room."""
    path = tmp_path / "hostile"
    path.write_bytes(data)
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(ValueError, match="expected a state dict of PyTorch: ") as error:
            pytorch.load_state(path)
        assert tracemalloc.get_traced_memory()[1] <= 2 * len(data) + room
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < SECONDS
    said = str(error.value).removeprefix(f"{path}: expected a state dict of PyTorch: ")
    assert len(said) <= 240
    assert said.isprintable()
    return said


def zipped(value: bytes, size: int = 8) -> bytes:
    """An archive of one storage of so many float32, and a pickle of this value."""
    return archive(pickled(value), {"0": bytes(4 * size)})


@pytest.mark.parametrize("form", honest())
def test_an_honest_file_is_read(form: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(honest()[form])
    found = pytorch.load_state(tmp_path / "a")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert found[name].flags.carray
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("form", honest())
def test_a_file_that_is_cut_anywhere_is_refused(form: str, tmp_path: Path) -> None:
    whole = honest()[form]
    path = tmp_path / "cut"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="expected a state dict of PyTorch: "):
            pytorch.load_state(path)


# ---------------------------------------------------------------------- names and calls
RUN = called(named("os", "system"), text("echo run"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (RUN, "it holds os.system, which is not among the names"),
        (named("builtins", "eval"), "it holds builtins.eval"),
        (text("os") + text("system") + b"\x93", "it holds os.system"),
        (
            named("torch.nn.modules.linear", "Linear"),
            "as a whole model does; save its state_dict()",
        ),
        (named("__main__", "Net"), "it holds an object of __main__.Net, as a whole model does"),
        (named("torch._utils", "_rebuild_qtensor"), "it holds torch._utils._rebuild_qtensor"),
        (named("torch", "x" * 500), "a name that is too long"),
        (b"c" + b"\xff\n\xff\n", "its pickle is damaged"),
        (b"(" + text("a") + b"i__main__\nNet\n", "the opcode 0x69"),
        (b"\x82\x01", "the opcode 0x82"),
        (b"P1\n", "the opcode 0x50"),
        (called(text("print")), "its pickle calls what is no function"),
        (called(b"}"), "its pickle calls what is no function"),
        (called(named("torch", "float32")), "its pickle calls what is no function"),
        (called(called(HOOKS)), "its pickle calls what is no function"),
        (REBUILD + b")\x81", "its pickle makes an object of what is no class"),
        (REBUILD + b")}\x92", "its pickle makes an object of what is no class"),
        (REBUILD + b"K\x01R", "its pickle is damaged"),
        (called(REBUILD), "its pickle is damaged"),
        (called(REBUILD, *[b"N"] * 6), "its pickle is damaged"),
        (called(named("torch", "Size"), b"N", b"N"), "its pickle is damaged"),
        (called(named("collections", "OrderedDict"), b"K\x01"), "its pickle is damaged"),
        (called(named("collections", "OrderedDict"), b"](K\x01e"), "its pickle is damaged"),
        (REBUILD + items({"a": b"N"}) + b"b", "expected a dict, got object"),
        (RUN.replace(b"cos", b"ctorch.nn"), "as a whole model does"),
    ],
)
def test_what_would_be_run(value: bytes, message: str, tmp_path: Path) -> None:
    assert message in refused(zipped(value), tmp_path)


def test_a_value_of_a_dict_is_as_little_run(tmp_path: Path) -> None:
    assert "os.system" in refused(zipped(items({"a": RUN})), tmp_path)
    assert "os.system" in refused(old_file(pickled(items({"a": RUN})), {}), tmp_path)
    assert "os.system" in refused(pickled(RUN), tmp_path)


@pytest.mark.parametrize("act", b"0123456789.()tRbQaeusl\x85\x86\x87\x90\x91\x93\x94\x81\x92h\x95")
def test_opcodes_on_an_empty_stack(act: int, tmp_path: Path) -> None:
    assert refused(zipped(bytes([act]) + bytes(8)), tmp_path)


# ---------------------------------------------------------------------- tensors
STORAGE = stored("0", 8)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (tensor(STORAGE, [9], [1]), "it holds a tensor of shape (9,) and strides (1,) from 0 on"),
        (tensor(STORAGE, [8], [1], 1), "from 1 on in a storage of 8 numbers"),
        (tensor(STORAGE, [2, 2], [7, 1]), "in a storage of 8 numbers"),
        (tensor(STORAGE, [2, 2], [1, 2**61]), "in a storage of 8 numbers"),
        (tensor(STORAGE, [-1], [1]), "expected a count, got -1"),
        (tensor(STORAGE, [2], [-1], 3), "expected a count, got -1"),
        (tensor(STORAGE, [2], [1], -1), "expected a count, got -1"),
        (tensor(STORAGE, [2**300], [0]), "expected a count, got 2037"),
        (tensor(STORAGE, [1, 2], [1]), "it holds a tensor without a shape"),
        (tensor(STORAGE, [1] * 40, [0] * 40), "of more than 32 axes"),
        (tensor(STORAGE, [2**40], [0]), "its tensors are 4398046511104 bytes in a file of"),
        (tensor(STORAGE, [2**30] * 8, [0] * 8), "which no memory holds"),
        (tensor(STORAGE, [0, 2**61], [1, 1]), "which no memory holds"),
        (tensor(stored("1", 8), [8], [1]), "it has no data for the storage '1'"),
        (
            tensor(stored("../data.pkl", 8), [8], [1]),
            "no data for the storage '../data.pkl'",
        ),
        (tensor(stored("0", 9), [8], [1]), "has 32 bytes, expected 9 numbers of 4 bytes"),
        (tensor(stored("0", 8, "float64"), [8], [1]), "has 32 bytes, expected 8 numbers of 8"),
        (tensor(stored("0", -8), [8], [1]), "a storage's size: expected a count, got -8"),
        (called(REBUILD, STORAGE, b"\x88", numbers([1]), numbers([1]), b"N", b"N"), "got bool"),
        (called(REBUILD, STORAGE, b"K\x00", b"]", b"]", b"N", b"N"), "without a shape"),
        (text("a") + b"Q", "in a way that torch.save does not"),
        (several(text("storage")) + b"Q", "in a way that torch.save does not"),
        (several(text("module"), b"N", b"N", b"N") + b"Q", "it holds a whole model"),
        (several(text("storage"), *[b"N"] * 4) + b"Q", "in a way that torch.save does not"),
    ],
)
def test_tensors_that_are_not_there(value: bytes, message: str, tmp_path: Path) -> None:
    assert message in refused(zipped(items({"a": value})), tmp_path)


def test_tensors_that_overlap_without_end(tmp_path: Path) -> None:
    """A thousand views of one storage would be a thousand copies."""
    size = 1 << 18
    views = {f"{at}": tensor(stored("0", size), [size - at], [1], at) for at in range(1000)}
    assert "they overlap" in refused(zipped(items(views), size), tmp_path)


def test_a_view_of_a_storage_outside_of_it(tmp_path: Path) -> None:
    kind = named("torch", "FloatStorage")
    for start, count in ((7, 2), (2**61, 1), (-1, 2)):
        view = several(text("v"), number(start), number(count))
        storage = several(text("storage"), kind, text("0"), text("cpu"), number(8), view) + b"Q"
        pickle = pickled(items({"a": tensor(storage, [1], [1])}))
        assert "view" in refused(old_file(pickle, {"0": (8, bytes(32))}), tmp_path)


# ---------------------------------------------------------------------- archives
def test_an_entry_that_claims_gigabytes(tmp_path: Path) -> None:
    whole = honest()["archive"]
    at = whole.index(b"PK\x01\x02")
    for size in (2**31, 2**32 - 2):
        claims = bytearray(whole)
        claims[at + 20 : at + 28] = struct.pack("<2L", size, size)
        assert "damaged or cut off" in refused(bytes(claims), tmp_path)
    for entry in (b"PK\x05\x06",):
        claims = bytearray(whole)
        at = whole.index(entry)
        claims[at + 12 : at + 16] = struct.pack("<L", 2**32 - 1)
        assert "a directory of 4294967295 bytes" in refused(bytes(claims), tmp_path)


def test_compressed_and_encrypted_entries(tmp_path: Path) -> None:
    bomb = archive(state(ARRAYS), {"0": bytes(50_000_000)}, method=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 60_000
    assert "compressed or encrypted" in refused(bomb, tmp_path)
    locked = bytearray(honest()["archive"])
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    assert "compressed or encrypted" in refused(bytes(locked), tmp_path)


@pytest.mark.parametrize("root", ["..", "a/../b", "../../etc", "a\\..\\b"])
def test_names_that_lead_out(root: str, tmp_path: Path) -> None:
    assert "has a part of the name" in refused(archive(state(ARRAYS), {}, root=root), tmp_path)


def test_entries_that_overlap(tmp_path: Path) -> None:
    """Of an archive within a part of another: the directory of both lists all."""
    inner = zipfile.ZipInfo("archive/data/1")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as parts:
        parts.writestr(inner, bytes(32))
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as parts:
        value = items({"a": tensor(stored("0", 40), [8], [1])})
        parts.writestr("archive/data.pkl", pickled(value))
        parts.writestr("archive/data/0", file.getvalue().ljust(160, b"\0"))
        inner.header_offset = parts.infolist()[-1].header_offset + 30 + len("archive/data/0")
        parts.filelist.append(inner)
        parts._didModify = True
    assert "some of its data overlap" in refused(outer.getvalue(), tmp_path)


def test_entries_of_one_name(tmp_path: Path) -> None:
    twice = honest()["archive"].replace(b"archive/data/1", b"archive/data/0")
    assert "a part of the name 'archive/data/0'" in refused(twice, tmp_path)


def test_archives_of_something_else(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as parts:
        parts.writestr("photo.jpg", b"x")
    assert "got a zip archive with 0 parts data.pkl" in refused(file.getvalue(), tmp_path)
    with zipfile.ZipFile(file, "a") as parts:
        parts.writestr("net/constants.pkl", b"x")
        parts.writestr("net/data.pkl", b"x")
    assert "got a TorchScript archive" in refused(file.getvalue(), tmp_path)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as parts:
        for root in "ab":
            parts.writestr(f"{root}/data.pkl", b"x")
    assert "got a zip archive with 2 parts data.pkl" in refused(file.getvalue(), tmp_path)


# ---------------------------------------------------------------------- the other forms
def test_an_old_file_that_lies_of_its_storages(tmp_path: Path) -> None:
    pickle = pickled(items({"a": tensor(stored("0", 8, old=True), [8], [1])}))
    for storages, message in [
        ({}, "it has no data for the storage '0'"),
        ({"0": (8, b"")}, "its data are cut off"),
        ({"0": (2**63, bytes(32))}, "its data are cut off"),
        ({"0": (4, bytes(32))}, "has 16 bytes, expected 8 numbers"),
        ({"0": (8, bytes(32)), "1": (8, bytes(32))}, "it lists the storage '1'"),
    ]:
        assert message in refused(old_file(pickle, storages), tmp_path)


def test_a_header_that_grows(tmp_path: Path) -> None:
    for data in (b'{"a":' + b"[" * 100_000, b'{"a":[' + b"[]," * 3_000_000 + b"1]}"):
        assert refused(struct.pack("<Q", len(data)) + data, tmp_path)
    small = b'{"a":[' + b"[]," * 600_000 + b"1]}"
    assert "expected an object" in refused(struct.pack("<Q", len(small)) + small, tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": 3}, "'a': expected an object in the header"),
        ({"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, "got 'C64'"),
        ({"a": {"dtype": ["F32"], "shape": [8], "data_offsets": [0, 32]}}, "'a': expected one of"),
        ({"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 36]}}, "outside of the file"),
        ({"a": {"dtype": "F32", "shape": [8], "data_offsets": [4, 0]}}, "outside of the file"),
        ({"a": {"dtype": "F32", "shape": [7], "data_offsets": [0, 32]}}, "got 32 bytes"),
        ({"a": {"dtype": "F32", "shape": [-8], "data_offsets": [0, 32]}}, "got -8"),
        ({"a": {"dtype": "F32", "shape": [2**70], "data_offsets": [0, 32]}}, "expected a count"),
        ({"a": {"dtype": "F32", "shape": [8.0], "data_offsets": [0, 32]}}, "got float"),
        ({"a": {"dtype": "F32", "shape": [8], "data_offsets": [0]}}, "expected two offsets"),
        ({"a": {"dtype": "F32", "data_offsets": [0, 32]}}, "expected a shape and offsets"),
        (
            {
                name: {"dtype": "F32", "shape": [n], "data_offsets": [start, start + 4 * n]}
                for name, n, start in (("a", 8, 0), ("b", 1, 28))
            },
            "some of its data overlap",
        ),
    ],
)
def test_a_header_that_lies(header: Any, message: str, tmp_path: Path) -> None:
    assert message in refused(safe_file(header, bytes(32)), tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK", b"\x80", b"\x80\x02.", b"\x93NUMPY", b"hello"])
def test_what_is_no_file_of_pytorch(data: bytes, tmp_path: Path) -> None:
    assert refused(data, tmp_path)
