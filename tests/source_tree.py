"""What the package is built from, and a copy of it for the tests that build it."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from fastcnn._kernels.isa import compiled

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "fastcnn").rglob("*.py"))
REFERENCE = sorted((ROOT / "reference").glob("*.py"))
KERNELS = ROOT / "fastcnn" / "_kernels"
CYTHON = sorted([*KERNELS.rglob("*.pyx"), *KERNELS.rglob("*.pxd")])
SOURCES = [*PACKAGE, *REFERENCE, *CYTHON, *KERNELS.rglob("*.h"), ROOT / "setup.py"]
SOURCES = [path for path in SOURCES if ROOT / "fastcnn" / "reference" not in path.parents]
FILES = ["setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"]
KINDS = {".py", ".pyi", ".pyx", ".pxd", ".h", ".typed"}


def sources() -> list[Path]:
    """Return the files of the package, relative to the repository's root."""
    return sorted(
        path.relative_to(ROOT)
        for folder in ("fastcnn", "reference")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in KINDS
    )


def copy_sources(target: Path) -> None:
    """Copy the package's sources, with their times, and what Cython made of them already."""
    for path in [*map(Path, FILES), *sources()]:
        if (ROOT / path).exists():
            _copy(ROOT / path, target)
    for translated in (ROOT / "build").glob("cython-*"):
        shutil.copytree(translated, target / "build" / translated.name)


def copy_compiled(target: Path) -> None:
    """Copy what an editable install compiled, and how: what is up to date is not built anew."""
    kind = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for path in (ROOT / "build" / f"lib.{kind}").rglob(f"*{suffix}"):
        kernels = compiled(path.parent.name).values()
        if path.name.removesuffix(suffix) in (
            *kernels,
            "_cpu",
            "_memory",
            "_team",
            "_cython_shared",
        ):
            _copy(path, target)  # and none of a kernel that is no more
    for path in (ROOT / "build" / f"temp.{kind}").rglob("*.txt"):
        _copy(path, target)


def _copy(path: Path, target: Path) -> None:
    copy = target / path.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, copy)


def environment(**changes: str) -> dict[str, str]:
    """Return the environment without what would lead a process back to the repository."""
    dropped = {"PYTHONPATH", "OMP_NUM_THREADS"}
    dropped |= {f"FASTCNN_{name}" for name in ("ISA", "OPENMP", "TEAM", "DEBUG")}
    return {k: v for k, v in os.environ.items() if k not in dropped} | changes
