"""What the figures of `pytest benchmarks` were taken on, above them."""

from __future__ import annotations

from benchmarks._environment import environment


def pytest_report_header() -> list[str]:
    """Return the lines that pytest prints first."""
    return environment().splitlines()
