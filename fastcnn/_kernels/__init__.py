"""The compiled kernels, and the one place that chooses between their variants."""

from __future__ import annotations

import errno
import importlib
import os
import re
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if find_spec(f"{__name__}._cpu") is None or find_spec(f"{__name__}._memory") is None:
    raise ImportError(
        f"fastcnn in {Path(__file__).parents[2]} has no kernels compiled for this Python: "
        "run `pip install -e .` there"
    )

from fastcnn._kernels import _cpu
from fastcnn._kernels.caches import cache_bytes
from fastcnn._kernels.isa import DTYPES, MODULES, compiled, instruction_sets

__all__ = [
    "available",
    "bound",
    "built",
    "cache_sizes",
    "has_openmp",
    "has_team",
    "load",
    "select",
]

# By a kernel, for those that small work calls: a function of the same arguments that returns one of
# nothing, which is this call of the kernel with its arrays looked at once.
bound: dict[Callable[..., Any], Callable[..., Callable[[], Any]]] = {}
_BOUND = "bound_"  # and the kernel's name

# What a build leaves that was interrupted, or copied in part.
_IN_PART = (
    f"fastcnn in {Path(__file__).parents[2]} has not all kernels compiled for this Python: "
    "run `pip install -e .` there"
)

has_openmp = _cpu.has_openmp
cache_sizes = _cpu.cache_bytes
_cpu.set_cache_bytes(*cache_bytes())


@cache
def has_team() -> bool:
    """Return whether the kernels run on threads of _team.pyx, not on the compiler's OpenMP."""
    return find_spec(f"{__name__}._team") is not None


@cache
def built() -> tuple[str, ...]:
    """Return the instruction sets that this installation holds, narrowest first."""
    return tuple(
        isa.name
        for isa in instruction_sets()
        if _is_there(f"{__name__}.{isa.name}.{DTYPES[0]}.{MODULES[0]}")
    )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # nor is the folder
        return False
    except OSError as error:  # to list a folder takes memory, too
        if error.errno != errno.ENOMEM:
            raise
        raise MemoryError(f"no room for the kernels: {error.strerror}") from error


@cache
def available() -> tuple[str, ...]:
    """Return the instruction sets that were built and that this CPU can run, narrowest first."""
    features = _cpu.features()
    return tuple(
        isa.name
        for isa in instruction_sets()
        if isa.name in built() and features.issuperset(isa.features)
    )


def select(isa: str | None = None) -> str:
    """Return the instruction set to use: `isa`, else FASTCNN_ISA, else the widest available.

    Raises ValueError, listing the choices, where the one asked for cannot run here, and
    ImportError where there are none.
    """
    source = "isa"
    if isa is None:
        source, isa = "FASTCNN_ISA", os.environ.get("FASTCNN_ISA") or None
    choices = available()
    if not choices:
        raise ImportError(_IN_PART)
    if isa is None:
        return choices[-1]
    if isa not in choices:
        reason = "not supported by this CPU" if isa in built() else "unknown or not built"
        raise ValueError(f"{source}: expected one of {', '.join(choices)}, got {isa!r} ({reason})")
    return isa


@cache
def load(isa: str, dtype: str) -> SimpleNamespace:
    """Return the kernel modules of one instruction set and float width, by their names.

    Only call it with an instruction set that `select` has returned: even the import of a
    module runs code compiled for its instruction set. It is the first op that does: MemoryError
    where there is no room for them, ImportError where some are missing.
    """
    try:
        if has_team():
            # It is there already, as the kernels' library; but a fork is prepared by its import.
            importlib.import_module(f"{__name__}._team")
        modules = {
            name: importlib.import_module(f"{__name__}.{isa}.{dtype}.{extension}")
            for name, extension in compiled(dtype).items()
        }
    except ModuleNotFoundError as error:
        raise ImportError(_IN_PART) from error
    except ImportError as error:
        # The loader has words alone for it: "cannot allocate", "failed to map segment".
        _, _, reason = str(error).partition(": ")
        if re.search(r"allocate|map|memory", reason) is None:
            raise
        raise MemoryError(f"no room for the kernels: {reason}") from error
    for module in modules.values():
        for name, function in vars(module).items():
            if name.startswith(_BOUND):
                bound[getattr(module, name.removeprefix(_BOUND))] = function
    return SimpleNamespace(**modules)
