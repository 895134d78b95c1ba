"""What the machine can do at most, measured beside what is compared with it.

Both limits come from the package's own `peak` kernels, compiled with the flags of the other
kernels. A burst is short and the best of many counts: a limit is what the machine can do, not
what was left over by its neighbours in one moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from fastcnn import _kernels

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


def seconds_per_byte(isa: str, threads: int, size: int = 1 << 26) -> float:
    """Return the time that a copy of `size` bytes takes for each byte read or written."""
    kernel = _kernels.load(isa, "float32").peak.copy
    source = np.ones(size // 4, np.float32)
    to = np.zeros_like(source)
    return _best(lambda: kernel(to, source, threads), bursts=6) / (2 * source.nbytes)


def _best(burst: Callable[[], object], bursts: int = BURSTS) -> float:
    """Return the time of the fastest burst, after a warm-up."""
    warm = time.perf_counter() + WARM_UP
    while time.perf_counter() < warm:
        burst()
    best = float("inf")
    for _ in range(bursts):
        start = time.perf_counter()
        burst()
        best = min(best, time.perf_counter() - start)
    return best
