"""How models are built and take weights: what is refused, and what then stays as it was."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import nn


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
    with pytest.raises(ValueError, match=r"layer 1: .*\(2 \+ 0 \+ 0 - \(3 - 1\) \* 1 - 1\)"):
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
    (lambda: nn.Conv2DTranspose(0, 3), ValueError, "Conv2DTranspose: filters: expected"),
    (lambda: nn.Conv2DTranspose(2, 3, stride=(1, 0)), ValueError, "Conv2DTranspose: stride"),
    (lambda: nn.Conv2DTranspose(3, 3, groups=2), ValueError, "Conv2DTranspose: groups: .* of 3"),
    (
        lambda: nn.Conv2DTranspose(2, 3, output_padding=1),
        ValueError,
        "Conv2DTranspose: output_padding: expected less than the stride of 1, got 1",
    ),
    (
        lambda: nn.Conv2DTranspose(2, 3, stride=2, padding="same", output_padding=(0, 1)),
        ValueError,
        'Conv2DTranspose: output_padding: expected 0 with padding "same"',
    ),
    (lambda: nn.Conv2DTranspose(2, 3, output_padding=-1), ValueError, "output_padding: expected"),
    (lambda: nn.Conv2DTranspose(2, 3, output_padding=0.5), TypeError, "output_padding: expected"),
    (lambda: nn.Conv2DTranspose(2, 3, activation="x"), ValueError, "Conv2DTranspose: activation"),
    (lambda: nn.UpSample2D(0), ValueError, "UpSample2D: factor: expected an integer of at least 1"),
    (lambda: nn.UpSample2D(1.5), TypeError, "UpSample2D: factor: expected an integer"),
    (lambda: nn.Resize2D(), ValueError, "Resize2D: size: expected a size or a scale, got neither"),
    (lambda: nn.Resize2D(0), ValueError, "Resize2D: size: expected an integer of at least 1"),
    (lambda: nn.Resize2D(scale=0.0), ValueError, "Resize2D: scale: expected a finite number"),
    (lambda: nn.Resize2D(2, rounding="up"), ValueError, 'Resize2D: rounding: .*"floor"'),
    (lambda: nn.UpSample2D(2, method="cubic"), ValueError, 'UpSample2D: method: .*"bilinear"'),
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
    (lambda: nn.CELU(0), ValueError, r"CELU: alpha: .* in \(0, inf\], got 0"),
    (lambda: nn.Clip(2, 1), ValueError, "Clip: low: expected at most high, which is 1, got 2"),
    (lambda: nn.Clip(high=float("nan")), ValueError, "Clip: high: expected a number or None"),
    (lambda: nn.Clip("x"), TypeError, "Clip: low: expected a number, got str"),
    (lambda: nn.HardSigmoid(float("nan")), ValueError, "HardSigmoid: alpha"),
    (lambda: nn.HardSigmoid(beta=None), TypeError, "HardSigmoid: beta"),
    (lambda: nn.GELU("tanh"), TypeError, "GELU: approximate: expected True or False"),
]


@pytest.mark.parametrize(
    ("make", "error", "message"), CONSTRUCTORS, ids=[c[2] for c in CONSTRUCTORS]
)
def test_constructor_errors(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


PLANS: list[tuple[nn.Module, tuple[int, ...], str]] = [
    (nn.Conv2D(2, 3, in_channels=3), (5, 5, 1), "Conv2D: in_channels: expected 3 channels"),
    (nn.Conv2DTranspose(2, 3, in_channels=3), (5, 5, 1), "Conv2DTranspose: in_channels: exp"),
    (nn.Conv2DTranspose(2, 3, groups=2), (5, 5, 3), "Conv2DTranspose: groups: .* of 3 input"),
    (
        nn.Conv2DTranspose(2, 3, stride=2, padding=((0, 0), (4, 3))),
        (3, 3, 1),
        r"output width of at least 1, got \(3 - 1\) \* 2 \+ 3 - 7 \+ 0 = 0",
    ),
    (nn.Conv2DTranspose(2, 3), (25,), r"Conv2DTranspose: expected an input of shape \(H, W, C\)"),
    (nn.Resize2D(2), (25,), r"Resize2D: expected an input of shape \(H, W, C\), got \(25,\)"),
    (nn.Resize2D(scale=0.3), (3, 4, 1), r"Resize2D: scale: .* an image of 3 x 4, got 0\.3"),
    (nn.UpSample2D(2), (25,), r"UpSample2D: expected an input of shape \(H, W, C\), got \(25,\)"),
    (nn.Conv2D(2, 3), (25,), r"Conv2D: expected an input of shape \(H, W, C\), got \(25,\)"),
    (nn.Conv2D(2, 3), (2, 5, 1), r"input height .*\(2 \+ 0 \+ 0 - \(3 - 1\) \* 1 - 1\) // 1"),
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
        (lambda s: s.update({"x" * 250: s["1.bias"]}), ValueError, "unexpected: x{80}$"),
        (lambda s: s.update({"1.bias": [[1], [1, 2]]}), ValueError, "1.bias: expected an array"),
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
    files = [*(package / "nn").glob("*.py"), package / "optim.py"]
    files += (package / "losses").glob("*.py")
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
