"""How many threads an op uses."""

from __future__ import annotations

import math
import os
import re

from fastcnn._cgroups import cpu_quota
from fastcnn._kernels import has_openmp, has_team
from fastcnn._options import integer

__all__ = ["default_num_threads", "get_num_threads", "set_num_threads"]

# Far above any machine; MOST_PARTS of _team.pyx is as many.
MOST_THREADS = 1024

_chosen: int | None = None
_forked = False


def _after_fork_in_child() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _asked_for() -> int | None:
    """Return what OMP_NUM_THREADS asks for, None where gcc's runtime would not take it either.

    It takes a number above 0, or a list of them for nested teams, of which the first counts.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if re.fullmatch(r"\s*\+?[0-9]{1,18}\s*(,\s*\+?[0-9]{1,18}\s*)*", asked, re.ASCII) is None:
        return None
    numbers = list(map(int, asked.split(",")))
    return min(numbers[0], MOST_THREADS) if min(numbers) > 0 else None


def default_num_threads() -> int:
    """Return the CPUs that affinity and control groups allow, rounded down, at least 1.

    OMP_NUM_THREADS, where it holds a number, goes before both.
    """
    asked = _asked_for()
    if asked is not None:
        return asked
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    cpus = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
    return max(1, math.floor(min(cpus, cpu_quota())))


def set_num_threads(num_threads: int | None) -> None:
    """Set the process-wide default number of threads; None goes back to the machine's.

    Raises TypeError or ValueError for anything but an integer from 1 to 1024 or None.
    """
    global _chosen
    _chosen = checked_num_threads("set_num_threads", num_threads)


def checked_num_threads(op: str, num_threads: int | None) -> int | None:
    """Return a number of threads from 1 to 1024, or None; else a TypeError or ValueError."""
    if num_threads is None:
        return None
    result = integer(num_threads, f"{op}: num_threads")
    if result > MOST_THREADS:
        raise ValueError(
            f"{op}: num_threads: expected an integer of at most {MOST_THREADS}, got {result}"
        )
    return result


def get_num_threads(num_threads: int | None = None) -> int:
    """Return how many threads an op uses: `num_threads`, else the process-wide default."""
    global _chosen
    # A compiler's OpenMP may hang in a child whose parent ran a parallel region: stay serial.
    if not has_openmp() or (_forked and not has_team()):
        return 1
    if num_threads is not None:
        return num_threads
    if _chosen is None:
        _chosen = default_num_threads()
    return _chosen
