"""What is fused in training computes what its pattern says: every row, found in networks.

Of single ops test_fused_ops.py compares values and gradients, and test_inference_fusions.py has
the rows of inference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import FastBackend, losses, nn
from fastcnn.fast._fusions import TRAINING
from fastcnn.program import Interpreter, Program, differentiate, trace
from fastcnn.program.match import Fusion, fuse

SHAPE = (8, 8, 1)
X = np.random.default_rng(0).normal(size=(6, *SHAPE)).astype(np.float32).astype(np.float64)
TARGET = np.array([0, 1, 2, 3, 1, 2])


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
    "conv2d(relu(batch_norm(conv2d(x, w, b), gamma, beta)), v, c)": lambda: ending(
        nn.Conv2D(16, 1, padding="same"),
        nn.BatchNorm(epsilon=0.1),
        nn.ReLU(),
        nn.DepthwiseConv2D(3, stride=2, padding="same"),
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
    "conv2d(x, w, b)": lambda: ending(
        nn.Conv2D(8, 3), nn.Residual(nn.Conv2D(8, 3, padding=1), nn.Tanh())
    ),
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


def having(row: Fusion, dtype: Any, *, use_bias: bool = True) -> tuple[nn.Module, Program]:
    """Return the network that has a row's pattern, and the program of a step for X and TARGET."""
    model = NETWORKS[row.pattern]()
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2D, nn.DepthwiseConv2D, nn.Dense)):
            vars(layer)["use_bias"] = use_bias
    model.build(SHAPE, seed=1, dtype=dtype)
    rng = np.random.default_rng(2)
    for variable in model.variables().values():
        variable.data += rng.uniform(0.1, 0.3, variable.shape)
    loss, target = losses.CrossEntropy(label_smoothing=0.1), (TARGET.shape, TARGET.dtype)
    return model, trace(model, len(X), training=True, loss=loss, target=target)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("row", TRAINING, ids=lambda row: row.pattern)
