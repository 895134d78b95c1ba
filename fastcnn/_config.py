"""What this installation is and what it uses on this machine."""

from __future__ import annotations

import platform

import numpy as np

from fastcnn import _kernels, _threads

__all__ = ["config_text", "show_config"]


def show_config() -> None:
    """Print versions, instruction sets and threads: what a bug report needs."""
    print(config_text())


def config_text() -> str:
    """Return what `show_config` prints."""
    from fastcnn import __version__

    if not _kernels.has_openmp():
        threading = "none (every op runs on one thread)"
    else:
        threading = "fastcnn's own" if _kernels.has_team() else "the compiler's OpenMP"
    caches = zip(("L1", "L2", "L3"), _kernels.cache_sizes(), strict=True)
    rows = {
        "fastcnn": __version__,
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "NumPy": np.__version__,
        "machine": f"{platform.machine()}, {platform.system()}",
        "instruction sets built": ", ".join(_kernels.built()),
        "instruction sets available": ", ".join(_kernels.available()),
        "instruction set used": _kernels.select(),
        "caches": ", ".join(f"{name} {size // 1024:,} KB" for name, size in caches),
        "threads": str(_threads.get_num_threads()),
        "thread runtime": threading,
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())
