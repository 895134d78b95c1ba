"""Figures as text: the lines of a case as it is measured, and the tables at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import geometric_mean, median

from benchmarks._cases import FMA_PEAK, PASSES, Case, Convolution, Cost, Scaling
from benchmarks._timing import Spread, ratio, spread

__all__ = ["SUSPICIOUS", "Limits", "Measured", "limit_lines", "lines", "means", "tables"]

FASTCNN = "fastcnn"

# A direct kernel cannot pass the peak; beyond this the peak itself was measured wrongly.
SUSPICIOUS = 1.05


Limits = dict[str, list[float]]  # units of work a second, by the limit's name: one a round


@dataclass(frozen=True)
class Measured:
    """A case's times: seconds a call for each (competitor, option), one number a round.

    rates: the limit's units of work a second, one a round as well.
    """

    case: Case
    seconds: dict[tuple[str, str], list[float]]
    rates: list[float] = field(default_factory=list)

    def best(self, name: str) -> str | None:
        """Return the competitor's fastest option, None where it has no figure."""
        options = [option for competitor, option in self.seconds if competitor == name]
        return min(options, key=lambda option: median(self.seconds[name, option]), default=None)

    def figure(self, name: str, option: str) -> Spread:
        """Return what is printed, such as images or 1e9 operations a second."""
        return spread([self.case.figure(taken) for taken in self.seconds[name, option]])

    def fraction(self, name: str, option: str, limits: Limits) -> float | None:
        """Return the part of the case's limit that it reached, None where there is no limit.

        The FMA peak is the most that any round of the run has seen: a lower one was disturbed,
        and no kernel is faster for that. It counts operations in direct form. A copy suffers its
        neighbours as much as what is held against it: the two are compared round by round.
        """
        if not self.case.limit:
            return None
        reached = [self.case.work / taken for taken in self.seconds[name, option]]
        if self.case.limit == FMA_PEAK:
            peaks = limits.get(FMA_PEAK)
            return median(reached) / max(peaks) if peaks else None
        if not self.rates:
            return None
        return median(a / b for a, b in zip(reached, self.rates, strict=True))

    def ratio(self, name: str, option: str) -> Spread | None:
        """Return how many times as fast fastcnn is as this competitor."""
        own = self.best(FASTCNN)
        if own is None or name == FASTCNN or not all(self.seconds[FASTCNN, own]):
            return None  # of no page faults nothing is a multiple
        return ratio(self.seconds[FASTCNN, own], self.seconds[name, option])

    def suspicion(self, limits: Limits) -> str | None:
        """Return a sentence if fastcnn's direct kernel passed the peak, which cannot be."""
        own = self.best(FASTCNN)
        if own is None or not isinstance(self.case, Convolution) or not self.case.direct:
            return None
        fraction = self.fraction(FASTCNN, own, limits)
        reached = self.case.least_work / self.case.work * (fraction or 0.0)
        if reached <= SUSPICIOUS:
            return None
        return f"{self.case.title}: {reached:.0%} of the peak: the peak was measured wrongly"


def lines(measured: Measured, limits: Limits) -> str:
    """Return a case's figures, a line for each competitor and option."""
    case = measured.case
    text = [case.title]
    for name, option in measured.seconds:
        figure, reached = measured.figure(name, option), measured.fraction(name, option, limits)
        best = figure.least if isinstance(case, Cost) else figure.most
        line = f"  {name:<12} {option:<14} {_number(figure.median):>8} {case.unit}"
        line += f" (best {_number(best)})"
        if reached is not None:
            line += f", {reached:6.1%} of {'peak' if case.limit == FMA_PEAK else case.limit}"
        faster = measured.ratio(name, option)
        if faster is not None:
            less = "uses {} less" if isinstance(case, Cost) else "{}"
            times = f"{faster.median:.2f} x ({faster.least:.2f} to {faster.most:.2f})"
            line += f", fastcnn {less.format(times)}"
        text.append(line)
    return "\n".join(text)


def limit_lines(limits: Limits) -> list[str]:
    """Return a line for each limit that was measured."""
    text = []
    for name, rates in limits.items():
        found = spread([rate / 1e9 for rate in rates]) if rates else None
        if found is not None and name == FMA_PEAK:
            text.append(
                f"{name}: {found.most:.0f} GFLOP/s, which percents are of "
                f"(median of the rounds {found.median:.0f}, least {found.least:.0f})"
            )
        elif found is not None:
            text.append(f"{name}: {found.median:.1f} GB/s ({found.least:.1f} to {found.most:.1f})")
    return text


