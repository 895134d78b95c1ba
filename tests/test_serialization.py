"""Model and state files: round trips, hostile files, and writes that fail midway."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layers import IDS, LAYERS

import fastcnn
from fastcnn import nn, serialization


def small_model(seed: int = 0) -> nn.Sequential:
    model = nn.Sequential(
        [
            nn.Conv2D(2, (3, 2), padding=((1, 0), (0, 1)), activation="relu"),
            nn.Residual(nn.Sequential([nn.BatchNorm(), nn.Conv2D(2, 1)])),
            nn.GlobalAvgPool2D(),
            nn.Dense(3),
        ]
    )
    model.build((4, 4, 1), seed=seed)
    return model


def file_with(description: Any, tensors: dict[str, Any] | None = None) -> bytes:
    from safetensors.numpy import save

    said = description if isinstance(description, str) else json.dumps(description)
    return save(tensors or {}, {"fastcnn": said})


def description_of(model: nn.Module) -> dict[str, Any]:
    return json.loads(json.dumps(serialization.describe(model)))


# ---------------------------------------------------------------------- round trips
@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=IDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_layer_comes_back(
    make: Any, shape: tuple[int, ...], dtype: Any, reference: Any, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    model = make()
    model.build(shape, dtype=dtype)
    for variable in model.variables().values():
        variable.data[...] = rng.random(variable.shape) + 0.5
    model.save(tmp_path / "model.safetensors")
    loaded = fastcnn.load(tmp_path / "model.safetensors")
    assert repr(loaded) == repr(model)
    assert type(loaded) is type(model)
    assert loaded.summary().replace(str(loaded.dtype), "") == model.summary().replace(
        str(model.dtype), ""
    )
    x = rng.standard_normal((2, *shape)).astype(dtype)
    np.testing.assert_array_equal(loaded(x, reference), model(x, reference))
    for name, variable in loaded.variables().items():
        assert variable.data.dtype == dtype
        assert variable.data.flags.writeable, name


def test_loaded_models_train(backend: Any, tmp_path: Path) -> None:
    model = small_model()
    model.save(tmp_path / "m")
    x, y = np.random.default_rng(0).random((6, 4, 4, 1)), np.array([0, 1, 2, 0, 1, 2])
    states = []
    for each in (model, fastcnn.load(tmp_path / "m")):
        fastcnn.Trainer(each, backend=backend).fit(x, y, epochs=2, verbose=False)
        states.append(each.state_dict())
    for name, array in states[0].items():
        np.testing.assert_array_equal(states[1][name], array)


def test_same_model_same_bytes(tmp_path: Path) -> None:
    small_model().save(tmp_path / "a")
    small_model().save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_plain_safetensors_reads_it(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    model = small_model()
    model.save(os.fspath(tmp_path / "m"))
    assert load_file(tmp_path / "m").keys() == model.state_dict().keys()


def test_unbuilt_and_foreign_layers_are_not_saved(tmp_path: Path) -> None:
    class Conv2D(nn.Dense):
        pass

    with pytest.raises(RuntimeError, match="call build"):
        nn.Dense(2).save(tmp_path / "m")
    model = nn.Sequential([Conv2D(2)])
    model.build((3,))
    with pytest.raises(ValueError, match=r"expected layers of fastcnn\.nn, got Conv2D"):
        model.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- writes that fail
def fail(*args: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("point", ["write", "fsync", "replace"])
def test_a_failing_write_harms_nothing(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m"
    small_model(seed=1).save(path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        if point == "write":
            real = open

            def half(file: Any, mode: str = "r") -> Any:
                stream = real(file, mode)
                if "w" not in mode:
                    return stream
                stream.write(b"half a file")
                stream.close()
                raise OSError(28, "No space left on device")

            patch.setattr("builtins.open", half)
        else:
            patch.setattr(os, point, fail)
        with pytest.raises(OSError, match="No space left"):
            small_model(seed=2).save(path)
        with pytest.raises(OSError, match="No space left"):
            fastcnn.Trainer(small_model(), backend="reference").save_state(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left"
    small_model(seed=2).save(path)
    assert path.read_bytes() != before


def test_a_killed_write_harms_nothing(tmp_path: Path) -> None:
    """A process that dies between the bytes and the name leaves the old file."""
    import subprocess
    import sys

    path = tmp_path / "m"
    small_model(seed=1).save(path)
    before = path.read_bytes()
    code = (
        "import os, sys, fastcnn\n"
        "model = fastcnn.load(sys.argv[1])\n"
        "model.parameters()['3.weight'].data[:] = 0\n"
        "os.replace = lambda *names: os._exit(9)\n"
        "model.save(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
    assert done.returncode == 9
    assert path.read_bytes() == before
    fastcnn.load(path)


def test_odd_targets(tmp_path: Path) -> None:
    model = small_model()
    with pytest.raises(OSError, match="path: expected a regular file or a new one"):
        model.save(tmp_path)
    with pytest.raises(OSError, match="path: expected a regular file"):
        model.save(os.devnull)
    with pytest.raises(FileNotFoundError, match="path: expected a file in an existing folder"):
        model.save(tmp_path / "none" / "m")
    assert not Path(os.devnull).is_file()
    if hasattr(os, "symlink"):
        (tmp_path / "link").symlink_to(tmp_path / "m")
        model.save(tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        fastcnn.load(tmp_path / "m")


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_files_have_the_usual_rights(tmp_path: Path) -> None:
    small_model().save(tmp_path / "m")
    (tmp_path / "usual").write_bytes(b"")
    assert (tmp_path / "m").stat().st_mode == (tmp_path / "usual").stat().st_mode


# ---------------------------------------------------------------------- files that are wrong
def test_missing_files_are_os_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fastcnn.load(tmp_path / "none")
    with pytest.raises(OSError, match=r"directory|denied"):
        fastcnn.load(tmp_path)


def test_truncated_files(tmp_path: Path) -> None:
    path = tmp_path / "m"
    small_model().save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="expected a fastcnn model file"):
            fastcnn.load(path)


def error_of(call: Any) -> str:
    """What the call's ValueError says, or "none"; any other error goes through."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return "none"


