"""The plots of the page: how many times as fast fastcnn is, a bar for each case and peer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.ticker
from matplotlib.figure import Figure

from benchmarks._cases import Cost
from benchmarks._peers import PEERS, VARIANTS
from benchmarks._records import Run
from benchmarks._report import FASTCNN, Measured

__all__ = ["draw"]

ROW, BAR = 0.22, 0.8  # inches a case and peer; the part of a row that the bars fill
COLOURS = {
    name: f"C{number}"
    for number, name in enumerate(name for name in (*PEERS, *VARIANTS) if name != FASTCNN)
}


def draw(table: str, runs: Sequence[Run], path: Path) -> bool:
    """Draw the ratios of a table to an SVG file; return whether there were any."""
    rows = [
        (measured, ratios)
        for run in runs
        for measured in run.results.get(table, ())
        if (ratios := _ratios(measured))
    ]
    if not rows:
        return False
    names = [name for name in COLOURS if any(name in ratios for _, ratios in rows)]
    height = ROW * sum(len(ratios) + 0.6 for _, ratios in rows)
    figure = Figure(figsize=(9, height + 1.2), layout="constrained")
    axes = figure.add_subplot()
    place, ticks = 0.0, []
    shown: set[str] = set()
    for _, ratios in rows:
        for offset, name in enumerate(name for name in names if name in ratios):
            label = None if name in shown else f"against {name}"
            shown.add(name)
            reach = ratios[name] - 1
            axes.barh(place + offset, reach, BAR, 1, color=COLOURS[name], label=label)
        ticks.append(place + (len(ratios) - 1) / 2)
        place += len(ratios) + 0.6
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(ticks, [measured.case.title for measured, _ in rows], fontsize=8)
    axes.set_ylim(place - 0.6, -1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g} x")
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_xlabel("how many times as fast fastcnn is (costs: how many times less it takes)")
    figure.legend(loc="outside upper center", ncols=len(names), fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The same figures give the same file: no date, and fixed names inside.
    with mpl.rc_context({"svg.hashsalt": FASTCNN, "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})
    return True


def _ratios(measured: Measured) -> dict[str, float]:
    """Return the ratios to each peer's best option, by its name."""
    ratios = {}
    for name in COLOURS:
        option = measured.best(name)
        faster = None if option is None else measured.ratio(name, option)
        if faster is not None and (faster.median > 0 or not isinstance(measured.case, Cost)):
            ratios[name] = faster.median
    return ratios
