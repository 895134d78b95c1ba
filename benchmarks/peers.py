"""fastcnn against PyTorch, ONNX Runtime, JAX, Keras and OpenVINO, whichever are installed.

    pip install torch onnxruntime onnx jax keras tensorflow-cpu openvino     (any of them)
    python -m benchmarks.peers                               everything; an hour or so
    python -m benchmarks.peers --only sample --peers torch   the sample network, PyTorch alone
    python -m benchmarks.peers --only t1 --batch 1 16        ResNet-50's convolutions
    python -m benchmarks.peers --only t2 --rounds 9          those of small nets, more rounds
    python -m benchmarks.peers --only t3                     what memory bounds
    python -m benchmarks.peers --only t4 --match LeNet       whole networks: those with the word
    python -m benchmarks.peers --only t5                     start, memory, threads
    python -m benchmarks.peers --only graphs --peers torch   networks that are no chains of layers
    python -m benchmarks.peers --only t3 --json docs/figures/t3.json    for benchmarks.page

Networks are trained (`Trainer.fit`: whole epochs kept in memory, shuffled, SGD with momentum) and
asked (`Trainer.predict`); T1 (ResNet-50's), T2 (small nets') and T3 are single ops, forward and
backward, through `FastBackend`. Every competitor has a process of its own, the same number of
threads and fastcnn's weights. First its results are compared with fastcnn's: logits, the losses of
the first training steps, or the op's; who disagrees is not timed. Then all take turns, round
after round, and the limit is measured among them: the FMA peak, or a copy that touches as many
bytes as the op must. Figures are medians of the rounds. Ratios are taken within a round: how many
times as fast fastcnn is as the peer with its best option. Percents of the peak count the operations
of the direct algorithm. Costs (import, first prediction, memory, page faults) are those of fresh
processes.

The exit status is 1 if results disagreed, if a competitor failed, or if a direct kernel appears to
have passed the peak, which tells that the peak was measured wrongly.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks import _competitor, _costs, _records, _report, _timing
from benchmarks._agreement import disagreement
from benchmarks._cases import Case, Cost, Scaling
from benchmarks._competitor import Competitor, Failure
from benchmarks._environment import environment
from benchmarks._options import duration, positive, writable
from benchmarks._peers import PEERS, VARIANTS, Results
from benchmarks._records import Run
from benchmarks._report import FASTCNN, Measured
from benchmarks._tables import TABLES
from fastcnn._threads import get_num_threads
from fastcnn.backend import Array

__all__ = ["COMMAND", "main", "prepared"]

COMMAND = "python", "-m", "benchmarks.peers"
LIMIT = "limit", ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, return the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    threads = options.threads or get_num_threads()
    print(environment())
    print(f"threads of everyone: {threads}; rounds: {options.rounds}\n", flush=True)

    run = Run(
        command=shlex.join([*COMMAND, *_measured(given)]),
        environment=environment(),
        date=time.strftime("%Y-%m-%d"),
        versions={},
        options=[],
    )
    tables = {
        table: [case for case in TABLES[table](options.batch) if options.match in case.title]
        for table in ([options.only] if options.only else TABLES)
    }
    if not any(tables.values()):
        raise SystemExit(f"--match: expected words of a case's title, got {options.match!r}")
    names = [FASTCNN, *(name for name in options.peers if name != FASTCNN)]
    if "t5" in tables:
        names += VARIANTS if threads > 1 else ["avx2"]
    with ExitStack() as stack:
        competitors = _start(names, threads, stack, run)
        for table, cases in tables.items():
            _print_options(competitors, cases, options.without, run)
            results = run.results.setdefault(table, [])
            for case in cases:
                try:
                    measured = _measure(case, competitors, threads, options, run)
                except Failure as failure:
                    _complain(run, f"{case.title}: {failure}")
                    continue
                results.append(measured)
                print(_report.lines(measured, run.limits), flush=True)
                if options.json:
                    _records.write(options.json, run)
            print()
    for measured in (m for results in run.results.values() for m in results):
        suspicion = measured.suspicion(run.limits)
        if suspicion:
            run.complaints.append(suspicion)
    print("\n".join(_report.limit_lines(run.limits)))
    print(f"in brackets: how many times as fast {FASTCNN} is as the peer's best option")
    for results in run.results.values():
        print(f"\n{_report.tables(results, list(competitors), run.limits)}\n")
        for line in _report.headlines(results, run.limits):
            print(line)
        for name in competitors:
            for line in _report.means(results, name):
                print(line)
    for complaint in run.complaints:
        print(f"! {complaint}")
    if options.json:
        _records.write(options.json, run)
    return 1 if run.complaints else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=(__doc__ or "").partition("\n")[0],
    )
    peers = ",".join(name for name in PEERS if name != FASTCNN)
    parser.add_argument("--rounds", type=positive, default=5, help="turns of each (default 5)")
    parser.add_argument("--threads", type=positive, help="default: what this process may use")
    parser.add_argument(
        "--peers", type=_names, default=_names(peers), help=f"comma-separated (default {peers})"
    )
    parser.add_argument("--only", choices=TABLES, help="one of the tables alone")
    parser.add_argument(
        "--batch",
        type=positive,
        nargs="+",
        default=[],
        help="batch sizes, of t3 MB (default: the table's)",
    )
    parser.add_argument("--match", default="", metavar="WORD", help="cases with this in the title")
    parser.add_argument("--json", type=writable, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--without", type=_option, nargs="+", default=[], metavar="OPTION",
        help="leave out options of peers, such as: compiled",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=duration, default=0.2, help="about how long a turn is (default 0.2)"
    )
    return parser


def _measured(given: Sequence[str]) -> list[str]:
    """Return the arguments but --json: where the figures go is no part of what they are."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--json")
    return parser.parse_known_args(given)[1]


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(PEERS)}, got {name!r}")
    return names


