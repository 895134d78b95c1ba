"""Whole models out of Keras's files: by hand, and the same out of every form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_files import (
    archive,
    described,
    drawn,
    functional,
    given,
    h5,
    h5py,
    keras,
    kernel,
    layer,
    norm,
    sample,
    sequential,
    weights3,
)

import fastcnn
from fastcnn import nn

FORMS: dict[str, Any] = {
    "keras": keras,
    "keras-without-names": lambda model: keras(model, named=False),
    "h5-of-2": h5,
    "h5-of-3": lambda model: h5(model, "3.15.1", 3),
}


def loaded(data: bytes, folder: Path, **options: Any) -> Any:
    path = folder / "model"
    path.write_bytes(data)
    return fastcnn.keras.load(path, **options)


@pytest.mark.parametrize("form", FORMS)
def test_a_sequential_by_hand(form: str, tmp_path: Path, backend: Any) -> None:
    """H unlike W and two channels, so that another order of flattening would show."""
    weight = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    rows = np.arange(12, dtype=np.float32).reshape(12, 1)
    model = sequential(
        "net",
        given("in", 3, 2, 2),
        layer("Conv2D", "a", arrays={"kernel": weight, "bias": np.array([1, -1], np.float32)},
              filters=2, kernel_size=[1, 1], activation="relu"),
        layer("Flatten", "f"),
        layer("Dense", "d", arrays={"kernel": rows}, units=1, use_bias=False),
    )  # fmt: skip
    found = loaded(FORMS[form](model), tmp_path)
    assert isinstance(found, nn.Sequential)
    assert [type(each).__name__ for each in found] == ["Conv2D", "Flatten", "Dense"]
    assert (found.name, found[0].name, found.dtype) == ("net", "a", np.float32)
    x = np.arange(-6, 6, dtype=np.float32).reshape(1, 3, 2, 2)
    mixed = np.maximum(x @ weight[0, 0] + [1, -1], 0)
    np.testing.assert_array_equal(found(x, backend), mixed.reshape(1, 12) @ rows)


@pytest.mark.parametrize("form", FORMS)
def test_a_network_of_any_shape(form: str, tmp_path: Path, backend: Any) -> None:
    """With a network in it that is called twice, against the same one written here."""
    spec = sample()
    found = loaded(FORMS[form](spec), tmp_path)
    assert isinstance(found, nn.Model)
    assert (found.input_names, found.output_names) == (("image",), ("out",))
    arrays = {each.name: each.arrays for each in spec.layers or ()}
    inner = {each.name: each.arrays for each in (spec.layers or ())[3].layers or ()}
    x = nn.Input((6, 5, 2))
    shared = nn.Sequential([nn.Conv2D(4, 1), nn.BatchNorm(epsilon=1e-3)])
    first = nn.Conv2D(4, 3, padding="same", activation="relu")(x)
    second = nn.Conv2D(4, 1, use_bias=False)(x)
    y = nn.add(shared(first), shared(second))
    twin = nn.Model(x, nn.Dense(3)(nn.Flatten()(y)))
    twin.build()
    state = {
        **{f"0.{name}": arrays["first"][there] for name, there in KERNEL},
        "1.weight": arrays["second"]["kernel"],
        **{f"2.0.{name}": inner["conv2d_9"][there] for name, there in KERNEL},
        "2.1.gamma": np.ones(4, np.float32),
        "2.1.beta": inner["norm"]["beta"],
        "2.1.running_mean": inner["norm"]["moving_mean"],
        "2.1.running_variance": inner["norm"]["moving_variance"],
        **{f"5.{name}": arrays["out"][there] for name, there in KERNEL},
    }
    twin.load_state_dict(state)
    images = drawn(np.random.default_rng(1), 2, 6, 5, 2)
    np.testing.assert_array_equal(found(images, backend), twin(images, backend))


KERNEL = (("weight", "kernel"), ("bias", "bias"))


def test_it_is_saved_and_trained_as_any_model(tmp_path: Path) -> None:
    model = loaded(keras(sample()), tmp_path)
    x, y = drawn(np.random.default_rng(1), 4, 6, 5, 2), np.array([0, 1, 2, 0])
    trainer = fastcnn.Trainer(model)
    trainer.fit(x, y, epochs=1, verbose=False)
    model.save(tmp_path / "ours")
    again = fastcnn.load(tmp_path / "ours")
    np.testing.assert_array_equal(trainer.predict(x), fastcnn.Predictor(again)(x))


def test_names_of_layers_and_groups_go_apart(tmp_path: Path) -> None:
    """Keras calls groups by the order in the model, layers by the order in which they were made."""
    rng = np.random.default_rng(0)
    model = sequential(
        "net",
        given("in", 3),
        layer("Dense", "dense_1", arrays=kernel(rng, 3, 3), units=3),
        layer("Dense", "dense", arrays=kernel(rng, 3, 3), units=3),
    )
    for form in FORMS.values():
        state = loaded(form(model), tmp_path).state_dict()
        np.testing.assert_array_equal(state["0.weight"], (model.layers or ())[1].arrays["kernel"])
        np.testing.assert_array_equal(state["1.weight"], (model.layers or ())[2].arrays["kernel"])


def test_several_inputs_and_outputs_by_name(tmp_path: Path, backend: Any) -> None:
    rng = np.random.default_rng(0)
    layers = [
        given("left", 2),
        given("right", 3),
        layer("Concatenate", "both", "left", "right", axis=-1),
        layer("Dense", "a", "both", arrays=kernel(rng, 5, 2), units=2),
        layer("Multiply", "b", "a", "left"),
    ]
    ends = {"left": "left", "right": "right"}
    model = loaded(keras(functional("net", layers, ends, {"one": "a", "two": "b"})), tmp_path)
    assert model.input_names == ("left", "right")
    assert model.output_names == ("one", "two")
    left, right = drawn(rng, 4, 2), drawn(rng, 4, 3)
    one, two = model({"right": right, "left": left}, backend)
    np.testing.assert_array_equal(two, one * left)


def test_a_layer_that_gives_two_outputs(tmp_path: Path) -> None:
    """They cannot both have its name."""
    rng = np.random.default_rng(0)
    shared = layer("Dense", "d", "left", arrays=kernel(rng, 3, 2), units=2)
    shared.calls.append([("right", 0, 0)])
    layers = [given("left", 3), given("right", 3), shared]
    ends: Any = ["left", "right"], [("d", 0, 0), ("d", 1, 0)]
    for form in FORMS.values():
        model = loaded(form(functional("net", layers, *ends)), tmp_path)
        assert model.output_names is None
        left, right = drawn(rng, 2, 3), drawn(rng, 2, 3)
        one, two = fastcnn.Predictor(model)(left, right)
        np.testing.assert_allclose(two, right @ shared.arrays["kernel"] + shared.arrays["bias"],
                                   rtol=1e-4, atol=1e-5)  # fmt: skip
        model.save(tmp_path / "ours")
        np.testing.assert_array_equal(
            fastcnn.Predictor(fastcnn.load(tmp_path / "ours"))(left, right)[0], one
        )


def test_a_chain_that_begins_with_a_network(tmp_path: Path) -> None:
    """As one has it who puts a new head on an old network."""
    rng = np.random.default_rng(0)
    base = functional(
        "base",
        [given("in", 4, 4, 1), layer("Conv2D", "c", "in", arrays=kernel(rng, 2, 2, 1, 3),
                                     filters=3, kernel_size=2)],
        "in",
        "c",
    )  # fmt: skip
    head = layer("GlobalAveragePooling2D", "pool")
    for form in FORMS.values():
        model = loaded(form(sequential("net", base, head)), tmp_path)
        assert model.output_shape == (3,)


def test_calls_of_networks_are_counted_from_one_too(tmp_path: Path) -> None:
    """Keras counts the call by which a network was made, of some kinds of networks."""
    rng = np.random.default_rng(0)
    inner = functional(
        "inner",
        [given("i", 3), layer("Dense", "d", "i", arrays=kernel(rng, 3, 3), units=3)],
        "i",
        "d",
    )
    inner.calls = [[("x", 0, 0)], [("inner", 1, 0)]]
    outer = functional("net", [given("x", 3), inner], "x", ("inner", 2, 0))
    model = loaded(keras(outer), tmp_path)
    w, b = model.state_dict().values()
    x = drawn(rng, 2, 3)
    found = fastcnn.Predictor(model)(x)
    np.testing.assert_allclose(found, (x @ w + b) @ w + b, rtol=1e-5, atol=1e-6)


def test_layers_that_lead_to_no_output(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layers = [
        given("in", 3),
        layer("Dense", "unused", "in", arrays=kernel(rng, 3, 2), units=2),
        layer("Dense", "used", "in", arrays=kernel(rng, 3, 1), units=1),
    ]
    for form in FORMS.values():
        model = loaded(form(functional("net", layers, "in", "used")), tmp_path)
        np.testing.assert_array_equal(model.state_dict()["0.weight"], layers[2].arrays["kernel"])


def test_sizes_that_the_file_leaves_open(tmp_path: Path) -> None:
    model = keras(sequential("net", given("in", None, None, 3), layer("Flatten", "f")))
    assert loaded(model, tmp_path, input_shape=(4, 5, 3)).output_shape == (60,)
    with pytest.raises(ValueError, match=r"input_shape=.* of which the file has \(None, None, 3\)"):
        loaded(model, tmp_path)
    with pytest.raises(ValueError, match=r"expected inputs of shape \(None, None, 3\), got"):
        loaded(model, tmp_path, input_shape=(4, 5, 2))
    with pytest.raises(TypeError, match="load: input_shape"):
        loaded(model, tmp_path, input_shape="4")


@pytest.mark.parametrize("kind", [np.float16, np.float64, "bfloat16"])
def test_other_numbers_become_float32(kind: Any, tmp_path: Path) -> None:
    values = np.array([[0.5], [-3.0]], np.float32)
    stored = values.astype(kind) if kind != "bfloat16" else brain(values)
    model = sequential(
        "net", given("in", 2),
        layer("Dense", "d", arrays={"kernel": stored}, units=1, use_bias=False,
              dtype={"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}}),
    )  # fmt: skip
    weight = loaded(keras(model), tmp_path).state_dict()["0.weight"]
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, values)
    assert loaded(keras(model), tmp_path, dtype="float64").dtype == np.float64


def brain(values: np.ndarray) -> np.ndarray:
    """Return float32 as Keras stores bfloat16: two bytes that have no name."""
    return (values.view(np.uint32) >> 16).astype(np.uint16).view("V2")


def test_what_is_frozen_stays_frozen(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layers = [
        given("in", 3),
        layer("Dense", "a", arrays=kernel(rng, 3, 3), units=3, trainable=False),
        layer("Dense", "b", arrays=kernel(rng, 3, 3), units=3),
    ]
    model = loaded(keras(sequential("net", *layers)), tmp_path)
    assert list(model.trained_parameters()) == ["1.weight", "1.bias"]
    whole = loaded(keras(sequential("net", *layers, trainable=False)), tmp_path)
    assert list(whole.trained_parameters()) == []


def test_an_optimizer_and_random_generators_are_left(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = sequential(
        "net", given("in", 3), layer("Dropout", "drop", rate=0.5),
        layer("Dense", "d", arrays=kernel(rng, 3, 2), units=2),
    )  # fmt: skip
    path = tmp_path / "weights"
    path.write_bytes(weights3(model))
    with h5py.File(path, "a") as root:
        root["optimizer/vars/0"] = np.zeros(3)
        root["layers/dropout/seed_generator/vars/0"] = np.zeros(2, np.uint32)
    data = archive(json.dumps(described(model, 3)).encode(), path.read_bytes())
    assert loaded(data, tmp_path).output_shape == (2,)


def test_a_list_of_layers_of_before_2018(tmp_path: Path) -> None:
    """A Sequential was a bare list, its shape an option of its first layer."""
    rng = np.random.default_rng(0)
    model = sequential("net", layer("Dense", "d", arrays=kernel(rng, 3, 2), units=2,
                                    batch_input_shape=[None, 3]))  # fmt: skip
    path = tmp_path / "old"
    path.write_bytes(h5(model, "1.2.2"))
    with h5py.File(path, "a") as root:
        listed = described(model, 2)["config"]["layers"]
        config = {"class_name": "Sequential", "config": listed}
        root.attrs["model_config"] = json.dumps(config)
    assert fastcnn.keras.load(path).input_shape == (3,)


def test_long_lists_of_names_are_in_pieces(tmp_path: Path) -> None:
    """HDF5 keeps at most 64 kB in an attribute: Keras splits what is longer."""
    rng = np.random.default_rng(0)
    names = [f"dense_{at}" for at in range(4)]
    layers = [layer("Dense", name, arrays=kernel(rng, 2, 2), units=2) for name in names]
    path = tmp_path / "pieces"
    path.write_bytes(h5(sequential("net", given("in", 2), *layers)))
    with h5py.File(path, "a") as root:
        group = root["model_weights"]
        del group.attrs["layer_names"]
        group.attrs["layer_names0"] = [each.encode() for each in names[:3]]
        group.attrs["layer_names1"] = [names[3].encode()]
    state = fastcnn.keras.load(path).state_dict()
    np.testing.assert_array_equal(state["3.weight"], layers[3].arrays["kernel"])


def test_groups_of_keras_2_13(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = sequential("net", given("in", 2), layer("BatchNormalization", "n", arrays=norm(rng, 2)))
    path = tmp_path / "weights"
    path.write_bytes(weights3(model, named=False))
    with h5py.File(path, "a") as root:
        root.move("layers", "_layer_checkpoint_dependencies")
    data = archive(json.dumps(described(model, 3)).encode(), path.read_bytes())
    state = loaded(data, tmp_path).state_dict()
    np.testing.assert_array_equal(
        state["0.running_mean"], (model.layers or ())[1].arrays["moving_mean"]
    )
