"""What plans cost and what they give: planning, page faults, memory, and fastcnn against itself.

    python -m benchmarks.plans                      all but the other build; some minutes
    python -m benchmarks.plans --only planning      how long a plan of MobileNetV2 takes to make
    python -m benchmarks.plans --only faults        page faults of a step and of a prediction
    python -m benchmarks.plans --only memory        peak memory of training, against PyTorch's
    python -m benchmarks.plans --only dropout       ResNet-20 with dropout against that without
    python -m benchmarks.plans --only activations   other activations against ReLU
    python -m benchmarks.plans --only base --base FOLDER      the sample network in another build
    python -m benchmarks.plans --base FOLDER        all of these

A line is a figure with its bar: what it should be at least or at most, and what is aimed at. Ratios
are medians of the rounds, in each of which both had a turn, with the least and the most; above 1
the first is faster. Times of planning are the least of the rounds; page faults and memory are those
of fresh processes. FOLDER holds another fastcnn, such as a clone of an older commit after
`python setup.py build_ext --inplace`. What is compared is compared in its results first.

On a machine that is busy with other work --cpu takes CPU time of one thread for all ratios.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import _competitor, _costs, _networks, _processes, _timing
from benchmarks._agreement import disagreement
from benchmarks._cases import Cost, Inference, Training, noise
from benchmarks._competitor import Competitor
from benchmarks._environment import environment
from benchmarks._networks import NETWORKS, OTHER_ACTIVATIONS
from benchmarks._options import duration, positive
from benchmarks._peers import Job, Results, fast
from benchmarks._processes import Choice
from benchmarks._report import FASTCNN, Measured
from benchmarks.peers import prepared
from fastcnn import FastBackend, reference
from fastcnn._threads import get_num_threads
from fastcnn.fast._fusions import INFERENCE, TRAINING
from fastcnn.fast._inference import _InferencePlan, _Products
from fastcnn.fast._plan import Plan
from fastcnn.losses import CrossEntropy
from fastcnn.program import Interpreter, differentiate, trace
from fastcnn.program.match import fuse

__all__ = ["main"]

PLANNED = 16  # images of a batch, of MobileNetV2
TRAINED = 32, 128  # of ResNet-20 and of the sample network
CPU = "process_time"  # the clock, as Python's time calls it
MEMORY_ROUNDS = 3  # at most: memory differs little from one to the next, and processes start slowly


class Row(NamedTuple):
    """A line of the table."""

    title: str
    figure: str = ""
    bar: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.only == "base" and options.base is None:
        parser.error("--only base: expected --base FOLDER with it")
    if options.base is not None and not (options.base / "fastcnn" / "__init__.py").is_file():
        parser.error(f"--base: expected a folder with fastcnn in it, got '{options.base}'")
    options.threads = 1 if options.clock == CPU else options.threads or get_num_threads()
    print(environment())
    print(
        f"threads: {options.threads}; rounds: {options.rounds}; clock: {options.clock}\n",
        flush=True,
    )
    fast.start(options.threads)
    for name in [options.only] if options.only else PARTS:
        for row in PARTS[name](options):
            print(f"{row.title:<66} {row.figure:<28} {row.bar}".rstrip(), flush=True)
    return 0


# ---------------------------------------------------------------------- planning
def planning(options: argparse.Namespace) -> Iterator[Row]:
    """Yield how long the stages of a plan of MobileNetV2 take, of training and of inference."""
    model = _networks.model("mobilenetv2")
    parameters = model.trained_parameters()
    backend = FastBackend(num_threads=options.threads)
    x, y = noise("mobilenetv2", PLANNED)
    labels: dict[str, Any] = {"loss": CrossEntropy(), "target": (y.shape, y.dtype)}

    def written(**options: Any) -> Any:
        return trace(model, len(x), dtype=x.dtype, **options)

    clock = getattr(time, options.clock)
    plan, total, stages = _least(
        clock,
        {
            "trace": lambda _: written(training=True, **labels),
            "fuse": lambda program: fuse(program, TRAINING),
            "differentiate": lambda program: differentiate(program, parameters),
            "bind": lambda program: Plan(program, backend, x, y),
        },
        options.rounds,
    )
    # Of the same program: without fusions the gradients that are 0 but for rounding are others.
    meaning = Interpreter(plan.program, backend)
    _require_agreement(
        "plan of training",
        {"loss": np.array(plan.forward(x, y)[1]), **plan.backward()},
        {"loss": np.array(meaning.forward(x, y)[1]), **meaning.backward()},
    )
    yield Row(f"MobileNetV2, plan of training, batch {len(x)}", total, "at most 10 ms, aim 5 ms")
    yield Row(f"  {stages}; it keeps {plan.nbytes / 1e6:.0f} MB")

    x = x[:1]
    products = _Products(True)  # packed weights are kept for all sizes of batches

    def bound(program: Any) -> Any:
        return _InferencePlan(program, backend, products, False, x)

    start = clock()
    bound(fuse(written(), INFERENCE))
    first = clock() - start
    plan, total, stages = _least(
        clock,
        {
            "trace": lambda _: written(),
            "fuse": lambda program: fuse(program, INFERENCE),
            "bind": bound,
        },
        options.rounds,
    )
    (logits,) = Interpreter(written(), backend).forward(x)
    _require_agreement("plan of inference", {"logits": plan(x)}, {"logits": logits})
    yield Row("MobileNetV2, plan of inference, batch 1", total, "at most 10 ms, aim 5 ms")
    yield Row(f"  {stages}")
    yield Row("MobileNetV2, the first one, which packs weights", f"{1e3 * first:.1f} ms")


def _least(
    clock: Callable[[], float], stages: Mapping[str, Callable[[Any], Any]], rounds: int
) -> tuple[Any, str, str]:
    """Return what the last stage gives, and the least times, of all stages together and of each.

    clock: a function that tells the time. stages: functions, each of what the one before gave.
    """
    taken: dict[str, list[float]] = {"": [], **{name: [] for name in stages}}
    for _ in range(rounds):
        value = None  # the memory of the one before is given back before the clock runs
        begin = start = clock()
        for name, stage in stages.items():
            value = stage(value)
            now = clock()
            taken[name].append(now - start)
            start = now
        taken[""].append(start - begin)
    parts = ", ".join(f"{name} {1e3 * min(taken[name]):.1f}" for name in stages)
    return value, f"{1e3 * min(taken['']):.1f} ms", parts


# ---------------------------------------------------------------------- costs
def faults(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the page faults of a step and of a prediction, after the first ones."""
    cases = {"training": (_costs.step_faults, TRAINED, "a step")}
    cases["inference"] = _costs.prediction_faults, (1, 128), "a call"
    for kind, (function, batches, unit) in cases.items():
        for network in ("sample", "resnet20"):
            for batch in batches:
                found = _costs.fresh(function, network, batch, options.threads)
                title = f"{NETWORKS[network].title}, {kind}, batch {batch}, page faults"
                yield Row(title, f"{found:.2g} {unit}", "at most 10, aim 0")


