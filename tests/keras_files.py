"""Files as Keras 2 and 3 write them, put together with h5py: of models that are described here."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

h5py: Any = pytest.importorskip("h5py", reason="files of Keras are written with h5py")

Place = tuple[str, int, int]


@dataclass
class Spec:
    """A layer: its class in Keras, name, options, arrays by their names there, and its calls.

    layers: of a network. inputs, outputs: places in one that is no Sequential.
    """

    kind: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    calls: list[Any] = field(default_factory=list)
    layers: list[Spec] | None = None
    inputs: Any = None
    outputs: Any = None


def layer(kind: str, name: str, *on: str | Place, arrays: Any = None, **options: Any) -> Spec:
    """A layer; on: what it is called on, once, layers by their names or places."""
    call = [each if isinstance(each, tuple) else (each, 0, 0) for each in on]
    return Spec(kind, name, options, dict(arrays or {}), [call] if call else [])


def given(name: str, *shape: int | None) -> Spec:
    return Spec("InputLayer", name, {"batch_shape": [None, *shape]})


def sequential(name: str, *layers: Spec, **options: Any) -> Spec:
    return Spec("Sequential", name, options, layers=list(layers))


def functional(name: str, layers: Sequence[Spec], inputs: Any, outputs: Any) -> Spec:
    """A network of any shape; inputs, outputs: a name, a list of these or a dict."""
    return Spec("Functional", name, layers=list(layers), inputs=inputs, outputs=outputs)


# ---------------------------------------------------------------------- descriptions
def described(spec: Spec, version: int) -> dict[str, Any]:
    config: dict[str, Any] = {"name": spec.name, "trainable": True, **spec.options}
    if version == 2 and "batch_shape" in config:
        config["batch_input_shape"] = config.pop("batch_shape")
    if spec.layers is not None:
        config["layers"] = [described(each, version) for each in spec.layers]
        if spec.inputs is not None:
            config["input_layers"] = ends(spec.inputs, version)
            config["output_layers"] = ends(spec.outputs, version)
    found = {"class_name": spec.kind, "config": config}
    if version == 3:
        found |= {"module": "keras.layers", "registered_name": None}
    else:
        found.pop("module", None)
    found |= {"name": spec.name, "inbound_nodes": [node(call, version) for call in spec.calls]}
    return found


def node(call: list[Any], version: int) -> Any:
    if version == 2:
        return [[*place, {}] for place in call]
    arrays = [
        {"class_name": "__keras_tensor__", "config": {"keras_history": list(place)}}
        if isinstance(place, tuple)
        else place
        for place in call
    ]
    return {"args": [arrays] if len(arrays) > 1 else arrays, "kwargs": {"training": None}}


def ends(value: Any, version: int) -> Any:
    if isinstance(value, dict):
        return {key: end(each) for key, each in value.items()}
    if isinstance(value, list):
        return [end(each) for each in value]
    return end(value) if version == 3 else [end(value)]


def end(value: str | Place) -> list[Any]:
    return [value, 0, 0] if isinstance(value, str) else list(value)


# ---------------------------------------------------------------------- weights
def snake(kind: str) -> str:
    known = {"PReLU": "p_re_lu", "Conv2DTranspose": "conv2d_transpose"}
    text = "".join("_" * (c.isupper() and not c.islower()) + c.lower() for c in kind).strip("_")
    return known.get(kind, text.replace("2_d", "2d").replace("1_d", "1d"))


def put3(group: Any, spec: Spec, named: bool) -> None:
    """Write arrays as Keras 3 does."""
    own = group.create_group("vars")
    if named:
        own.attrs["name"] = spec.name
    for at, array in enumerate(spec.arrays.values()):
        own[str(at)] = array
    used: dict[str, int] = {}
    for each in spec.layers or ():
        if spec.kind == "Sequential" and each.kind == "InputLayer":
            continue
        kind = snake(each.kind)
        used[kind] = used.get(kind, -1) + 1
        name = f"{kind}_{used[kind]}" if used[kind] else kind
        put3(group.create_group(f"layers/{name}"), each, named)


def held_in(spec: Spec, before: str = "") -> list[tuple[str, np.ndarray]]:
    """The arrays of a layer, those of a network's layers all together, with Keras 2's names."""
    found = [(f"{before}{spec.name}/{name}:0", each) for name, each in spec.arrays.items()]
    return found + [pair for each in spec.layers or () for pair in held_in(each)]


def put2(group: Any, spec: Spec, version: str) -> None:
    """Write arrays as Keras 2 does."""
    layers = [each for each in spec.layers or () if each.kind != "InputLayer"]
    group.attrs["layer_names"] = [each.name.encode() for each in layers]
    group.attrs["backend"], group.attrs["keras_version"] = b"tensorflow", version.encode()
    for each in sorted(layers, key=lambda each: each.name):
        own = group.create_group(each.name)
        arrays = held_in(each)
        own.attrs["weight_names"] = [name.encode() for name, _ in arrays]
        for name, array in arrays:
            own[name] = array


# ---------------------------------------------------------------------- files
def weights3(model: Spec, *, named: bool = True) -> bytes:
    """.weights.h5 of Keras 3; named: groups tell the names of layers, as since 3.5 or so."""
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        put3(root, model, named)
    return file.getvalue()


def weights2(model: Spec, version: str = "2.15.0") -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        put2(root, model, version)
    return file.getvalue()


def h5(model: Spec, version: str = "2.15.0", described_as: int = 2) -> bytes:
    """A whole model in .h5, of Keras 2, or of Keras 3 which writes calls in its own way."""
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        root.attrs["keras_version"], root.attrs["backend"] = version.encode(), b"tensorflow"
        root.attrs["model_config"] = json.dumps(described(model, described_as)).encode()
        put2(root.create_group("model_weights"), model, version)
        root.create_group("optimizer_weights").attrs["weight_names"] = [b"Adam/iter:0"]
    return file.getvalue()


def archive(config: bytes, weights: bytes, method: int = 0, **others: bytes) -> bytes:
    """A zip archive with the parts of .keras, and others by their names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as parts:
        parts.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        parts.writestr("config.json", config)
        parts.writestr("model.weights.h5", weights)
        for name, data in others.items():
            parts.writestr(name, data)
    return file.getvalue()


