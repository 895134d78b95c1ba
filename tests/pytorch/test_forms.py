"""What older and rarer writers put into files, by hand: PyTorch of today writes none of it."""

from __future__ import annotations

import struct
from pathlib import Path

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

from fastcnn import nn, pytorch


def loaded(data: bytes, tmp_path: Path) -> dict[str, np.ndarray]:
    path = tmp_path / "a"
    path.write_bytes(data)
    return pytorch.load_state(path)


def test_strides_and_offset_by_hand(tmp_path: Path) -> None:
    """A 3x2 matrix that lies column by column from the fourth number on."""
    data = np.arange(12, dtype=np.float32)
    pickle = pickled(items({"a": tensor(stored("0", 12), [3, 2], [1, 3], 3)}))
    found = loaded(archive(pickle, {"0": data.tobytes()}), tmp_path)
    np.testing.assert_array_equal(found["a"], [[3, 6], [4, 7], [5, 8]], strict=False)
    assert found["a"].dtype == np.float32


@pytest.mark.parametrize("order", ["little", "big"])
def test_the_order_of_bytes(order: str, tmp_path: Path) -> None:
    storages = {
        str(at): array.astype(array.dtype.newbyteorder(order)).tobytes()
        for at, array in enumerate(ARRAYS.values())
    }
    found = loaded(archive(state(ARRAYS), storages, order=order), tmp_path)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
        assert found[name].dtype.isnative


def test_an_archive_without_an_order_of_bytes(tmp_path: Path) -> None:
    data = honest()["archive"].replace(b"archive/byteorder", b"archive/bytewhat.")
    np.testing.assert_array_equal(loaded(data, tmp_path)["conv.bias"], ARRAYS["conv.bias"])


def test_a_view_of_a_storage(tmp_path: Path) -> None:
    """As before PyTorch 0.4: a storage may be a part of another."""
    view = several(text("v"), number(2), number(3))
    kind = named("torch.cuda", "FloatStorage")
    parts = text("storage"), kind, text("7"), text("cuda:0"), number(8), view
    pickle = pickled(items({"a": tensor(several(*parts) + b"Q", [2], [1], 1)}))
    found = loaded(old_file(pickle, {"7": (8, np.arange(8, dtype="<f4").tobytes())}), tmp_path)
    np.testing.assert_array_equal(found["a"], np.array([3, 4], np.float32), strict=True)


def test_the_first_function_that_rebuilds(tmp_path: Path) -> None:
    rebuild = named("torch._utils", "_rebuild_tensor")
    value = called(rebuild, stored("0", 4), number(1), numbers([3]), numbers([1]))
    found = loaded(archive(pickled(items({"a": value})), {"0": bytes(range(16))}), tmp_path)
    expected = np.frombuffer(bytes(range(4, 16)), "<f4")
    np.testing.assert_array_equal(found["a"], expected, strict=True)


def test_what_python_2_wrote(tmp_path: Path) -> None:
    """Its strings, and an ordered dict as a list of pairs; numbers of 64 bits too."""

    def short(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode("latin-1")

    storage = several(
        short("storage"),
        named("torch", "FloatStorage"),
        b"T" + struct.pack("<i", 1) + b"0",
        short("cpu"),
        b"\x8a\x01\x03",
    ) + b"Q"  # fmt: skip
    pair = b"](" + short("a\xe9") + tensor(storage, [3], [1]) + b"e"
    value = called(named("collections", "OrderedDict"), b"](" + pair + b"e")
    data = np.arange(3, dtype="<f4")
    for file in (
        archive(pickled(value), {"0": data.tobytes()}),
        old_file(pickled(value), {"0": (3, data.tobytes())}),
    ):
        np.testing.assert_array_equal(loaded(file, tmp_path)["a\xe9"], data)


def test_a_bool_of_any_byte(tmp_path: Path) -> None:
    rebuild = named("torch._utils", "_rebuild_tensor_v3")
    kind = named("torch.storage", "UntypedStorage")
    storage = several(text("storage"), kind, text("0"), text("cpu"), number(3)) + b"Q"
    size, steps = numbers([3]), numbers([1])
    value = called(rebuild, storage, number(0), size, steps, b"\x89", HOOKS, named("torch", "bool"))
    found = loaded(archive(pickled(items({"a": value})), {"0": b"\x00\x02\x01"}), tmp_path)
    np.testing.assert_array_equal(found["a"], [False, True, True])
    assert found["a"].dtype == bool


def test_a_tensor_of_many_unused_bytes(tmp_path: Path) -> None:
    """A storage that no tensor uses is never read."""
    values = {"state_dict": items({"a": tensor(stored("0", 1), [1], [1])}), "rest": stored("1", 9)}
    data = archive(pickled(items(values)), {"0": bytes(4), "1": bytes(36), "2": b"x"})
    assert loaded(data, tmp_path)["a"] == 0


def test_memo_and_the_stack(tmp_path: Path) -> None:
    """Of opcodes that torch.save writes not: a value that is dropped, one that is taken twice."""
    size = numbers([2]) + b"q\x05" + b"2" + b"0"
    value = REBUILD + b"(" + stored("0", 2) + b"K\x00" + size + b"K\x01\x85" + b"\x89" + HOOKS
    value += b"(NNN1tR" + b"r\xff\xff\xff\xff0j\xff\xff\xff\xff"
    data = archive(pickled(items({"a": value})), {"0": np.ones(2, "<f4").tobytes()})
    np.testing.assert_array_equal(loaded(data, tmp_path)["a"], [1, 1])


def test_safetensors_of_small_floats(tmp_path: Path) -> None:
    """By the definitions: 0x38 is 1 in e4m3, 0x3C in e5m2, 127 is 2 ** 0 in e8m0."""
    said = {
        "a": ("F8_E4M3", [0x38, 0xB8, 0x01, 0x7E, 0x7F, 0x80], [1, -1, 2**-9, 448, np.nan, -0.0]),
        "b": ("F8_E5M2", [0x3C, 0x01, 0x7B, 0xFC, 0x7D], [1, 2**-16, 57344, -np.inf, np.nan]),
        "c": ("F8_E8M0", [127, 0, 254, 255], [1, 2**-127, 2.0**127, np.nan]),
        "d": ("BF16", [0x80, 0x3F, 0xC0, 0xFF], [1, -np.nan]),
        "e": ("F16", [0x00, 0x3C, 0x01, 0x00], [1, 2**-24]),
    }  # fmt: skip
    header, data = {}, b""
    for name, (dtype, bytes_, values) in said.items():
        ends = [len(data), len(data) + len(bytes_)]
        header[name] = {"dtype": dtype, "shape": [len(values)], "data_offsets": ends}
        data += bytes(bytes_)
    found = loaded(safe_file(header, data), tmp_path)
    for name, (_, _, values) in said.items():
        np.testing.assert_array_equal(found[name], np.array(values, np.float32), strict=True)
    assert np.signbit(found["a"][5])


def test_a_model_of_fastcnn_is_another_file(tmp_path: Path) -> None:
    model = nn.Sequential([nn.Dense(2)])
    model.build((3,))
    model.save(tmp_path / "a")
    with pytest.raises(ValueError, match=r"got a file of fastcnn, which fastcnn\.load or"):
        pytorch.load_state(tmp_path / "a")
