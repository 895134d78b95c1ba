"""How many CPUs the control groups of this process allow: containers, services, batch jobs.

A limit stands in the group's folder of a mounted hierarchy, in cpu.max (version 2) or
cpu.cfs_quota_us (version 1), and holds for all groups below. So it is looked for from the
process's own group up to where the hierarchy is mounted; the smallest wins.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["cpu_quota"]


def cpu_quota(process: Path = Path("/proc/self")) -> float:
    """Return how many CPUs this process may use, infinity where no control group limits it."""
    try:
        folders = list(_folders(process))
    except (OSError, ValueError):  # no control groups here, or in another form
        return math.inf
    return min(map(_limit, folders), default=math.inf)


def _folders(process: Path) -> Iterator[Path]:
    """Yield the folders of the process's groups and of those above, as far as they are mounted."""
    groups = {}  # by the file system that mounts their hierarchy
    for line in (process / "cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            groups["cgroup" if controllers else "cgroup2"] = PurePosixPath(group)
    found, others = [], []
    for line in (process / "mountinfo").read_text().splitlines():
        mount, _, system = line.partition(" - ")
        kind, *_, options = system.split(" ")
        if kind not in groups or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        root, mounted = map(_unescaped, mount.split(" ")[3:5])
        if groups[kind].is_relative_to(root):
            below = groups[kind].relative_to(root)
            if ".." not in below.parts:
                found.append((Path(mounted), below))
                continue
        others.append((Path(mounted), PurePosixPath()))
    # Where one of the two is outside of a namespace ("/../..") nothing tells how they lie: what is
    # mounted in a container is its own group, or one above.
    for top, below in found or others:
        yield from (top / group for group in (below, *below.parents))


def _unescaped(path: str) -> str:
    r"""Return a path of mountinfo, in which a space is \040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _limit(folder: Path) -> float:
    """Return how many CPUs a group may use, infinity where it says nothing or something else."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return math.inf if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
