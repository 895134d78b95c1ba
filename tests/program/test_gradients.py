"""Gradients of programs are those of central differences in float64, for every layer and network.

By random projection: along a direction v of an array, sum(dy * y) has the slope sum(gradient * v).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import NETWORKS, SEVERAL, as_built, inputs_of
from layers import IDS, LAYERS

from fastcnn import nn
from fastcnn.program import Interpreter, differentiate, trace

STEP = 3e-6  # so small that no value crosses a kink


def check(model: nn.Module, xs: list[Any], training: bool, reference: Any) -> None:
    """Compare the gradients of all inputs and parameters that are trained."""
    rng = np.random.default_rng(0)
    traced = trace(model, len(xs[0]), training=training)
    parameters = model.trained_parameters()
    run = Interpreter(differentiate(traced, [*traced.inputs, *parameters]), reference)
    plain = Interpreter(traced, reference)
    dys = [rng.standard_normal(y.shape) for y in run.forward(*xs, rng=np.random.default_rng(5))]
    for parameter in parameters.values():
        parameter.grad = None
    found = run.backward(*dys)
    arrays = dict(zip(traced.inputs, xs, strict=True))
    arrays |= {name: parameter.data for name, parameter in parameters.items()}
    # What layers of one's own computed lies in their parameters.
    found |= {k: v.grad for k, v in parameters.items() if v.grad is not None}

    def cost() -> float:
        outputs = plain.forward(*xs, rng=np.random.default_rng(5))
        return sum(float(np.sum(dy * y)) for dy, y in zip(dys, outputs, strict=True))

    for name, array in arrays.items():
        direction, before, costs = rng.standard_normal(array.shape), array.copy(), []
        for step in (STEP, -STEP):
            array[...] = before + step * direction
            costs.append(cost())
        array[...] = before
        gradient = found.get(name, 0.0)  # no output depends on it
        expected = float(np.sum(gradient * direction))
        slope = (costs[0] - costs[1]) / (2 * STEP)
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=IDS)
def test_every_layer(make: Any, shape: tuple[int, ...], training: bool, reference: Any) -> None:
    model = as_built(make, shape=shape)
    check(model, inputs_of(model), training, reference)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", [*NETWORKS, *SEVERAL])
def test_every_network(name: str, training: bool, reference: Any) -> None:
    model = as_built({**NETWORKS, **SEVERAL}[name])
    check(model, inputs_of(model, 2), training, reference)
