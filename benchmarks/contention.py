"""What waiting threads cost: the sample network on a quiet machine, a crowded one, and in workers.

    python -m benchmarks.contention                     some minutes
    python -m benchmarks.contention --only crowded
    python -m benchmarks.contention --against PYTHON    an interpreter with another build, too

Every figure is images per second of a process of its own, on --cpus CPUs:

quiet      fit and predict with the machine's number of threads, and with one
crowded    the same beside --loops processes that do nothing but compute
workers    --workers processes that each answer requests of 8 images, as gunicorn's workers do

The other build, say one with FASTCNN_TEAM=0, runs with its default settings and, as "passive",
with OMP_WAIT_POLICY=passive, the wait of an OpenMP runtime that gives way. The choices take turns.
A figure is the median of the rounds and, in brackets, the median of the default's ratios to it
within the rounds: above 1 the default is faster.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from statistics import median

from benchmarks._environment import environment
from benchmarks._options import duration, positive
from benchmarks._timing import SETTLE

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
for _ in sys.stdin:  # a line a turn
    images, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < seconds:
        run()
        images += len(x)
    print(images / taken, flush=True)
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
    print(f"{'':<26}" + "".join(f"{name:>24}" for name in choices))
    for name in [options.only] if options.only else CASES:
        for task, batch in CASES[name]:
            processes = options.workers if name == "workers" else 1
            crowd = options.loops if name == "crowded" else 0
            rates = _race(choices, task, batch, processes, crowd, options.rounds, options.seconds)
            cells = [
                f"{median(taken):,.0f} ({ratio(rates['default'], taken)})"
                for taken in rates.values()
            ]
            title = f"{name}, {task}, batch {batch}"
            print(f"{title:<26}" + "".join(f"{cell:>24}" for cell in cells), flush=True)
    return 0


def ratio(rates: Sequence[float], of_other: Sequence[float]) -> str:
    """Return the median of the ratios, round by round."""
    return f"{median(a / b for a, b in zip(rates, of_other, strict=True)):.2f} x"


def _race(
    choices: Mapping[str, Choice],
    task: str,
    batch: int,
    processes: int,
    crowd: int,
    rounds: int,
    seconds: float,
) -> dict[str, list[float]]:
    """Return images a second of every round, all processes of a choice together."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    rates: dict[str, list[float]] = {name: [] for name in choices}
    with ExitStack() as running:
        children = {
            name: [
                running.enter_context(
                    subprocess.Popen(
                        [interpreter, "-c", CHILD, task, str(batch), str(seconds), threads],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                        env=kept | variables,
                    )
                )
                for _ in range(processes)
            ]
            for name, (interpreter, threads, variables) in choices.items()
        }
        turns = {name: partial(_turn, children[name]) for name in choices}
        _race_once(turns, rates)  # which waits until all have started, and does not count
        for taken in rates.values():
            taken.clear()
        loops = [
            running.enter_context(subprocess.Popen([sys.executable, "-c", LOOP]))
            for _ in range(crowd)
        ]
        try:
            for _ in range(rounds):
                _race_once(turns, rates)
                turns = dict([*turns.items()][1:] + [*turns.items()][:1])  # another begins
        finally:
            for loop in loops:
                loop.kill()
            for child in (child for group in children.values() for child in group):
                child.kill()
    return rates


def _race_once(turns: Mapping[str, Callable[[], float]], rates: dict[str, list[float]]) -> None:
    for name, turn in turns.items():
        time.sleep(SETTLE)
        rates[name].append(turn())


def _turn(children: Sequence[subprocess.Popen[str]]) -> float:
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    return sum(float(child.stdout.readline()) for child in children if child.stdout is not None)


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
    parser.add_argument("--rounds", type=positive, default=15, help="turns each (default: 15)")
    parser.add_argument("--seconds", type=duration, default=0.3, help="of a turn (default: 0.3)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
