"""The fused ops of the fast backend: each computes what its pattern does, op by op.

The table of fusions is walked. A pattern is its own oracle: the reference runs it unfused, in
float64, on the arrays that the fused op is given.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calls import FUSED
from compare import assert_close, assert_results, assert_same_bits
from expressions import TABLES, Case, Decided, cases, expression, giving, taken
from fused_calls import UNFUSED, places_of, pooled

from fastcnn import FastBackend, _kernels, reference
from fastcnn.backend import Array
from fastcnn.fast._fusions import TRAINING
from fastcnn.program import Interpreter, Program, differentiate
from fastcnn.program.match import fuse

# Of which a file of their own holds more shapes, and numbers that are hard: test_<op>.py.
OWN = {
    "batch_norm_add_relu",
    "batch_norm_relu_conv2d",
    "batch_norm_relu_unmasked",
    "conv2d_batch_norm_relu",
    "conv2d_batch_norm_relu_depthwise",
    "conv2d_branch",
}
ROWS = {row.name: row for row in TRAINING if row.name not in OWN}
CASES = [(op, case) for op in ROWS for case in cases(op)]
ALL = pytest.mark.parametrize(("op", "case"), CASES, ids=[f"{op} {case}" for op, case in CASES])
CONVOLUTIONS = ("auto", "direct", "winograd")
# Of which the fast backend gives the bits of its own ops one by one.
SAME_BITS = (
    "batch_norm_relu",
    "batch_norm_relu_max_pool2d",
    "linear_relu",
    "cross_entropy_with_gradient",
)
# The gradient of a bias in front of a norm, which is but rounding.
OF_NOTHING = ("_conv2d_batch_norm_relu_max_pool2d_backward", 2)


def test_every_fused_op_has_a_row_and_every_row_has_cases() -> None:
    backward = {f"{name}_backward" for name, row in ROWS.items() if "gradient" not in row.results}
    assert set(FUSED) == {f"_{name}" for name in {*ROWS, *backward}}
    assert set(vars(UNFUSED)) == set(FUSED)
    assert set(TABLES) == set(ROWS)
    assert {row.name for row in TRAINING} == {*ROWS, *OWN}
    for op in OWN:
        source = Path(__file__).with_name(f"test_{op}.py").read_text()
        assert f"fast_backend._{op}(" in source
        assert f"fast_backend._{op}_backward(" in source


# ---------------------------------------------------------------------- numbers and runs
def normal(case: Case, dtype: Any, rng: np.random.Generator) -> dict[str, Array]:
    arrays = {name: rng.standard_normal(shape).astype(dtype) for name, shape in case.shapes.items()}
    if "labels" in arrays:
        n, classes = case.shapes["logits"]
        soft = len(case.shapes["labels"]) == 2
        arrays["labels"] = rng.integers(0, classes, n)
        if soft:
            arrays["labels"] = rng.dirichlet(np.ones(classes), n).astype(dtype)
    return arrays


def exact(arrays: dict[str, Array]) -> dict[str, Array]:
    """Return the arrays in float64."""
    return {k: a.astype(np.float64) if a.dtype.kind == "f" else a for k, a in arrays.items()}


def fused_by(op: str, program: Program) -> Program | None:
    """Return the one node that a program is then, with all results as outputs; None if it fits not.

    A convolution with its norm is fused in float32 alone.
    """
    found = fuse(program, [ROWS[op]])
    (*others, node) = found.nodes
    if others:
        assert op == "conv2d_batch_norm_relu_max_pool2d"
        assert program.values["x"].dtype == np.float64
        return None
    assert node.op == op
    return giving(found, *node.results)


def forward(program: Program, backend: Any, arrays: dict[str, Array]) -> tuple[Any, ...]:
    return tuple(Interpreter(program, backend).forward(*arrays.values()))


def gradients(
    program: Program, backend: Any, arrays: dict[str, Array], dy: Array | None, without: str = ""
) -> dict[str, Any]:
    """Return the gradients of a pattern's variables, but for one that nobody needs."""
    wanted = [name for name in arrays if name not in ("labels", without)]
    alone = giving(program, program.outputs[0])
    run = Interpreter(differentiate(alone, wanted), backend)
    run.forward(*arrays.values())
    return run.backward(*(() if dy is None else (dy,)))


def pool_of(case: Case) -> dict[str, Any]:
    return case.options.get("max_pool2d", {"pool_size": 1})