def keras(model: Spec, *, named: bool = True) -> bytes:
    """.keras of Keras 3."""
    return archive(json.dumps(described(model, 3)).encode(), weights3(model, named=named))


# ---------------------------------------------------------------------- a model with a bit of all
def drawn(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(0, 1, shape).astype(np.float32)


def kernel(rng: np.random.Generator, *shape: int, bias: bool = True) -> dict[str, np.ndarray]:
    """The arrays of a convolution or a dense layer."""
    return {"kernel": drawn(rng, *shape), **({"bias": drawn(rng, shape[-1])} if bias else {})}


def norm(rng: np.random.Generator, size: int, *without: str) -> dict[str, np.ndarray]:
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    values = {name: np.abs(drawn(rng, size)) + 0.5 for name in names}
    return {name: value for name, value in values.items() if name not in without}


def sample(seed: int = 0) -> Spec:
    """Two branches, a network in it that is called twice, and norms that lack something."""
    rng = np.random.default_rng(seed)
    inner = sequential(
        "inner",
        given("inner_in", 6, 5, 4),
        layer("Conv2D", "conv2d_9", arrays=kernel(rng, 1, 1, 4, 4), filters=4, kernel_size=[1, 1]),
        layer("BatchNormalization", "norm", arrays=norm(rng, 4, "gamma"), axis=[3], scale=False),
    )
    inner.calls = [[("first", 0, 0)], [("second", 0, 0)]]
    layers = [
        given("image", 6, 5, 2),
        layer(
            "Conv2D", "first", "image", arrays=kernel(rng, 3, 3, 2, 4), filters=4,
            kernel_size=[3, 3], padding="same", activation="relu",
        ),
        layer(
            "Conv2D", "second", "image", arrays=kernel(rng, 1, 1, 2, 4, bias=False), filters=4,
            kernel_size=[1, 1], use_bias=False,
        ),
        inner,
        layer("Add", "add", ("inner", 0, 0), ("inner", 1, 0)),
        layer("Flatten", "flatten", "add"),
        layer("Dense", "out", "flatten", arrays=kernel(rng, 120, 3), units=3),
    ]  # fmt: skip
    return functional("net", layers, "image", ["out"])
