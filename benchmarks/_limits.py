"""What the machine can do at most, measured beside what is compared with it.

Both limits come from the package's own `peak` kernels, compiled with the flags of the other
kernels. Of the multiply-adds a burst is short and the best of many counts: a peak is what the
machine can do, not what was left over by its neighbours in one moment. A copy suffers its
neighbours as an op that memory bounds does, so it is timed as one: the mean of a turn's calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from benchmarks import _timing
from benchmarks._cases import aligned
from fastcnn import _kernels
from fastcnn._memory import empty

__all__ = ["seconds_per_byte", "seconds_per_flop"]

BURSTS = 24
WARM_UP = 0.02  # seconds: clocks rise and threads wake
STEPS = 1 << 19  # of a burst: one to some milliseconds


def seconds_per_flop(isa: str, threads: int) -> float:
    """Return the time of one float32 multiplication or addition at the peak of all threads."""
    kernel = _kernels.load(isa, "float32").peak.multiply_add
    # A row a thread, long enough for 14 vectors of any width. c = c * 1/2 + 1/2 goes to 1: no
    # number overflows or becomes subnormal.
    values = np.full((threads, 256), 0.5, np.float32)
    flops = kernel(values, STEPS, threads)

    def burst() -> None:
        values.fill(0.5)
        kernel(values, STEPS, threads)

    return _best(burst) / float(flops)


def seconds_per_byte(isa: str, threads: int, touched: int, seconds: float) -> float:
    """Return the time that a copy takes for each byte, of which it reads half and writes half.

    It touches so many bytes in all, as many as the op that is held against it: so both find the
    same part of their arrays in the caches. The memory is of the kinds that an op reads and writes
    here. A turn takes about so many seconds.
    """
    kernel = _kernels.load(isa, "float32").peak.copy
    source = aligned(np.ones(touched // 8, np.float32))
    to = empty(source.shape, source.dtype)

    def run() -> None:
        kernel(to, source, threads)

    calls = _timing.calls_for(run, seconds)
    return _timing.seconds_per_call(run, calls) / (source.nbytes + to.nbytes)


def _best(burst: Callable[[], object]) -> float:
    """Return the time of the fastest burst, after a warm-up."""
    warm = time.perf_counter() + WARM_UP
    while time.perf_counter() < warm:
        burst()
    best = float("inf")
    for _ in range(BURSTS):
        start = time.perf_counter()
        burst()
        best = min(best, time.perf_counter() - start)
    return best
