"""The sample network in processes of their own, of this build or of another, alone or in a crowd.

Each process does one task with batches of one size, in turns that are counted in seconds. What it
computes first is compared with what the others compute.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from benchmarks._agreement import disagreement
from benchmarks._timing import SETTLE

__all__ = ["Choice", "race"]

CHILD = """
import sys
task, folder = sys.argv[1:3]
batch, threads = map(int, sys.argv[3:5])
seconds, clock = float(sys.argv[5]), sys.argv[6]
if folder:
    sys.path.insert(0, folder)
import json, time
clock = getattr(time, clock)
import numpy as np
import fastcnn
from fastcnn import nn, optim
model = nn.Sequential([
    nn.Conv2D(32, 3, activation="relu"), nn.MaxPool2D(2),
    nn.Conv2D(64, 3, activation="relu"), nn.MaxPool2D(2),
    nn.Flatten(), nn.Dense(128, activation="relu"), nn.Dense(10),
])
backend = fastcnn.FastBackend(num_threads=threads or None)
rng = np.random.default_rng(0)
count = max(8 * batch, 1024) if task == "fit" else batch
x = rng.random((count, 28, 28, 1), np.float32)
y = rng.integers(0, 10, len(x))
trainer = fastcnn.Trainer(model, optimizer=optim.SGD(0.01), backend=backend)
trainer.predict(x[:1])
predictor = trainer.predictor()
run = {
    "fit": lambda: trainer.fit(x, y, batch_size=batch, verbose=False)["step_loss"][:8],
    "Trainer.predict": lambda: trainer.predict(x, batch_size=batch),
    "predict": lambda: predictor(x),
}[task]
print(json.dumps(np.ravel(run()).tolist()), flush=True)
for _ in sys.stdin:  # a line a turn
    images, start = 0, clock()
    while (taken := clock() - start) < seconds:
        run()
        images += len(x)
    print(images / taken, flush=True)
"""
LOOP = "while True: pass"

Process = subprocess.Popen[str]


class Choice(NamedTuple):
    """A way to run it."""

    interpreter: str = sys.executable
    threads: int = 0  # 0: the machine's
    variables: Mapping[str, str] = MappingProxyType({})
    folder: str = ""  # one with a fastcnn that stands in it; empty: the interpreter's own


def race(
    choices: Mapping[str, Choice],
    task: str,
    batch: int,
    *,
    rounds: int,
    seconds: float,
    processes: int = 1,
    crowd: int = 0,
    clock: str = "perf_counter",
) -> dict[str, list[float]]:
    """Return images a second of every round, all processes of a choice together.

    task: "fit", "Trainer.predict" or "predict", which is a Predictor's. crowd: how many processes
    that do nothing but compute run beside them. clock: the function of Python's time that tells it.
    """
    rates: dict[str, list[float]] = {name: [] for name in choices}
    with ExitStack() as running:
        children = {
            name: [
                running.enter_context(_started(choice, task, batch, seconds, clock))
                for _ in range(processes)
            ]
            for name, choice in choices.items()
        }
        turns = {name: partial(_turn, children[name]) for name in choices}
        try:
            _require_agreement(children, f"{task}, batch {batch}")
            _race_once(turns, rates)  # which warms them up, and does not count
            for taken in rates.values():
                taken.clear()
            for _ in range(crowd):
                loop = running.enter_context(subprocess.Popen([sys.executable, "-c", LOOP]))
                running.callback(loop.kill)
            for _ in range(rounds):
                _race_once(turns, rates)
                turns = dict([*turns.items()][1:] + [*turns.items()][:1])  # another begins
        finally:
            for child in (child for group in children.values() for child in group):
                child.kill()
    return rates


def _started(choice: Choice, task: str, batch: int, seconds: float, clock: str) -> Process:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    arguments = [task, choice.folder, str(batch), str(choice.threads), str(seconds), clock]
    return subprocess.Popen(
        [choice.interpreter, "-c", CHILD, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=kept | dict(choice.variables),
    )


def _require_agreement(children: Mapping[str, Sequence[Process]], title: str) -> None:
    """Wait until all have started; SystemExit where results differ from those of the first."""
    expected = None
    for name, group in children.items():
        for child in group:
            results = {"results": np.array(json.loads(_line(child)))}
            expected = expected or results
            wrong = disagreement(results, expected)
            if wrong:
                raise SystemExit(f"{title}: {name} disagrees: {wrong}")


def _race_once(turns: Mapping[str, Callable[[], float]], rates: dict[str, list[float]]) -> None:
    for name, turn in turns.items():
        time.sleep(SETTLE)
        rates[name].append(turn())


def _turn(children: Sequence[Process]) -> float:
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    return sum(float(_line(child)) for child in children)


def _line(child: Process) -> str:
    """Return the next line that a process prints; SystemExit where it ended instead."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise SystemExit(f"a process of the sample network ended by itself, with {child.wait()}")
    return line
