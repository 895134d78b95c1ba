"""fastcnn.with_new_head: networks for other classes than they were trained for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import nn, optim

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 8, 8, 3), dtype=np.float32)
Y = np.array([0, 1, 2, 0, 1, 2])


def chain() -> nn.Module:
    return nn.Sequential(
        [
            nn.Conv2D(4, 3),
            nn.BatchNorm(),
            nn.GlobalAvgPool2D(),
            nn.Dense(5, use_bias=False, activation="softmax", name="scores"),
        ]
    )


def nested() -> nn.Module:
    body = nn.Sequential([nn.Conv2D(4, 3), nn.BatchNorm(), nn.GlobalAvgPool2D()])
    return nn.Sequential([body, nn.Sequential([nn.Dense(6, activation="relu"), nn.Dense(5)])])


def network() -> nn.Module:
    x = nn.Input((8, 8, 3), name="image")
    y = nn.BatchNorm()(nn.Conv2D(4, 3, padding="same")(x))
    z = nn.GlobalAvgPool2D()(nn.Concat()([x, y]))
    return nn.Model(x, {"scores": nn.Softmax()(nn.Dense(5)(z))})


def whole_in_a_softmax() -> nn.Module:
    return nn.Sequential([network(), nn.Softmax()])


MODELS = [chain, nested, network, whole_in_a_softmax]


def built(make: Any) -> nn.Module:
    model: nn.Module = make()
    model.build((8, 8, 3), seed=1)
    return model


def body_of(model: nn.Module) -> dict[str, Any]:
    """Return all arrays but those of the last layer."""
    state = model.state_dict()
    last = next(reversed(model.parameters())).rpartition(".")[0]
    return {name: each for name, each in state.items() if not name.startswith(f"{last}.")}


@pytest.mark.parametrize("make", MODELS)
def test_a_new_head(make: Any) -> None:
    model = built(make)
    model.notes = {"classes": list("abcde"), "preprocessing": {"mean": 0.5}}
    before = model.state_dict()
    made = fastcnn.with_new_head(model, 3, seed=4)
    assert made.output_shape == (3,)
    assert made.notes == {"preprocessing": {"mean": 0.5}}
    kept = body_of(made)
    assert kept
    for name, array in kept.items():
        np.testing.assert_array_equal(array, before[name])
    assert set(made.trained_parameters()) == set(made.parameters()) - set(kept)

    history = fastcnn.Trainer(made, optimizer=optim.SGD(0.1)).fit(X, Y, epochs=2, verbose=False)
    assert history["loss"][1] < history["loss"][0]
    for name, array in body_of(made).items():
        np.testing.assert_array_equal(array, before[name], name)
    for name, array in model.state_dict().items():  # the old one has weights of its own
        np.testing.assert_array_equal(array, before[name])
    assert not any(module._frozen for module in model.modules())

    again = fastcnn.with_new_head(model, 3, seed=4)
    other = fastcnn.with_new_head(model, 3, seed=5)
    weight = next(iter(made.trained_parameters()))
    assert (again.state_dict()[weight] != other.state_dict()[weight]).all()


@pytest.mark.parametrize("make", MODELS)
def test_a_new_head_of_a_body_that_is_trained(make: Any, tmp_path: Path) -> None:
    made = fastcnn.with_new_head(built(make), 3, freeze=False)
    before = made.state_dict()
    assert set(made.trained_parameters()) == set(made.parameters())
    fastcnn.Trainer(made, optimizer=optim.SGD(0.1)).fit(X, Y, verbose=False)
    after = made.state_dict()
    assert all((before[name] != after[name]).any() for name in after if "bias" not in name)
    made.save(tmp_path / "model.safetensors")
    loaded = fastcnn.load(tmp_path / "model.safetensors")
    asked = [fastcnn.Trainer(each).predict_proba(X) for each in (loaded, made)]
    np.testing.assert_array_equal(*asked)


def test_options_and_names_stay() -> None:
    made: Any = fastcnn.with_new_head(built(chain), 3)
    head = made.layers[-1]
    assert (head.name, head.use_bias, head.activation) == ("scores", False, None)
    named: Any = fastcnn.with_new_head(built(network), 3)
    assert named.input_names == ("image",)
    assert named.output_names == ("scores",)
    assert fastcnn.Predictor(named)(X)["scores"].shape == (6, 3)


def test_the_head_computes_what_it_should() -> None:
    model: Any = built(chain)
    made: Any = fastcnn.with_new_head(model, 3)
    features = nn.Sequential(model.layers[:-1])
    features.build((8, 8, 3))
    expected = fastcnn.Predictor(features)(X) @ made.layers[-1].weight.data
    np.testing.assert_allclose(fastcnn.Predictor(made)(X), expected, rtol=1e-5, atol=1e-6)


def test_float64_stays() -> None:
    model = nn.Sequential([nn.Flatten(), nn.Dense(5)])
    model.build((2, 2, 1), dtype=np.float64)
    assert fastcnn.with_new_head(model, 3).dtype == np.float64


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2D(4, 3), nn.GlobalAvgPool2D()],
        [nn.Flatten(), nn.Dense(4), nn.BatchNorm()],
        [nn.Softmax()],
    ],
)
def test_what_has_no_dense_head(layers: list[nn.Module]) -> None:
    model = nn.Sequential(layers)
    model.build((8, 8, 3))
    with pytest.raises(ValueError, match=r"^with_new_head: model: expected one output of a dense"):
        fastcnn.with_new_head(model, 3)


def test_several_outputs_have_no_head() -> None:
    x = nn.Input((4,))
    model = nn.Model(x, [nn.Dense(2)(x), nn.Dense(3)(x)])
    model.build()
    with pytest.raises(ValueError, match="expected one output of a dense layer"):
        fastcnn.with_new_head(model, 3)


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "message"),
    [
        (("model", 3), {}, TypeError, "with_new_head: model: expected a model, got str"),
        ((None, 0), {}, ValueError, "with_new_head: classes: expected"),
        ((None, 2.5), {}, TypeError, "with_new_head: classes: expected"),
        ((None, 2), {"freeze": 1}, TypeError, "with_new_head: freeze: expected"),
        ((None, 2), {"seed": -1}, ValueError, "with_new_head: seed: expected"),
        ((None, 2), {"input_shape": ()}, ValueError, "with_new_head: input_shape: expected"),
    ],
)
def test_errors(arguments: Any, options: Any, kind: type[Exception], message: str) -> None:
    model, classes = arguments
    with pytest.raises(kind, match=f"^{re.escape(message)}"):
        fastcnn.with_new_head(model or built(chain), classes, **options)
    with pytest.raises(RuntimeError, match="expected a built layer"):
        fastcnn.with_new_head(chain(), 3)


# ---------------------------------------------------------------------- networks of ONNX files
def onnx_model(make: Any, path: Path, **options: Any) -> Any:
    pytest.importorskip("onnx", reason="needs the package onnx")
    fastcnn.onnx.save(built(make), path, **options)
    return fastcnn.onnx.load(path)


@pytest.mark.parametrize("freeze", [True, False])
def test_a_new_head_on_the_network_of_an_onnx_file(tmp_path: Path, freeze: bool) -> None:
    model = onnx_model(chain, tmp_path / "model.onnx")
    made: Any = fastcnn.with_new_head(model, 3, freeze=freeze)
    assert made.input_names == model.input_names
    features = fastcnn.Predictor(model.without_head())(X)
    expected = features @ made.layers[-1].weight.data
    np.testing.assert_allclose(fastcnn.Predictor(made)(X), expected, rtol=1e-5, atol=1e-6)

    before = made.state_dict()
    assert (set(made.trained_parameters()) == set(made.parameters())) == (not freeze)
    fastcnn.Trainer(made, optimizer=optim.SGD(0.1)).fit(X, Y, verbose=False)
    changed = {name for name, array in made.state_dict().items() if (before[name] != array).any()}
    assert changed >= {"1.weight", "1.bias"}
    assert (len(changed) == 2) == freeze
    made.save(tmp_path / "model.safetensors")
    loaded = fastcnn.load(tmp_path / "model.safetensors")
    assert set(loaded.trained_parameters()) == set(made.trained_parameters())
    np.testing.assert_array_equal(fastcnn.Predictor(loaded)(X), fastcnn.Predictor(made)(X))


def test_a_new_head_on_a_network_of_two_inputs(tmp_path: Path) -> None:
    def joined() -> nn.Module:
        a, b = nn.Input((8, 8, 3), name="image"), nn.Input((5,), name="meta")
        return nn.Model([a, b], nn.Dense(4)(nn.concat([nn.GlobalAvgPool2D()(a), b])))

    pytest.importorskip("onnx", reason="needs the package onnx")
    model = joined()
    model.build(((8, 8, 3), (5,)))
    fastcnn.onnx.save(model, tmp_path / "model.onnx")
    made: Any = fastcnn.with_new_head(fastcnn.onnx.load(tmp_path / "model.onnx"), 3)
    assert made.input_names == ("image", "meta")
    meta = RNG.standard_normal((6, 5), dtype=np.float32)
    features = np.concatenate([X.mean(axis=(1, 2)), meta], axis=1)
    expected = features @ made.layers[-1].weight.data
    given = fastcnn.Predictor(made)(image=X, meta=meta)
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)


def test_a_new_head_where_the_file_leaves_the_size_open(tmp_path: Path) -> None:
    model = onnx_model(chain, tmp_path / "model.onnx", any_size=True)
    assert model.input_shape == (None, None, 3)
    with pytest.raises(ValueError, match="input_shape: expected a size for"):
        fastcnn.with_new_head(model, 3)
    made = fastcnn.with_new_head(model, 3, input_shape=(12, 9, 3))
    assert (made.input_shape, made.output_shape) == ((12, 9, 3), (3,))


def test_an_onnx_file_that_ends_in_softmax_gives_probabilities(tmp_path: Path) -> None:
    model = onnx_model(chain, tmp_path / "model.onnx")
    trainer = fastcnn.Trainer(model, loss="mean_squared_error")
    np.testing.assert_array_equal(trainer.predict_proba(X), fastcnn.Predictor(model)(X))
    with pytest.raises(ValueError, match="softmax"):
        fastcnn.Trainer(model, loss="cross_entropy").fit(X, Y, verbose=False)
    logits = onnx_model(nested, tmp_path / "logits.onnx")
    trainer = fastcnn.Trainer(logits)
    np.testing.assert_allclose(trainer.predict_proba(X).sum(axis=1), 1, rtol=1e-5)


def test_an_onnx_file_without_a_dense_head(tmp_path: Path) -> None:
    def convolutions() -> nn.Module:
        return nn.Sequential([nn.Conv2D(4, 3), nn.GlobalAvgPool2D()])

    with pytest.raises(ValueError, match=r"^with_new_head: model: expected one output of a dense"):
        fastcnn.with_new_head(onnx_model(convolutions, tmp_path / "model.onnx"), 3)
