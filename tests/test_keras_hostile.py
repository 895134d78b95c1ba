"""Files that mean harm: one sentence each, within bounds of memory and time, and nothing is run."""

from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_files import (
    Spec,
    archive,
    described,
    functional,
    given,
    h5,
    h5py,
    keras,
    kernel,
    layer,
    sample,
    sequential,
    weights3,
)

import fastcnn

ROOM = 64 << 20
SECONDS = 20  # with memory traced, on a crowded machine


def refused(data: bytes, tmp_path: Path) -> str:
    """What is said of a file; it takes at most twice its size and the room."""
    path = tmp_path / "hostile"
    path.write_bytes(data)
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(ValueError, match="expected a model of Keras: ") as error:
            fastcnn.keras.load(path)
        assert tracemalloc.get_traced_memory()[1] <= 2 * len(data) + ROOM
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < SECONDS
    said = str(error.value).removeprefix(f"{path}: expected a model of Keras: ")
    assert len(said) <= 600
    assert said.isprintable()
    return said


def of(config: Any, weights: bytes = b"") -> bytes:
    return archive(json.dumps(config).encode(), weights or weights3(sample()))


def dense(**options: Any) -> Spec:
    arrays = kernel(np.random.default_rng(0), 3, 2)
    return sequential("net", given("in", 3), layer("Dense", "d", arrays=arrays, units=2, **options))


def edited(edit: Callable[[Any], object], model: Spec | None = None) -> bytes:
    """A .keras file whose HDF5 data were changed."""
    model = model or dense()
    file = io.BytesIO(weights3(model))
    with h5py.File(file, "a") as root:
        edit(root)
    return of(described(model, 3), file.getvalue())


