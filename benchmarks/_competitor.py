"""A competitor in a process of its own.

Libraries bring their own threads, allocators and floating-point modes, and some do not bear each
other's company. So each one lives in a process that sleeps until it is its turn. The functions
that run there are the lower half of this page.
"""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from multiprocessing import get_context
from types import ModuleType, TracebackType
from typing import Any, TypeVar

from benchmarks import _costs, _limits, _timing
from benchmarks._cases import Case, Cost, MemoryBound
from benchmarks._peers import PEERS, VARIANTS, Job, Results

__all__ = ["Competitor", "Failure", "missing"]

T = TypeVar("T")


class Failure(Exception):
    """What a competitor could not do, in a sentence."""


def missing(name: str) -> list[str]:
    """Return the packages that a peer needs and that are not installed."""
    return [
        package for package in {**PEERS, **VARIANTS}[name].packages if find_spec(package) is None
    ]


class Competitor:
    """fastcnn or a peer: starts its process, and asks it."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self.alive = True
        self._options: dict[str, dict[str, str]] = {}
        self._process = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        try:
            peer = {**PEERS, **VARIANTS}[name]
            settings = {"threads": threads, **peer.settings}
            self.version = self._ask(_start, peer.module, settings)
        except Failure:
            self._process.shutdown()
            raise

    def options(self, kind: str) -> dict[str, str]:
        """Return the ways in which it does a kind of case: their names and what they mean."""
        if kind not in self._options:
            self._options[kind] = self._ask(_options, kind)
        return self._options[kind]

    def prepare(self, case: Case, option: str, seconds: float) -> tuple[Results, int] | None:
        """Set up a case; return its results and how many calls a turn of so many seconds has.

        None: the competitor has no such call.
        """
        return self._ask(_prepare, case, option, seconds)

    def turn(self, option: str, calls: int) -> float:
        """Return the seconds that a call of the prepared case takes."""
        return self._ask(_turn, option, calls)

    def cost(self, case: Cost, option: str) -> tuple[Results, float] | None:
        """Return the results and the value of a cost; the process must be a fresh one.

        None: the competitor has no such call.
        """
        return self._ask(_cost, case, option)

    def limit(self, case: Case, threads: int, seconds: float) -> float:
        """Return the seconds of a unit of the case's work at its limit (any process can tell).

        A copy has a turn of so many seconds.
        """
        return self._ask(_limit, case, threads, seconds)

    def _ask(self, function: Callable[..., T], *args: object) -> T:
        try:
            return self._process.submit(function, *args).result()
        except BrokenProcessPool:
            self.alive = False
            raise Failure(f"{self.name}: its process ended by itself") from None
        except Exception as error:  # whatever a library raises is its answer
            first_line = (str(error).strip() or "no message").splitlines()[0]
            raise Failure(f"{self.name}: {type(error).__name__}: {first_line}") from error

    def __enter__(self) -> Competitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.shutdown(cancel_futures=True)


# ---------------------------------------------------------------------- in the process
_peer: ModuleType
_prepared: Case
_jobs: dict[str, Job] = {}  # the prepared case's, by option


def _start(module: str, settings: Mapping[str, Any]) -> str:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which shuts down
    global _peer
    _peer = importlib.import_module(module)
    version: str = _peer.start(**settings)
    return version


def _options(kind: str) -> dict[str, str]:
    options: dict[str, str] = _peer.options(kind)
    return options


def _prepare(case: Case, option: str, seconds: float) -> tuple[Results, int] | None:
    global _prepared
    if not _jobs or case != _prepared:
        _jobs.clear()
        _prepared = case
    job: Job | None = getattr(_peer, case.kind)(case, option)
    if job is None:
        return None
    _jobs[option] = job
    result = job.result()
    job.reset()
    return result, _timing.calls_for(job.run, seconds)


def _turn(option: str, calls: int) -> float:
    _jobs[option].reset()
    return _timing.seconds_per_call(_jobs[option].run, calls)


def _cost(case: Cost, option: str) -> tuple[Results, float] | None:
    return _costs.measure(_peer, case, option)


def _limit(case: Case, threads: int, seconds: float) -> float:
    from fastcnn import _kernels

    isa = _kernels.select()
    if isinstance(case, MemoryBound):
        return _limits.seconds_per_byte(isa, threads, int(case.work), seconds)
    return _limits.seconds_per_flop(isa, threads)
