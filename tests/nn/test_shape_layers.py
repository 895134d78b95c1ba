"""Layers that move numbers about, and those of two inputs: by hand, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import FastBackend, nn
from fastcnn.fast._plan import Plan
from fastcnn.program import Interpreter, differentiate, trace


def given(layer: nn.Module, x: Any, backend: Any) -> Any:
    layer.build(x.shape[1:])
    return layer(x, backend)


def test_by_hand(backend: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 4, 6, 8)).astype(np.float32)
    sides = ((0, 0), (1, 1), (2, 2), (0, 0))
    for layer, expected in [
        (nn.Reshape((-1, 12)), x.reshape(2, 16, 12)),
        (nn.Reshape([192]), x.reshape(2, 192)),
        (nn.Permute((3, 1, 2)), x.transpose(0, 3, 1, 2)),
        (nn.Pad2D((1, 2)), np.pad(x, sides)),
        (nn.Pad2D((1, 2), value=-np.inf), np.pad(x, sides, constant_values=-np.inf)),
        (nn.Pad2D((1, 2), mode="edge"), np.pad(x, sides, "edge")),
        (nn.Pad2D((1, 2), mode="reflect"), np.pad(x, sides, "reflect")),
        (nn.Cropping2D((1, 2)), x[:, 1:-1, 2:-2]),
        (nn.Cropping2D(((0, 1), (2, 0))), x[:, :-1, 2:]),
        (nn.Slice((0, None, -1), (9, -1, None), (2, None, -3)), x[:, ::2, :-1, ::-3]),
        (nn.Slice(steps=[1, 2, 1]), x[:, :, ::2]),
        (nn.Take((1, -1), 1), x[:, :, [1, -1]]),
        (nn.Reduce("max", (0, 1)), x.max((1, 2))),
        (nn.Reduce("min", keepdims=True), x.min((1, 2, 3), keepdims=True)),
        (nn.Function("abs"), np.abs(x)),
    ]:
        np.testing.assert_array_equal(given(layer, x, backend), expected, err_msg=repr(layer))
    parts = given(nn.Split((1, 5, 2)), x, backend)
    for part, expected in zip(parts, np.split(x, [1, 6], -1), strict=True):
        np.testing.assert_array_equal(part, expected)
    deep = given(nn.SpaceToDepth(2), x, backend)
    assert deep.shape == (2, 2, 3, 32)
    np.testing.assert_array_equal(given(nn.DepthToSpace(2), deep, backend), x)


def test_two_inputs_by_hand(backend: Any, rng: np.random.Generator) -> None:
    a, b = (rng.uniform(1, 2, shape).astype(np.float32) for shape in ((2, 3, 4), (2, 1, 4)))
    for layer, expected in [
        (nn.Subtract(), a - b),
        (nn.Divide(), a / b),
        (nn.Maximum(), np.maximum(a, b)),
        (nn.Minimum(), np.minimum(a, b)),
    ]:
        layer.build(((3, 4), (1, 4)))
        y, _ = layer.forward((a, b), backend)
        np.testing.assert_array_equal(y, expected)
    product = nn.MatMul()
    assert product.build(((3, 4), (4, 5))) == (3, 5)
    y, _ = product.forward((a, np.ones((2, 4, 5), np.float32)), backend)
    np.testing.assert_allclose(y, np.repeat(a.sum(-1, keepdims=True), 5, -1), rtol=1e-6)


def test_a_shape_that_is_left_open_fits_images_of_two_sizes(backend: Any) -> None:
    x = nn.Input((4, 4, 2))
    rows = nn.Reshape((-1, 2))
    y = nn.concat([rows(x), rows(nn.MaxPool2D()(x))], axis=0)
    model = nn.Model(x, y)
    model.build()
    images = np.arange(64, dtype=np.float32).reshape(2, 4, 4, 2)
    y, expected = model(images, backend), images.reshape(2, 16, 2)
    np.testing.assert_array_equal(y[:, :16], expected)
    assert y.shape == (2, 20, 2)
    if isinstance(backend, FastBackend):
        np.testing.assert_array_equal(fastcnn.Predictor(model, backend)(images), y)


def test_they_come_back_from_a_file(tmp_path: Path) -> None:
    layers = [
        nn.Pad2D(((1, 0), (0, 2)), value=-np.inf),
        nn.MaxPool2D(),
        nn.Slice((None, -1, 0), None, (1, -1, 1)),
        nn.Reshape((-1, 4)),
        nn.Permute((2, 1)),
    ]
    model = nn.Sequential(layers)
    model.build((5, 6, 4))
    model.save(tmp_path / "model")
    x = np.random.default_rng(0).standard_normal((2, 5, 6, 4)).astype(np.float32)
    backend = FastBackend()
    np.testing.assert_array_equal(fastcnn.load(tmp_path / "model")(x, backend), model(x, backend))


IMAGE = (4, 6, 8)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: nn.Reshape(3), r"Reshape: target_shape: expected a shape"),
        (lambda: nn.Reshape((2, -2)), r"Reshape: target_shape: expected an integer of at least -1"),
        (lambda: nn.Reshape((5, -1)).build(IMAGE), r"Reshape: target_shape: .* of 192 numbers"),
        (lambda: nn.Reshape((-1, -1)).build(IMAGE), r"Reshape: target_shape: .* of 192 numbers"),
        (lambda: nn.Permute((0, 1, 2)), r"Permute: dims: expected an integer of at least 1, got 0"),
        (lambda: nn.Permute((2, 1)).build(IMAGE), r"Permute: dims: .* from 1 to 3 once, got"),
        (lambda: nn.Pad2D("same"), r"Pad2D: padding: expected a number, a pair"),
        (lambda: nn.Pad2D(-1), r"Pad2D: padding: expected an integer of at least 0"),
        (lambda: nn.Pad2D(1, mode="mirror"), r'Pad2D: mode: expected one of "constant"'),
        (lambda: nn.Pad2D(1, value="0"), r"Pad2D: value: expected a number"),
        (lambda: nn.Pad2D(4, mode="reflect").build(IMAGE), r"Pad2D: padding: expected fewer than"),
        (lambda: nn.Pad2D(1).build((3,)), r"Pad2D: expected an input of shape \(H, W, C\)"),
        (lambda: nn.Cropping2D(2).build(IMAGE), r"Cropping2D: cropping: .* leaves a pixel"),
        (lambda: nn.Slice(1), r"Slice: starts: expected a tuple of integers"),
        (lambda: nn.Slice((1.0,)), r"Slice: starts: expected an integer"),
        (lambda: nn.Slice((1,)).build(IMAGE), r"Slice: starts: expected one for each of 3 axes"),
        (lambda: nn.Slice((4, 0, 0)).build(IMAGE), r"Slice: stops: .* that is not empty"),
        (lambda: nn.Slice(None, None, (0, 1, 1)).build(IMAGE), r"Slice: steps: expected none of 0"),
        (lambda: nn.Take(1), r"Take: indices: expected a shape"),
        (lambda: nn.Take((8,)).build(IMAGE), r"Take: indices: expected integers from -8 to 7"),
        (lambda: nn.Take((0,), 3).build(IMAGE), r"Take: axis: expected an integer from -3 to 2"),
        (lambda: nn.Reduce("median"), r'Reduce: how: expected one of "sum"'),
        (lambda: nn.Reduce("sum", 1.0), r"Reduce: axis: expected an integer"),
        (lambda: nn.Reduce("sum", 3).build(IMAGE), r"Reduce: axis: expected an integer from -3"),
        (lambda: nn.Reduce("sum", (1, -2)).build(IMAGE), r"Reduce: axis: expected each axis once"),
        (lambda: nn.Function("sin"), r'Function: function: expected one of "exp"'),
        (lambda: nn.Split((8,)), r"Split: sizes: expected two at least"),
        (lambda: nn.Split(2), r"Split: sizes: expected a shape"),
        (lambda: nn.Split((3, 4)).build(IMAGE), r"Split: sizes: expected a sum of 8"),
        (lambda: nn.Split((3, 5), 3).build(IMAGE), r"Split: axis: expected"),
        (lambda: nn.DepthToSpace(0), r"DepthToSpace: block: expected"),
        (lambda: nn.DepthToSpace(3).build(IMAGE), r"DepthToSpace: x: .* multiple of 9 channels"),
        (lambda: nn.SpaceToDepth(4).build(IMAGE), r"SpaceToDepth: x: .* multiples of 4, got 4 x 6"),
        (lambda: nn.Subtract().build((IMAGE,) * 3), r"Subtract: expected 2 inputs, got 3"),
        (lambda: nn.Divide().build(IMAGE), r"Divide: expected several inputs"),
        (lambda: nn.MatMul().build((IMAGE, (8, 2))), r"MatMul: expected two inputs of one rank"),
        (lambda: nn.MatMul().build(((2, 3), (2, 3))), r"MatMul: expected matrices"),
        (lambda: nn.subtract(nn.Input(IMAGE), 1.0), r"nn\.subtract\(a, b\): expected two symbols"),
    ],
)
def test_what_they_refuse(make: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{said}"):
        make()


# ---------------------------------------------------------------------- in programs
def test_a_reshape_is_a_view_in_a_plan() -> None:
    model = nn.Sequential([nn.ReLU(), nn.Reshape((-1,)), nn.Flatten(), nn.Reshape((4, 3))])
    model.build((3, 2, 2))
    x = np.ones((2, 3, 2, 2), np.float32)
    plan = Plan(trace(model, 2), FastBackend(), x)
    arrays = [plan.arrays[str(node.results[0])] for node in plan.program.nodes]
    assert [node.op for node in plan.program.nodes] == ["relu", *["reshape"] * 3]
    assert all(np.shares_memory(arrays[0], each) for each in arrays)


class OfAll(nn.Module):
    """A layer of one's own, in whose midst is a number of the whole batch, and one for nobody."""

    traceable = True

    def declare(self, input_shape: Any) -> Any:
        return input_shape

    def forward(self, x: Any, backend: Any, **options: Any) -> Any:
        backend.reduce_max(x)
        return backend.multiply(x, backend.exp(backend.reduce_mean(x)))


def test_a_number_on_the_way_is_no_loss(backend: Any, rng: np.random.Generator) -> None:
    model = OfAll()
    model.build((3,))
    x, dy = rng.standard_normal((2, 2, 3))
    program = differentiate(trace(model, 2, dtype=x.dtype), ["x"])
    runs = [Interpreter(program, backend)]
    if isinstance(backend, FastBackend):
        runs.append(Plan(program, backend, x.copy()))  # type: ignore[arg-type]
    size = np.exp(x.mean())
    for run in runs:
        np.testing.assert_allclose(run.forward(x)[0], x * size)
        dx = run.backward(dy)["x"]
        np.testing.assert_allclose(dx, size * (dy + np.sum(dy * x) / x.size))
