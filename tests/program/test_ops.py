"""The table of ops: a row for every op of the contract, true of its results and its gradients.

The oracle is the reference: it is called where the tracer is, with arrays in the place of symbols.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from calls import OPS as CONTRACT
from calls import UPDATED, arguments, each, run
from gradients import CASES, Case
from shape_gradients import SHAPE_CASES

from fastcnn import nn
from fastcnn.program import Interpreter, Program, differentiate
from fastcnn.program.ops import FUSED, OPS, backward_name, parameters_of
from fastcnn.program.trace import Symbol, Tracer

FORWARD = [op for op in CONTRACT if not op.endswith("_backward") and op not in UPDATED]


def test_every_op_of_the_contract_has_a_row() -> None:
    own = {op for op, row in OPS.items() if row.run is not None}  # NumPy's
    assert set(OPS) - own - set(FUSED) == set(FORWARD)
    differentiable = {op for op in FORWARD if backward_name(op) in CONTRACT}
    assert {op for op in FORWARD if OPS[op].gradients} == differentiable


def test_every_op_and_its_backward_op_are_in_the_contract() -> None:
    for op, row in OPS.items():
        known = parameters_of(op)
        assert set(row.gradients) <= set(known.arrays), op
        if not row.gradients or "gradient" in row.results:
            continue
        back = parameters_of(backward_name(op))
        sources = {"dy", "more", *known.arrays, *row.results}
        assert set(back.arrays) <= sources, op
        shapes = {f"{name}_shape" for name in known.arrays} | {"shapes"}
        given = {"dloss", "input_gradient", "weight_gradient", *shapes, *known.options}
        assert set(back.options) <= given, op


# ---------------------------------------------------------------------- shapes and dtypes
def traced(call: Callable[..., Any], dtype: Any, *arrays: Any) -> tuple[Tracer, tuple[Any, ...]]:
    """Return a tracer that has written down a call of an op, and the symbols of its results."""
    tracer = Tracer(nn.ReLU(), np.dtype(dtype), training=True)

    def symbol(array: Any) -> Symbol:
        return tracer.input("x", array.shape, array.dtype)

    results = call(tracer, *(each(symbol, array) for array in arrays))
    return tracer, results if isinstance(results, tuple) else (results,)


def assert_described(symbols: tuple[Any, ...], results: tuple[Any, ...]) -> None:
    """Check that symbols are what the row says: of the shapes and dtypes of these results."""
    for symbol, result in zip(symbols, results, strict=True):
        assert symbol.shape == np.shape(result)
        if symbol.shape:  # a loss is Python's number
            assert symbol.dtype == result.dtype


@pytest.mark.parametrize("op", FORWARD)
def test_results_are_as_the_row_says(op: str, dtype: Any, reference: Any) -> None:
    sizes = [{}, {"images": 1, "height": 4, "width": 6, "channels": 5}, {"images": 3, "height": 7}]
    for size in sizes:
        call = arguments(op, np.random.default_rng(0), dtype, reference, **size)

        def asked(backend: Any, *values: Any, names: Any = tuple(call)) -> Any:
            return getattr(backend, op)(**dict(zip(names, values, strict=True)))

        _, symbols = traced(asked, dtype, *call.values())
        assert_described(symbols, run(reference, op, call))


@pytest.mark.parametrize("pool_size", [(16, 16), (16, 17)])
def test_winners_are_of_the_dtype_that_the_row_says(pool_size: Any, reference: Any) -> None:
    x = np.zeros((1, 17, 17, 1))
    _, symbols = traced(lambda backend, x: backend.max_pool2d(x, pool_size), x.dtype, x)
    assert_described(symbols, reference.max_pool2d(x, pool_size))


@pytest.mark.parametrize("case", [*CASES, *SHAPE_CASES], ids=str)
def test_gradients_are_as_the_row_says(
    case: Case, reference: Any, rng: np.random.Generator
) -> None:
    """What differentiate makes of an op are the gradients of a call of its backward op."""
    inputs = case.inputs(rng)
    tracer, symbols = traced(case.forward, np.float64, *inputs)
    result = case.forward(reference, *inputs)
    assert_described(symbols, result if isinstance(result, tuple) else (result,))
    (node,) = tracer.nodes
    names = tuple(name for name, value in tracer.values.items() if value.kind == "input")
    program = Program(tracer.values, (node,), names, node.results[:1], {}, {}, 1)
    interpreter = Interpreter(differentiate(program, names), reference)
    (y,) = interpreter.forward(*inputs)
    dy = rng.standard_normal(np.shape(y)) if np.shape(y) else 1.0
    found = interpreter.backward(*((dy,) if np.shape(y) else ()))
    expected = dict(zip(names, case.backward(reference, dy, result, *inputs), strict=True))
    if case.op == "mean_squared_error":
        del expected[node.arguments["target"]]  # from which nobody asks one
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        np.testing.assert_array_equal(found[name], gradient)


def test_a_row_refuses_shapes_that_do_not_fit() -> None:
    """As the op does: conv2d, batch_norm and linear may be fused, and a fused op does not look."""
    image, filters = (2, 5, 5, 4), (3, 3, 4, 6)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("conv2d", {"x": image, "w": (3, 3, 5, 6)}),
        ("conv2d", {"x": image, "w": filters, "b": (5,)}),
        ("batch_norm", {"x": image, "gamma": (4,), "beta": (5,)}),
        ("batch_norm", {"x": image, "gamma": (5,), "beta": (5,)}),
        ("linear", {"x": (2, 3), "w": (4, 5)}),
        ("linear", {"x": (2, 4), "w": (4, 5), "b": (4,)}),
        ("linear", {"x": image, "w": (4, 5)}),
        ("add", {"a": (2, 3), "b": (2,)}),
        ("multiply", {"a": (2, 3), "b": (2,)}),
        ("matmul", {"a": (2, 3), "b": (2, 3)}),
        ("reshape", {"x": (2, 3), "shape": (4, 2)}),
        ("transpose", {"x": (2, 3), "axes": (1, 1)}),
        ("expand", {"x": (2, 3), "shape": (2,)}),
        ("pad", {"x": (2, 3), "widths": ((0, 0), (3, 0)), "mode": "reflect"}),
        ("strided_slice", {"x": (2, 3), "starts": (0,), "stops": (1, 1)}),
        ("take", {"x": (2, 3), "indices": (3,)}),
        ("depth_to_space", {"x": image, "block": 3}),
        ("space_to_depth", {"x": image, "block": 2}),
        ("reduce_sum", {"x": image, "axis": 4}),
    ]
    for op, given in wrong:
        shapes_of: Any = OPS[op].shapes
        with pytest.raises(ValueError, match=r"expected|broadcast"):
            shapes_of(**given)
