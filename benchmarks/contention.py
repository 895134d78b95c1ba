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
import sys
from collections.abc import Sequence
from statistics import median

from benchmarks._environment import environment
from benchmarks._options import duration, positive
from benchmarks._processes import Choice, race

__all__ = ["main"]

CASES = {
    "quiet": [("fit", 32), ("fit", 128), ("fit", 512), ("predict", 1), ("predict", 128)],
    "crowded": [("fit", 64), ("fit", 128), ("predict", 1), ("predict", 128)],
    "workers": [("predict", 8)],
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    options = _parser().parse_args(arguments)
    print(environment(), end="\n\n")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cpus])
    choices = {"default": Choice(), "one thread": Choice(threads=1)}
    if options.against is not None:
        choices["other"] = Choice(options.against)
        passive = {"OMP_WAIT_POLICY": "passive"}
        choices["other, passive"] = Choice(options.against, variables=passive)
    print(f"{'':<26}" + "".join(f"{name:>24}" for name in choices))
    for name in [options.only] if options.only else CASES:
        for task, batch in CASES[name]:
            rates = race(
                choices,
                task,
                batch,
                rounds=options.rounds,
                seconds=options.seconds,
                processes=options.workers if name == "workers" else 1,
                crowd=options.loops if name == "crowded" else 0,
            )
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
