"""Layers and models: shapes, gradients, names, initial weights and errors."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import nn

# Every layer with options that matter, and the shape of one input.
LAYERS: list[tuple[Any, tuple[int, ...]]] = [
    (lambda: nn.Conv2D(3, 3), (6, 5, 2)),
    (lambda: nn.Conv2D(4, (2, 3), stride=(2, 1), padding="same", groups=2), (5, 6, 2)),
    (lambda: nn.Conv2D(2, 2, dilation=2, padding=((1, 0), (0, 2)), use_bias=False), (5, 4, 2)),
    (lambda: nn.Conv2D(3, 1, activation="leaky_relu", in_channels=2, padding="valid"), (3, 2, 2)),
    (lambda: nn.DepthwiseConv2D(3, padding=1, depth_multiplier=2), (4, 3, 2)),
    (lambda: nn.DepthwiseConv2D((1, 2), stride=2, activation="tanh"), (3, 5, 3)),
    (lambda: nn.MaxPool2D(), (5, 4, 2)),
    (lambda: nn.MaxPool2D((3, 2), stride=2, padding=(1, 0), ceil_mode=True), (6, 5, 2)),
    (lambda: nn.MaxPool2D(2, stride=(3, 4), padding=1, ceil_mode=True), (4, 6, 1)),
    (lambda: nn.AvgPool2D(2, padding=1), (4, 5, 2)),
    (
        lambda: nn.AvgPool2D(3, stride=2, padding=1, ceil_mode=True, count_include_pad=True),
        (6, 4, 1),
    ),
    (lambda: nn.GlobalAvgPool2D(), (3, 4, 2)),
    (lambda: nn.GlobalMaxPool2D(), (3, 4, 2)),
    (lambda: nn.BatchNorm(), (3, 2, 2)),
    (lambda: nn.BatchNorm(momentum=0.5, epsilon=1e-3, running_variance="biased"), (4,)),
    (lambda: nn.Dense(4), (5,)),
    (lambda: nn.Dense(3, activation="sigmoid", use_bias=False, in_features=4), (4,)),
    (lambda: nn.Flatten(), (3, 2, 2)),
    (lambda: nn.Dropout(0.4), (3, 4)),
    (lambda: nn.ReLU(), (3, 2)),
    (lambda: nn.LeakyReLU(0.2), (3, 2)),
    (lambda: nn.ELU(0.7), (3, 2)),
    (lambda: nn.GELU(), (3, 2)),
    (lambda: nn.SiLU(), (3, 2)),
    (lambda: nn.Sigmoid(), (3, 2)),
    (lambda: nn.Tanh(), (3, 2)),
    (lambda: nn.Softmax(), (3, 4)),
    (lambda: nn.Residual(nn.Conv2D(2, 3, padding=1, activation="gelu")), (3, 4, 2)),
    (
        lambda: nn.Residual(
            nn.Sequential([nn.Conv2D(3, 3, stride=2, padding="same"), nn.BatchNorm(), nn.ELU()]),
            nn.Conv2D(3, 1, stride=2, use_bias=False),
        ),
        (4, 3, 2),
    ),
    (
        lambda: nn.Sequential(
            [nn.Conv2D(3, 2, activation="silu"), nn.AvgPool2D(), nn.Flatten(), nn.Dense(2)]
        ),
        (5, 6, 2),
    ),
]
IDS = [f"{index}-{type(make()).__name__}" for index, (make, _) in enumerate(LAYERS)]


def sample_network() -> nn.Sequential:
    return nn.Sequential(
        [
            nn.Conv2D(32, 3, activation="relu"),
            nn.MaxPool2D(2),
            nn.Conv2D(64, 3, activation="relu"),
            nn.MaxPool2D(2),
            nn.Flatten(),
            nn.Dense(128, activation="relu"),
            nn.Dense(10),
        ]
    )


class Recorder:
    """A backend that writes down the ops it is asked for, and their keyword arguments."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def op(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, kwargs))
            return getattr(self.backend, name)(*args, **kwargs)

        return op

    def asked(self, name: str) -> list[dict[str, Any]]:
        return [kwargs for called, kwargs in self.calls if called == name]


# ---------------------------------------------------------------------- every layer
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
    assert re.fullmatch(r"\w+\(.*\)", repr(layer))


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


