"""The paths between which FastBackend chooses by shape, timed: what its rules rest on.

    python -m benchmarks.paths                     every rule; some minutes
    python -m benchmarks.paths --only block        convolution + ReLU + max-pool in one op
    python -m benchmarks.paths --only gradient     its gradients
    python -m benchmarks.paths --only norm         the same with batch normalization, and back
    python -m benchmarks.paths --only winograd     3x3 convolutions, direct or Winograd's
    python -m benchmarks.paths --only swap         weight gradients, x and dy in each other's place
    python -m benchmarks.paths --batch 1 --threads 1 --dtype float64

A line is a shape: microseconds of every path that can compute it, taken in turns, medians of the
rounds, with * after the one that the rule takes, and how many times as long as the fastest that
one takes. The results are compared first. A summary ends each rule: how often it took the fastest
or one within 5 % of it, and what its choices cost, as a geometric mean and at worst. In the
gradients ReLU lets half of the winners pass (--alive): so it is in a network that is being trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import permutations, product
from statistics import geometric_mean, median
from typing import Any, NamedTuple

import numpy as np

from benchmarks import _timing
from benchmarks._cases import PASSES
from benchmarks._environment import environment
from benchmarks._options import duration, fraction, positive
from fastcnn import FastBackend
from fastcnn.backend import Array
from fastcnn.fast._conv2d_batch_norm_relu_max_pool2d import sees_few
from fastcnn.fast._conv2d_relu_max_pool2d import _pooled_of
from fastcnn.fast._conv_rules import geometry_of

__all__ = ["main"]

NEAR = 1.05  # of the fastest's time: as good as it
TOLERANCE = {"float32": 2e-4, "float64": 1e-11}  # of the largest value; Winograd's is the widest

Run = Callable[[], Any]


class Shape(NamedTuple):
    """A convolution over square images, and the max-pool behind it."""

    channels: int
    filters: int
    size: int
    kernel: int = 3
    padding: int = 0
    stride: int = 1
    pool: int = 2
    pool_stride: int = 2

    def __str__(self) -> str:
        text = f"{self.channels}-{self.filters}@{self.size} {self.kernel}x{self.kernel}"
        text += f" s{self.stride}" if self.stride > 1 else ""
        return text + (f" padding {self.padding}" if self.padding else "")

    @property
    def block(self) -> str:
        """The shape with its pool."""
        return f"{self}, pool {self.pool}x{self.pool} s{self.pool_stride}"

    @property
    def options(self) -> dict[str, int]:
        """The convolution's."""
        return {"stride": self.stride, "padding": self.padding}

    @property
    def pools(self) -> dict[str, int]:
        """The pool's, as the fused op names them."""
        return {"pool_size": self.pool, "pool_stride": self.pool_stride}


class Paths(NamedTuple):
    """What can compute a shape; `chosen` is the name of the one that the rule takes."""

    title: str
    chosen: str
    runs: dict[str, Run]


