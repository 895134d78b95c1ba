"""The backends against each other, op by op, forward and backward.

    pytest benchmarks                            a table for each op, on every instruction set
    pytest benchmarks -k conv2d                  one family
    pytest benchmarks --benchmark-json out.json  to compare with another day: see pytest-benchmark

Sizes are small, because the reference is slow on purpose; the fast backend is far from its best
on them. For its speed on real sizes see benchmarks/peers.py.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
from calls import arguments as arguments_of
from pytest_benchmark.fixture import BenchmarkFixture

import fastcnn
from benchmarks._agreement import disagreement
from fastcnn import _kernels, reference
from fastcnn.backend import Array, Backend

OPS = sorted(name for name in dir(Backend) if not name.startswith("_"))
BACKENDS: dict[str, Backend] = {"reference": reference} | {
    f"fast-{isa}": fastcnn.FastBackend(isa=isa) for isa in _kernels.available()
}

# Activations, by what their backward passes take.
TAKE_X = ["leaky_relu", "hard_swish", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus"]
TAKE_Y = ["relu", "clip", "hard_sigmoid", "sigmoid", "tanh"]

Call = tuple[tuple[Any, ...], dict[str, Any]]


@cache
def _calls() -> dict[str, Call]:
    """Return the arguments with which each op is called."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape, np.float32)

    def call(*arguments: Any, **options: Any) -> Call:
        return arguments, options

    x, pooled, row = draw(4, 12, 12, 16), draw(4, 6, 6, 16), draw(4, 16)
    w, dy = draw(3, 3, 16, 32), draw(4, 12, 12, 32)
    gamma, beta = draw(16), draw(16)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    rows, matrix = draw(16, 256), draw(256, 64)
    logits, labels = draw(64, 10), rng.integers(0, 10, 64)
    probabilities = reference.softmax(logits)
    mask = rng.random(x.shape) < 0.5
    dx = draw(*x.shape)

    calls = {
        "conv2d": call(x, w, draw(32), padding=1),
        "conv2d_backward": call(dy, x, w, padding=1),
        "max_pool2d": call(x),
        "max_pool2d_backward": call(pooled, reference.max_pool2d(x)[1], x.shape),
        "avg_pool2d": call(x),
        "avg_pool2d_backward": call(pooled, x.shape),
        "global_avg_pool2d": call(x),
        "global_avg_pool2d_backward": call(row, x.shape),
        "adaptive_avg_pool2d": call(x, 5),
        "adaptive_avg_pool2d_backward": call(draw(4, 5, 5, 16), x.shape, 5),
        "batch_norm": call(x, gamma, beta),
        "batch_norm_backward": call(dx, x, gamma, mean, variance),
        "batch_norm_inference": call(x, gamma, beta, mean, variance),
        "batch_norm_inference_backward": call(dx, x, gamma, mean, variance),
        "layer_norm": call(x, gamma, beta),
        "layer_norm_backward": call(dx, x, gamma),
        "group_norm": call(x, gamma, beta, groups=4),
        "group_norm_backward": call(dx, x, gamma, groups=4),
        "local_response_norm": call(x),
        "local_response_norm_backward": call(dx, x),
        "linear": call(rows, matrix, draw(64)),
        "linear_backward": call(draw(16, 64), rows, matrix),
        "lstm": call(draw(4, 12, 16), draw(16, 32), draw(8, 32), draw(32)),
        "add": call(x, dx),
        "add_backward": call(dx, x.shape, gamma.shape),
        "multiply": call(x, row[:, None, None]),
        "multiply_backward": call(dx, x, row[:, None, None]),
        "concat": call([x, dx]),
        "concat_backward": call(x, [(4, 12, 12, 4), (4, 12, 12, 12)]),
        "upsample2d": call(pooled, 2, method="bilinear"),
        "upsample2d_backward": call(x, pooled.shape, 2, method="bilinear"),
        "resize2d": call(pooled, (9, 15), method="bilinear"),
        "resize2d_backward": call(x, (4, 5, 7, 16), 12, method="bilinear"),
        "conv2d_transpose": call(pooled, draw(2, 2, 8, 16), draw(8), stride=2),
        "conv2d_transpose_backward": call(draw(4, 12, 12, 8), pooled, draw(2, 2, 8, 16), stride=2),
        "softmax": call(logits),
        "softmax_backward": call(draw(64, 10), probabilities),
        "dropout": call(x, mask, rate=0.5),
        "dropout_backward": call(dx, mask, rate=0.5),
        "softmax_cross_entropy": call(logits, labels),
        "softmax_cross_entropy_backward": call(1.0, probabilities, labels),
        "mean_squared_error": call(logits, draw(64, 10)),
        "mean_squared_error_backward": call(1.0, logits, draw(64, 10)),
        "sgd_step": call(draw(4096), draw(4096), draw(4096), learning_rate=0.1, momentum=0.9),
        "adam_step": call(
            draw(4096), draw(4096), draw(4096), draw(4096) ** 2, step=2, learning_rate=0.1
        ),
    }
    calls["prelu"] = call(x, draw(x.shape[-1]))
    calls["prelu_backward"] = call(dx, x, draw(x.shape[-1]))
    for name in TAKE_X:
        calls |= {name: call(x), f"{name}_backward": call(dx, x)}
    for name in TAKE_Y:
        calls |= {name: call(x), f"{name}_backward": call(dx, getattr(reference, name)(x))}
    # Of the others, which NumPy computes or whose speed is that of memory, those of the tests.
    sizes = {"images": 4, "height": 12, "width": 12, "channels": 16}
    for name in OPS:
        if name not in calls:
            calls[name] = (), arguments_of(name, rng, np.float32, reference, **sizes)
    return calls


def _results(op: str, backend: Backend) -> dict[str, Array]:
    """Return what an op gives, and its arguments afterwards: some are updated in place."""
    arguments, options = copy.deepcopy(_calls()[op])
    given = getattr(backend, op)(*arguments, **options)
    arrays = [*(given if isinstance(given, (tuple, list)) else (given,)), *arguments]
    return {
        f"result {i}": np.asarray(array)
        for i, array in enumerate(arrays)
        if isinstance(array, (float, np.ndarray))
    }


@cache
def _expected(op: str) -> dict[str, Array]:
    return _results(op, reference)


def test_calls_cover_the_contract() -> None:
    assert sorted(_calls()) == OPS


@pytest.mark.benchmark(min_rounds=3, max_time=0.1, warmup=False)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("op", OPS)
def test_op(op: str, backend: str, benchmark: BenchmarkFixture) -> None:
    wrong = disagreement(_results(op, BACKENDS[backend]), _expected(op))
    assert wrong is None, wrong
    benchmark.group = op
    arguments, options = copy.deepcopy(_calls()[op])
    benchmark(getattr(BACKENDS[backend], op), *arguments, **options)