# ---------------------------------------------------------------------- building
def test_build_errors() -> None:
    model = nn.Sequential([nn.Conv2D(2, 3), nn.Dense(4)])
    with pytest.raises(ValueError, match=r"layer 1: Dense: expected .* nn.Flatten\(\) before it"):
        model.build((5, 5, 1))
    assert not model.built
    model = nn.Sequential([nn.Flatten(), nn.Dense(4)])
    with pytest.raises(TypeError, match="build: dtype: expected float32 or float64, got int32"):
        model.build((5, 5, 1), dtype=np.int32)
    with pytest.raises(TypeError, match="build: rng: expected a numpy Generator, got int"):
        model.build((5, 5, 1), 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="build: seed"):
        model.build((5, 5, 1), seed=-1)
    for shape in [(), (0, 5, 1), (5, -1, 1)]:
        with pytest.raises(ValueError, match="build: input_shape"):
            model.build(shape)
    for odd in [28, "28", (2.0, 2, 1), (True, 2, 1), None]:
        with pytest.raises(TypeError, match="build: input_shape"):
            model.build(odd)  # type: ignore[arg-type]
    model.build((5, 5, 1))
    with pytest.raises(ValueError, match=r"built already for inputs of shape \(5, 5, 1\)"):
        model.build((5, 5, 1))


def test_build_after_a_failed_build() -> None:
    model = nn.Sequential([nn.Conv2D(2, 3, groups=2), nn.Conv2D(2, 3)])
    with pytest.raises(ValueError, match="layer 0: Conv2D: groups"):
        model.build((5, 5, 3))
    with pytest.raises(ValueError, match=r"layer 1: .*\(2 \+ 0 padding - \(3 - 1\) \* 1 - 1\)"):
        model.build((4, 4, 4))
    assert model.build((5, 5, 4)) == (1, 1, 2)
    assert model.state_dict()["0.weight"].shape == (3, 3, 2, 2)


def test_layers_of_another_model_keep_their_weights() -> None:
    body = nn.Sequential([nn.Conv2D(2, 3), nn.Flatten()])
    body.build((5, 5, 1), seed=1)
    trained = body.state_dict()
    model = nn.Sequential([body, nn.Dense(3)])
    model.build((5, 5, 1), seed=2)
    np.testing.assert_array_equal(model.state_dict()["0.0.weight"], trained["0.weight"])
    with pytest.raises(ValueError, match=r"expected inputs of shape \(5, 5, 1\)"):
        nn.Sequential([body]).build((6, 6, 1))
    with pytest.raises(ValueError, match="build: dtype: expected float32"):
        nn.Sequential([body]).build((5, 5, 1), dtype=np.float64)
    double = nn.Dense(2)
    double.build((3,), dtype=np.float64)
    with pytest.raises(ValueError, match="build: dtype: expected float64"):
        nn.Sequential([double]).build((3,))


def test_unbuilt_models_say_so(reference: Any) -> None:
    model = nn.Sequential([nn.Dense(2)])
    x = np.zeros((1, 2), np.float32)
    for call in (
        model.summary,
        model.state_dict,
        lambda: model.load_state_dict({}),
        lambda: model(x, reference),
        lambda: model.forward(x, reference),
        lambda: nn.Dense(2).forward(x, reference),
        lambda: nn.BatchNorm()(x, reference),
    ):
        with pytest.raises(RuntimeError, match=r"call build\(input_shape\)"):
            call()


def test_one_layer_at_two_places_is_refused() -> None:
    layer = nn.Dense(2)
    with pytest.raises(ValueError, match="the same Dense twice"):
        nn.Sequential([layer, nn.ReLU(), layer])
    with pytest.raises(ValueError, match="the same Dense twice"):
        nn.Sequential([layer, nn.Residual(layer)])
    with pytest.raises(ValueError, match="the same Dense twice"):
        nn.Residual(layer, layer)