def _option(text: str) -> str:
    known = list(dict.fromkeys(option for peer in PEERS.values() for option in peer.options))
    if text not in known:
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}, got {text!r}")
    return text


def _start(names: Sequence[str], threads: int, stack: ExitStack, run: Run) -> dict[str, Competitor]:
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
            _complain(run, str(failure))
        else:
            run.versions[name] = competitors[name].version
            print(f"{name}: {run.versions[name]}")
    print(flush=True)
    return competitors


def _options(competitor: Competitor, case: Case) -> dict[str, str]:
    """Return the ways in which a competitor does a case; variants only show how fastcnn scales."""
    if competitor.name in VARIANTS and not isinstance(case, Scaling):
        return {}
    return competitor.options(case.kind)


def _print_options(
    competitors: Mapping[str, Competitor],
    cases: Sequence[Case],
    without: Sequence[str],
    run: Run,
) -> None:
    for case in {case.kind: case for case in cases}.values():
        for name, competitor in competitors.items():
            for option, meaning in _options(competitor, case).items():
                left_out = " (left out)" if option in without else ""
                line = f"{case.kind}, {name}, {option}: {meaning}{left_out}"
                run.options += [] if line in run.options else [line]
                print(line)
    print(flush=True)


def _measure(
    case: Case,
    competitors: Mapping[str, Competitor],
    threads: int,
    options: argparse.Namespace,
    run: Run,
) -> Measured:
    """Compare everyone's results with fastcnn's, then time those that agree, and the limit."""
    expected: dict[str, Array] = {}
    turns: dict[tuple[str, str], Callable[[], float]] = {}
    for name, competitor in competitors.items():  # fastcnn first
        for option in _options(competitor, case):
            if option in options.without or not competitor.alive:
                continue
            try:
                found = prepared(case, competitor, option, threads, options.seconds)
            except Failure as failure:
                if name == FASTCNN:
                    raise
                _complain(run, f"{case.title}: {option}: {failure}")
                continue
            if found is None:
                continue
            result, turn = found
            wrong = disagreement(result, expected) if expected else None
            expected = expected or result
            if wrong:
                _complain(run, f"{case.title}: {name}, {option}, disagrees: {wrong}")
                continue
            turns[name, option] = turn
            if case == Cost("import time"):
                break  # there is one way
    if case.limit:
        turns[LIMIT] = partial(competitors[FASTCNN].limit, case, threads, options.seconds)
    seconds = _timing.race(turns, options.rounds)
    rates = [1 / taken for taken in seconds.pop(LIMIT, [])]
    run.limits.setdefault(case.limit, []).extend(rates)
    return Measured(case, seconds, rates)


def prepared(
    case: Case, competitor: Competitor, option: str, threads: int, seconds: float
) -> tuple[Results, Callable[[], float]] | None:
    """Return a competitor's results and its turn, None where it has no such call."""
    if not isinstance(case, Cost):
        found = competitor.prepare(case, option, seconds)
        return found and (found[0], partial(competitor.turn, option, found[1]))
    if case.what == "import time":
        return {}, partial(_costs.import_seconds, competitor.name)

    def fresh() -> tuple[Results, float] | None:
        with Competitor(competitor.name, threads) as process:
            return process.cost(case, option)

    def turn() -> float:
        measured = fresh()
        assert measured is not None  # as it was the first time
        return measured[1]

    first = fresh()
    return first and (first[0], turn)


def _complain(run: Run, complaint: str) -> None:
    print(f"! {complaint}", flush=True)
    run.complaints.append(complaint)


if __name__ == "__main__":
    sys.exit(main())
