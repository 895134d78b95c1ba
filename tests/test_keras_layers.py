"""Keras's layers, each as it is described in a file: what it is here, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_files import Spec, drawn, given, h5, keras, kernel, layer, norm, sequential

import fastcnn
from fastcnn import nn

RNG = np.random.default_rng(0)
X = drawn(RNG, 2, 5, 4, 3)


def loaded(spec: Spec, folder: Path, shape: tuple[int, ...], write: Any = keras) -> Any:
    path = folder / "model"
    path.write_bytes(write(sequential("net", given("in", *shape), spec)))
    return fastcnn.keras.load(path)


def run(spec: Spec, folder: Path, x: np.ndarray = X, write: Any = keras) -> np.ndarray:
    found = fastcnn.Predictor(loaded(spec, folder, x.shape[1:], write))(x)
    assert isinstance(found, np.ndarray)
    return found


def needs(*names: str) -> pytest.MarkDecorator:
    lacks = [name for name in names if not hasattr(nn, name)]
    return pytest.mark.skipif(bool(lacks), reason=f"fastcnn.nn has no {', '.join(lacks)}")


ACTIVATIONS: dict[str, Any] = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "linear": lambda x: x,
}
LATER: dict[str, tuple[str, Any]] = {
    "relu6": ("ReLU6", lambda x: np.clip(x, 0, 6)),
    "hard_sigmoid": ("HardSigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    "softplus": ("Softplus", lambda x: np.log1p(np.exp(x))),
    "mish": ("Mish", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
}


@pytest.mark.parametrize("write", [keras, h5])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str, write: Any, tmp_path: Path) -> None:
    """As an option, which Keras 3 writes in two ways, and as a layer."""
    rows = kernel(RNG, 4, 6)
    x = drawn(RNG, 3, 4) * 3
    wanted = ACTIVATIONS[name](x @ rows["kernel"] + rows["bias"])
    for value in (name, {"module": "builtins", "class_name": "function", "config": name}):
        spec = layer("Dense", "d", arrays=rows, units=6, activation=value)
        np.testing.assert_allclose(run(spec, tmp_path, x, write), wanted, rtol=2e-5, atol=2e-5)
    if name != "linear":
        alone = layer("Activation", "a", activation=name)
        found = run(alone, tmp_path, x, write)
        np.testing.assert_allclose(found, ACTIVATIONS[name](x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs(cls)) for name, (cls, _) in LATER.items()]
)
def test_more_activations(name: str, tmp_path: Path) -> None:
    found = run(layer("Activation", "a", activation=name), tmp_path, 3 * X)
    np.testing.assert_allclose(found, LATER[name][1](3 * X), rtol=1e-5, atol=1e-5)


@needs("HardSigmoid")
def test_hard_sigmoid_is_another_in_keras_2(tmp_path: Path) -> None:
    found = run(layer("Activation", "a", activation="hard_sigmoid"), tmp_path, 3 * X, h5)
    np.testing.assert_allclose(found, np.clip(0.2 * 3 * X + 0.5, 0, 1), rtol=1e-5, atol=1e-6)


def test_an_activation_that_is_a_layer(tmp_path: Path) -> None:
    inner = {"class_name": "LeakyReLU", "config": {"name": "l", "negative_slope": 0.5}}
    rows = {"kernel": np.eye(3, dtype=np.float32)}
    spec = layer("Dense", "d", arrays=rows, units=3, use_bias=False, activation=inner)
    model = loaded(spec, tmp_path, (3,))
    assert [type(each).__name__ for each in model] == ["Dense", "LeakyReLU"]
    assert run(spec, tmp_path, np.array([[-2, 0, 4]], np.float32)).tolist() == [[-1, 0, 4]]


def test_slopes_have_two_names(tmp_path: Path) -> None:
    x = np.array([[-10, 10]], np.float32)
    for options, low in (({}, -3), ({"alpha": 0.5}, -5), ({"negative_slope": 0.25}, -2.5)):
        found = run(layer("LeakyReLU", "l", **options), tmp_path, x)
        np.testing.assert_allclose(found, [[low, 10]], rtol=1e-6)
    found = run(layer("ReLU", "r", max_value=None, negative_slope=0.1, threshold=0.0), tmp_path, x)
    np.testing.assert_allclose(found, [[-1, 10]], rtol=1e-6)
    assert run(layer("ReLU", "r"), tmp_path, x).tolist() == [[0, 10]]
    np.testing.assert_allclose(
        run(layer("ELU", "e", alpha=2.0), tmp_path, x), [[-2, 10]], rtol=1e-4
    )


@needs("ReLU6", "Clip")
def test_relu_with_a_bound(tmp_path: Path) -> None:
    x = np.array([[-10, 3, 10]], np.float32)
    for options, wanted in (
        ({"max_value": 6.0}, [0, 3, 6]),
        ({"max_value": 2}, [0, 2, 2]),
        ({"max_value": 4, "negative_slope": 0.5}, [-5, 3, 4]),
    ):
        assert run(layer("ReLU", "r", **options), tmp_path, x).tolist() == [wanted]


@needs("PReLU")
@pytest.mark.parametrize("axes", [[1, 2], [1, 2, 3]])
def test_prelu(axes: list[int], tmp_path: Path) -> None:
    alpha = drawn(RNG, 1, 1, 1 if 3 in axes else 3)
    found = run(layer("PReLU", "p", arrays={"alpha": alpha}, shared_axes=axes), tmp_path)
    np.testing.assert_allclose(found, np.where(X > 0, X, alpha * X), rtol=1e-6)


# ---------------------------------------------------------------------- convolutions
def direct(x: np.ndarray, w: np.ndarray, stride: int = 1) -> np.ndarray:
    """Cross-correlation without padding, of filters (R, S, C, K)."""
    rows, columns = w.shape[:2]
    height = range(0, x.shape[1] - rows + 1, stride)
    width = range(0, x.shape[2] - columns + 1, stride)
    return np.stack(
        [
            np.stack([np.tensordot(x[:, i : i + rows, j : j + columns], w, 3) for j in width], 1)
            for i in height
        ],
        1,
    )


def test_convolutions(tmp_path: Path) -> None:
    arrays = kernel(RNG, 3, 2, 3, 4)
    options: dict[str, Any] = {"filters": 4, "kernel_size": [3, 2], "data_format": "channels_last"}
    wanted = direct(X, arrays["kernel"], 2) + arrays["bias"]
    for write in (keras, h5):
        found = run(layer("Conv2D", "c", arrays=arrays, strides=[2, 2], **options), tmp_path,
                    write=write)  # fmt: skip
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    padded = np.pad(X, ((0, 0), (1, 1), (0, 1), (0, 0)))
    found = run(layer("Conv2D", "c", arrays=arrays, padding="same", **options), tmp_path)
    wanted = direct(padded, arrays["kernel"]) + arrays["bias"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["depthwise_kernel", "kernel"])
def test_depthwise_filters_of_a_channel_are_side_by_side(name: str, tmp_path: Path) -> None:
    filters = drawn(RNG, 2, 2, 3, 2)
    spec = layer("DepthwiseConv2D", "c", arrays={name: filters}, kernel_size=2, depth_multiplier=2,
                 use_bias=False)  # fmt: skip
    parts = [direct(X[..., c : c + 1], filters[:, :, c : c + 1, :]) for c in range(3)]
    found = run(spec, tmp_path)
    np.testing.assert_allclose(found, np.concatenate(parts, -1), rtol=1e-4, atol=1e-5)


@needs("SeparableConv2D")
def test_separable_convolutions(tmp_path: Path) -> None:
    deep, points = drawn(RNG, 2, 2, 3, 2), drawn(RNG, 1, 1, 6, 4)
    arrays = {"depthwise_kernel": deep, "pointwise_kernel": points, "bias": drawn(RNG, 4)}
    spec = layer("SeparableConv2D", "c", arrays=arrays, filters=4, kernel_size=2,
                 depth_multiplier=2)  # fmt: skip
    parts = [direct(X[..., c : c + 1], deep[:, :, c : c + 1, :]) for c in range(3)]
    wanted = np.concatenate(parts, -1) @ points[0, 0] + arrays["bias"]
    np.testing.assert_allclose(run(spec, tmp_path), wanted, rtol=1e-4, atol=1e-4)


def test_transposed_convolutions(tmp_path: Path) -> None:
    """Filters are (R, S, out, in); a stride above the kernel leaves rows with the bias alone."""
    arrays = {"kernel": drawn(RNG, 2, 2, 4, 3), "bias": drawn(RNG, 4)}
    spec = layer("Conv2DTranspose", "c", arrays=arrays, filters=4, kernel_size=2, strides=3,
                 output_padding=None)  # fmt: skip
    wanted = np.zeros((2, 15, 12, 4), np.float32) + arrays["bias"]
    for i in range(5):
        for j in range(4):
            part = np.einsum("nc,rskc->nrsk", X[:, i, j], arrays["kernel"])
            wanted[:, 3 * i : 3 * i + 2, 3 * j : 3 * j + 2] += part
    np.testing.assert_allclose(run(spec, tmp_path), wanted, rtol=1e-4, atol=1e-5)


def test_a_dense_layer_on_images(tmp_path: Path) -> None:
    arrays = kernel(RNG, 3, 4)
    found = run(layer("Dense", "d", arrays=arrays, units=4), tmp_path)
    np.testing.assert_allclose(found, X @ arrays["kernel"] + arrays["bias"], rtol=1e-4, atol=1e-5)


@needs("Conv1D")
def test_layers_of_sequences(tmp_path: Path) -> None:
    x, arrays = drawn(RNG, 2, 6, 3), kernel(RNG, 2, 3, 4)
    spec = layer("Conv1D", "c", arrays=arrays, filters=4, kernel_size=[2], strides=[2])
    wanted = direct(x[:, None], arrays["kernel"][None], 1)[:, 0, ::2] + arrays["bias"]
    np.testing.assert_allclose(run(spec, tmp_path, x), wanted, rtol=1e-4, atol=1e-5)
    rows = kernel(RNG, 3, 4)
    found = run(layer("Dense", "d", arrays=rows, units=4), tmp_path, x)
    np.testing.assert_allclose(found, x @ rows["kernel"] + rows["bias"], rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------- norms
@pytest.mark.parametrize("without", [(), ("gamma",), ("beta",), ("gamma", "beta")])
@pytest.mark.parametrize("write", [keras, h5])
def test_batch_normalization(without: tuple[str, ...], write: Any, tmp_path: Path) -> None:
    """Without a scale the first array is beta: Keras goes by order."""
    arrays = norm(RNG, 3, *without)
    spec = layer("BatchNormalization", "n", arrays=arrays, axis=[3] if write is h5 else -1,
                 scale="gamma" not in without, center="beta" not in without)  # fmt: skip
    gamma, beta = arrays.get("gamma", 1.0), arrays.get("beta", 0.0)
    scaled = (X - arrays["moving_mean"]) / np.sqrt(arrays["moving_variance"] + 1e-3)
    found = run(spec, tmp_path, write=write)
    np.testing.assert_allclose(found, gamma * scaled + beta, rtol=1e-4, atol=1e-5)
    made = loaded(spec, tmp_path, (5, 4, 3))[0]
    assert (made.momentum, made.epsilon, made.running_variance) == (0.99, 1e-3, "biased")


@needs("LayerNorm", "GroupNorm")
def test_norms_of_samples(tmp_path: Path) -> None:
    arrays = {name: value for name, value in norm(RNG, 3).items() if "moving" not in name}
    mean, variance = X.mean(-1, keepdims=True), X.var(-1, keepdims=True)
    wanted = arrays["gamma"] * (X - mean) / np.sqrt(variance + 1e-3) + arrays["beta"]
    spec = layer("LayerNormalization", "n", arrays=arrays, axis=[3])
    np.testing.assert_allclose(run(spec, tmp_path), wanted, rtol=1e-4, atol=1e-5)
    mean, variance = X.mean((1, 2, 3), keepdims=True), X.var((1, 2, 3), keepdims=True)
    wanted = arrays["gamma"] * (X - mean) / np.sqrt(variance + 1e-3) + arrays["beta"]
    spec = layer("GroupNormalization", "n", arrays=arrays, groups=1)
    np.testing.assert_allclose(run(spec, tmp_path), wanted, rtol=1e-4, atol=1e-4)


def test_rescaling(tmp_path: Path) -> None:
    found = run(layer("Rescaling", "r", scale=2.0, offset=-1), tmp_path)
    np.testing.assert_allclose(found, 2 * X - 1, rtol=1e-6, atol=1e-6)
    found = run(layer("Rescaling", "r", scale=[1.0, 2.0, 3.0]), tmp_path)
    np.testing.assert_allclose(found, X * np.float32([1, 2, 3]), rtol=1e-6)


def test_normalization_that_was_adapted_or_told(tmp_path: Path) -> None:
    mean, variance = drawn(RNG, 3), np.abs(drawn(RNG, 3)) + 0.1
    wanted = (X - mean) / np.sqrt(variance)
    arrays = {"mean": mean, "variance": variance, "count": np.int64(0)}
    spec = layer("Normalization", "n", arrays=arrays, axis=[-1], mean=None, variance=None)
    np.testing.assert_allclose(run(spec, tmp_path), wanted, rtol=1e-4, atol=1e-5)
    told = layer("Normalization", "n", mean=mean.tolist(), variance=[[variance.tolist()]])
    np.testing.assert_allclose(run(told, tmp_path), wanted, rtol=1e-4, atol=1e-5)
    arrays = {"mean": np.float32(0.5), "variance": np.float32(4), "count": np.int64(0)}
    spec = layer("Normalization", "n", arrays=arrays, axis=[], mean=None)
    np.testing.assert_allclose(run(spec, tmp_path), (X - 0.5) / 2, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------- windows and shapes
def test_pools(tmp_path: Path) -> None:
    """With "same" an average is over the pixels inside the image."""
    found = run(layer("MaxPooling2D", "p", pool_size=[2, 2], strides=None), tmp_path)
    wanted = X[:, :4].reshape(2, 2, 2, 2, 2, 3).max((2, 4))
    np.testing.assert_array_equal(found, wanted)
    spec = layer("AveragePooling2D", "p", pool_size=2, strides=[2, 2], padding="same")
    found = run(spec, tmp_path)
    assert found.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(found[:, 2, 0], X[:, 4, :2].mean(1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keep", [False, True])
def test_global_pools(keep: bool, tmp_path: Path) -> None:
    for kind, wanted in (
        ("GlobalAveragePooling2D", X.mean((1, 2), keepdims=keep)),
        ("GlobalMaxPooling2D", X.max((1, 2), keepdims=keep)),
    ):
        found = run(layer(kind, "g", keepdims=keep), tmp_path)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_upsampling(tmp_path: Path) -> None:
    found = run(layer("UpSampling2D", "u", size=[2, 3], interpolation="nearest"), tmp_path)
    np.testing.assert_array_equal(found, X.repeat(2, 1).repeat(3, 2))
    found = run(layer("UpSampling2D", "u", size=2, interpolation="bilinear"), tmp_path)
    np.testing.assert_allclose(found[:, 1, 0], 0.75 * X[:, 0, 0] + 0.25 * X[:, 1, 0], rtol=1e-5)


@needs("Pad2D", "Cropping2D")
def test_rims(tmp_path: Path) -> None:
    found = run(layer("ZeroPadding2D", "z", padding=[[1, 0], [0, 2]]), tmp_path)
    np.testing.assert_array_equal(found, np.pad(X, ((0, 0), (1, 0), (0, 2), (0, 0))))
    found = run(layer("Cropping2D", "c", cropping=[[1, 0], [0, 2]]), tmp_path)
    np.testing.assert_array_equal(found, X[:, 1:, :2])


@needs("Reshape", "Permute")
def test_other_shapes(tmp_path: Path) -> None:
    found = run(layer("Reshape", "r", target_shape=[2, -1]), tmp_path)
    np.testing.assert_array_equal(found, X.reshape(2, 2, 30))
    found = run(layer("Permute", "p", dims=[2, 1, 3]), tmp_path)
    np.testing.assert_array_equal(found, X.transpose(0, 2, 1, 3))


def test_what_does_nothing_in_inference(tmp_path: Path) -> None:
    model = loaded(layer("Dropout", "d", rate=0.25, seed=3, noise_shape=None), tmp_path, (3,))
    assert model[0].rate == 0.25
    with pytest.raises(ValueError, match="it has no layers that do anything"):
        loaded(layer("Identity", "i"), tmp_path, (3,))


@needs("SpatialDropout2D", "StochasticDepth")
def test_dropout_of_channels_and_samples(tmp_path: Path) -> None:
    model = loaded(layer("SpatialDropout2D", "d", rate=0.25), tmp_path, (5, 4, 3))
    assert type(model[0]).__name__ == "SpatialDropout2D"
    noise = [None, 1, 1, 1]
    model = loaded(layer("Dropout", "d", rate=0.25, noise_shape=noise), tmp_path, (5, 4, 3))
    assert type(model[0]).__name__ == "StochasticDepth"


# ---------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (layer("ReLU", "r", threshold=1.0), r"r \(ReLU\): threshold: expected 0, got 1.0"),
        (layer("Softmax", "s", axis=0), r"s \(Softmax\): axis: expected one of an array of 4 axes"),
        (layer("BatchNormalization", "n", axis=1), "axis: expected the last one, of channels"),
        (layer("BatchNormalization", "n", renorm=True), "renorm: expected False, got True"),
        (layer("Conv2D", "c", filters=2), "expected its kernel_size, got none"),
        (layer("Conv2D", "c", filters=-2, kernel_size=1), "Conv2D: filters: expected"),
        (layer("Conv2D", "c", filters=2, kernel_size="3"), "Conv2D: kernel_size: expected"),
        (
            layer("Conv2D", "c", filters=2, kernel_size=9),
            "c: Conv2D: expected an input height",
        ),
        (
            layer("Conv2D", "c", filters=2, kernel_size=1, padding="causal"),
            "padding: expected 'valid' or 'same', got 'causal'",
        ),
        (
            layer("Conv2DTranspose", "c", filters=2, kernel_size=2, output_padding=[1, 1]),
            "output_padding: expected None",
        ),
        (
            layer("UpSampling2D", "u", interpolation="bicubic"),
            "interpolation: expected 'nearest' or 'bilinear', got 'bicubic'",
        ),
        (layer("Normalization", "n", invert=True), "invert: expected False, got True"),
        (layer("Normalization", "n", axis=[1, 2, 3]), "axis: expected one of an array of 4 axes"),
        (layer("Dropout", "d", rate=0.1, noise_shape=[None, 1, 4, 3]), "noise_shape: expected"),
    ],
)
def test_options_that_fastcnn_does_not_have(spec: Spec, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        loaded(spec, tmp_path, (5, 4, 3))