def memory(options: argparse.Namespace) -> Iterator[Row]:
    """Yield what an epoch of ResNet-20 takes, of what PyTorch's best takes.

    Beside what was there before; and with the libraries themselves and the data.
    """
    bars = {"peak memory": "at most 0.5 x PyTorch's, aim 0.3 x", "peak memory of the process": ""}
    for what, bar in bars.items():
        case = Cost(what, 128, "resnet20")
        turns: dict[tuple[str, str], Callable[[], float]] = {}
        expected: Results = {}
        for name in (FASTCNN, "torch"):
            if _competitor.missing(name):
                yield Row(case.title, f"{name} is not installed")
                return
            with Competitor(name, options.threads) as competitor:
                for option in competitor.options(case.kind):
                    found = prepared(case, competitor, option, options.threads, options.seconds)
                    if found is not None:
                        expected = expected or found[0]
                        _require_agreement(f"{case.title}: {name}, {option}", found[0], expected)
                        turns[name, option] = found[1]
        measured = Measured(case, _timing.race(turns, min(options.rounds, MEMORY_ROUNDS)))
        own, other = (
            measured.figure(name, str(measured.best(name))).median for name in (FASTCNN, "torch")
        )
        yield Row(case.title, f"{own / other:.2f} x ({own:,.0f} of {other:,.0f})", bar)


