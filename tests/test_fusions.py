"""What is fused in training computes what its pattern says: every row, found and compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcnn import losses, nn
from fastcnn.fast._fusions import TRAINING
from fastcnn.program import Interpreter, Program, differentiate, trace
from fastcnn.program.match import Fusion, fuse

SHAPE = (8, 8, 1)


def ending(*layers: nn.Module) -> nn.Module:
    return nn.Sequential([*layers, nn.Flatten(), nn.Dense(4)])


# By the pattern of a row, a network that has it, with options that are not the defaults.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "max_pool2d(relu(batch_norm(conv2d(x, w, b), gamma, beta)))": lambda: ending(
        nn.Conv2D(16, 3, padding=1), nn.BatchNorm(epsilon=0.1), nn.ReLU(), nn.MaxPool2D(3, stride=2)
    ),
    "max_pool2d(relu(conv2d(x, w, b)))": lambda: ending(
        nn.Conv2D(8, 3, padding=1, activation="relu"), nn.MaxPool2D(3, stride=2)
    ),
    "max_pool2d(relu(batch_norm(x, gamma, beta)))": lambda: ending(
        nn.Conv2D(16, 3), nn.Tanh(), nn.BatchNorm(epsilon=0.1), nn.ReLU(), nn.MaxPool2D((3, 2))
    ),
    "relu(batch_norm(conv2d(x, w, b), gamma, beta))": lambda: ending(
        nn.Conv2D(16, 1, padding="same"), nn.BatchNorm(epsilon=0.1), nn.ReLU()
    ),
    "conv2d(relu(batch_norm(x, gamma, beta)), w, b)": lambda: ending(
        nn.Conv2D(16, 3), nn.BatchNorm(epsilon=0.1), nn.ReLU(), nn.Conv2D(7, 1)
    ),
    "relu(batch_norm(x, gamma, beta))": lambda: ending(
        nn.Conv2D(16, 3), nn.BatchNorm(epsilon=0.1), nn.ReLU()
    ),
    "relu(add(batch_norm(x, gamma, beta), r))": lambda: ending(
        nn.Conv2D(16, 3), nn.Residual(nn.BatchNorm(epsilon=0.1)), nn.ReLU()
    ),
    "relu(add(r, batch_norm(x, gamma, beta)))": lambda: ending(
        nn.Conv2D(16, 3), nn.Residual(nn.Tanh(), nn.BatchNorm(epsilon=0.1)), nn.ReLU()
    ),
    "relu(linear(x, w, b))": lambda: ending(nn.Flatten(), nn.Dense(9, activation="relu")),
    "softmax_cross_entropy(logits, labels)": lambda: ending(nn.Tanh()),
}


def both(
    program: Program, row: Fusion, backend: Any, x: Any, target: Any, wanted: list[str]
) -> list[list[Any]]:
    """Return all results and gradients of a program as it is and fused by one row."""
    fused = fuse(program, [row])
    assert row.name in {node.op for node in fused.nodes}
    found = []
    for each in (program, fused):
        run = Interpreter(differentiate(each, wanted), backend)
        outputs, gradients = run.forward(x, target), run.backward()
        found.append([*outputs, *(gradients[name] for name in wanted)])
    return found


@pytest.mark.parametrize("row", TRAINING, ids=lambda row: row.pattern)
def test_training(row: Fusion, fast_backend: Any, rng: np.random.Generator) -> None:
    model = NETWORKS[row.pattern]()
    dtype = np.dtype(np.float32)  # that all rows fuse
    model.build(SHAPE, rng, dtype)
    for variable in model.variables().values():
        variable.data += rng.uniform(0.1, 0.3, variable.shape).astype(dtype)
    x = rng.normal(size=(6, *SHAPE)).astype(dtype)
    target = np.array([0, 1, 2, 3, 1, 2])
    program = trace(
        model,
        len(x),
        training=True,
        loss=losses.CrossEntropy(label_smoothing=0.1),
        target=(target.shape, target.dtype),
    )
    plain, fused = both(program, row, fast_backend, x, target, list(model.parameters()))
    # In another order, and Winograd's or not: some hundred roundoffs of the largest number of all,
    # since a bias in front of a norm has a gradient of next to nothing.
    largest = max(np.abs(each).max() for each in plain)
    for one, other in zip(plain, fused, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * largest)


def test_every_row_has_a_network() -> None:
    assert set(NETWORKS) == {row.pattern for row in TRAINING}
