"""The CPUs that control groups allow, from folders and files like those of Linux."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fastcnn._cgroups import cpu_quota

VERSION_2 = "40 30 0:28 {root} {mount} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
VERSION_1 = "41 30 0:29 {root} {mount} rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct"
MEMORY = "42 30 0:30 {root} {mount} rw,nosuid - cgroup cgroup rw,memory"
OTHERS = "25 1 0:22 / /proc rw - proc proc rw\n30 1 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro"


class Machine:
    """A /proc/self and mounted hierarchies, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.groups: list[str] = []
        self.mounts = [OTHERS]

    def mount(self, kind: str, name: str, root: str = "/") -> None:
        where = str(self.folder / name).replace(" ", r"\040")
        self.mounts.append(kind.format(root=root, mount=where))

    def group(self, line: str) -> None:
        self.groups.append(line)

    def limit(self, group: str, cpus: float | None, version: int = 2) -> None:
        folder = self.folder / group
        folder.mkdir(parents=True, exist_ok=True)
        quota = None if cpus is None else int(cpus * 100000)
        if version == 2:
            (folder / "cpu.max").write_text(f"{'max' if quota is None else quota} 100000\n")
        else:
            (folder / "cpu.cfs_quota_us").write_text(f"{-1 if quota is None else quota}\n")
            (folder / "cpu.cfs_period_us").write_text("100000\n")

    def quota(self) -> float:
        process = self.folder / "self"
        process.mkdir()
        (process / "cgroup").write_text("".join(f"{line}\n" for line in self.groups))
        (process / "mountinfo").write_text("".join(f"{line}\n" for line in self.mounts))
        return cpu_quota(process)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("own", [None, 1.5, 0.5, 3.0])
def test_version_2(machine: Machine, own: float | None) -> None:
    machine.group("0::/user.slice/job")
    machine.mount(VERSION_2, "sys/fs/cgroup")
    machine.limit("sys/fs/cgroup/user.slice/job", own)
    machine.limit("sys/fs/cgroup/user.slice/other", 0.25)
    machine.limit("sys/fs/cgroup/user.slice/job/below", 0.25)
    assert machine.quota() == (own or math.inf)


@pytest.mark.parametrize("own", [None, 1.5, 0.5, 3.0])
def test_version_1(machine: Machine, own: float | None) -> None:
    machine.group("5:memory:/elsewhere")
    machine.group("4:cpu,cpuacct:/batch/job")
    machine.group("3:name=systemd:/elsewhere")
    machine.group("2:cpuset:/elsewhere")
    machine.group("0::/")
    machine.mount(MEMORY, "memory")
    machine.mount(VERSION_1, "cpu,cpuacct")
    machine.limit("cpu,cpuacct/batch/job", own, version=1)
    machine.limit("cpu,cpuacct/elsewhere", 0.25, version=1)
    machine.limit("memory/batch/job", 0.25, version=1)
    assert machine.quota() == (own or math.inf)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("place", ["", "a", "a/b", "a/b/c"])
def test_a_limit_of_any_group_above_counts_and_the_smallest_wins(
    machine: Machine, place: str, version: int
) -> None:
    machine.group("1:cpu:/a/b/c" if version == 1 else "0::/a/b/c")
    machine.mount((VERSION_1, VERSION_2)[version - 1], "groups")
    for group in ("a", "a/b", "a/b/c"):
        machine.limit(f"groups/{group}", 4, version)
    machine.limit(f"groups/{place}", 2.5, version)
    assert machine.quota() == 2.5


def test_both_versions_at_once(machine: Machine) -> None:
    machine.group("1:cpu:/one")
    machine.group("0::/two")
    machine.mount(VERSION_1, "cpu")
    machine.mount(VERSION_2, "unified")
    machine.limit("cpu/one", 3, version=1)
    machine.limit("unified/two", 2)
    assert machine.quota() == 2


@pytest.mark.parametrize(
    ("group", "root", "folder"),
    [
        ("/", "/", ""),  # a container with a namespace of its own
        ("/docker/1a2b", "/docker/1a2b", ""),  # one without, its group mounted
        ("/docker/1a2b/job", "/docker/1a2b", "job"),
        ("/docker/1a2b", "/", ""),  # the same, where /proc tells what is not mounted
        ("/", "/../..", ""),  # mounted from outside of the namespace
        ("/../../job", "/../..", "job"),
        ("/../job", "/", ""),  # the process was moved out of its namespace
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_a_container(machine: Machine, group: str, root: str, folder: str, version: int) -> None:
    machine.group(f"1:cpu:{group}" if version == 1 else f"0::{group}")
    machine.mount((VERSION_1, VERSION_2)[version - 1], "mnt/my groups", root)
    machine.limit(f"mnt/my groups/{folder}", 1.25, version)
    assert machine.quota() == 1.25


def test_where_the_own_group_is_mounted_no_other_counts(machine: Machine) -> None:
    machine.group("0::/mine")
    machine.mount(VERSION_2, "groups")
    machine.mount(VERSION_2, "elsewhere", "/yours")
    machine.limit("groups/mine", 3)
    machine.limit("elsewhere", 1)
    assert machine.quota() == 3


@pytest.mark.parametrize(
    "text", ["", "max", "what is this\n", "1e5 100000\n", "100000 0\n", "\xff"]
)
def test_a_limit_in_another_form_is_none(machine: Machine, text: str) -> None:
    machine.group("0::/job")
    machine.mount(VERSION_2, "groups")
    machine.limit("groups", 2)
    machine.limit("groups/job", 1)
    (machine.folder / "groups/job/cpu.max").write_bytes(text.encode("latin-1"))
    assert machine.quota() == 2


@pytest.mark.parametrize("file", ["cgroup", "mountinfo"])
def test_files_in_another_form_are_no_limit(file: str, machine: Machine) -> None:
    machine.group("0::/job")
    machine.mount(VERSION_2, "groups")
    machine.limit("groups/job", 1)
    assert machine.quota() == 1
    for text in (b"what is this\n", b"\xff\xfe", b"\n", b"1 2 - \n"):
        (machine.folder / "self" / file).write_bytes(text)
        assert cpu_quota(machine.folder / "self") == math.inf
    (machine.folder / "self" / file).unlink()
    assert cpu_quota(machine.folder / "self") == math.inf


def test_version_1_without_a_period_is_no_limit(machine: Machine) -> None:
    machine.group("1:cpu:/")
    machine.mount(VERSION_1, "groups")
    machine.limit("groups", 1, version=1)
    (machine.folder / "groups/cpu.cfs_period_us").unlink()
    assert machine.quota() == math.inf
