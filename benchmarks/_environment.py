"""What a benchmark ran on: printed above every table of figures."""

from __future__ import annotations

import platform
from pathlib import Path

import fastcnn
from fastcnn._config import config_text

__all__ = ["cpu_name", "environment"]


def cpu_name() -> str:
    """Return the processor's name, as its system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def environment() -> str:
    """Return a text: the processor, and what fastcnn.show_config() prints."""
    config = config_text()
    width = config.splitlines()[0].index(fastcnn.__version__)
    return f"{'CPU':<{width}}{cpu_name()}\n{config}"
