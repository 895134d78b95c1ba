"""Files of other programs are named for what they are, and damaged ones in a short sentence."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_serialization import error_of, file_with, small_model

import fastcnn


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * 40)
    return file.getvalue()


def arrays() -> bytes:
    file = io.BytesIO()
    np.savez(file, weight=np.zeros(3), bias=np.zeros(3))
    return file.getvalue()


class Armed:
    """What must never come out of a pickle."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was read",)


# What torch.save wrote before it wrote zip archives begins with its number, pickled.
LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
ONNX = b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\xb8\x01\n\x1a\n\x01x"
TFLITE = b"\x1c\x00\x00\x00TFL3\x14\x00 \x00\x1c\x00\x18\x00\x14\x00\x10\x00"

FOREIGN: dict[str, tuple[bytes, str]] = {
    "torch": (zipped("archive/data.pkl", "archive/byteorder", "archive/data/0"), "PyTorch"),
    "torchscript": (zipped("net/code/a.py", "net/constants.pkl"), "PyTorch"),
    "legacy torch": (LEGACY, "PyTorch"),
    "pickle": (pickle.dumps(Armed()), "a pickle of Python"),
    "pickle 2": (pickle.dumps(Armed(), 2), "a pickle of Python"),
    "keras": (zipped("metadata.json", "config.json", "model.weights.h5"), "Keras"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
    "onnx": (ONNX, "ONNX"),
    "tflite": (TFLITE, "TFLite"),
    "npz": (arrays(), "arrays of NumPy"),
    "zip": (zipped("photo.jpg"), "a zip archive"),
    "cut zip": (arrays()[:50], "a zip archive"),
    "json": (b'{"loss": [1.0, 0.5]}', "a JSON file"),
    "empty": (b"", "an empty file"),
    "a byte": (b"\x08", "a file of another kind"),
    "text": (b"Dear all,\n", "a file of another kind"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_named(kind: str, tmp_path: Path) -> None:
    data, message = FOREIGN[kind]
    # The content decides, whatever the name says.
    for name in ("model.safetensors", "model.bin", "no-end"):
        path = tmp_path / name
        path.write_bytes(data)
        said = error_of(partial(fastcnn.load, path))
        assert said.startswith(f"{path}: expected a fastcnn model file, got "), said
        assert message in said
        assert "\n" not in said
        load_state = fastcnn.Trainer(small_model(), backend="reference").load_state
        assert message in error_of(partial(load_state, path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m.pt", "PyTorch"),
        ("m.PTH", "PyTorch"),
        ("m.onnx", "ONNX"),
        ("m.keras", "Keras"),
        ("m.h5", "HDF5"),
        ("m.tflite", "TFLite"),
        ("m.pkl", "a pickle"),
        ("m.npz", "NumPy"),
    ],
)
def test_where_the_content_says_nothing_the_name_does(
    name: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"nothing that is known")
    assert f"{message}" in error_of(lambda: fastcnn.load(tmp_path / name))
    assert ", by its name" in error_of(lambda: fastcnn.load(tmp_path / name))


def test_safetensors_of_others(tmp_path: Path) -> None:
    from safetensors.numpy import save

    path = tmp_path / "m"
    for metadata in (None, {"format": "pt"}, {"fastcnn": "[]"}):
        path.write_bytes(save({"weight": np.zeros(3, np.float32)}, metadata))
        said = error_of(lambda: fastcnn.load(path))
        assert said.endswith("its metadata is not fastcnn's; another program wrote it")
    small_model().save(path)
    path.write_bytes(path.read_bytes()[:100])
    assert error_of(lambda: fastcnn.load(path)).endswith(
        "got a safetensors file that is damaged or cut off"
    )


def test_a_state_is_no_model_and_the_other_way_round(tmp_path: Path) -> None:
    trainer = fastcnn.Trainer(small_model(), backend="reference")
    trainer.save_state(tmp_path / "state")
    trainer.model.save(tmp_path / "model")
    assert "which Trainer.load_state reads" in error_of(lambda: fastcnn.load(tmp_path / "state"))
    assert "which fastcnn.load reads" in error_of(lambda: trainer.load_state(tmp_path / "model"))


# ---------------------------------------------------------------------- folders
def test_the_folder_of_a_run(tmp_path: Path) -> None:
    small_model().save(tmp_path / "model.safetensors")
    assert repr(fastcnn.load(tmp_path)) == repr(small_model())
    assert repr(fastcnn.load(str(tmp_path) + "/")) == repr(small_model())
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"or a directory with model\.safetensors") as error:
        fastcnn.load(tmp_path / "empty")
    assert error.value.filename == str(tmp_path / "empty")


def test_what_is_no_path(tmp_path: Path) -> None:
    for path, kind, message in [
        (3, TypeError, "path: expected a file's name, got int"),
        (None, TypeError, "path: expected a file's name, got NoneType"),
        (small_model(), TypeError, "path: expected a file's name, got Sequential"),
        ("a\0b", ValueError, "path: expected a name without null characters"),
        ("/dev/null", OSError, "expected a regular file|No such file"),
    ]:
        with pytest.raises(kind, match=message):
            fastcnn.load(path)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- what is quoted
LONG = "A" * 5000


def with_header(header: Any) -> bytes:
    data = json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data


def description(**changes: Any) -> dict[str, Any]:
    layers = [{"layer": "Flatten"}, {"layer": "Dense", "units": 2}]
    return {
        "format": "fastcnn-model",
        "version": 1,
        "input_shape": [4, 4, 1],
        "dtype": "float32",
        "architecture": {"layer": "Sequential", "layers": layers},
        **changes,
    }


def dense(**options: Any) -> dict[str, Any]:
    return {"layer": "Dense", "units": 2, **options}


def conv(**options: Any) -> dict[str, Any]:
    return {"layer": "Conv2D", "filters": 2, "kernel_size": 1, **options}


@pytest.mark.parametrize(
    "data",
    [
        with_header({LONG: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}),
        with_header({"a": {"dtype": LONG, "shape": [1], "data_offsets": [0, 4]}}),
        with_header({"__metadata__": {"fastcnn": LONG}}),
        file_with(description(format=LONG)),
        file_with(description(version=LONG)),
        file_with(description(dtype=LONG)),
        file_with(description(input_shape=LONG)),
        file_with(description(input_shape=[7] * 5000)),
        file_with(description(input_shape=[-(10**4000)])),
        file_with(description(architecture={"layer": LONG})),
        file_with(description(architecture=dense(activation=LONG))),
        file_with(description(architecture=dense(initializer=LONG))),
        file_with(description(architecture=dense(in_features=LONG))),
        file_with(description(architecture=dense(**{LONG: 1}))),
        file_with(description(architecture=conv(kernel_size=[1] * 5000))),
        file_with(description(architecture=conv(padding=[1] * 5000))),
        file_with(description(architecture=conv(padding=LONG))),
        file_with(description(), {LONG: np.zeros(1, np.float32)}),
        file_with(description(), {LONG: np.zeros(1, np.int32)}),
        file_with(description(), {"\x1b[31m\n" * 900: np.zeros(1, np.float32)}),
        file_with(description(notes=LONG)),
        file_with(description(notes={"a": 10**4000})),
    ],
)
def test_what_a_damaged_file_says_is_quoted_in_part(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m"
    whole = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    if "__metadata__" not in whole:  # safetensors itself speaks after our metadata was found
        whole["__metadata__"] = {"fastcnn": json.dumps(description())}
        data = with_header(whole)
    path.write_bytes(data)
    for read in (fastcnn.load, fastcnn.Trainer(small_model(), backend="reference").load_state):
        said = error_of(partial(read, path))
        assert said.startswith(f"{path}: expected a ")
        assert len(said) - len(str(path)) < 300
        assert "A" * 120 not in said
        assert said.isprintable()
