"""How time is taken: competitors in turns, round after round.

Machines are shared and their clocks wander. So nothing is timed by itself: each round gives every
competitor one turn, ratios are taken within a round, and a figure is the median of its rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import median
from typing import NamedTuple, TypeVar

__all__ = ["Spread", "calls_for", "race", "ratio", "seconds_per_call", "spread"]

Competitor = TypeVar("Competitor", bound=Hashable)

# Threads of OpenMP and its kin spin for some milliseconds after their last work: let them sleep
# before the next competitor begins.
SETTLE = 0.03


def calls_for(run: Callable[[], object], seconds: float) -> int:
    """Return how many calls of `run` take about so many seconds, at least 1.

    The first call, which compiles, allocates and packs, does not count.
    """
    run()
    start = time.perf_counter()
    run()
    return max(1, round(seconds / max(time.perf_counter() - start, 1e-9)))


def seconds_per_call(
    run: Callable[[], object], calls: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the mean time of `calls` calls of `run`, after one that wakes threads and caches."""
    run()
    start = clock()
    for _ in range(calls):
        run()
    return (clock() - start) / calls


def race(
    turns: Mapping[Competitor, Callable[[], float]], rounds: int
) -> dict[Competitor, list[float]]:
    """Give every competitor one turn a round; return what the turns gave, a number a round.

    A turn returns seconds. Each round begins with another competitor, so that none always
    follows the same one.
    """
    names = list(turns)
    taken: dict[Competitor, list[float]] = {name: [] for name in names}
    for first in range(rounds):
        for place in range(len(names)):
            name = names[(first + place) % len(names)]
            time.sleep(SETTLE)
            taken[name].append(turns[name]())
    return taken


class Spread(NamedTuple):
    """A figure over the rounds."""

    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median, the least and the most of some values."""
    return Spread(median(values), min(values), max(values))


def ratio(seconds: Sequence[float], of_other: Sequence[float]) -> Spread:
    """Return how many times as fast as the other one is, round by round: above 1 is faster."""
    return spread([b / a for a, b in zip(seconds, of_other, strict=True)])