# ---------------------------------------------------------------------- against the reference
@ALL
def test_values_and_gradients(op: str, case: Case, dtype: Any, rng: np.random.Generator) -> None:
    arrays = normal(case, dtype, rng)
    program = expression(ROWS[op].pattern, arrays, case.options)
    fused = fused_by(op, program)
    if fused is None:
        return
    in_front = [node.arguments["x"] for node in program.nodes if node.op == "relu"]
    expected = forward(giving(program, *program.outputs, *in_front), reference, exact(arrays))
    dy = rng.standard_normal(np.shape(expected[0])).astype(dtype) if in_front else None
    sizes = np.ones(1) if dy is None else np.abs(dy)
    largest_dy, all_of_dy = float(np.max(sizes, initial=0)), float(np.sum(sizes))
    oracles: dict[Any, dict[str, Any]] = {}
    algorithms = CONVOLUTIONS if op == "conv2d_relu_max_pool2d" else ("auto",)
    for isa, algorithm in product(_kernels.available(), algorithms):
        backend, about = FastBackend(isa, convolution=algorithm), f"{isa} {algorithm}"
        y, *saved = forward(fused, backend, arrays)
        argmax = saved.pop(0) if "argmax" in ROWS[op].results else None
        found = (y, *saved) if "gradient" not in ROWS[op].results else (y,)
        assert_results(found, expected[: len(found)], op, dtype, about)
        if argmax is not None:  # those that won are as large as the largest, or nearly
            np.testing.assert_array_equal(argmax == places_of(pool_of(case)["pool_size"]), y == 0)
            won = taken(expected[-1], argmax, **pool_of(case))
            assert_close(y, won, op, about=about)
        key = None if argmax is None else argmax.tobytes()
        if key not in oracles:
            oracle = Decided(argmax, pool_of(case)["pool_size"])
            of_dy = None if dy is None else dy.astype(np.float64)
            oracles[key] = gradients(program, oracle, exact(arrays), of_dy)
        for without in ("", "x"):
            results = gradients(fused, backend, arrays, dy, without)
            assert results.keys() == oracles[key].keys() - {without}
            for name, result in results.items():
                of_nothing = name == "b" and "norm" in op
                assert_close(
                    result,
                    oracles[key][name],
                    f"{op}_backward",
                    scale=all_of_dy if of_nothing else 0.0,
                    largest_dy=largest_dy,
                    dtype=dtype,
                    about=f"{about} {name}",
                )


@pytest.mark.parametrize("op", ["conv2d_relu_max_pool2d", "linear_relu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exact_on_small_integers(op: str, dtype: str, rng: np.random.Generator) -> None:
    """Ties too: the first wins, and nothing where ReLU leaves nothing."""
    for case in cases(op):
        arrays = {name: rng.integers(-4, 5, s).astype(dtype) for name, s in case.shapes.items()}
        program = expression(ROWS[op].pattern, arrays, case.options)
        fused = fused_by(op, program)
        assert fused is not None
        (z,) = forward(giving(program, program.nodes[0].results[0]), reference, arrays)
        expected: tuple[Any, ...] = (reference.relu(z),)
        if op != "linear_relu":
            pool = pool_of(case)
            expected = pooled(z, pool["pool_size"], pool["stride"])
        dy = rng.integers(-4, 5, expected[0].shape).astype(dtype)
        of_reference = gradients(program, reference, arrays, dy)
        for isa in _kernels.available():
            backend = FastBackend(isa, convolution="direct")
            for one, other in zip(forward(fused, backend, arrays), expected, strict=True):
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other, err_msg=f"{isa} {case}")
            for without in ("", "x"):
                for name, one in gradients(fused, backend, arrays, dy, without).items():
                    np.testing.assert_array_equal(one, of_reference[name], err_msg=f"{isa} {case}")


# ---------------------------------------------------------------------- against differences
@pytest.mark.parametrize("op", ROWS)
def test_gradients_are_those_of_central_differences(
    op: str, fast_backend: Any, rng: np.random.Generator
) -> None:
    """Of the pattern, in float64 on the reference; along one direction of all arrays."""

    whole = [case for case in cases(op) if all(map(all, case.shapes.values()))]
    for case in sorted(whole, key=lambda case: sum(map(np.prod, case.shapes.values())))[:4]:
        arrays = normal(case, np.float64, rng)
        program = expression(ROWS[op].pattern, arrays, case.options)
        fused = fused_by(op, program)
        if fused is None:
            return
        value = giving(program, program.outputs[0])
        (y,) = forward(value, reference, arrays)
        dy = rng.standard_normal(np.shape(y)) if np.shape(y) else None
        found = gradients(fused, fast_backend, arrays, dy)
        directions = {name: rng.standard_normal(arrays[name].shape) for name in found}
        sides = []
        for h in (1e-6, -1e-6):
            moved = {name: arrays[name] + h * v for name, v in directions.items()}
            (y,) = forward(value, reference, {**arrays, **moved})
            sides.append(float(np.sum(y if dy is None else y * dy)))
        expected = sum(float(np.sum(found[name] * v)) for name, v in directions.items())
        slope = (sides[0] - sides[1]) / 2e-6
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-7), str(case)


