"""`fastcnn bench`: the fast backend against the reference, op by op and as a training step.

Sizes are small because the reference is slow on purpose; the fast backend is therefore timed
far from its best. For its speed on real sizes see `benchmarks/`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

import fastcnn
from fastcnn import nn, optim
from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.datasets import strokes

__all__ = ["compare"]

Op = Callable[[Backend], Any]

_BUDGET: Final = 0.3  # seconds for the timing of one op on one backend
_TOLERANCE: Final = 1e-4  # of the largest value, in float32


def compare() -> None:
    """Print a table of times; raise ValueError where the results of the backends differ."""
    fast, reference = fastcnn.get_backend("fast"), fastcnn.get_backend("reference")
    fastcnn.show_config()
    print()
    print(f"{'op (float32)':<46}{'reference':>12}{'fast':>12}{'ratio':>9}")
    for name, op in (*_ops(), *_steps()):
        _require_equal(name, op(fast), op(reference))
        slow, quick = _seconds(op, reference), _seconds(op, fast)
        print(f"{name:<46}{_said(slow):>12}{_said(quick):>12}{slow / quick:>8,.0f}x", flush=True)


def _ops() -> Iterator[tuple[str, Op]]:
    """Yield each op with a name that says its sizes."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape, dtype=np.float32)

    x, w, b = draw(2, 14, 14, 8), draw(3, 3, 8, 16), draw(16)
    dy = draw(2, 12, 12, 16)
    yield "conv2d 2x14x14x8, 3x3 to 16", lambda be: be.conv2d(x, w, b)
    yield "conv2d_backward", lambda be: be.conv2d_backward(dy, x, w)

    w_each = draw(3, 3, 1, 8)
    dy_each = draw(2, 12, 12, 8)
    yield "conv2d depthwise 2x14x14x8, 3x3", lambda be: be.conv2d(x, w_each, groups=8)
    yield (
        "conv2d_backward depthwise",
        lambda be: be.conv2d_backward(dy_each, x, w_each, groups=8),
    )

    pooled = draw(2, 7, 7, 8)
    _, argmax = fastcnn.get_backend("fast").max_pool2d(x)
    yield "max_pool2d 2x14x14x8, 2x2", lambda be: be.max_pool2d(x)
    yield "max_pool2d_backward", lambda be: be.max_pool2d_backward(pooled, argmax, x.shape)
    yield "avg_pool2d 2x14x14x8, 2x2", lambda be: be.avg_pool2d(x)
    yield "avg_pool2d_backward", lambda be: be.avg_pool2d_backward(pooled, x.shape)
    yield "global_avg_pool2d 2x14x14x8", lambda be: be.global_avg_pool2d(x)

    image = draw(32, 14, 14, 16)
    gamma, beta = draw(16), draw(16)
    mean, variance = image.mean(axis=(0, 1, 2)), image.var(axis=(0, 1, 2))
    yield "batch_norm 32x14x14x16", lambda be: be.batch_norm(image, gamma, beta)
    yield (
        "batch_norm_backward",
        lambda be: be.batch_norm_backward(image, image, gamma, mean, variance),
    )

    yield (
        "batch_norm_inference",
        lambda be: be.batch_norm_inference(image, gamma, beta, mean, variance),
    )

    rows, matrix, bias, drows = draw(32, 256), draw(256, 64), draw(64), draw(32, 64)
    yield "linear 32x256 to 64", lambda be: be.linear(rows, matrix, bias)
    yield "linear_backward", lambda be: be.linear_backward(drows, rows, matrix)

    yield "relu 32x14x14x16", lambda be: be.relu(image)
    yield "relu_backward", lambda be: be.relu_backward(image, image)
    yield "gelu 32x14x14x16", lambda be: be.gelu(image)
    yield "sigmoid 32x14x14x16", lambda be: be.sigmoid(image)
    mask = rng.random(image.shape) < 0.5
    yield "dropout 32x14x14x16", lambda be: be.dropout(image, mask, rate=0.5)

    logits, labels = draw(128, 10), rng.integers(0, 10, 128)
    yield "softmax 128x10", lambda be: be.softmax(logits)
    yield "softmax_cross_entropy 128x10", lambda be: be.softmax_cross_entropy(logits, labels)


def _steps() -> Iterator[tuple[str, Op]]:
    """Yield one step of training a small network, its weights drawn anew each time."""
    x, y = strokes.draw(8)

    def step(backend: Backend) -> list[float]:
        model = nn.Sequential(
            [
                nn.Conv2D(8, 3, activation="relu"),
                nn.MaxPool2D(2),
                nn.Conv2D(16, 3, activation="relu"),
                nn.MaxPool2D(2),
                nn.Flatten(),
                nn.Dense(32, activation="relu"),
                nn.Dense(10),
            ]
        )
        trainer = fastcnn.Trainer(model, optimizer=optim.SGD(0.05, momentum=0.9), backend=backend)
        return trainer.fit(x, y, batch_size=8, verbose=False)["step_loss"]

    yield "training step, two convolutions, batch 8", step


def _require_equal(name: str, fast: Any, reference: Any) -> None:
    """Compare the results of both backends, arrays or tuples of them, float32 close."""
    results = [r if isinstance(r, tuple) else (r,) for r in (fast, reference)]
    for got, expected in zip(*results, strict=True):
        expected = np.asarray(expected)
        worst = np.max(np.abs(np.asarray(got) - expected.astype(np.float64)), initial=0.0)
        if not worst <= _TOLERANCE * max(1.0, float(np.max(np.abs(expected), initial=0.0))):
            raise ValueError(f"bench: {name}: the backends' results differ by up to {worst:g}")


def _seconds(op: Op, backend: Backend) -> float:
    """Return the best time of as many calls as fit in the budget, one at least."""
    best, end = float("inf"), time.perf_counter() + _BUDGET
    while True:
        start = time.perf_counter()
        op(backend)
        now = time.perf_counter()
        best = min(best, now - start)
        if now >= end:
            return best


def _said(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"
