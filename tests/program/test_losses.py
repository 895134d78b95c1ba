"""Every loss of the house is an op of the program of a training step, and no call beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import losses, nn, optim
from fastcnn._passes import Kept, Passes
from fastcnn.losses import is_op
from fastcnn.program import trace

# What others derive from, and what holds a function of one's own.
OTHERS = {"Loss", "FunctionLoss"}
HOUSE = {
    name: getattr(losses, name)
    for name in sorted(set(losses.__all__) - OTHERS)
    if isinstance(getattr(losses, name), type)
}


def model(dtype: Any = np.float32) -> nn.Sequential:
    made = nn.Sequential([nn.Dense(4, activation="tanh"), nn.Dense(3)])
    made.build((5,), seed=1, dtype=dtype)
    return made


def test_every_loss_with_a_name_is_among_them() -> None:
    assert set(losses.LOSSES.values()) == set(HOUSE.values())


@pytest.mark.parametrize("name", HOUSE)
def test_a_loss_is_an_op_of_the_program(name: str) -> None:
    loss, network = HOUSE[name](), model()
    assert is_op(loss)
    *before, last = network.program(2, loss=loss).nodes
    assert [node.op for node in before] == ["linear", "tanh", "linear"]
    assert last.layer == name
    parts = network, network.trained_parameters(), network.buffers()
    passes = Passes(*parts, loss, optim.SGD(0.1), fastcnn.FastBackend(), Kept())
    assert passes.arrays is not None, "it keeps no array of a batch"


@pytest.mark.parametrize("name", HOUSE)
def test_in_the_program_and_beside_it_a_loss_is_the_same(name: str, backend: Any) -> None:
    """A loss that is another's class is called beside the program."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 5)), rng.standard_normal((8, 3))
    y = {"softmax": rng.integers(0, 3, 8), "sigmoid": y > 0, None: y}[HOUSE[name]().activation]
    found = []
    for cls in (HOUSE[name], type("Own", (HOUSE[name],), {})):
        trainer = fastcnn.Trainer(model(np.float64), loss=cls(), backend=backend, seed=2)
        trainer.fit(x, y, batch_size=4, epochs=2, verbose=False)
        found.append([trainer.history["step_loss"], *trainer.model.state_dict().values()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_a_loss_that_is_an_op_of_no_program() -> None:
    """Of class weights a batch is divided by what these weigh together: that is no op."""
    loss = losses.CrossEntropy(class_weights=[1, 2, 3])
    assert not is_op(loss)
    assert not is_op(losses.FunctionLoss(lambda prediction, target: (0.0, prediction)))
    with pytest.raises(ValueError, match="program: loss: expected one that is an op"):
        model().program(2, loss=loss)
    with pytest.raises(TypeError, match="FunctionLoss: forward: expected nothing but ops"):
        trace(
            model(),
            2,
            loss=losses.FunctionLoss(lambda prediction, target: (prediction**2, prediction)),
            target=((2, 3), np.dtype(np.float32)),
        )
