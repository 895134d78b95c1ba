"""Layers and models: shapes, gradients, names, initial weights and errors."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from graphs import NETWORKS
from layers import IDS, LAYERS, UNTRAINED, Recorder, sample_network
from windows import POOLS

from fastcnn import nn


# ---------------------------------------------------------------------- every layer
def test_every_public_layer_is_among_them() -> None:
    """Those of one input in LAYERS, the others in networks of any shape."""
    classes = [found for found in vars(nn).values() if isinstance(found, type)]
    layers = {cls for cls in classes if issubclass(cls, nn.Module)} - {nn.Module}
    joining = {nn.Model, nn.Add, nn.Multiply, nn.Concat, nn.Split, nn.MatMul}
    joining |= {nn.Subtract, nn.Divide, nn.Power, nn.Maximum, nn.Minimum}
    assert {type(make()) for make, _ in (*LAYERS, *UNTRAINED)} == layers - joining
    assert joining <= {type(layer) for make in NETWORKS.values() for layer in make().modules()}


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=IDS)
@pytest.mark.parametrize("training", [True, False])
def test_shapes_and_gradients(
    make: Any, shape: tuple[int, ...], training: bool, backend: Any, rng: np.random.Generator
) -> None:
    layer = make()
    output_shape = layer.build(shape, rng, np.float64)
    x = rng.standard_normal((3, *shape))
    dy = rng.standard_normal((3, *output_shape))

    def run(x: Any) -> Any:
        return layer.forward(x, backend, training=training, rng=np.random.default_rng(1))

    y, backward = run(x)
    assert y.shape == dy.shape
    assert y.dtype == np.float64
    assert layer.output_shape == output_shape
    dx = backward(dy)

    def slope(change: Any, at: Any, h: float = 3e-6) -> float:
        """Central difference; the step is small, so that no value crosses a kink."""
        change(h)
        above = float((run(at(h))[0] * dy).sum())
        change(-2 * h)
        below = float((run(at(-h))[0] * dy).sum())
        change(h)
        return (above - below) / (2 * h)

    v = rng.standard_normal(x.shape)
    assert slope(lambda h: None, lambda h: x + h * v) == pytest.approx(
        float((dx * v).sum()), rel=1e-5, abs=1e-7
    )
    for name, parameter in layer.parameters().items():
        assert parameter.grad is not None, name
        gradient = parameter.grad
        assert gradient.shape == parameter.shape
        v = rng.standard_normal(parameter.shape)

        def change(h: float, data: Any = parameter.data, v: Any = v) -> None:
            data += h * v

        assert slope(change, lambda h: x) == pytest.approx(
            float((gradient * v).sum()), rel=1e-5, abs=1e-7
        ), name


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=IDS)
def test_call_is_forward_in_inference(
    make: Any, shape: tuple[int, ...], reference: Any, rng: np.random.Generator
) -> None:
    layer = make()
    layer.build(shape, rng)
    x = rng.standard_normal((2, *shape)).astype(np.float32)
    np.testing.assert_array_equal(layer(x, reference), layer.forward(x, reference)[0])


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=IDS)
def test_every_option_is_an_attribute(make: Any, shape: tuple[int, ...]) -> None:
    layer = make()
    assert set(layer.config()) <= set(vars(layer))
    assert re.fullmatch(r"\w+\(.*\)", repr(layer), re.DOTALL)


def test_activation_argument_is_the_layer(backend: Any, rng: np.random.Generator) -> None:
    from fastcnn.nn._activation import ACTIVATIONS

    x = rng.standard_normal((2, 4, 3, 2)).astype(np.float32)
    for name, activation in ACTIVATIONS.items():
        fused, plain = nn.Conv2D(3, 2, activation=name), nn.Conv2D(3, 2)
        fused.build((4, 3, 2), seed=3)
        plain.build((4, 3, 2), seed=3)
        y, backward = fused.forward(x, backend)
        z, plain_backward = plain.forward(x, backend)
        expected, activation_backward = activation().forward(z, backend)
        np.testing.assert_array_equal(y, expected)
        dy = rng.standard_normal(y.shape).astype(np.float32)
        np.testing.assert_array_equal(backward(dy), plain_backward(activation_backward(dy)))


@pytest.mark.parametrize(("x_shape", "pool_size", "options"), POOLS, ids=str)
@pytest.mark.parametrize("layer", [nn.MaxPool2D, nn.AvgPool2D])
def test_pools_give_the_shape_that_they_declare(
    layer: Any, x_shape: Any, pool_size: Any, options: dict[str, Any], reference: Any
) -> None:
    pool = layer(pool_size, **options)
    declared = pool.build(x_shape[1:])
    assert pool(np.zeros(x_shape, np.float32), reference).shape == (x_shape[0], *declared)


# ---------------------------------------------------------------------- models
def test_sample_network_has_the_known_numbers() -> None:
    model = sample_network()
    assert model.build((28, 28, 1), seed=0) == (10,)
    assert model.parameter_count == 225_034
    shapes = {name: array.shape for name, array in model.state_dict().items()}
    assert shapes == {
        "0.weight": (3, 3, 1, 32),
        "0.bias": (32,),
        "2.weight": (3, 3, 32, 64),
        "2.bias": (64,),
        "5.weight": (1600, 128),
        "5.bias": (128,),
        "6.weight": (128, 10),
        "6.bias": (10,),
    }
    summary = model.summary()
    assert "225,034" in summary
    assert re.search(r"^2 Conv2D +\(11, 11, 64\) +18,496$", summary, re.MULTILINE)


def test_names_of_nested_arrays() -> None:
    model = nn.Sequential(
        [
            nn.Residual(
                nn.Sequential([nn.Conv2D(2, 1, use_bias=False), nn.BatchNorm()]), nn.Conv2D(2, 1)
            ),
            nn.DepthwiseConv2D(2),
        ]
    )
    model.build((3, 3, 2))
    assert list(model.state_dict()) == [
        "0.body.0.weight",
        "0.body.1.gamma",
        "0.body.1.beta",
        "0.body.1.running_mean",
        "0.body.1.running_variance",
        "0.shortcut.weight",
        "0.shortcut.bias",
        "1.weight",
        "1.bias",
    ]
    assert "4 running statistics" in model.summary()
    assert "0.body.1 BatchNorm" in model.summary()


def test_sequential_is_a_list_of_layers() -> None:
    model = sample_network()
    assert len(model) == 7
    assert model[0] is next(iter(model))


def test_first_layer_computes_no_dx(reference: Any, rng: np.random.Generator) -> None:
    model = nn.Sequential(
        [
            nn.ReLU(),
            nn.Sequential([nn.Conv2D(2, 2), nn.Conv2D(2, 2)]),
            nn.Flatten(),
            nn.Dense(2),
        ]
    )
    model.build((4, 4, 1), rng)
    recorder: Any = Recorder(reference)
    x = rng.standard_normal((1, 4, 4, 1)).astype(np.float32)
    y, backward = model.forward(x, recorder, training=True, input_gradient=False)
    assert backward(np.ones_like(y)) is None
    assert [kw["input_gradient"] for kw in recorder.asked("conv2d_backward")] == [True, False]
    assert [kw["input_gradient"] for kw in recorder.asked("linear_backward")] == [True]
    assert recorder.asked("relu_backward") == []
    assert all(p.grad is not None for p in model.parameters().values())


def test_dense_as_first_layer_computes_no_dx(reference: Any) -> None:
    model = nn.Sequential([nn.Flatten(), nn.Dense(2), nn.Dense(2)])
    model.build((2, 2, 1))
    recorder: Any = Recorder(reference)
    y, backward = model.forward(np.ones((1, 2, 2, 1), np.float32), recorder, input_gradient=False)
    assert backward(np.ones_like(y)) is None
    assert [kw["input_gradient"] for kw in recorder.asked("linear_backward")] == [True, False]


def test_backward_runs_once(reference: Any) -> None:
    model = nn.Sequential([nn.Dense(2)])
    model.build((2,))
    y, backward = model.forward(np.ones((1, 2), np.float32), reference)
    backward(np.ones_like(y))
    with pytest.raises(RuntimeError, match="backward: expected one call"):
        backward(np.ones_like(y))


def test_layers_leave_their_input_alone(backend: Any, rng: np.random.Generator) -> None:
    for make, shape in LAYERS:
        layer = make()
        layer.build(shape, rng)
        x = rng.standard_normal((2, *shape)).astype(np.float32)
        before = x.copy()
        x.flags.writeable = False
        y, backward = layer.forward(x, backend, training=True, rng=rng)
        dy = np.ones_like(y)
        dy.flags.writeable = False
        backward(dy)
        np.testing.assert_array_equal(x, before)


# ---------------------------------------------------------------------- batch normalization
@pytest.mark.parametrize(("rule", "variance"), [("unbiased", 1.0667), ("biased", 1.025)])
def test_running_statistics(backend: Any, rule: str, variance: float) -> None:
    layer = nn.BatchNorm(running_variance=rule)
    layer.build((1,))
    x = np.array([[1], [2], [3], [4]], np.float32)
    y, _ = layer.forward(x, backend, training=True)
    assert float(y.std()) == pytest.approx(1.0, abs=1e-4)
    assert layer.state_dict()["running_mean"] == 0.0, "a step that may still fail changes nothing"
    layer.apply_updates()
    state = layer.state_dict()
    assert float(state["running_mean"][0]) == pytest.approx(0.25)
    assert float(state["running_variance"][0]) == pytest.approx(variance, abs=1e-4)
    assert state["running_variance"].dtype == np.float32
    inference, _ = layer.forward(x, backend)
    expected = (x - 0.25) / np.sqrt(state["running_variance"] + 1e-5)
    np.testing.assert_allclose(inference, expected, rtol=1e-5)
    layer.apply_updates()
    np.testing.assert_array_equal(layer.state_dict()["running_mean"], state["running_mean"])


def test_smallest_batch() -> None:
    def smallest(layers: list[nn.Module], shape: tuple[int, ...]) -> int:
        model = nn.Sequential(layers)
        model.build(shape)
        return model.min_batch

    assert smallest([nn.Dense(2)], (3,)) == 1
    assert smallest([nn.BatchNorm()], (3, 3, 1)) == 1
    assert smallest([nn.BatchNorm()], (1, 1, 4)) == 2
    assert smallest([nn.GlobalAvgPool2D(), nn.Residual(nn.BatchNorm())], (3, 3, 1)) == 2


# ---------------------------------------------------------------------- dropout
def test_dropout(backend: Any) -> None:
    layer = nn.Dropout(0.25)
    layer.build((50, 40))
    x = np.ones((2, 50, 40), np.float32)
    assert layer(x, backend) is x
    y, backward = layer.forward(x, backend, training=True, rng=np.random.default_rng(0))
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(0.75)}
    assert float(y.mean()) == pytest.approx(1.0, abs=0.03)
    np.testing.assert_array_equal(backward(x), y)
    again, _ = layer.forward(x, backend, training=True, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(again, y)
    wide, _ = layer.forward(
        x.astype(np.float64), backend, training=True, rng=np.random.default_rng(0)
    )
    np.testing.assert_array_equal(wide > 0, y > 0)
    with pytest.raises(ValueError, match="Dropout: rng: expected a numpy Generator"):
        layer.forward(x, backend, training=True)


# ---------------------------------------------------------------------- initial weights
def test_same_seed_same_weights_in_both_dtypes() -> None:
    single, double, other = sample_network(), sample_network(), sample_network()
    single.build((28, 28, 1), seed=7)
    double.build((28, 28, 1), np.random.default_rng(7), np.float64)
    other.build((28, 28, 1), seed=8)
    for name, array in single.state_dict().items():
        wide = double.state_dict()[name]
        assert (array.dtype, wide.dtype) == (np.float32, np.float64)
        np.testing.assert_array_equal(array, wide.astype(np.float32))
    assert np.any(single.state_dict()["0.weight"] != other.state_dict()["0.weight"])


def test_glorot_uniform_and_he_normal() -> None:
    glorot, he = nn.Conv2D(64, 3), nn.Conv2D(64, 3, initializer="he_normal")
    dense = nn.Dense(300)
    glorot.build((5, 5, 32))
    he.build((5, 5, 32))
    dense.build((200,))
    limit = math.sqrt(6 / (9 * 32 + 9 * 64))
    w = glorot.state_dict()["weight"]
    assert 0.99 * limit < float(np.abs(w).max()) <= limit
    assert float(w.std()) == pytest.approx(limit / math.sqrt(3), rel=0.02)
    assert float(he.state_dict()["weight"].std()) == pytest.approx(math.sqrt(2 / 288), rel=0.02)
    limit = math.sqrt(6 / 500)
    assert 0.99 * limit < float(np.abs(dense.state_dict()["weight"]).max()) <= limit
    assert not dense.state_dict()["bias"].any()


def test_glorot_counts_the_group_alone() -> None:
    layer = nn.DepthwiseConv2D(3, depth_multiplier=2)
    layer.build((5, 5, 500))
    limit = math.sqrt(6 / (9 + 18))
    assert 0.99 * limit < float(np.abs(layer.state_dict()["weight"]).max()) <= limit