# ---------------------------------------------------------------------- code
@pytest.mark.parametrize("kind", ["Lambda", "TFOpLambda", "MyLayer", "__import__"])
def test_code_and_classes_of_ones_own(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    options = {"function": ["4wEAAAAAAAAA", None, None], "module": "os", "units": 2}
    layers = [layer(kind, "one", **options), layer(kind, "two", **options)]
    model = sequential("net", given("in", 3), *layers, layer("Strange", "s"),
                       layer("Dense", "d", arrays=kernel(rng, 3, 2), units=2))  # fmt: skip
    for data in (keras(model), h5(model)):
        said = refused(data, tmp_path)
        assert said.startswith(f"fastcnn has no {kind}, Strange; it has ")
        assert "Conv2D" in said


def test_functions_that_are_no_known_activation(tmp_path: Path) -> None:
    for value, shown in (
        ("mine", "the activation 'mine'"),
        ({"class_name": "function", "config": "os.system"}, "the activation {"),
        ({"class_name": "Lambda", "config": {}}, "Lambda"),
        (["4wEAAAAAAAAA", None, None], "the activation ["),
    ):
        assert f"fastcnn has no {shown}" in refused(keras(dense(activation=value)), tmp_path)


def test_a_class_of_models_of_ones_own(tmp_path: Path) -> None:
    config = {"class_name": "MyModel", "module": "mine", "config": {"width": 3}}
    assert "it is a MyModel, a class of its own" in refused(of(config), tmp_path)


# ---------------------------------------------------------------------- archives
def test_a_bomb_of_words(tmp_path: Path) -> None:
    bomb = archive(b" " * (64 << 20), b"", zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    assert refused(bomb, tmp_path) == "its part config.json is of more than 8388608 bytes"


def test_a_bomb_of_weights(tmp_path: Path) -> None:
    bomb = archive(b"{}", bytes(64 << 20), zipfile.ZIP_DEFLATED)
    assert "its part model.weights.h5 is of more than" in refused(bomb, tmp_path)


def test_a_large_directory(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as parts:
        for at in range(20_000):
            parts.writestr(f"{at}", b"")
    assert "has a directory of more than" in refused(file.getvalue(), tmp_path)


def test_other_ways_to_pack(tmp_path: Path) -> None:
    data = archive(b"{}", b"", zipfile.ZIP_BZIP2)
    assert refused(data, tmp_path) == "its part config.json is packed in a way that is not read"


@pytest.mark.parametrize("name", ["../up", "a/../../b", "..\\c"])
def test_names_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    data = archive(b"{}", b"", **{name: b"x"})
    assert "its zip archive has a part of the name" in refused(data, tmp_path)


def test_parts_that_lack(tmp_path: Path) -> None:
    for names, message in (
        (["config.json"], "it has no model.weights.h5"),
        (["model.weights.h5"], "got a zip archive"),
        (["config.json", "config.json", "model.weights.h5"], "two parts of one name"),
    ):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as parts, pytest.MonkeyPatch.context() as quiet:
            quiet.setattr("warnings.warn", lambda *args, **kwargs: None)
            for name in names:
                parts.writestr(name, b"{}")
        assert message in refused(file.getvalue(), tmp_path)


@pytest.mark.parametrize("form", [keras, h5])
def test_cut_off_anywhere(form: Any, tmp_path: Path) -> None:
    data = form(dense())
    for size in [*range(0, 200, 7), *range(200, len(data), 331), len(data) - 1]:
        assert refused(data[:size], tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06", b"\x89HDF\r\n\x1a\n", b"hello", b"{}"])
def test_what_is_no_file_of_keras(data: bytes, tmp_path: Path) -> None:
    assert refused(data, tmp_path)


# ---------------------------------------------------------------------- words
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" * 100_000, "its config.json is nested too deep"),
        (b"[]", "its config.json is no object of JSON"),
        (b"\xff", "its config.json is no JSON"),
        (b'{"class_name": "Sequential"}', "the config of Sequential: expected an object"),
        (b'{"class_name": "Sequential", "config": {"layers": 3}}', "of which the file has no lay"),
    ],
)
def test_words_that_say_nothing(text: bytes, message: str, tmp_path: Path) -> None:
    assert message in refused(archive(text, weights3(dense())), tmp_path)


def test_words_without_number(tmp_path: Path) -> None:
    for text in (b"[" + b"[]," * 2_000_000 + b"[]]", b"[" + b'"ab",' * 1_500_000 + b"3]"):
        said = refused(archive(text, b"", zipfile.ZIP_DEFLATED), tmp_path)
        assert said == "its config.json has more than 500000 values"


def test_networks_in_networks_without_end(tmp_path: Path) -> None:
    config: Any = {"class_name": "Sequential", "config": {"name": "net", "layers": []}}
    for at in range(30):
        config = {"class_name": "Sequential", "config": {"name": f"n{at}", "layers": [config]}}
    assert "networks in networks, more than 16 deep" in refused(of(config), tmp_path)


def test_layers_without_number(tmp_path: Path) -> None:
    layers = [layer("ReLU", f"r{at}") for at in range(20_000)]
    config = described(sequential("net", given("in", 3), *layers), 3)
    assert "20001 layers, more than 10000" in refused(of(config), tmp_path)


def test_layers_in_a_circle(tmp_path: Path) -> None:
    layers = [given("in", 3), layer("Add", "a", "in", "b"), layer("ReLU", "b", "a")]
    for model in (keras, h5):
        data = model(functional("net", layers, "in", "b"))
        assert "its layers are called in a circle" in refused(data, tmp_path)
    layers[1:] = [layer("ReLU", "a", "a")]
    data = keras(functional("net", layers, "in", "a"))
    assert "its layers are called in a circle" in refused(data, tmp_path)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nobody", "nobody: expected a layer that was called before"),
        (("in", 1, 0), "in: expected a layer that was called before"),
        (("in", 0, 1), "in: expected a layer that was called before"),
        (("in", 0, 2**40), "expected [layer, call, part]"),
    ],
)
def test_places_that_are_none(place: Any, message: str, tmp_path: Path) -> None:
    data = keras(functional("net", [given("in", 3), layer("ReLU", "r", place)], "in", "r"))
    assert message in refused(data, tmp_path)


def test_inputs_without_bounds(tmp_path: Path) -> None:
    """What a file describes is planned and not made, but for what it has the numbers of."""
    given_options: dict[str, Any] = {"mean": 0.0, "variance": 1.0}
    model = sequential("net", given("in", 2**30), layer("Normalization", "n", **given_options))
    assert "numbers that are not in the file" in refused(keras(model), tmp_path)
    large = layer("Dense", "d", units=2**30, use_bias=False, arrays={"kernel": np.zeros((3, 2))})
    model = sequential("net", given("in", 3), large)
    assert "d: expected kernel (3, 1073741824), got (3, 2)" in refused(keras(model), tmp_path)


