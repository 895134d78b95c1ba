"""Figures as text: the lines of a case as it is measured, and the tables at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import geometric_mean, median

from benchmarks._cases import PASSES, Case, Convolution
from benchmarks._timing import Spread, ratio, spread

__all__ = ["SUSPICIOUS", "Measured", "lines", "means", "tables"]

FASTCNN = "fastcnn"

# A direct kernel cannot pass the peak; beyond this the peak itself was measured wrongly.
SUSPICIOUS = 1.05


@dataclass(frozen=True)
class Measured:
    """A case's times: seconds a call for each (competitor, option), one number a round."""

    case: Case
    seconds: dict[tuple[str, str], list[float]]

    def best(self, name: str) -> str | None:
        """Return the competitor's fastest option, None where it has no figure."""
        options = [option for competitor, option in self.seconds if competitor == name]
        return min(options, key=lambda option: median(self.seconds[name, option]), default=None)

    def rate(self, name: str, option: str) -> Spread:
        """Return images, or 1e9 operations, a second."""
        return spread([self.case.amount / taken for taken in self.seconds[name, option]])

    def fraction(self, name: str, option: str, peak: float) -> float:
        """Return the part of the peak that it reached, by the case's operations in direct form.

        peak: operations a second, the most that any round of the run has seen. A lower one was
        disturbed, and no kernel is faster for that.
        """
        return self.case.flops / median(self.seconds[name, option]) / peak

    def ratio(self, name: str, option: str) -> Spread | None:
        """Return how many times as fast fastcnn is as this competitor."""
        own = self.best(FASTCNN)
        if own is None or name == FASTCNN:
            return None
        return ratio(self.seconds[FASTCNN, own], self.seconds[name, option])

    def suspicion(self, peak: float) -> str | None:
        """Return a sentence if fastcnn's direct kernel passed the peak, which cannot be."""
        own = self.best(FASTCNN)
        if own is None or not isinstance(self.case, Convolution):
            return None
        useful = self.case.least_flops / self.case.flops
        reached = useful * self.fraction(FASTCNN, own, peak)
        if reached <= SUSPICIOUS:
            return None
        return f"{self.case.title}: {reached:.0%} of the peak: the peak was measured wrongly"


def lines(measured: Measured, peak: float) -> str:
    """Return a case's figures, a line for each competitor and option."""
    case = measured.case
    text = [case.title]
    for name, option in measured.seconds:
        rate, reached = measured.rate(name, option), measured.fraction(name, option, peak)
        line = (
            f"  {name:<12} {option:<14} {_number(rate.median):>8} {case.unit}"
            f" (best {_number(rate.most)}), {reached:6.1%} of peak"
        )
        faster = measured.ratio(name, option)
        if faster is not None:
            line += f", fastcnn {faster.median:.2f} x ({faster.least:.2f} to {faster.most:.2f})"
        text.append(line)
    return "\n".join(text)


def tables(results: Iterable[Measured], names: Sequence[str], peak: float) -> str:
    """Return Markdown: the sample network, and the convolutions with a line a shape and pass."""
    results = list(results)
    networks = [m for m in results if not isinstance(m.case, Convolution)]
    convolutions = [m for m in results if isinstance(m.case, Convolution)]
    parts = []
    for part in (networks, convolutions):
        peers = [name for name in names if any(m.best(name) is not None for m in part)]
        if part:
            parts.append(_table(part, [name for name in peers if name != FASTCNN], peak))
    return "\n\n".join(parts)


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


def _table(results: Sequence[Measured], peers: Sequence[str], peak: float) -> str:
    head = [results[0].case.unit, FASTCNN, "% of peak", *peers]
    rows = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (2 + len(peers))]
    for measured in results:
        own = measured.best(FASTCNN)
        cells = ["-", "-"]
        if own is not None:
            reached = measured.fraction(FASTCNN, own, peak)
            cells = [_number(measured.rate(FASTCNN, own).median), f"{reached:.0%}"]
        for peer in peers:
            option = measured.best(peer)
            if option is None:
                cells.append("-")
                continue
            faster = measured.ratio(peer, option)
            times = "" if faster is None else f" ({faster.median:.2f} x)"
            cells.append(f"{_number(measured.rate(peer, option).median)}{times}")
        rows.append(f"| {measured.case.title} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