# ---------------------------------------------------------------------- against itself
def dropout(options: argparse.Namespace) -> Iterator[Row]:
    """Yield how fast ResNet-20 trains with dropout before its head, of the speed without it."""
    _require_agreement(
        "ResNet-20 with dropout, inference",
        fast.inference(Inference(2, "resnet20-dropout"), "").result(),
        fast.inference(Inference(2, "resnet20"), "").result(),
    )
    for batch in TRAINED:
        jobs = {
            name: fast.training(Training(batch, name), "")
            for name in ("resnet20-dropout", "resnet20")
        }
        ((name, ratios),) = _against_last(jobs, options).items()
        title = f"{Training(batch, name).title}, of that without"
        yield Row(title, ratios, "at least 0.97 x")


def activations(options: argparse.Namespace) -> Iterator[Row]:
    """Yield how fast the sample network answers with other activations, of its speed with ReLU."""
    networks = [f"sample-{name}{end}" for name in OTHER_ACTIVATIONS for end in ("", "-layers")]
    jobs = {name: fast.inference(Inference(1, name), "") for name in [*networks, "sample"]}
    x = Inference(1).data()
    for name in networks:
        result = jobs[name].result()
        layers = jobs[f"{name.removesuffix('-layers')}-layers"].result()
        if result["logits"].tobytes() != layers["logits"].tobytes():
            raise SystemExit(f"{name}: expected the bits of {name}-layers, got others")
        oracle = _networks.model(name)(x, reference)
        _require_agreement(name, result, {"logits": oracle})
    for name, ratios in _against_last(jobs, options).items():
        yield Row(f"{Inference(1, name).title}, of ReLU's", ratios, "at least 0.8 x, aim 0.95 x")


def base(options: argparse.Namespace) -> Iterator[Row]:
    """Yield how fast the sample network trains and answers, of its speed in another build."""
    if options.base is None:
        return
    choices = {
        "this build": Choice(threads=options.threads),
        "the base": Choice(threads=options.threads, folder=str(options.base.resolve())),
    }
    cases = [("fit", "fit", batch) for batch in (32, 128, 512)]
    cases += [("Trainer.predict", "Trainer.predict", batch) for batch in (1, 128)]
    cases += [("Predictor", "predict", batch) for batch in (1, 128)]
    for name, task, batch in cases:
        rates = _processes.race(
            choices,
            task,
            batch,
            rounds=options.rounds,
            seconds=options.seconds,
            clock=options.clock,
        )
        figure = _in_words(_timing.ratio(rates["the base"], rates["this build"]))
        title = f"sample network, {name}, batch {batch}, of the base's"
        yield Row(title, figure, "at least 0.98 x, aim 1.1 x")


PARTS = {
    "planning": planning,
    "faults": faults,
    "memory": memory,
    "dropout": dropout,
    "activations": activations,
    "base": base,
}


def _against_last(jobs: Mapping[str, Job], options: argparse.Namespace) -> dict[str, str]:
    """Return how many times as fast each job is as the last one, in words."""
    turns = {
        name: partial(
            _timing.seconds_per_call,
            job.run,
            _timing.calls_for(job.run, options.seconds),
            getattr(time, options.clock),
        )
        for name, job in jobs.items()
    }
    taken = _timing.race(turns, options.rounds)
    last = taken.pop(next(reversed(taken)))
    return {name: _in_words(_timing.ratio(seconds, last)) for name, seconds in taken.items()}


def _in_words(ratio: _timing.Spread) -> str:
    return f"{ratio.median:.3f} x ({ratio.least:.3f} to {ratio.most:.3f})"


def _require_agreement(what: str, results: Results, expected: Results) -> None:
    wrong = disagreement(results, expected)
    if wrong:
        raise SystemExit(f"{what} disagrees: {wrong}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plans",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=PARTS, help="one part (default: all)")
    parser.add_argument("--base", type=Path, metavar="FOLDER", help="holds another build")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--threads", type=positive, help="default: what this process may use")
    how.add_argument(
        "--cpu", dest="clock", action="store_const", const=CPU, default="perf_counter",
        help="CPU time, of one thread",
    )  # fmt: skip
    parser.add_argument("--rounds", type=positive, default=9, help="turns of each (default 9)")
    parser.add_argument(
        "--seconds", type=duration, default=0.2, help="about how long a turn is (default 0.2)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
