"""How many threads an op uses."""

from __future__ import annotations

import math
import os
from pathlib import Path

from fastcnn._checks import integer
from fastcnn._kernels import has_openmp, has_team

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


def _quota(folder: Path = Path("/sys/fs/cgroup")) -> float:
    """Return how many CPUs the container may use, infinity where nothing limits it."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu/cpu.cfs_quota_us").read_text()
            period = (folder / "cpu/cpu.cfs_period_us").read_text()
        return math.inf if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError):  # no control groups here, or in another form
        return math.inf


def default_num_threads() -> int:
    """Return the CPUs that affinity and container quota allow, rounded down, at least 1.

    OMP_NUM_THREADS, where it holds a number, goes before both.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return min(int(asked), MOST_THREADS)
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    cpus = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
    return max(1, math.floor(min(cpus, _quota())))


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
    result = integer(op, "num_threads", num_threads)
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