def test_training(row: Fusion, use_bias: bool, fast_backend: Any, reference: Any) -> None:
    """In float32, that all rows fuse, as the same unfused and as the reference in float64."""
    model, program = having(row, np.float32, use_bias=use_bias)
    wanted = list(model.parameters())
    plain, fused = both(program, row, fast_backend, X.astype(np.float32), TARGET, wanted)
    exact, wide = having(row, np.float64, use_bias=use_bias)
    exact.load_state_dict({k: a.astype(np.float64) for k, a in model.state_dict().items()})
    run = Interpreter(differentiate(wide, wanted), reference)
    outputs, gradients = run.forward(X, TARGET), run.backward()
    # In another order, and Winograd's or not: some hundred roundoffs of the largest number of all,
    # since a bias in front of a norm has a gradient of next to nothing.
    largest = max(np.abs(each).max() for each in plain)
    expected = [*outputs, *(gradients[name] for name in wanted)]
    for one, other, true in zip(plain, fused, expected, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * largest)
        np.testing.assert_allclose(other, true, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("row", TRAINING, ids=lambda row: row.pattern)
def test_gradients_are_those_of_central_differences(
    row: Fusion, fast_backend: Any, reference: Any, rng: np.random.Generator
) -> None:
    """In float64, unless the row is for float32 alone; along one direction of all parameters."""
    model, program = having(row, np.float64)
    fused = fuse(program, [row])
    if row.name not in {node.op for node in fused.nodes}:
        return
    run = Interpreter(differentiate(fused, model.parameters()), fast_backend)
    plain = Interpreter(program, reference)
    run.forward(X, TARGET)
    gradients = run.backward()
    expected, costs = 0.0, []
    directions = {name: rng.standard_normal(dw.shape) for name, dw in gradients.items()}
    assert directions.keys() == model.parameters().keys()
    for name, direction in directions.items():
        expected += float(np.sum(gradients[name] * direction))
    for step in (1e-6, -2e-6):
        for name, parameter in model.parameters().items():
            parameter.data += step * directions[name]
        costs.append(plain.forward(X, TARGET)[-1])
    assert (costs[0] - costs[1]) / 2e-6 == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_every_row_has_a_network() -> None:
    assert set(NETWORKS) == {row.pattern for row in TRAINING}


# ---------------------------------------------------------------------- which layers line up
def relu_pool(**options: Any) -> list[nn.Module]:
    return [nn.Conv2D(3, 3, activation="relu"), nn.MaxPool2D(2, **options)]


def norm_relu(*more: nn.Module, filters: int = 16, **options: Any) -> list[nn.Module]:
    return [nn.Conv2D(filters, 3, **options), nn.BatchNorm(), nn.ReLU(), *more]


POOL, NORM = "conv2d_relu_max_pool2d", "batch_norm_relu"


@pytest.mark.parametrize(
    ("layers", "channels", "expected"),
    [
        (relu_pool(), 2, [POOL]),
        ([nn.Conv2D(3, 3), nn.ReLU(), nn.MaxPool2D(3, stride=2)], 2, [POOL]),
        ([nn.Sequential([nn.Conv2D(3, 3), nn.ReLU()]), nn.MaxPool2D(2)], 2, [POOL]),
        (relu_pool() + relu_pool(), 2, [POOL, POOL]),
        (relu_pool(padding=(0, 0)), 2, [POOL]),
        (relu_pool(padding=((0, 0), (0, 0))), 2, [POOL]),
        (relu_pool(padding=1), 2, []),
        (relu_pool(ceil_mode=True), 2, []),
        ([nn.Conv2D(3, 1, activation="relu"), nn.MaxPool2D((16, 15))], 2, [POOL]),
        ([nn.Conv2D(3, 1, activation="relu"), nn.MaxPool2D(16)], 2, []),
        ([nn.Conv2D(3, 3), nn.MaxPool2D(2)], 2, []),
        ([nn.Conv2D(3, 3, activation="elu"), nn.MaxPool2D(2)], 2, []),
        ([nn.Conv2D(3, 3, activation="relu"), nn.AvgPool2D(2)], 2, []),
        (norm_relu(), 2, [f"{NORM}_unmasked"]),
        (norm_relu(filters=17), 2, [NORM]),
        (norm_relu(nn.MaxPool2D((2, 1), stride=2)), 2, [f"{NORM}_max_pool2d"]),
        (norm_relu(nn.MaxPool2D(2)), 1, [f"conv2d_{NORM}_max_pool2d"]),
        (norm_relu(nn.MaxPool2D(2), use_bias=False), 1, [f"conv2d_{NORM}_max_pool2d"]),
        (norm_relu(nn.MaxPool2D(2, padding=1)), 1, [f"{NORM}_unmasked"]),
        ([nn.Tanh(), *norm_relu(nn.MaxPool2D(2))], 1, [f"{NORM}_max_pool2d"]),
        ([nn.Flatten(), nn.BatchNorm(), nn.ReLU()], 2, []),
        (
            [nn.Flatten(), nn.Dense(5), nn.ReLU(), nn.Dense(3, activation="relu")],
            2,
            ["linear_relu"] * 2,
        ),
        ([nn.Flatten(), nn.Dense(5, activation="elu"), nn.ReLU()], 2, []),
        ([nn.Flatten(), nn.Dense(5), nn.LeakyReLU(), nn.Dense(3)], 2, []),
    ],
)
def test_layers_that_line_up_are_fused(
    layers: list[nn.Module], channels: int, expected: list[str]
) -> None:
    model = nn.Sequential(layers)
    model.build((16, 16, channels))
    nodes = fuse(trace(model, 3, training=True), TRAINING).nodes
    assert [node.op for node in nodes if node.op in {row.name for row in TRAINING}] == expected


class Unplanned(FastBackend):
    """A fast backend that is another's class: it runs op by op."""


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize(("channels", "dtype"), [(1, "float32"), (2, "float32"), (2, "float64")])
def test_fused_layers_train_as_the_layers_do(channels: int, dtype: str, use_bias: bool) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 8, 7, channels), np.float32), rng.integers(0, 3, 12)
    found = []
    for backend in (FastBackend(), Unplanned()):
        layers = norm_relu(nn.MaxPool2D(2), use_bias=use_bias)
        model = nn.Sequential([*layers, nn.Conv2D(3, 1), nn.GlobalAvgPool2D()])
        trainer = fastcnn.Trainer(model, backend=backend, dtype=np.dtype(dtype), seed=2)
        trainer.fit(x, y, epochs=3, batch_size=4, verbose=False)
        found.append([trainer.history["step_loss"], *model.state_dict().values()])
    tolerance = 1e-4 if dtype == "float32" else 1e-9
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


class Own(nn.Module):
    """A layer that calls an op on arrays of its own."""

    traceable = True

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.arrays = np.ones((3, 3, 2, 4), np.float32), np.ones(length, np.float32)

    def declare(self, input_shape: Any) -> Any:
        return input_shape[0] - 2, input_shape[1] - 2, 4

    def forward(self, x: Any, backend: Any, **_: Any) -> Any:
        return backend.conv2d(x, *self.arrays)


@pytest.mark.parametrize("length", [3, 4, 5])
def test_a_vector_of_another_length_is_refused_before_a_kernel_reads_it(length: int) -> None:
    """Fused ops don't look: they rely on the shapes of a program."""
    model = nn.Sequential([Own(length), nn.ReLU(), nn.MaxPool2D(2)])
    model.build((6, 6, 2))
    if length == 4:
        (node,) = fuse(trace(model, 2), TRAINING).nodes
        assert node.op == POOL
        return
    told = r"^Own 0: forward: expected arguments that conv2d takes"
    with pytest.raises(ValueError, match=told):
        trace(model, 2)
