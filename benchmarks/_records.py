"""A run of the benchmarks as a file of JSON, from which the page and its plots are made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import _cases
from benchmarks._cases import Case
from benchmarks._report import Limits, Measured

__all__ = ["Run", "read", "write"]

KINDS = {
    kind.kind: kind
    for kind in (
        _cases.Training,
        _cases.Scaling,
        _cases.Inference,
        _cases.Convolution,
        _cases.MemoryBound,
        _cases.Cost,
    )
}


@dataclass
class Run:
    """What one command measured, and on what."""

    command: str
    environment: str
    date: str
    versions: dict[str, str]  # by the competitor's name
    options: list[str]
    limits: Limits = field(default_factory=dict)
    results: dict[str, list[Measured]] = field(default_factory=dict)  # by the table's name
    complaints: list[str] = field(default_factory=list)


def write(path: Path, run: Run) -> None:
    """Write a run to a file."""
    record: dict[str, Any] = {
        **{name: value for name, value in vars(run).items() if name not in ("results", "limits")},
        "limits": {name: [_short(rate) for rate in rates] for name, rates in run.limits.items()},
        "results": {
            table: [
                {
                    "kind": measured.case.kind,
                    "case": asdict(measured.case),
                    "seconds": [
                        [name, option, [_short(seconds) for seconds in taken]]
                        for (name, option), taken in measured.seconds.items()
                    ],
                    "rates": [_short(rate) for rate in measured.rates],
                }
                for measured in results
            ]
            for table, results in run.results.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


def read(path: Path) -> Run:
    """Return the run that `write` wrote."""
    record = json.loads(path.read_text())
    results = record.pop("results")
    return Run(
        **record,
        results={table: [_measured(entry) for entry in results[table]] for table in results},
    )


def _measured(entry: dict[str, Any]) -> Measured:
    case: Case = KINDS[entry["kind"]](**entry["case"])
    seconds = {(name, option): taken for name, option, taken in entry["seconds"]}
    return Measured(case, seconds, entry["rates"])


def _short(value: float) -> float:
    """Return a number to six digits: more is noise."""
    return float(f"{value:.6g}")
