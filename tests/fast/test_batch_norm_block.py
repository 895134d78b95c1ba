"""Batch normalization + ReLU + max-pool: the fused op against the three ops, and in models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_results, assert_same_bits
from layers import Recorder

import fastcnn
from fastcnn import FastBackend, nn

# Whole vectors of channels on every instruction set, and not; rims that no window reads.
SHAPES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((3, 6, 5, 16), {}),
    ((3, 6, 6, 32), {"pool_size": 2}),
    ((2, 7, 9, 48), {"pool_size": 2}),
    ((2, 8, 11, 16), {"pool_size": (3, 2)}),
    ((2, 9, 9, 16), {"pool_size": 3, "pool_stride": 2}),
    ((2, 9, 9, 16), {"pool_size": 2, "pool_stride": 3}),
    ((2, 4, 9, 16), {"pool_size": (4, 1), "pool_stride": 1}),
    ((9, 9, 33, 64), {"pool_size": 2}),
    ((3, 7, 6, 33), {"pool_size": 2}),
    ((4, 5, 6, 1), {"pool_size": 2}),
]
EPSILON = 1e-3


def inputs(shape: Any, dtype: Any, rng: np.random.Generator) -> list[Any]:
    x = (3 + 2 * rng.standard_normal(shape)).astype(dtype)
    return [x, *rng.standard_normal((2, shape[3])).astype(dtype)]


@pytest.mark.parametrize(("shape", "options"), SHAPES, ids=str)
def test_forward_has_the_bits_of_the_three(
    shape: Any, options: Any, backend: Any, dtype: Any, rng: np.random.Generator
) -> None:
    x, gamma, beta = inputs(shape, dtype, rng)
    x[0, 0, 0, 0] = np.nan if shape[3] > 1 else 1
    found = backend.batch_norm_block(x, gamma, beta, epsilon=EPSILON, **options)
    z, mean, variance = backend.batch_norm(x, gamma, beta, epsilon=EPSILON)
    size = options.get("pool_size", 1)
    y, argmax = backend.max_pool2d(backend.relu(z), size, stride=options.get("pool_stride"))
    argmax[y == 0] = np.prod(size) if isinstance(size, tuple) else size**2
    assert_same_bits(found, (y, argmax, mean, variance))


@pytest.mark.parametrize(("shape", "options"), SHAPES, ids=str)
def test_backward_is_that_of_the_three(
    shape: Any, options: Any, fast_backend: Any, dtype: Any, rng: np.random.Generator
) -> None:
    x, gamma, beta = inputs(shape, dtype, rng)
    y, argmax, *saved = fast_backend.batch_norm_block(x, gamma, beta, epsilon=EPSILON, **options)
    dy = rng.standard_normal(y.shape).astype(dtype)
    call = (argmax, x, gamma, *saved)
    found = fast_backend.batch_norm_block_backward(dy, *call, epsilon=EPSILON, **options)
    size = options.get("pool_size", 1)
    places = np.prod(size) if isinstance(size, tuple) else size**2
    dead = argmax == places
    assert shape[3] == 1 or (dead.any() and not dead.all())
    dz = fast_backend.max_pool2d_backward(
        np.where(dead, 0, dy).astype(dtype),
        np.where(dead, 0, argmax).astype(np.uint8),
        shape,
        size,
        stride=options.get("pool_stride"),
    )
    expected = fast_backend.batch_norm_backward(dz, x, gamma, *saved, epsilon=EPSILON)
    assert_results(found, expected, "batch_norm_backward", dtype, largest_dy=np.abs(dy).max())


@pytest.mark.parametrize("options", [{}, {"pool_size": 2}])
def test_the_same_bits_on_any_number_of_threads(
    options: Any, dtype: Any, rng: np.random.Generator
) -> None:
    x, gamma, beta = inputs((33, 27, 26, 16), dtype, rng)
    forward, backward = [], []
    for threads in (1, 2, 3, 8):
        backend = FastBackend(num_threads=threads)
        forward.append(backend.batch_norm_block(x, gamma, beta, **options))
        y, *saved = forward[0]
        backward.append(
            backend.batch_norm_block_backward(y, saved[0], x, gamma, *saved[1:], **options)
        )
    for results in (forward, backward):
        for result in results[1:]:
            assert_same_bits(result, results[0])


def test_large_results_go_past_the_caches(rng: np.random.Generator) -> None:
    """From 32 MB on dx is written another way."""
    x, gamma, beta = inputs((65, 46, 45, 64), np.float32, rng)
    backend = FastBackend()
    y, argmax, *saved = backend.batch_norm_block(x, gamma, beta, pool_size=2)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    dead = argmax == 4
    dz = backend.max_pool2d_backward(
        np.where(dead, 0, dy).astype(np.float32), argmax * ~dead, x.shape
    )
    found = backend.batch_norm_block_backward(dy, argmax, x, gamma, *saved, pool_size=2)
    expected = backend.batch_norm_backward(dz, x, gamma, *saved)
    assert_results(found, expected, "batch_norm_backward", np.float32, largest_dy=np.abs(dy).max())


# ---------------------------------------------------------------------- in models
def layers(pool: bool) -> list[nn.Module]:
    pools = [nn.MaxPool2D((2, 1), stride=2)] if pool else []
    return [nn.Conv2D(16, 3), nn.BatchNorm(momentum=0.5), nn.ReLU(), *pools, nn.Conv2D(3, 1)]


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_model_runs_it_by_itself(
    pool: bool, training: bool, backend: Any, rng: np.random.Generator
) -> None:
    whole = nn.Sequential(layers(pool))
    # Each layer in a Sequential of its own has no neighbour to be joined with.
    apart = nn.Sequential([nn.Sequential([layer]) for layer in layers(pool)])
    for model in (whole, apart):
        model.build((8, 7, 2), dtype=np.float64, seed=3)
    x = rng.standard_normal((4, 8, 7, 2))
    recorder: Any = Recorder(backend)
    results = []
    for model in (whole, apart):
        y, backward = model.forward(x, recorder if model is whole else backend, training=training)
        dx = backward(np.cos(y))
        model.apply_updates()
        gradients = [p.grad for p in model.parameters().values()]
        results.append([y, dx, *gradients, *(b.data for b in model.buffers().values())])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert len(recorder.asked("batch_norm_block")) == training
    assert len(recorder.asked("relu")) == (not training)


def test_it_trains_as_the_layers_do() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 8, 7, 2)), rng.integers(0, 3, 12)
    losses = []
    for join in (True, False):
        parts = [*layers(pool=True), nn.GlobalAvgPool2D()]
        model = nn.Sequential(parts if join else [nn.Sequential([layer]) for layer in parts])
        trainer = fastcnn.Trainer(model, dtype=np.float64, seed=2)
        losses.append(trainer.fit(x, y, epochs=3, batch_size=4, verbose=False)["step_loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)
