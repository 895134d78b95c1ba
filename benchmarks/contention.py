"""What waiting threads cost: the sample network on a quiet machine, a crowded one, and in workers.

    python -m benchmarks.contention                     some minutes
    python -m benchmarks.contention --only crowded
    python -m benchmarks.contention --against PYTHON    an interpreter with another build, too

Every figure is images per second of a process of its own, on --cpus CPUs:

quiet      fit and predict with the machine's number of threads, and with one
crowded    the same beside --loops processes that do nothing but compute
workers    --workers processes that each answer requests of 8 images, as gunicorn's workers do

The other build, say one with FASTCNN_TEAM=0, runs with its default settings and, as "passive",
with OMP_WAIT_POLICY=passive, the wait of an OpenMP runtime that gives way. The choices take turns;
a figure is the median of the rounds, a ratio that of the ratios within them, to the best of the
other choices.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

from benchmarks._environment import environment
from benchmarks._options import duration, positive
from benchmarks._timing import spread

__all__ = ["main"]

CHILD = """
import sys, time
import numpy as np
import fastcnn
from fastcnn import nn, optim
task, batch, seconds, threads = sys.argv[1], *map(float, sys.argv[2:])
batch = int(batch)
model = nn.Sequential([
    nn.Conv2D(32, 3, activation="relu"), nn.MaxPool2D(2),
    nn.Conv2D(64, 3, activation="relu"), nn.MaxPool2D(2),
    nn.Flatten(), nn.Dense(128, activation="relu"), nn.Dense(10),
])
backend = fastcnn.FastBackend(num_threads=int(threads) or None)
rng = np.random.default_rng(0)
x = rng.random((8 * batch if task == "fit" else batch, 28, 28, 1), np.float32)
y = rng.integers(0, 10, len(x))
trainer = fastcnn.Trainer(model, optimizer=optim.SGD(0.01), backend=backend)
trainer.predict(x[:1])
predictor = trainer.predictor()
run = {
    "fit": lambda: trainer.fit(x, y, batch_size=batch, verbose=False),
    "predict": lambda: predictor(x),
}[task]
run()
images, start = 0, time.perf_counter()
while (taken := time.perf_counter() - start) < seconds:
    run()
    images += len(x)
print(images / taken)
"""
LOOP = "while True: pass"
CASES = {
    "quiet": [("fit", 32), ("fit", 128), ("fit", 512), ("predict", 1), ("predict", 128)],
    "crowded": [("fit", 64), ("fit", 128), ("predict", 1), ("predict", 128)],
    "workers": [("predict", 8)],
}
Choice = tuple[str, str, dict[str, str]]  # interpreter, threads (0: the machine's), variables


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    options = _parser().parse_args(arguments)
    print(environment(), end="\n\n")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cpus])
    choices: dict[str, Choice] = {
        "default": (sys.executable, "0", {}),
        "one thread": (sys.executable, "1", {}),
    }
    if options.against is not None:
        choices["other"] = (options.against, "0", {})
        choices["other, passive"] = (options.against, "0", {"OMP_WAIT_POLICY": "passive"})
    print(f"{'':<24}" + "".join(f"{name:>16}" for name in choices) + f"{'ratio':>10}")
    for name in [options.only] if options.only else CASES:
        for task, batch in CASES[name]:
            processes = options.workers if name == "workers" else 1
            rows: list[dict[str, float]] = []
            with _loops(options.loops if name == "crowded" else 0):
                for first in range(options.rounds):
                    turns = list(choices)[first % len(choices) :]
                    turns += list(choices)[: first % len(choices)]
                    rows.append(
                        {
                            turn: _rate(choices[turn], task, batch, options.seconds, processes)
                            for turn in turns
                        }
                    )
            ratios = spread(
                [
                    row["default"] / max(row[other] for other in row if other != "default")
                    for row in rows
                ]
            )
            print(
                f"{f'{name}, {task}, batch {batch}':<24}"
                + "".join(f"{median(row[choice] for row in rows):>16,.0f}" for choice in choices)
                + f"{ratios.median:>10.2f} ({ratios.least:.2f} to {ratios.most:.2f})",
                flush=True,
            )
    return 0


def _rate(choice: Choice, task: str, batch: int, seconds: float, processes: int) -> float:
    """Return images a second, of all processes together."""
    interpreter, threads, variables = choice
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    command = [interpreter, "-c", CHILD, task, str(batch), str(seconds), threads]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=kept | variables)
        for _ in range(processes)
    ]
    return sum(float(process.communicate()[0]) for process in running)


@contextmanager
def _loops(count: int) -> Iterator[None]:
    """Keep so many processes computing."""
    running = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.contention",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=CASES, help="one of the three")
    parser.add_argument("--against", metavar="PYTHON", help="an interpreter with another build")
    parser.add_argument("--cpus", type=positive, default=2, help="CPUs of it all (default: 2)")
    parser.add_argument("--loops", type=positive, default=8, help="that crowd it (default: 8)")
    parser.add_argument("--workers", type=positive, default=4, help="processes (default: 4)")
    parser.add_argument("--rounds", type=positive, default=5, help="turns each (default: 5)")
    parser.add_argument("--seconds", type=duration, default=1.0, help="of a turn (default: 1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
