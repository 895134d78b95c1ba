"""fastcnn against PyTorch, ONNX Runtime, JAX, Keras and OpenVINO, whichever are installed.

    pip install torch onnxruntime onnx jax keras tensorflow-cpu openvino     (any of them)
    python -m benchmarks.peers                               everything; tens of minutes
    python -m benchmarks.peers --only sample --peers torch   the sample network, PyTorch alone
    python -m benchmarks.peers --only t1 --batch 1 16        ResNet-50's convolutions
    python -m benchmarks.peers --only t2 --rounds 9          those of small nets, more rounds

The sample network is trained (`Trainer.fit`: whole epochs of drawn digits kept in memory,
shuffled, SGD with momentum) and asked (`Trainer.predict`); T1 (ResNet-50's) and T2 (small nets')
are single convolutions, forward and backward, through `FastBackend`. Every competitor has a process
of its own, the same number of threads and fastcnn's weights. First its results are compared with
fastcnn's: logits, the losses of five training steps, or the convolution's; who disagrees is not
timed. Then all take turns, round after round, and the FMA peak is measured among them. Figures are
medians of the rounds. Ratios are taken within a round: how many times as fast fastcnn is as the
peer with its best option. Percents of the peak count the operations of the direct algorithm.

The exit status is 1 if results disagreed, if a competitor failed, or if a direct kernel appears to
have passed the peak, which tells that the peak was measured wrongly.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks import _cases, _competitor, _report, _timing
from benchmarks._agreement import disagreement
from benchmarks._cases import Case
from benchmarks._competitor import Competitor, Failure
from benchmarks._environment import environment
from benchmarks._peers import PEERS
from benchmarks._report import FASTCNN, Measured
from fastcnn._threads import get_num_threads
from fastcnn.backend import Array

__all__ = ["main"]

TABLES: dict[str, Callable[[Sequence[int]], list[Case]]] = {
    "sample": _cases.sample_table,
    "t1": _cases.t1_table,
    "t2": _cases.t2_table,
}
PEAK = "FMA peak", ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, return the exit status."""
    options = _parser().parse_args(arguments)
    threads = options.threads or get_num_threads()
    print(environment())
    print(f"threads of everyone: {threads}; rounds: {options.rounds}\n", flush=True)

    complaints: list[str] = []
    results: list[Measured] = []
    peaks: list[float] = []  # operations a second, one a round of a case
    names = [FASTCNN, *(name for name in options.peers if name != FASTCNN)]
    with ExitStack() as stack:
        competitors = _start(names, threads, stack, complaints)
        for table in [options.only] if options.only else TABLES:
            cases = TABLES[table](options.batch)
            _print_options(competitors, cases, options.without)
            for case in cases:
                try:
                    measured = _measure(case, competitors, threads, options, complaints, peaks)
                except Failure as failure:
                    _complain(complaints, f"{case.title}: {failure}")
                    continue
                results.append(measured)
                print(_report.lines(measured, max(peaks)), flush=True)
            print()
    for measured in results:
        suspicion = measured.suspicion(max(peaks))
        if suspicion:
            complaints.append(suspicion)
    if results:
        peak = _timing.spread([rate / 1e9 for rate in peaks])
        print(
            f"FMA peak: {peak.most:.0f} GFLOP/s, which percents are of "
            f"(median of the rounds {peak.median:.0f}, least {peak.least:.0f})"
        )
        print(f"in brackets: how many times as fast {FASTCNN} is as the peer's best option\n")
        print(_report.tables(results, list(competitors), max(peaks)))
        for name in competitors:
            for line in _report.means(results, name):
                print(line)
    for complaint in complaints:
        print(f"! {complaint}")
    return 1 if complaints else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=(__doc__ or "").partition("\n")[0],
    )
    peers = ",".join(name for name in PEERS if name != FASTCNN)
    parser.add_argument("--rounds", type=_positive, default=5, help="turns of each (default 5)")
    parser.add_argument("--threads", type=_positive, help="default: what this process may use")
    parser.add_argument(
        "--peers", type=_names, default=_names(peers), help=f"comma-separated (default {peers})"
    )
    parser.add_argument("--only", choices=TABLES, help="one of the tables alone")
    parser.add_argument(
        "--batch", type=_positive, nargs="+", default=[], help="batch sizes (default: the table's)"
    )
    parser.add_argument(
        "--without", nargs="+", default=[], metavar="OPTION",
        help="leave out options of peers, such as: compiled",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=_seconds, default=0.2, help="about how long a turn is (default 0.2)"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return seconds


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(PEERS)}, got {name!r}")
    return names


def _start(
    names: Sequence[str], threads: int, stack: ExitStack, complaints: list[str]
) -> dict[str, Competitor]:
    """Start the processes of those that are installed; say who is not."""
    competitors = {}
    for name in names:
        missing = _competitor.missing(name)
        if missing:
            print(f"{name}: not installed ({', '.join(missing)})")
            continue
        try:
            competitors[name] = stack.enter_context(Competitor(name, threads))
        except Failure as failure:
            if name == FASTCNN:
                raise SystemExit(str(failure)) from failure
            _complain(complaints, str(failure))
        else:
            print(f"{name}: {competitors[name].version}")
    print(flush=True)
    return competitors


def _print_options(
    competitors: Mapping[str, Competitor], cases: Sequence[Case], without: Sequence[str]
) -> None:
    for kind in dict.fromkeys(case.kind for case in cases):
        for name, competitor in competitors.items():
            for option, meaning in competitor.options(kind).items():
                left_out = " (left out)" if option in without else ""
                print(f"{kind}, {name}, {option}: {meaning}{left_out}")
    print(flush=True)


def _measure(
    case: Case,
    competitors: Mapping[str, Competitor],
    threads: int,
    options: argparse.Namespace,
    complaints: list[str],
    peaks: list[float],
) -> Measured:
    """Compare everyone's results with fastcnn's, then time those that agree, and the peak."""
    weights: dict[str, Array] = _cases.sample_weights()
    expected: dict[str, Array] = {}
    turns: dict[tuple[str, str], Callable[[], float]] = {}
    for name, competitor in competitors.items():  # fastcnn first
        for option in competitor.options(case.kind):
            if option in options.without or not competitor.alive:
                continue
            try:
                prepared = competitor.prepare(case, option, weights, options.seconds)
            except Failure as failure:
                if name == FASTCNN:
                    raise
                _complain(complaints, f"{case.title}: {option}: {failure}")
                continue
            if prepared is None:
                continue
            result, calls = prepared
            wrong = disagreement(result, expected) if expected else None
            expected = expected or result
            if wrong:
                _complain(complaints, f"{case.title}: {name}, {option}, disagrees: {wrong}")
                continue
            turns[name, option] = partial(competitor.turn, option, calls)
    turns[PEAK] = partial(competitors[FASTCNN].peak, threads)
    seconds = _timing.race(turns, options.rounds)
    peaks += [1 / taken for taken in seconds.pop(PEAK)]
    return Measured(case, seconds)


def _complain(complaints: list[str], complaint: str) -> None:
    print(f"! {complaint}", flush=True)
    complaints.append(complaint)


if __name__ == "__main__":
    sys.exit(main())