def test_damaged_files(tmp_path: Path, rng: np.random.Generator) -> None:
    """Whatever bytes are changed, loading works or is one ValueError that names the file."""
    path = tmp_path / "m"
    small_model().save(path)
    whole = path.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(header)] = rng.integers(256)
        path.write_bytes(damaged)
        said = error_of(lambda: fastcnn.load(path))
        assert said.startswith((f"{path}: expected a fastcnn model", "none")), said
        refused += said != "none"
    assert refused > 300


def layer(name: Any, **options: Any) -> dict[str, Any]:
    return {"layer": name, **options}


def sequential(*layers: Any) -> dict[str, Any]:
    return layer("Sequential", layers=list(layers))


HOSTILE: list[tuple[Any, str]] = [
    (None, "expected objects with a"),
    ([], "expected objects with a"),
    ({}, "expected objects with a"),
    (layer(3), "expected objects with a"),
    (layer("eval"), "expected a layer of fastcnn.nn, got 'eval'"),
    (layer("Module"), "expected a layer of fastcnn.nn, got 'Module'"),
    (layer("__class__"), "expected a layer of fastcnn.nn"),
    (layer("os.system", command="true"), "expected a layer of fastcnn.nn"),
    (layer("x" * 10_000), "expected a layer of fastcnn.nn"),
    (layer("Dense"), "units"),
    (layer("Dense", units="3"), "Dense: units: expected an integer"),
    (layer("Dense", units=1e400), "Dense: units"),
    (layer("Dense", units=-3), "Dense: units"),
    (layer("Dense", units=layer("ReLU")), "Dense: units"),
    (layer("Dense", units=3, __init__=1), "Dense: expected its options"),
    (layer("Dense", units=3, self=1), "Dense: expected its options, got 'self'"),
    (layer("Dense", units=3, activation=[[]]), "Dense: activation"),
    (layer("ReLU", built=True), "ReLU: expected its options, got 'built'"),
    (layer("Dropout", rate=10**400), "Dropout: rate: expected a number that fits a float"),
    (sequential(), "Sequential: layers"),
    (sequential("ReLU"), "expected a layer, got str"),
    (layer("Sequential", layers=layer("ReLU")), "Sequential: layers"),
    (layer("Residual", body=None), "Residual: body"),
    (sequential(layer("Dense", units=2**62)), "weight"),
    (sequential(layer("Dense", units=2**70)), "units: expected an integer of at most"),
    (sequential(layer("Dense", units=10**1000)), ""),
    (sequential(layer("Dense", units=2**34), layer("Dense", units=2**34)), "missing: 0"),
    (sequential(layer("Conv2D", filters=3, kernel_size=[3, 3, 3])), "kernel_size"),
    (sequential(layer("Conv2D", filters=3, kernel_size=2**61)), "input height|expected an input"),
    (sequential(layer("Conv2D", filters=3, kernel_size=2**63)), "kernel_size: expected an integer"),
]


