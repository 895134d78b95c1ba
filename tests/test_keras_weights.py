"""Weights of Keras's files into models that are there: by order and by names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_files import (
    Spec,
    given,
    h5,
    h5py,
    kernel,
    layer,
    norm,
    put3,
    sequential,
    weights2,
    weights3,
)

import fastcnn
from fastcnn import nn

FORMS: dict[str, Any] = {
    "of-3": weights3,
    "of-3-without-names": lambda model: weights3(model, named=False),
    "of-2": weights2,
    "of-2-whole": h5,
}


def net(*without: str) -> tuple[Spec, list[Spec]]:
    """A network with a part of its own, and its layers that have arrays."""
    rng = np.random.default_rng(0)
    conv: dict[str, Any] = {"filters": 3, "kernel_size": 3}
    held = [
        layer("Conv2D", "conv2d_7", arrays=kernel(rng, 3, 3, 3, 3), padding="same", **conv),
        layer("BatchNormalization", "norm", arrays=norm(rng, 3, *without)),
        layer("DepthwiseConv2D", "deep", arrays={"depthwise_kernel": rng.normal(0, 1, (2, 2, 3, 2)),
                                                 "bias": np.arange(6.0)}, kernel_size=2),
        layer("Conv2D", "conv2d_2", arrays=kernel(rng, 3, 3, 6, 3), **conv),
        layer("Dense", "dense", arrays=kernel(rng, 3, 2), units=2),
    ]  # fmt: skip
    inner = sequential("inner", given("inner_in", 6, 6, 3), *held[1:3])
    inner.options["trainable"] = True
    pool = layer("GlobalMaxPooling2D", "pool")
    return sequential("net", given("in", 6, 6, 3), held[0], inner, held[3], pool, held[4]), held


def twin(**names: Any) -> nn.Sequential:
    model = nn.Sequential(
        [
            nn.Conv2D(3, 3, padding="same"),
            nn.Sequential([nn.BatchNorm(), nn.DepthwiseConv2D(2, depth_multiplier=2)]),
            nn.Conv2D(3, 3),
            nn.GlobalMaxPool2D(),
            nn.Dense(2),
        ]
    )
    model.build((6, 6, 3))
    return model


@pytest.mark.parametrize("form", FORMS)
def test_by_order(form: str, tmp_path: Path) -> None:
    spec, held = net()
    path = tmp_path / "weights"
    path.write_bytes(FORMS[form](spec))
    model = twin()
    loaded = fastcnn.keras.load_weights(model, path)
    state = model.state_dict()
    assert set(loaded) == set(state)
    np.testing.assert_array_equal(state["0.weight"], held[0].arrays["kernel"])
    np.testing.assert_array_equal(state["2.weight"], held[3].arrays["kernel"])
    np.testing.assert_array_equal(state["4.bias"], held[4].arrays["bias"])
    np.testing.assert_array_equal(state["1.0.running_mean"], held[1].arrays["moving_mean"])
    # Both filters of the first channel, then those of the second: (R, S, C, m) row by row.
    deep = held[2].arrays["depthwise_kernel"].astype(np.float32)
    np.testing.assert_array_equal(state["1.1.weight"][:, :, 0, 2], deep[:, :, 1, 0])
    np.testing.assert_array_equal(state["1.1.weight"][:, :, 0, 5], deep[:, :, 2, 1])
    assert "dense" in loaded["4.weight"]
    assert loaded["4.weight"] != loaded["4.bias"]


@pytest.mark.parametrize("form", FORMS)
def test_a_norm_that_lacks_arrays(form: str, tmp_path: Path) -> None:
    for without in (("gamma",), ("gamma", "beta")):
        spec, held = net(*without)
        path = tmp_path / "weights"
        path.write_bytes(FORMS[form](spec))
        model = twin()
        fastcnn.keras.load_weights(model, path)
        state = model.state_dict()
        np.testing.assert_array_equal(state["1.0.gamma"], np.ones(3))
        beta = np.zeros(3) if "beta" in without else held[1].arrays["beta"]
        np.testing.assert_array_equal(state["1.0.beta"], beta)
        np.testing.assert_array_equal(
            state["1.0.running_variance"], held[1].arrays["moving_variance"]
        )


def test_a_norm_without_a_center_is_told_by_names(tmp_path: Path) -> None:
    spec, held = net("beta")
    path = tmp_path / "weights"
    path.write_bytes(weights2(spec))
    model = twin()
    fastcnn.keras.load_weights(model, path)
    np.testing.assert_array_equal(model.state_dict()["1.0.gamma"], held[1].arrays["gamma"])
    np.testing.assert_array_equal(model.state_dict()["1.0.beta"], np.zeros(3))


def test_by_names_where_all_have_them(tmp_path: Path) -> None:
    """In another order than that of the file, of the same shapes."""
    rng = np.random.default_rng(0)
    layers = [layer("Dense", name, arrays=kernel(rng, 3, 3), units=3) for name in "abc"]
    path = tmp_path / "weights"
    path.write_bytes(weights3(sequential("net", given("in", 3), *layers)))
    model = nn.Sequential([nn.Dense(3, name=name) for name in "cab"])
    model.build((3,))
    loaded = fastcnn.keras.load_weights(model, path)
    assert loaded["0.weight"] == "layers/dense_2/vars/0"
    np.testing.assert_array_equal(model.state_dict()["1.bias"], layers[0].arrays["bias"])


def test_numbers_of_groups_are_numbers(tmp_path: Path) -> None:
    """dense_10 is behind dense_9, and not behind dense_1."""
    rng = np.random.default_rng(0)
    layers = [layer("Dense", f"d{at}", arrays=kernel(rng, 2, 2), units=2) for at in range(12)]
    path = tmp_path / "weights"
    path.write_bytes(weights3(sequential("net", given("in", 2), *layers)))
    model = nn.Sequential([nn.Dense(2) for _ in range(12)])
    model.build((2,))
    fastcnn.keras.load_weights(model, path)
    for at, spec in enumerate(layers):
        np.testing.assert_array_equal(model.state_dict()[f"{at}.weight"], spec.arrays["kernel"])


def test_layers_in_attributes(tmp_path: Path) -> None:
    """Of a class of models of one's own: groups are called by its attributes."""
    rng = np.random.default_rng(0)
    layers = [layer("Dense", f"dense_{at}", arrays=kernel(rng, 2, 2), units=2) for at in range(3)]
    path = tmp_path / "weights"
    path.write_bytes(weights3(sequential("net", given("in", 2), layers[0])))
    with h5py.File(path, "a") as root:
        for name, spec in zip(("side2", "side10"), layers[1:], strict=True):
            put3(root.create_group(name), spec, named=True)
    model = nn.Sequential([nn.Dense(2) for _ in range(3)])
    model.build((2,))
    loaded = fastcnn.keras.load_weights(model, path)
    places = [loaded[f"{at}.weight"].removesuffix("/vars/0") for at in range(3)]
    assert places == ["layers/dense", "side10", "side2"]


