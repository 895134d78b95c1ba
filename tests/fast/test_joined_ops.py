"""Two ops in one call: linear with its ReLU, and a loss with its gradient.

Each gives the bits of the two calls, whatever the numbers; models use them by themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_same_bits

from fastcnn import losses, nn, reference
from fastcnn.backend import Array


class Spy:
    """The reference, and what was asked of it: ops and options."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            self.calls.append((name, options))
            return getattr(reference, name)(*args, **options)

        return call


class Apart:
    """The reference, with a ReLU of its own behind linear."""

    def __getattr__(self, name: str) -> Any:
        return getattr(reference, name)

    def linear(self, *args: Any, relu: bool) -> Array:
        y = reference.linear(*args)
        return reference.relu(y) if relu else y


# ---------------------------------------------------------------------- linear with its ReLU
@pytest.mark.parametrize(
    ("n", "c", "k"), [(1, 1, 1), (5, 7, 10), (13, 33, 128), (8, 1030, 70), (70, 2, 130)]
)
def test_linear_with_relu(n: int, c: int, k: int, backend: Any, dtype: Any, rng: Any) -> None:
    x, w = rng.standard_normal((n, c)).astype(dtype), rng.standard_normal((c, k)).astype(dtype)
    b = rng.standard_normal(k).astype(dtype)
    x[0], w[0, 0] = 0, -1  # a sum that is -0 without bias
    for bias in (b, None):
        joined = backend.linear(x, w, bias, relu=True)
        assert_same_bits((joined,), (backend.relu(backend.linear(x, w, bias)),))


def test_linear_with_relu_of_what_is_not_finite(backend: Any, dtype: Any) -> None:
    x = np.array([[np.nan], [np.inf], [-np.inf], [-0.0], [0.0], [1e30]] * 3, dtype)
    w = np.ones((1, 19), dtype)
    w[0, ::2] = -1
    with np.errstate(all="ignore"):
        expected = backend.relu(backend.linear(x, w))
        y = backend.linear(x, w, relu=True)
    assert_same_bits((y,), (expected,))
    assert np.isnan(y[0]).all()
    assert np.isinf(y[1:3]).sum() == 19


@pytest.mark.parametrize(
    ("layers", "joined"),
    [
        ([nn.Dense(5, activation="relu"), nn.Dense(3)], [True, False]),
        ([nn.Dense(5), nn.ReLU(), nn.Dense(3, activation="relu")], [True, True]),
        ([nn.Dense(5, use_bias=False), nn.ReLU()], [True]),
        ([nn.Dense(5, activation="elu"), nn.ReLU()], [False]),
        ([nn.Dense(5), nn.LeakyReLU(), nn.Dense(3)], [False, False]),
    ],
)
def test_models_join_dense_layers_with_relu(
    layers: list[nn.Module], joined: list[bool], rng: Any
) -> None:
    x = rng.standard_normal((4, 6)).astype(np.float32)
    model = nn.Sequential(layers)
    model.build(x.shape[1:])
    spy = Spy()
    results = []
    for backend in (spy, Apart()):
        y, backward = model.forward(x, backend, training=True)  # type: ignore[arg-type]
        dx = backward(np.arange(y.size, dtype=y.dtype).reshape(y.shape) - 7)
        results.append((y, dx, *(p.grad for p in model.parameters().values())))
    assert [options["relu"] for op, options in spy.calls if op == "linear"] == joined
    assert_same_bits(*results)


# ---------------------------------------------------------------------- a loss with its gradient
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "c"), [(1, 1), (5, 3), (130, 10), (3, 1000)])
def test_cross_entropy_with_its_gradient(
    n: int, c: int, weighted: bool, smoothing: float, soft: bool, backend: Any, dtype: Any, rng: Any
) -> None:
    logits = (4 * rng.standard_normal((n, c))).astype(dtype)
    labels = rng.integers(0, c, n)
    if soft:
        labels = rng.dirichlet(np.ones(c), n).astype(dtype)
    options: dict[str, Any] = {"label_smoothing": smoothing}
    if weighted:
        options["class_weights"] = rng.uniform(0.5, 2, c).astype(dtype)
        options["sample_weights"] = rng.uniform(0.5, 2, n).astype(dtype)
    loss, probabilities = backend.softmax_cross_entropy(logits, labels, **options)
    gradient = backend.softmax_cross_entropy_backward(1.0, probabilities, labels, **options)
    joined = backend.softmax_cross_entropy(logits, labels, **options, gradient=True)
    assert_same_bits(joined, (loss, gradient))


def test_cross_entropy_with_its_gradient_of_what_is_not_finite(backend: Any, dtype: Any) -> None:
    logits = np.array([[0, np.nan, 1], [np.inf, 0, 0], [-np.inf, 0, 1], [0, 1, 2]], dtype)
    labels = np.array([0, 1, 2, 0])
    with np.errstate(all="ignore"):
        loss, probabilities = backend.softmax_cross_entropy(logits, labels)
        gradient = backend.softmax_cross_entropy_backward(1.0, probabilities, labels)
        joined = backend.softmax_cross_entropy(logits, labels, gradient=True)
    assert np.isnan(loss)
    assert_same_bits(joined, (loss, gradient))


def test_the_loss_asks_for_both_at_once() -> None:
    spy = Spy()
    logits = np.array([[1.0, 2.0], [3.0, 0.0]], np.float32)
    _, backward = losses.CrossEntropy()(logits, np.array([0, 1]), spy)  # type: ignore[arg-type]
    assert backward().shape == logits.shape
    assert [op for op, _ in spy.calls] == ["softmax_cross_entropy"]
