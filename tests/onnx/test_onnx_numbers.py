"""Activations, arithmetic, reductions and products of ONNX files, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_files import Case, agree, answers, model, node, numbers, run, written

W, X = numbers, (2, 4, 5, 6)
P = np.abs(numbers(1, 4, 1, 1)) + 0.5


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


PLAIN = ("Relu", "Sigmoid", "Tanh", "Softplus", "Exp", "Abs", "Neg", "Erf", "Floor", "Ceil",
         "Round", "Sign", "Softsign", "Identity", "HardSwish", "Mish", "Selu", "Gelu",
         "Elu", "Celu", "LeakyRelu", "HardSigmoid", "ThresholdedRelu")  # fmt: skip
SINCE = {"HardSwish": 14, "Mish": 18, "Gelu": 20, "Celu": 12}

CASES = [
    *(Case(op, shape, opset=max(17, SINCE.get(op, 0))) for op in PLAIN for shape in (X, (2, 5))),
    Case("Gelu", X, approximate="tanh", opset=20),
    Case("Elu", X, alpha=0.3),
    Case("Celu", X, alpha=0.3),
    Case("Selu", X, alpha=1.5, gamma=0.7),
    Case("LeakyRelu", X, alpha=0.3),
    Case("HardSigmoid", X, alpha=1 / 6, beta=0.5),
    Case("ThresholdedRelu", X, alpha=0.25),
    Case("PRelu", X, W(4, 1, 1)),
    Case("PRelu", X, W(1)),
    Case("PRelu", (2, 5), W(5)),
    Case("Clip", X, min=0.0, max=0.75, opset=7),
    Case("Clip", X, max=0.5, opset=6 + 1),
    Case("Clip", X, opset=7),
    Case("Clip", X, scalar(-0.5), scalar(0.5)),
    Case("Clip", X, None, scalar(0.5)),
    Case("Clip", X, scalar(0.0)),
    Case("Dropout", X, ratio=0.5, opset=10),
    Case("Dropout", X, scalar(0.5), opset=13),
    # softmax: over one axis from opset 13 on, over all behind one before
    *(
        Case(op, shape, opset=opset, **options)
        for op in ("Softmax", "LogSoftmax")
        for shape, opset, options in (
            (X, 11, {}),
            (X, 12, {}),
            (X, 11, {"axis": 2}),
            (X, 11, {"axis": 3}),
            (X, 13, {}),
            (X, 13, {"axis": 1}),
            ((2, 6), 9, {}),
            ((2, 3, 6), 13, {"axis": -2}),
        )
    ),
    # arithmetic: the constant first or second, of every rank
    *(
        Case(op, *given)
        for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")
        for given in (
            (X, P),
            (P, X),
            (X, P[0]),
            (X, scalar(0.5)),
            (scalar(0.5), X),
            (X, W(1)),
            (X, W(6)),
            (X, W(5, 6)),
            (X, W(1, 4, 5, 6)),
            (X, X),
            (X, (2, 4, 1, 1)),
            ((2, 1, 5, 6), X),
            ((2, 5), W(5)),
        )
    ),
    Case("Add", (2, 3, 5), W(2, 1, 3, 5)),  # of a rank more than the input
    Case("Mul", (2, 4, 1, 1), W(1, 1, 5, 6)),
    Case("Sum", X, X, P),
    Case("Sum", X),
    Case("Mean", X, X, P),
    Case("Max", X, X, P),
    Case("Pow", X, scalar(2)),
    Case("Pow", X, scalar(3)),
    Case("Pow", scalar(2), X),
    # reductions: axes as an attribute, and as an input from opset 13 or 18 on
    *(
        Case(op, X, opset=11, **options)
        for op in (
            "ReduceMean",
            "ReduceSum",
            "ReduceMax",
            "ReduceMin",
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
        )
        for options in (
            {"axes": [2, 3]},
            {"axes": [1], "keepdims": 0},
            {"axes": [-1, -2, 1]},
            {"axes": [2, 3], "keepdims": 0},
        )
    ),
    *(
        Case(op, X, np.array(axes), opset=18, keepdims=keep)
        for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2")
        for axes, keep in (([2, 3], 1), ([1], 0), ([-1, 1], 1))
    ),
    Case("ReduceSum", X, np.array([1, 2]), opset=13, keepdims=0),
    Case("ReduceMean", X, np.zeros(0, np.int64), opset=18, noop_with_empty_axes=1),
    # products
    Case("Gemm", (2, 5), W(5, 3), W(3)),
    Case("Gemm", (2, 5), W(3, 5), W(3), transB=1),
    Case("Gemm", (2, 5), W(3, 5), transB=1),
    Case("Gemm", (2, 5), W(3, 5), scalar(0.5), transB=1),
    Case("Gemm", (2, 5), W(3, 5), W(1, 3), transB=1, alpha=0.5, beta=2.0),
    Case("Gemm", (2, 5), W(5, 3), W(2, 1)),
    Case("MatMul", (2, 5), W(5, 3)),
    Case("MatMul", (2, 4, 5), W(5, 3)),
    Case("MatMul", X, W(6, 3)),
    Case("MatMul", (2, 4, 5), (2, 5, 3)),
    Case("MatMul", (2, 4, 5), W(2, 5, 3)),
    Case("MatMul", (2, 4, 5), W(5)),
    Case("MatMul", W(3, 5), (2, 5, 4)),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_is_as_in_onnx_runtime(case: Case, tmp_path: Path) -> None:
    agree(*case.made(), tmp_path, bound=4e-6)


@pytest.mark.parametrize("op", ["Log", "Sqrt", "Reciprocal"])
def test_functions_of_positive_numbers(op: str, tmp_path: Path) -> None:
    made, feeds = Case(op, X).made()
    agree(made, {name: np.abs(x) + 0.1 for name, x in feeds.items()}, tmp_path)


def test_a_constant_that_nobody_trains_is_known_in_both_forms(tmp_path: Path) -> None:
    """Hard-swish, SiLU and GELU in pieces, as exporters write them."""
    half, one, root = scalar(0.5), scalar(1), scalar(np.sqrt(2))
    nodes = [
        node("Add", "x three", "a"), node("Clip", "a zero six", "b"), node("Mul", "x b", "c"),
        node("Div", "c six", "d"), node("Mul", "d one", "e"), node("Sigmoid", "e", "f"),
        node("Mul", "d f", "g"), node("Div", "g root", "h"), node("Erf", "h", "i"),
        node("Add", "i one", "j"), node("Mul", "g j", "k"), node("Mul", "k half", "y"),
    ]  # fmt: skip
    constants = {"three": scalar(3), "zero": scalar(0), "six": scalar(6), "half": half, "one": one,
                 "root": root}  # fmt: skip
    agree(model(nodes, {"x": ("n", 4, 5, 6)}, ["y"], constants), {"x": W(*X)}, tmp_path)


@pytest.mark.parametrize("op", ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"])
def test_comparisons_choose(op: str, tmp_path: Path) -> None:
    nodes = [node(op, "a b", "c"), node("Not", "c", "d"), node("Where", "d a b", "y")]
    a, b = (np.round(W(*X, seed=seed)) for seed in (0, 1))
    shapes = {"a": ("n", 4, 5, 6), "b": ("n", 4, 5, 6)}
    agree(model(nodes, shapes, ["y"]), {"a": a, "b": b}, tmp_path)


@pytest.mark.parametrize("value", [[True] * 4, [False] * 4, [True, False, False, True]])
def test_where_of_a_constant_condition(value: list[bool], tmp_path: Path) -> None:
    condition = np.array(value).reshape(4, 1, 1)
    nodes = [node("Where", "c a b", "y")]
    shapes = {"a": ("n", 1, 5, 6), "b": ("n", 4, 5, 1)}
    feeds = {"a": W(2, 1, 5, 6), "b": W(2, 4, 5, 1)}
    agree(model(nodes, shapes, ["y"], {"c": condition}), feeds, tmp_path)


def test_quantized_weights_and_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.integers(-127, 128, (6, 4, 3, 3)).astype(np.int8),
        "scales": rng.uniform(0.01, 0.02, 6).astype(np.float32),
        "zeros": np.zeros(6, np.int8),
        "scale": scalar(0.05),
        "zero": np.array(128, np.uint8),
    }
    nodes = [
        node("QuantizeLinear", "x scale zero", "q"),
        node("DequantizeLinear", "q scale zero", "d"),
        node("DequantizeLinear", "w scales zeros", "f", axis=0),
        node("Conv", "d f", "y", pads=[1] * 4),
    ]
    made = model(nodes, {"x": ("n", 4, 5, 6)}, ["y"], constants)
    agree(made, {"x": W(*X)}, tmp_path, bound=1e-5)


def test_integers_divide_towards_zero_in_shapes(tmp_path: Path) -> None:
    """(-7) / 2 is -3 there: a Pad by what comes of it cuts three rows, not four."""
    nodes = [node("Div", "a b", "c"), node("Pad", "x c", "y")]
    constants = {"a": np.array([0, 0, -7, 0, 0, 0, 0, 0]), "b": np.array(2)}
    made = model(nodes, {"x": ("n", 4, 5, 6)}, ["y"], constants)
    path, feeds = written(made, tmp_path), {"x": W(*X)}
    (found,) = run(path, feeds)
    assert found.shape == (2, 4, 2, 6)
    np.testing.assert_array_equal(found, answers(made, feeds)[0])


@pytest.mark.parametrize("zeros", [(), (3,), (3, 2)])
def test_integer_products_take_zero_points_away(zeros: tuple[Any, ...], tmp_path: Path) -> None:
    """Padding is of zeros behind that; of one for each filter see tests/onnx_nodes.py."""
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.integers(0, 9, (3, 2, 2, 2)).astype(np.uint8),
        "m": rng.integers(0, 9, (4, 3)).astype(np.uint8),
        **{name: np.array(each, np.uint8) for name, each in zip("pq", zeros, strict=False)},
    }
    words = " ".join(name for name in "pq" if name in constants)
    nodes = [
        node("ConvInteger", f"x w {words}", "y", pads=[1, 0, 0, 1]),
        node("MatMulInteger", f"x m {words}", "z"),
    ]
    integers = {"x": 2, "y": 6, "z": 6}
    made = model(nodes, {"x": ("n", 2, 3, 4)}, ["y", "z"], constants, opset=10, dtypes=integers)
    x = rng.integers(0, 256, (2, 2, 3, 4)).astype(np.uint8)
    agree(made, {"x": x}, tmp_path, bound=0)