# ---------------------------------------------------------------------- against the fast backend
@pytest.mark.parametrize("spoils", [False, True], ids=["finite", "with NaN"])
@pytest.mark.parametrize("op", SAME_BITS)
def test_the_bits_of_the_ops_one_by_one(
    op: str, spoils: bool, fast_backend: Any, dtype: Any, rng: np.random.Generator
) -> None:
    is_norm = "norm" in op
    for case in cases(op):
        arrays = normal(case, dtype, rng)
        x = next(iter(arrays.values()))
        if spoils and x.shape[-1] > 2 and x.size:
            x.flat[0] = np.nan
            if not is_norm:
                x[-1, :2] = -0.0, np.inf
        program = expression(ROWS[op].pattern, arrays, case.options)
        fused = fused_by(op, program)
        assert fused is not None
        y, *found = forward(fused, fast_backend, arrays)
        if is_norm:
            winners = found.pop(0)
            more = ["argmax"] if "argmax" in program.values else []
            _, *expected = forward(giving(program, *program.outputs, *more), fast_backend, arrays)
            argmax = expected.pop().copy() if more else np.zeros_like(winners)
            argmax[y == 0] = places_of(pool_of(case)["pool_size"])
            np.testing.assert_array_equal(winners, argmax, err_msg=str(case))
            assert_same_bits(tuple(found), tuple(expected), str(case))
        else:
            dy = None if "labels" in arrays else rng.standard_normal(y.shape).astype(dtype)
            one, other = (gradients(each, fast_backend, arrays, dy) for each in (fused, program))
            assert_same_bits(tuple(one.values()), tuple(other.values()), str(case))
        assert_same_bits((y,), forward(program, fast_backend, arrays)[:1], str(case))


@ALL
def test_the_same_bits_on_any_number_of_threads(
    op: str, case: Case, dtype: Any, rng: np.random.Generator
) -> None:
    arrays = normal(case, dtype, rng)
    fused = fused_by(op, expression(ROWS[op].pattern, arrays, case.options))
    if fused is None:
        return
    for isa in _kernels.available():
        first = forward(fused, FastBackend(isa, 1), arrays)
        dy = None if "labels" in arrays else rng.standard_normal(first[0].shape).astype(dtype)
        results = []
        for threads in (1, 2, 3, 8):
            backend = FastBackend(isa, threads)
            found = [*forward(fused, backend, arrays)]
            for without in ("", "x"):
                found += gradients(fused, backend, arrays, dy, without).values()
            results.append(tuple(found))
            assert_same_bits(results[-1], results[0], f"{isa} {threads}")


def spoiled(method: Any, at: int) -> Any:
    """Return an op that has the largest number of one result wrong, by a thousandth."""

    def call(*arguments: Any, **options: Any) -> Any:
        result = method(*arguments, **options)
        results = list(result) if isinstance(result, tuple) else [result]
        if isinstance(results[at], np.ndarray):
            results[at].flat[np.argmax(np.abs(results[at]))] *= 1.001
        elif results[at] is not None:
            results[at] *= 1.001
        return tuple(results) if isinstance(result, tuple) else results[0]

    return call


@pytest.mark.parametrize("op", ROWS)
def test_a_wrong_result_would_be_seen(
    op: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    case = next(cases(op))
    faults = [(f"_{op}", at) for at, name in enumerate(ROWS[op].results) if name != "argmax"]
    faults += [(f"_{op}_backward", at) for at, name in enumerate(ROWS[op].gradients)]
    for name, at in faults:
        if not hasattr(FastBackend, name) or (name, at) == OF_NOTHING:
            continue
        with monkeypatch.context() as patch:
            patch.setattr(FastBackend, name, spoiled(getattr(FastBackend, name), at))
            with pytest.raises(AssertionError):
                test_values_and_gradients(op, case, np.dtype(np.float32), rng)
