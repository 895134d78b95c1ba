"""Fusions of training, timed: what `when` in the table of fusions rests on.

    python -m benchmarks.fusions
    python -m benchmarks.fusions --batch 32 --threads 2 --rounds 9

A line is a part of a network: milliseconds of a step, forward and backward, as a plan without the
row of fastcnn/fast/_fusions.py and with it, taken in turns, the least of the rounds, and how many
times as fast the second is. "no" after a line says that the row leaves such shapes alone: it is
asked nonetheless. With one thread, the default, the time is that of the process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks._environment import environment
from benchmarks._options import positive
from fastcnn import FastBackend, nn
from fastcnn.fast._fusions import TRAINING
from fastcnn.fast._plan import Plan
from fastcnn.program import differentiate, trace
from fastcnn.program.match import fuse

__all__ = ["main"]


class Part(NamedTuple):
    """A part of a network that a row fuses, and the image it is given."""

    row: str
    title: str
    layers: Callable[[], list[nn.Module]]
    image: tuple[int, int, int]


def _parts() -> Iterator[Part]:
    # The expansions and projections of MobileNetV2, and the sums of ResNet-20.
    sizes = ((112, 16, 96), (56, 24, 144), (28, 32, 192), (14, 64, 384), (14, 96, 576))
    for size, few, many in sizes:
        yield Part(
            "conv2d_batch_norm_relu",
            f"{few}-{many}",
            lambda k=many: _expansion(k),
            (size, size, few),
        )
    for size, few, many, stride in (
        (112, 16, 96, 2),
        (56, 24, 144, 1),
        (56, 24, 144, 2),
        (28, 32, 192, 1),
        (28, 32, 192, 2),
        (14, 64, 384, 1),
        (14, 96, 576, 1),
    ):
        yield Part(
            "conv2d_batch_norm_relu_depthwise",
            f"{few}-{many} /{stride}",
            lambda k=many, step=stride: [
                *_expansion(k),
                nn.DepthwiseConv2D(3, stride=step, padding=1, use_bias=False),
            ],
            (size, size, few),
        )
    for size, many, few in (
        (112, 32, 16),
        (56, 96, 24),
        *((s, m, f) for s, f, m in sizes[1:]),
        (7, 960, 160),
    ):
        yield Part(
            "batch_norm_relu_conv2d",
            f"{many}-{few}",
            lambda k=few: _projection(k),
            (size, size, many),
        )
    for size, channels in ((112, 32), (32, 16), (14, 576), (8, 64)):
        yield Part("batch_norm_relu_unmasked", str(channels), _norm, (size, size, channels))
    for size, channels in ((32, 16), (16, 32), (8, 64)):
        yield Part("batch_norm_add_relu", str(channels), _sum, (size, size, channels))


def _expansion(filters: int) -> list[nn.Module]:
    return [nn.Conv2D(filters, 1, use_bias=False), nn.BatchNorm(), nn.ReLU()]


def _projection(filters: int) -> list[nn.Module]:
    return [nn.BatchNorm(), nn.ReLU(), nn.Conv2D(filters, 1, use_bias=False)]


def _norm() -> list[nn.Module]:
    return [nn.BatchNorm(), nn.ReLU()]


def _sum() -> list[nn.Module]:
    return [nn.Residual(nn.BatchNorm()), nn.ReLU()]


def _plans(part: Part, options: argparse.Namespace) -> tuple[list[Plan], bool]:
    """Return the part's plans, without the row and with it, and whether its shapes are taken."""
    model = nn.Sequential(part.layers())
    model.build(part.image, seed=0)
    program = trace(model, options.batch, training=True)
    others = [row for row in TRAINING if row.name != part.row]
    rows = [row for row in TRAINING if row.name == part.row]
    asked = [row._replace(when=lambda _: True) for row in rows]
    backend = FastBackend(num_threads=options.threads)
    x = np.random.default_rng(0).standard_normal((options.batch, *part.image), np.float32)
    wanted = ["x", *model.trained_parameters()]
    plans = [
        Plan(differentiate(fuse(program, table), wanted), backend, x)
        for table in (others, [*asked, *others])
    ]
    return plans, any(node.op == part.row for node in fuse(program, rows).nodes)


def _times(plans: Sequence[Plan], rounds: int, threads: int) -> list[float]:
    """Return the least time of a step of each."""
    clock = time.process_time if threads == 1 else time.perf_counter
    best = [float("inf")] * len(plans)
    gradients = []
    for plan in plans:
        (y,) = plan.forward(*plan.inputs)
        gradients.append(np.random.default_rng(1).standard_normal(y.shape, np.float32))
    for _ in range(rounds):
        for at, plan in enumerate(plans):
            start = clock()
            plan.forward(*plan.inputs)
            plan.backward(gradients[at])
            best[at] = min(best[at], clock() - start)
    return best


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.fusions", description="Time fusions.")
    parser.add_argument("--batch", type=positive, default=16)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--rounds", type=positive, default=7)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m benchmarks.fusions` with these arguments."""
    options = _parser().parse_args(arguments)
    print(environment())
    print(f"batch {options.batch}, threads {options.threads}, milliseconds a step")
    for part in _parts():
        plans, taken = _plans(part, options)
        plain, fused = _times(plans, options.rounds, options.threads)
        title = f"{part.row} {part.title}@{part.image[0]}"
        note = "" if taken else "  no"
        print(f"  {title:46} {1e3 * plain:8.2f} {1e3 * fused:8.2f} {plain / fused:6.2f}{note}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