def tables(results: Iterable[Measured], names: Sequence[str], limits: Limits) -> str:
    """Return Markdown tables, one for each unit: a line a case, a column a competitor."""
    parts: dict[str, list[Measured]] = {}
    for measured in results:
        unit = "less is better" if isinstance(measured.case, Cost) else measured.case.unit
        scaling = isinstance(measured.case, Scaling)
        parts.setdefault(f"{unit}, fastcnn against itself" if scaling else unit, []).append(
            measured
        )
    text = []
    for unit, part in parts.items():
        peers = [name for name in names if any(m.best(name) is not None for m in part)]
        text.append(_table(unit, part, [name for name in peers if name != FASTCNN], limits))
    return "\n\n".join(text)


def headlines(results: Iterable[Measured], limits: Limits) -> list[str]:
    """Return a line a case, but for convolutions: fastcnn against each peer's best option."""
    text: list[str] = []
    for measured in results:
        own = measured.best(FASTCNN)
        if own is None or isinstance(measured.case, Convolution):
            continue
        parts = [f"fastcnn {_number(measured.figure(FASTCNN, own).median)} {measured.case.unit}"]
        reached = measured.fraction(FASTCNN, own, limits)
        if reached is not None and measured.case.limit != FMA_PEAK:
            parts.append(f"{reached:.2f} of a copy")
        for name in dict.fromkeys(name for name, _ in measured.seconds):
            option = measured.best(name)
            if name == FASTCNN or option is None:
                continue
            faster, theirs = measured.ratio(name, option), measured.figure(name, option).median
            if isinstance(measured.case, Cost):
                mine = measured.figure(FASTCNN, own).median
                share = f" ({mine / theirs:.2f} x)" if theirs else ""
                parts.append(f"{name} {_number(theirs)}{share}")
            elif name == "avx2" and faster is not None:
                parts.append(f"{1 / faster.median:.2f} of it by {name}")
            elif faster is not None:
                parts.append(f"{faster.median:.2f} x {name}")
        text.append(f"{measured.case.title}: {', '.join(parts)}")
    return text


def means(results: Iterable[Measured], name: str) -> list[str]:
    """Return lines on the ratios to one peer's best options: geometric means, and the least."""
    ratios: dict[Convolution, float] = {}
    for measured in results:
        option = measured.best(name)
        faster = None if option is None else measured.ratio(name, option)
        if faster is not None and isinstance(measured.case, Convolution):
            ratios[measured.case] = faster.median
    groups = {"all": list(ratios)}
    for batch in dict.fromkeys(case.batch for case in ratios):
        cases = [case for case in ratios if case.batch == batch]
        groups[f"batch {batch}"] = cases
        for direction in PASSES:
            groups[f"batch {batch}, {direction}"] = [c for c in cases if c.direction == direction]
        groups[f"batch {batch}, 3x3 of stride 1, forward and input gradient"] = [
            case
            for case in cases
            if case.kernel == 3 and case.stride == case.groups == 1
            if case.direction != "weight gradient"
        ]
    text = []
    for title, cases in groups.items():
        if cases:
            least = min(cases, key=lambda case: ratios[case])
            mean = geometric_mean([ratios[case] for case in cases])
            text.append(
                f"{FASTCNN} against {name}, {title}: geometric mean of {len(cases)} ratios "
                f"{mean:.2f} x, the least {ratios[least]:.2f} x ({least.title})"
            )
    return text


def _table(unit: str, results: Sequence[Measured], peers: Sequence[str], limits: Limits) -> str:
    limit = "% of peak" if results[0].case.limit == FMA_PEAK else "% of a copy"
    limited = any(m.case.limit for m in results)
    head = [unit, FASTCNN, *([limit] if limited else []), *peers]
    rows = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    for measured in results:
        own = measured.best(FASTCNN)
        cells = ["-"] * (2 if limited else 1)
        if own is not None:
            cells[0] = _number(measured.figure(FASTCNN, own).median)
            reached = measured.fraction(FASTCNN, own, limits)
            if reached is not None:
                cells[1] = f"{reached:.0%}"
        for peer in peers:
            option = measured.best(peer)
            if option is None:
                cells.append("-")
                continue
            faster = measured.ratio(peer, option)
            times = "" if faster is None else f" ({faster.median:.2f} x)"
            cells.append(f"{_number(measured.figure(peer, option).median)}{times}")
        rows.append(f"| {measured.case.title} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