CONSTRUCTORS: list[tuple[Any, type[Exception], str]] = [
    (lambda: nn.Sequential([]), ValueError, "Sequential: layers: expected at least one"),
    (lambda: nn.Sequential(nn.Dense(1)), TypeError, "Sequential: layers: expected a list"),
    (
        lambda: nn.Sequential(["x"]),
        TypeError,
        r"Sequential: layers\[0\]: expected a layer, got str",
    ),
    (lambda: nn.Sequential([nn.Dense]), TypeError, r"layers\[0\]: expected a layer, got type"),
    (lambda: nn.Residual("x"), TypeError, "Residual: body: expected a layer"),
    (lambda: nn.Residual(nn.ReLU(), 3), TypeError, "Residual: shortcut: expected a layer"),
    (lambda: nn.Conv2D(0, 3), ValueError, "Conv2D: filters: expected an integer of at least 1"),
    (lambda: nn.Conv2D(2.0, 3), TypeError, "Conv2D: filters: expected an integer, got float"),
    (lambda: nn.Conv2D(True, 3), TypeError, "Conv2D: filters: expected an integer, got bool"),
    (lambda: nn.Conv2D(2, 0), ValueError, "Conv2D: kernel_size"),
    (lambda: nn.Conv2D(2, (3, 3, 3)), ValueError, "Conv2D: kernel_size: expected a number or a"),
    (lambda: nn.Conv2D(2, "3"), TypeError, "Conv2D: kernel_size"),
    (lambda: nn.Conv2D(2, 3, stride=0), ValueError, "Conv2D: stride"),
    (lambda: nn.Conv2D(2, 3, dilation=-1), ValueError, "Conv2D: dilation"),
    (lambda: nn.Conv2D(2, 3, padding=-1), ValueError, "Conv2D: padding"),
    (
        lambda: nn.Conv2D(2, 3, padding="full"),
        ValueError,
        "Conv2D: padding: .* \"same\", got 'full'",
    ),
    (lambda: nn.Conv2D(2, 3, padding=(1, (1, 2))), ValueError, "Conv2D: padding"),
    (lambda: nn.Conv2D(2, 3, padding=(1, 2, 3)), ValueError, "Conv2D: padding"),
    (lambda: nn.Conv2D(2, 3, padding=1.0), TypeError, "Conv2D: padding"),
    (lambda: nn.Conv2D(3, 3, groups=2), ValueError, "Conv2D: groups: expected a divisor of 3"),
    (lambda: nn.Conv2D(2, 3, use_bias=1), TypeError, "Conv2D: use_bias: expected True or False"),
    (lambda: nn.Conv2D(2, 3, activation="Relu"), ValueError, "Conv2D: activation: .*got 'Relu'"),
    (lambda: nn.Conv2D(2, 3, activation=nn.ReLU()), TypeError, "Conv2D: activation"),
    (lambda: nn.Conv2D(2, 3, initializer="x"), ValueError, "Conv2D: initializer"),
    (lambda: nn.Conv2D(2, 3, in_channels=0), ValueError, "Conv2D: in_channels"),
    (lambda: nn.DepthwiseConv2D(3, depth_multiplier=0), ValueError, "depth_multiplier"),
    (lambda: nn.MaxPool2D(0), ValueError, "MaxPool2D: pool_size"),
    (lambda: nn.MaxPool2D(2, ceil_mode=1), TypeError, "MaxPool2D: ceil_mode"),
    (lambda: nn.AvgPool2D(2, stride=0), ValueError, "AvgPool2D: stride"),
    (lambda: nn.AvgPool2D(2, count_include_pad=None), TypeError, "AvgPool2D: count_include_pad"),
    (lambda: nn.BatchNorm(momentum=1.5), ValueError, r"BatchNorm: momentum: .* in \[0, 1\], got"),
    (lambda: nn.BatchNorm(epsilon=0), ValueError, "BatchNorm: epsilon"),
    (lambda: nn.BatchNorm(epsilon=float("nan")), ValueError, "BatchNorm: epsilon"),
    (lambda: nn.BatchNorm(running_variance="x"), ValueError, "BatchNorm: running_variance"),
    (lambda: nn.Dense(-1), ValueError, "Dense: units"),
    (lambda: nn.Dense(1, activation="x"), ValueError, "Dense: activation"),
    (lambda: nn.Dropout(1.0), ValueError, r"Dropout: rate: .* in \[0, 1\)"),
    (lambda: nn.Dropout("x"), TypeError, "Dropout: rate: expected a number"),
    (lambda: nn.LeakyReLU(-0.1), ValueError, "LeakyReLU: negative_slope"),
    (lambda: nn.ELU(float("inf")), ValueError, "ELU: alpha"),
]


