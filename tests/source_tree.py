"""A copy of what the package is built from, for the tests that build it."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from fastcnn._kernels.isa import modules

ROOT = Path(__file__).parent.parent
FILES = ["setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"]
KINDS = {".py", ".pyi", ".pyx", ".pxd", ".h", ".typed"}


def sources() -> list[Path]:
    """Return the files of the package, relative to the repository's root."""
    return sorted(
        path.relative_to(ROOT)
        for folder in ("fastcnn", "reference")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in KINDS and (ROOT / "fastcnn" / "reference") not in path.parents
    )


def copy_sources(target: Path) -> None:
    """Copy the package's sources, with their times, and what Cython made of them already."""
    for path in [*map(Path, FILES), *sources()]:
        if (ROOT / path).exists():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, target / path)
    if (ROOT / "build" / "cython").is_dir():
        shutil.copytree(ROOT / "build" / "cython", target / "build" / "cython")


def copy_compiled(target: Path) -> None:
    """Copy the modules that an editable install compiled: those still newer are not built anew."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    build = f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    for path in (ROOT / "fastcnn").rglob(f"*{suffix}"):
        name = path.name.removesuffix(suffix)
        kernels = modules(path.parent.name)
        if name not in (*kernels, "_cpu", "_memory", "_team", "_cython_shared"):
            continue  # of a kernel that is no more
        copy = target / "build" / build / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def environment(**changes: str) -> dict[str, str]:
    """Return the environment without what would lead a process back to the repository."""
    dropped = {"PYTHONPATH", "OMP_NUM_THREADS"}
    dropped |= {f"FASTCNN_{name}" for name in ("ISA", "OPENMP", "TEAM", "DEBUG")}
    return {k: v for k, v in os.environ.items() if k not in dropped} | changes