def test_other_layouts_and_types(tmp_path: Path) -> None:
    said = refused(keras(dense(data_format="channels_first")), tmp_path)
    assert said.startswith("d (Dense): data_format: expected channels_last, got channels_first")
    policy = {"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}}
    assert "that is quantized" in refused(keras(dense(dtype=policy)), tmp_path)


def test_a_call_in_training(tmp_path: Path) -> None:
    config = described(functional("net", [given("in", 3), layer("ReLU", "r", "in")], "in", "r"), 3)
    config["config"]["layers"][1]["inbound_nodes"][0]["kwargs"]["training"] = True
    assert "r: inbound_nodes: expected a call without training" in refused(of(config), tmp_path)


# ---------------------------------------------------------------------- numbers
PLACE = "layers/dense/vars"


def test_links_and_other_files_are_not_followed(tmp_path: Path) -> None:
    beside = tmp_path / "beside.h5"
    with h5py.File(beside, "w") as other:
        other["secret"] = np.zeros((3, 2), np.float32)

    def put(link: Any) -> Callable[[Any], object]:
        def edit(root: Any) -> None:
            del root[f"{PLACE}/0"]
            root[f"{PLACE}/0"] = link

        return edit

    assert "0 is a link" in refused(edited(put(h5py.SoftLink(f"/{PLACE}/1"))), tmp_path)
    assert refused(edited(put(h5py.ExternalLink(str(beside), "/secret"))), tmp_path)

    def outside(root: Any) -> None:
        del root[f"{PLACE}/0"]
        root[PLACE].create_dataset("0", (3, 2), "f4", external=[(str(beside), 0, 24)])

    assert "has its numbers in another file" in refused(edited(outside), tmp_path)

    def virtual(root: Any) -> None:
        del root[f"{PLACE}/0"]
        layout = h5py.VirtualLayout((3, 2), "f4")
        layout[:] = h5py.VirtualSource(str(beside), "secret", (3, 2))
        root[PLACE].create_virtual_dataset("0", layout)

    assert refused(edited(virtual), tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": "gzip"}, "is compressed"),
        ({"chunks": (1, 2)}, "is cut in pieces"),
        ({"dtype": "i4"}, "expected floats, got int32"),
        ({"dtype": "c8"}, "is of a type that no weights have"),
        ({"dtype": "S4"}, "is of a type that no weights have"),
    ],
)
def test_arrays_of_other_kinds(options: Any, message: str, tmp_path: Path) -> None:
    def edit(root: Any) -> None:
        del root[f"{PLACE}/0"]
        root[PLACE].create_dataset("0", (3, 2), **{"dtype": "f4", **options})[:] = 1

    assert message in refused(edited(edit), tmp_path)


def test_an_array_that_was_never_written(tmp_path: Path) -> None:
    def edit(root: Any) -> None:
        del root[f"{PLACE}/0"]
        root[PLACE].create_dataset("0", (3, 2), "f4")

    assert "has no numbers in the file" in refused(edited(edit), tmp_path)


def test_arrays_that_lack_and_are_left_over(tmp_path: Path) -> None:
    def lacks(root: Any) -> None:
        del root[f"{PLACE}/1"]

    assert "d: expected arrays kernel, bias, got 1" in refused(edited(lacks), tmp_path)

    def more(root: Any) -> None:
        root[f"{PLACE}/2"] = np.zeros(3)

    assert "d: expected arrays kernel, bias, got 3" in refused(edited(more), tmp_path)

    def none(root: Any) -> None:
        del root["layers"]

    assert "d: expected arrays kernel, bias, got 0" in refused(edited(none), tmp_path)


def test_numbers_that_float32_has_not(tmp_path: Path) -> None:
    model = dense()
    (model.layers or ())[1].arrays["bias"] = np.array([1e300, 0])
    assert "expected numbers that float32 holds" in refused(keras(model), tmp_path)


def test_newer_forms_of_hdf5_are_named(tmp_path: Path) -> None:
    file = io.BytesIO()
    with h5py.File(file, "w", libver="latest") as root:
        root["a"] = 1.0
    said = refused(of(described(dense(), 3), file.getvalue()), tmp_path)
    assert "in a form that Keras does not write" in said


def test_the_same_bytes_for_many_arrays(tmp_path: Path) -> None:
    """A file of little that would become much."""
    count, options = 40, {"units": 300, "use_bias": False}
    arrays = {"kernel": np.zeros((300, 300), np.float32)}
    layers = [
        layer("Dense", f"d{at}", arrays=arrays if at == 0 else {}, **options) for at in range(count)
    ]
    model = sequential("net", given("in", 300), *layers)

    def edit(root: Any) -> None:
        for at in range(1, count):
            root[f"layers/dense_{at}/vars/0"] = root["layers/dense/vars/0"]

    assert refused(edited(edit, model), tmp_path) == "its HDF5 data overlap"


def test_groups_that_hold_themselves(tmp_path: Path) -> None:
    file = io.BytesIO(weights3(dense()))
    with h5py.File(file, "a") as root:
        root["layers/dense/again"] = root["layers"]
    path = tmp_path / "circle"
    path.write_bytes(file.getvalue())
    model = fastcnn.nn.Sequential([fastcnn.nn.Dense(2)])
    model.build((3,))
    with pytest.raises(ValueError, match="groups in groups, too deep"):
        fastcnn.keras.load_weights(model, path)


def test_sizes_that_lie(tmp_path: Path) -> None:
    """The shape of an array is far more than the file has."""
    data = weights3(dense())
    shape = struct.pack("<2Q", 3, 2)
    assert data.count(shape) >= 1
    lies = data.replace(shape, struct.pack("<2Q", 2**62, 2**62))
    assert "damaged" in refused(of(described(dense(), 3), lies), tmp_path)
