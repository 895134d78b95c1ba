"""Every layer and every network, fused and planned, against the reference op by op in float64.

Values, statistics and gradients of training, and values of inference, on every instruction set.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_close
from graphs import NETWORKS, SEVERAL, as_built, inputs_of
from layers import IDS, LAYERS

from fastcnn import FastBackend, Predictor, _kernels, nn
from fastcnn.fast._fusions import TRAINING
from fastcnn.fast._plan import Plan
from fastcnn.program import Interpreter, Program, differentiate, trace
from fastcnn.program.match import fuse

MODELS: dict[str, tuple[Any, ...]] = {
    **{name: (make, shape) for name, (make, shape) in zip(IDS, LAYERS, strict=True)},
    **{name: (make,) for name, make in {**NETWORKS, **SEVERAL}.items()},
}


def program_of(model: nn.Module, x: Any, fusions: Any) -> Program:
    program = fuse(trace(model, len(x), dtype=x.dtype, training=True), fusions)
    return differentiate(program, [*program.inputs, *model.trained_parameters()])


def step(run: Any, model: nn.Module, xs: list[Any], dys: list[Any]) -> dict[str, Any]:
    """Return all that a step of training gives, by name; copies, as a plan keeps its arrays."""
    for parameter in model.parameters().values():
        parameter.grad = None
    for buffer in model.buffers().values():
        buffer.update = None
    outputs = run.forward(*xs, rng=np.random.default_rng(5))
    found = {f"output {at}": y.copy() for at, y in enumerate(outputs)}
    gradients = run.backward(*dys)
    for name, parameter in model.parameters().items():
        gradient = gradients.pop(name, parameter.grad)  # that of a layer of one's own lies there
        found[f"d({name})"] = None if gradient is None else gradient.copy()
    found |= {name: gradient.copy() for name, gradient in gradients.items()}
    return found | {name: buffer.update for name, buffer in model.buffers().items()}


@pytest.mark.parametrize("name", MODELS)
def test_plans_compute_what_programs_mean(name: str, dtype: Any, reference: Any) -> None:
    make, *shape = MODELS[name]
    model, exact = (as_built(make, each, *shape) for each in (dtype, np.float64))
    exact.load_state_dict({k: a.astype(np.float64) for k, a in model.state_dict().items()})
    xs = inputs_of(model, dtype=dtype)
    wide = [x.astype(np.float64) for x in xs]
    oracle = Interpreter(program_of(exact, wide[0], ()), reference)
    rng = np.random.default_rng(0)
    shapes = [oracle.program.values[output].shape for output in oracle.program.outputs]
    dys = [rng.standard_normal(each).astype(dtype) for each in shapes]
    expected = step(oracle, exact, wide, [dy.astype(np.float64) for dy in dys])
    largest = max(np.abs(array).max() for array in expected.values() if array is not None)
    inferred = Interpreter(trace(exact, len(wide[0])), reference).forward(*wide)
    for isa in _kernels.available():
        backend = FastBackend(isa)
        plan = Plan(program_of(model, xs[0], TRAINING), backend, *map(np.copy, xs))
        found = step(plan, model, xs, dys)
        assert found.keys() == expected.keys()
        for key, array in expected.items():
            if array is None:
                assert found[key] is None
            else:
                about = f"{isa} {key}"
                assert_close(found[key], array, "conv2d_backward", scale=largest, about=about)
        outputs = Predictor(model, backend, dtype=dtype)(*xs)
        for y, array in zip(outputs if len(inferred) > 1 else [outputs], inferred, strict=True):
            assert_close(y, array, "conv2d_backward", dtype=dtype, about=f"{isa} inference")