def test_into_float64(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    layers = [layer("Dense", "d", arrays={"kernel": np.array([[0.1]])}, units=1, use_bias=False)]
    path.write_bytes(weights3(sequential("net", given("in", 1), *layers)))
    model = nn.Sequential([nn.Dense(1, use_bias=False)])
    model.build((1,), dtype=np.float64)
    fastcnn.keras.load_weights(model, path)
    assert model.state_dict()["0.weight"] == 0.1


@pytest.mark.parametrize("form", FORMS)
def test_on_an_error_nothing_changes(form: str, tmp_path: Path) -> None:
    spec, held = net()
    for name, wrong in (("bias", np.zeros(3)), ("kernel", np.zeros((3, 2, 1)))):
        path = tmp_path / "weights"
        right, held[4].arrays[name] = held[4].arrays[name], wrong
        path.write_bytes(FORMS[form](spec))
        held[4].arrays[name] = right
        model = twin()
        before = model.state_dict()
        with pytest.raises(ValueError, match=r"left are 4 \(Dense\) of the model and .*dense"):
            fastcnn.keras.load_weights(model, path)
        for key, array in model.state_dict().items():
            np.testing.assert_array_equal(array, before[key])


def test_layers_that_are_left_over(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(weights3(net()[0]))
    model = nn.Sequential([nn.Conv2D(3, 3)])
    model.build((6, 6, 3))
    with pytest.raises(ValueError, match=r"left are nothing of the model and .* and 1 more of the"):
        fastcnn.keras.load_weights(model, path)


def test_what_is_no_model_or_has_none(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(weights3(net()[0]))
    with pytest.raises(ValueError, match=r"it has weights alone; fastcnn.keras.load_weights takes"):
        fastcnn.keras.load(path)
    with pytest.raises(RuntimeError, match="expected a built layer"):
        fastcnn.keras.load_weights(nn.Sequential([nn.Dense(1)]), path)
    with pytest.raises(TypeError, match=r"load_weights: model: expected a fastcnn.nn model, got"):
        fastcnn.keras.load_weights("model", path)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        fastcnn.keras.load_weights(twin(), tmp_path / "nowhere")
    with pytest.raises(TypeError, match="path: expected a file's name"):
        fastcnn.keras.load(3)  # type: ignore[arg-type]