@pytest.mark.parametrize(("architecture", "message"), HOSTILE)
def test_hostile_architectures(architecture: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m"
    for shape in ([4], [4, 4, 1], [2**40, 2**40, 2**40], [], [-1], ["4"], None, 5, [1e9]):
        description = {
            "format": "fastcnn-model",
            "version": 1,
            "dtype": "float32",
            "input_shape": shape,
            "architecture": architecture,
        }
        path.write_bytes(file_with(description))
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="expected a fastcnn model: ") as caught:
                fastcnn.load(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 4e6, "nothing is allocated for weights that the file does not hold"
        assert len(str(caught.value)) < 1000
        if shape == [4]:
            assert caught.match(message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a fastcnn model file"),
        (b"\x80\x04K\x01.", "expected a fastcnn model file"),
        (struct.pack("<Q", 2**63), "expected a fastcnn model file"),
        (struct.pack("<Q", 2) + b"{}", "metadata is not fastcnn's"),
        (file_with("no json"), "expected a fastcnn model file"),
        (file_with("[" * 100_000), "expected a fastcnn model file"),
        (file_with("null"), "metadata is not fastcnn's"),
        (file_with({"format": "fastcnn-state", "version": 1}), "says 'fastcnn-state'"),
        (file_with({"format": "fastcnn-model", "version": 2}), "expected version 1, got 2"),
        (file_with({"format": "fastcnn-model"}), "expected version 1, got None"),
        (file_with({"format": "fastcnn-model", "version": 1}), "expected a fastcnn model"),
    ],
)
def test_foreign_files(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        fastcnn.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_of_other_programs(tmp_path: Path) -> None:
    from safetensors.numpy import save

    path = tmp_path / "m"
    path.write_bytes(save({"weight": np.zeros(3, np.float32)}, {"format": "pt"}))
    with pytest.raises(ValueError, match="metadata is not fastcnn's"):
        fastcnn.load(path)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    path, model = tmp_path / "m", small_model()
    good = model.state_dict()
    for name, array, message in [
        ("3.bias", np.zeros(4, np.float32), r"3.bias: expected shape \(3,\), got \(4,\)"),
        ("3.bias", np.zeros(3), "3.bias: expected dtype float32, got float64"),
        ("3.bias", np.zeros(3, np.int64), "expected float32 or float64, got I64"),
        ("3.bias", np.zeros(3, np.float16), "expected float32 or float64, got F16"),
        ("extra", np.zeros(3, np.float32), "unexpected: extra"),
    ]:
        path.write_bytes(file_with(description_of(model), {**good, name: array}))
        with pytest.raises(ValueError, match=message):
            fastcnn.load(path)
    del good["3.bias"]
    path.write_bytes(file_with(description_of(model), good))
    with pytest.raises(ValueError, match=r"missing: 3\.bias"):
        fastcnn.load(path)