BLOCKS = (
    *(Shape(c, k, n) for c, k, n in [(1, 32, 28), (1, 20, 28), (3, 32, 32), (8, 16, 30)]),
    *(Shape(c, k, n) for c, k, n in [(16, 32, 30), (32, 64, 13), (64, 128, 14), (128, 256, 8)]),
    *(Shape(c, k, n, padding=1) for c, k, n in [(3, 64, 64), (32, 32, 32), (64, 64, 56)]),
    *(Shape(c, c, n, padding=1) for c, n in [(128, 28), (256, 14), (512, 14)]),
    *(Shape(c, k, n, 5) for c, k, n in [(1, 6, 32), (6, 16, 14), (32, 64, 16), (64, 64, 28)]),
    *(Shape(c, k, 28, 1) for c, k in [(3, 32), (32, 64), (128, 128)]),
    *(Shape(c, k, 28, padding=1, pool=3) for c, k in [(3, 32), (8, 16), (16, 16), (16, 32)]),
    *(Shape(c, c, 28, padding=1, pool=3) for c in (24, 64, 128)),
    *(
        Shape(c, k, 28, padding=1, pool_stride=1)
        for c, k in [(3, 32), (16, 32), (24, 24), (64, 64)]
    ),
    *(Shape(c, c, 28, padding=1, pool=3, pool_stride=1) for c in (16, 32, 128)),
    *(Shape(c, k, 57, stride=2) for c, k in [(3, 32), (32, 64), (64, 128)]),
    Shape(3, 64, 112, 7, 3, 2, 3, 2),
)
MAPS = (
    *(Shape(c, k, n, padding=1) for n in (28, 12) for c, k in product((8, 16, 32, 64), repeat=2)),
    *(Shape(c, k, 20, padding=1) for c, k in permutations((1, 3, 6, 16, 64), 2)),
    *(Shape(c, k, 20, padding=1) for c, k in product((10, 12), (10, 24, 64))),
    *(Shape(c, k, 20, padding=1) for c, k in [(24, 10), (24, 12), (64, 10), (64, 12)]),
    *(Shape(c, k, n, padding=1) for n in (14, 13, 6) for c, k in product((8, 12, 24), repeat=2)),
    *(Shape(c, c, n, padding=1) for n in (4, 5, 6, 7, 8, 10) for c in (32, 128)),
    *(Shape(c, c, 14, padding=1) for c in (128, 256, 512)),
    *(Shape(c, c, 56, padding=1) for c in (16, 32, 64)),
)
NORMS = (
    *(Shape(1, k, n, padding=1) for k, n in [(8, 28), (16, 28), (32, 28), (64, 28), (32, 64)]),
    *(Shape(c, 32, 28, 1) for c in (4, 8, 16)),
    *(Shape(c, k, 28, 2) for c, k in [(2, 16), (3, 16), (2, 64)]),
    *(Shape(1, k, 28, 5) for k in (6, 16, 32)),
    *(Shape(c, k, 32, padding=1) for c, k in [(2, 32), (3, 16), (3, 32), (3, 64)]),
)
FEW_FILTERS = (
    *(Shape(c, k, 28, padding=1) for c, k in product((3, 8, 16, 64), (1, 2, 4))),
    *(Shape(64, k, 28, padding=1) for k in (6, 7)),
    *(Shape(c, k, 28, 1) for c, k in [(16, 1), (64, 1), (64, 10), (64, 24)]),
    *(Shape(c, k, 28, 5) for c, k in [(6, 16), (16, 6), (32, 3), (64, 1), (64, 20), (64, 40)]),
    *(Shape(c, k, n, padding=1) for c, k, n in [(256, 1, 14), (64, 1, 56), (16, 2, 64)]),
)
EPSILON = 1e-5
RESULTS = dict(zip(PASSES, ("y", "dx", "dw"), strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, return the exit status."""
    options = _parser().parse_args(arguments)
    print(environment())
    for rule in [options.only] if options.only else RULES:
        print(f"\n{rule}: batch {options.batch}, {options.dtype}")
        costs = []
        for paths in RULES[rule](options):
            _compare(paths, TOLERANCE[options.dtype])
            taken = _times(paths.runs, options.rounds, options.seconds)
            cost = taken[paths.chosen] / min(taken.values())
            costs.append((cost, paths.title))
            times = "".join(
                f"  {name}{'*' if name == paths.chosen else ' '}{seconds * 1e6:9,.0f}"
                for name, seconds in taken.items()
            )
            print(f"  {paths.title:<52}{times}  {cost:.2f}", flush=True)
        near, worst = sum(cost <= NEAR for cost, _ in costs), max(costs)
        print(
            f"{rule}: the fastest, or within 5 %, {near} of {len(costs)} times; the choices take "
            f"{geometric_mean([cost for cost, _ in costs]):.3f} x the fastest's time, at worst "
            f"{worst[0]:.2f} x ({worst[1]})"
        )
    return 0


def blocks(options: argparse.Namespace) -> Iterator[Paths]:
    """Yield the forward paths of a block: op after op, or fused on each kernel that can."""
    backend = FastBackend(num_threads=options.threads)
    winograd = FastBackend(num_threads=options.threads, convolution="winograd")
    for shape in BLOCKS:
        x, w, b = _arrays(shape, options)
        pooled = _block(shape, x, w)
        able = {
            "direct": True,
            "few": backend._is_few(x, w, pooled),
            "columns": backend._is_columns(x, w, pooled),
            "winograd": winograd._algorithm(x, w, pooled) == "winograd",
        }
        runs: dict[str, Run] = {"plain": partial(backend._op_after_op, x, w, b, pooled)}
        for algorithm in [name for name in able if able[name]]:
            runs[algorithm] = partial(backend._fused, x, w, b, pooled, algorithm)
        yield Paths(shape.block, backend._algorithm(x, w, pooled), runs)


def gradients(options: argparse.Namespace) -> Iterator[Paths]:
    """Yield the paths of the block's gradients: op after op, or from the survivors alone."""
    backend = FastBackend(num_threads=options.threads)
    for shape, both in product(BLOCKS, (True, False)):
        x, w, b = _arrays(shape, options)
        pooled = _block(shape, x, w)
        y, argmax = backend._conv2d_relu_max_pool2d(x, w, b, **shape.options, **shape.pools)
        rng = np.random.default_rng(1)
        dy = rng.standard_normal(y.shape).astype(options.dtype)
        argmax[rng.random(y.shape) >= options.alive] = pooled.places
        runs: dict[str, Run] = {
            name: partial(backend._gradients_by, name, dy, argmax, x, w, pooled, both)
            for name in backend._gradient_paths(x, w, pooled, both)
        }
        title = f"{shape.block}, {'x and w' if both else 'w'}"
        yield Paths(title, next(iter(runs)), runs)


def norms(options: argparse.Namespace) -> Iterator[Paths]:
    """Yield ways through a block with batch normalization and back: op by op, from moments."""
    backend = FastBackend(num_threads=options.threads)
    for shape in NORMS:
        x, w, b = _arrays(shape, options)
        gamma, beta = np.ones_like(b), np.zeros_like(b)
        forward = backend._conv2d_batch_norm_relu_max_pool2d
        _, *saved = forward(x, w, gamma, beta, b, **_norm_options(shape))
        dy = np.random.default_rng(1).standard_normal(saved[0].shape).astype(options.dtype)
        arguments = (backend, shape, x, w, b, gamma, beta, dy, *saved)
        runs: dict[str, Run] = {
            "plain": partial(_plain_norm, *arguments),
            "moments": partial(_norm_from_moments, *arguments),
        }
        yield Paths(shape.block, "moments" if sees_few(w.shape, w.dtype, 1) else "plain", runs)


def _norm_options(shape: Shape) -> dict[str, Any]:
    return {"epsilon": EPSILON, **shape.options, **shape.pools}


def _plain_norm(
    backend: FastBackend,
    shape: Shape,
    x: Array,
    w: Array,
    b: Array,
    gamma: Array,
    beta: Array,
    dy: Array,
    argmax: Array,
    mean: Array,
    variance: Array,
) -> tuple[Array | None, ...]:
    options: dict[str, Any] = {"epsilon": EPSILON, **shape.pools}
    z = backend.conv2d(x, w, b, **shape.options)
    y, *_ = backend._batch_norm_relu_max_pool2d(z, gamma, beta, **options)
    dz, dgamma, _ = backend._batch_norm_relu_max_pool2d_backward(
        dy, argmax, z, gamma, mean, variance, **options
    )
    _, dw, _ = backend.conv2d_backward(dz, x, w, **shape.options, input_gradient=False)
    return y, dw, dgamma


def _norm_from_moments(
    backend: FastBackend,
    shape: Shape,
    x: Array,
    w: Array,
    b: Array,
    gamma: Array,
    beta: Array,
    dy: Array,
    argmax: Array,
    mean: Array,
    variance: Array,
) -> tuple[Array, ...]:
    options = _norm_options(shape)
    y, *_ = backend._conv2d_batch_norm_relu_max_pool2d(x, w, gamma, beta, b, **options)
    _, dw, _, dgamma, _ = backend._conv2d_batch_norm_relu_max_pool2d_backward(
        dy, argmax, x, w, gamma, mean, variance, b, **options, input_gradient=False
    )
    return y, dw, dgamma


def winograd(options: argparse.Namespace) -> Iterator[Paths]:
    """Yield the passes of 3x3 convolutions of stride 1: direct and Winograd's."""
    rule = FastBackend(num_threads=options.threads)
    for shape, direction in product(MAPS, PASSES):
        x, w, b = _arrays(shape, options)
        dy = np.random.default_rng(1).standard_normal((*x.shape[:3], shape.filters))
        dy = dy.astype(options.dtype)
        runs = {}
        for name in ("direct", "winograd"):
            backend = FastBackend(num_threads=options.threads, convolution=name)
            runs[name] = partial(_pass, backend, direction, x, w, b, dy)
        geometry = geometry_of("paths", x, w, 1, 1, 1, 1)
        chosen = "winograd" if rule._by_winograd(RESULTS[direction], w, geometry) else "direct"
        yield Paths(f"{shape}, {direction}", chosen, runs)


def swap(options: argparse.Namespace) -> Iterator[Paths]:
    """Yield the weight gradients that Winograd does not take: as they are, x and dy swapped."""
    backend = FastBackend(num_threads=options.threads, convolution="direct")
    for shape in FEW_FILTERS:
        x, w, b = _arrays(shape, options)
        geometry = geometry_of("paths", x, w, 1, shape.padding, 1, 1)
        dy = np.random.default_rng(1).standard_normal((len(x), *geometry.output, shape.filters))
        arguments = (w, b, dy.astype(options.dtype), x, geometry)
        runs = {
            name: partial(_weight_gradient, partial(backend._correlate, name), *arguments)
            for name in ("direct", "swapped")
        }
        chosen = backend._algorithm_of("dw", x.shape, w, geometry)
        yield Paths(f"{shape}, weight gradient", chosen, runs)


def _weight_gradient(
    path: Callable[..., None], w: Array, b: Array, *arguments: Any
) -> tuple[Array, Array]:
    dw, db = np.empty_like(w), np.empty_like(b)
    path(dw, db, *arguments)
    return dw, db


RULES = {
    "block": blocks,
    "gradient": gradients,
    "norm": norms,
    "winograd": winograd,
    "swap": swap,
}


def _block(shape: Shape, x: Array, w: Array) -> Any:
    return _pooled_of(x, w, shape.stride, shape.padding, 1, 1, shape.pool, shape.pool_stride)


def _arrays(shape: Shape, options: argparse.Namespace) -> tuple[Array, Array, Array]:
    """Return x, w and b; the results are about as large as they are in a network."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((options.batch, shape.size, shape.size, shape.channels))
    w = rng.standard_normal((shape.kernel, shape.kernel, shape.channels, shape.filters))
    w /= shape.kernel * shape.channels**0.5
    b = rng.standard_normal(shape.filters) / 4
    return x.astype(options.dtype), w.astype(options.dtype), b.astype(options.dtype)


def _pass(
    backend: FastBackend, direction: str, x: Array, w: Array, b: Array, dy: Array
) -> tuple[Array | None, ...]:
    if direction == "forward":
        return (backend.conv2d(x, w, b, padding=1),)
    to_input = direction == "input gradient"
    return backend.conv2d_backward(
        dy, x, w, padding=1, input_gradient=to_input, weight_gradient=not to_input
    )


def _compare(paths: Paths, tolerance: float) -> None:
    """Compare what the paths return; where a window has ties, argmax may differ."""
    expected, *others = [run() for run in paths.runs.values()]
    for name, results in zip(list(paths.runs)[1:], others, strict=True):
        for a, b in zip(results, expected, strict=True):
            if a is None or a.dtype == np.uint8:
                continue
            apart = np.max(np.abs(a - b)) / np.max(np.abs(b))
            if not apart <= tolerance:
                raise SystemExit(f"{paths.title}: {name} is {apart:.2g} apart")


def _times(runs: dict[str, Run], rounds: int, seconds: float) -> dict[str, float]:
    """Return each path's median time of the rounds, in seconds a call."""
    turns = {
        name: partial(_timing.seconds_per_call, run, _timing.calls_for(run, seconds))
        for name, run in runs.items()
    }
    return {name: median(taken) for name, taken in _timing.race(turns, rounds).items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paths",
        description="Time the paths between which FastBackend chooses by shape.",
    )
    parser.add_argument("--only", choices=RULES, help="one rule (default: all)")
    parser.add_argument("--batch", type=positive, default=32, help="images (default 32)")
    parser.add_argument("--threads", type=positive, help="threads (default: the machine's)")
    parser.add_argument("--dtype", choices=TOLERANCE, default="float32")
    parser.add_argument("--alive", type=fraction, default=0.5, help="of the winners (default 0.5)")
    parser.add_argument("--rounds", type=positive, default=3, help="turns of each path (default 3)")
    parser.add_argument("--seconds", type=duration, default=0.03, help="of a turn (default 0.03)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