@pytest.mark.parametrize(
    ("make", "error", "message"), CONSTRUCTORS, ids=[c[2] for c in CONSTRUCTORS]
)
def test_constructor_errors(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


PLANS: list[tuple[nn.Module, tuple[int, ...], str]] = [
    (nn.Conv2D(2, 3, in_channels=3), (5, 5, 1), "Conv2D: in_channels: expected 3 channels"),
    (nn.Conv2D(2, 3), (25,), r"Conv2D: expected an input of shape \(H, W, C\), got \(25,\)"),
    (nn.Conv2D(2, 3), (2, 5, 1), r"input height .*\(2 \+ 0 padding - \(3 - 1\) \* 1 - 1\) // 1"),
    (nn.Conv2D(2, 3, dilation=(1, 3)), (5, 5, 1), "input width"),
    (nn.MaxPool2D(2), (1, 4, 1), "MaxPool2D: expected an input height"),
    (nn.MaxPool2D(2, padding=2), (4, 4, 1), "MaxPool2D: padding: expected at most half"),
    (nn.AvgPool2D(3, padding=((0, 2), (0, 0))), (4, 4, 1), "AvgPool2D: padding"),
    (nn.GlobalAvgPool2D(), (4,), "GlobalAvgPool2D"),
    (nn.GlobalMaxPool2D(), (4, 4), "GlobalMaxPool2D"),
    (nn.BatchNorm(), (4, 4), "BatchNorm"),
    (nn.Dense(2, in_features=5), (4,), "Dense: in_features: expected 5"),
    (nn.Residual(nn.Conv2D(2, 3)), (5, 5, 1), r"Residual: .*got \(3, 3, 2\) from the body"),
]


@pytest.mark.parametrize(("layer", "shape", "message"), PLANS, ids=[p[2] for p in PLANS])
def test_wrong_input_shapes(layer: nn.Module, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer.build(shape)


def test_numpy_integers_are_integers() -> None:
    layer = nn.Conv2D(np.int64(2), (np.int32(3), 3), padding=np.uint8(1))  # type: ignore[arg-type]
    assert layer.build((5, 5, 1)) == (5, 5, 2)
    assert type(layer.filters) is int


# ---------------------------------------------------------------------- weights in and out
def test_state_dict_is_a_copy() -> None:
    model = nn.Sequential([nn.Dense(2)])
    model.build((3,))
    state = model.state_dict()
    state["0.weight"][:] = 5
    assert not np.any(model.state_dict()["0.weight"] == 5)
    model.load_state_dict(state)
    state["0.weight"][:] = 7
    assert np.all(model.state_dict()["0.weight"] == 5)


def test_load_state_dict_takes_any_layout() -> None:
    model = nn.Sequential([nn.Dense(2)])
    model.build((3,))
    weight = np.arange(6, dtype=">f4").reshape(2, 3).T
    model.load_state_dict({"0.weight": weight, "0.bias": np.zeros(2, np.float32)})
    loaded = model.parameters()["0.weight"].data
    np.testing.assert_array_equal(loaded, weight)
    assert loaded.flags.c_contiguous
    assert loaded.dtype.isnative


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s.pop("1.bias"), ValueError, "missing: 1.bias"),
        (lambda s: s.update({"x": s["1.bias"]}), ValueError, "unexpected: x"),
        (lambda s: s.update({"y": s.pop("1.bias")}), ValueError, "missing: 1.bias; unexpected: y"),
        (
            lambda s: s.update({"1.bias": np.zeros(3, np.float32)}),
            ValueError,
            r"1.bias: expected shape \(2,\), got \(3,\)",
        ),
        (
            lambda s: s.update({"1.bias": np.zeros(2)}),
            TypeError,
            "1.bias: expected dtype float32, got float64",
        ),
    ],
)
def test_load_state_dict_changes_all_or_nothing(
    change: Any, error: type[Exception], message: str
) -> None:
    model = nn.Sequential([nn.Dense(3), nn.Dense(2)])
    model.build((3,))
    before = model.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    change(state)
    with pytest.raises(error, match=message):
        model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(TypeError, match="state: expected a mapping"):
        model.load_state_dict([1])  # type: ignore[arg-type]


# ---------------------------------------------------------------------- the house
def test_layers_and_optimizers_know_no_backend() -> None:
    package = Path(fastcnn.nn.__file__).parents[1]
    files = [*(package / "nn").glob("*.py"), package / "optim.py", package / "losses.py"]
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                assert not re.search(r"\bfast\b|_kernels|reference|get_backend", name), (file, name)
