"""The page of figures: docs/benchmarks.md, its tables and plots, from what peers.py wrote.

    python -m benchmarks.peers --only t3 --json docs/figures/t3.json
    python -m benchmarks.page                  the page from every file of docs/figures
    python -m benchmarks.page --again          measure anew, by the command of each file, first

A table may come from several files, each a run of its own with its own limits; the page names
the command, the machine and the versions of each. What stands outside the markers
`<!-- table NAME -->` and `<!-- end -->` stays as it is. The plots need matplotlib; --no-plots does
without.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import _records, _report, peers
from benchmarks._records import Run
from benchmarks._tables import TABLES

__all__ = ["main"]

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; return the exit status."""
    options = _parser().parse_args(arguments)
    page = options.docs / "benchmarks.md"
    figures = options.docs / "figures"
    # By stem: t1.json before t1-batch-1.json, which adds to it.
    paths = sorted(figures.glob("*.json"), key=lambda path: path.stem)
    for path in paths if options.again else []:
        command = shlex.split(_records.read(path).command)
        print(f"{path}: {shlex.join(command)}\n", flush=True)
        peers.main([*command[len(peers.COMMAND) :], "--json", str(path)])
    runs = [_records.read(path) for path in paths]
    if not runs:
        print(f"{figures}: no figures; write some with python -m benchmarks.peers --json FILE")
        return 1
    drawn: list[str] = []
    if options.plots:
        from benchmarks import _plots

        drawn = [table for table in TABLES if _plots.draw(table, runs, figures / f"{table}.svg")]

    def block(match: re.Match[str]) -> str:
        return match[1] + section(match[2], runs, match[2] in drawn) + match[3]

    page.write_text(BLOCK.sub(block, page.read_text()))
    print(f"{page}: {len(runs)} runs; plots: {', '.join(drawn) or 'none'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--docs", type=Path, default=DOCS, help="the folder (default docs)")
    parser.add_argument("--no-plots", dest="plots", action="store_false", help="tables alone")
    parser.add_argument("--again", action="store_true", help="run each file's command first")
    return parser


def section(table: str, runs: Sequence[Run], plotted: bool) -> str:
    """Return a table's part of the page: of each run the command, the figures and the limits."""
    parts = [f"![{table}](figures/{table}.svg)"] if plotted else []
    for run in runs:
        results = run.results.get(table)
        if not results:
            continue
        reached = {measured.case.limit for measured in results}
        limits = {name: rates for name, rates in run.limits.items() if name in reached}
        names = list(run.versions)
        means = [line for name in names for line in _report.means(results, name)]
        notes = [*_report.limit_lines(limits), *means, *run.complaints]
        machine = " ".join(run.environment.partition("\n")[0].split()[1:])
        parts += [
            f"`{run.command}` on {run.date}, {machine}: "
            f"{', '.join(dict.fromkeys(run.versions.values()))}.",
            _report.tables(results, names, limits),
            "\n".join(f"- {line}" for line in notes),
        ]
    if not parts:
        parts = [f"Not measured yet: `python -m benchmarks.peers --only {table}`."]
    return "\n" + "\n\n".join(parts) + "\n\n"


if __name__ == "__main__":
    sys.exit(main())
