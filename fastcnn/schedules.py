"""Learning-rate schedules.

A schedule is a function of (step, total_steps): the number of steps done and the number that
training will take. It returns the factor by which the optimizer's learning rate is multiplied in
this step. It remembers nothing, so training that was interrupted resumes where it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from fastcnn._options import choice, number
from fastcnn._sentences import shown, takes
from fastcnn._settings import Checks, Settings
from fastcnn.nn._repr import OptionsRepr

__all__ = ["Constant", "Cosine", "Schedule", "Step", "WarmUp", "get_schedule"]

Schedule = Callable[[int, int], float]

_share = partial(number, low=0.0, high=1.0)


def _rising(value: object, where: str) -> tuple[float, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{where}: expected a list of shares, got {type(value).__name__}")
    shares = tuple(number(share, where, 0.0, 1.0) for share in value)
    if list(shares) != sorted(shares):
        raise ValueError(f"{where}: expected rising shares, got {value!r:.80}")
    return shares


class Constant(OptionsRepr, Settings):
    """The learning rate as it is."""

    def __init__(self) -> None:
        super().__init__()

    def __call__(self, step: int, total_steps: int) -> float:
        """Return 1."""
        return 1.0


class Step(OptionsRepr, Settings):
    """The learning rate times `factor` at each of the milestones.

    milestones: rising shares of the training between 0 and 1, factor: above 0.
    """

    _checks: ClassVar[Checks] = {
        "milestones": _rising,
        "factor": partial(number, low=0.0, open_low=True),
    }

    def __init__(self, milestones: Sequence[float] = (0.5, 0.75), *, factor: float = 0.1) -> None:
        self.milestones = milestones
        self.factor = factor

    def __call__(self, step: int, total_steps: int) -> float:
        """Return factor ** (milestones passed)."""
        return self.factor ** sum(step >= m * total_steps for m in self.milestones)


class Cosine(OptionsRepr, Settings):
    """From the full learning rate down to `final` of it along half a cosine wave.

    final + (1 - final) * (1 + cos(pi * step / total_steps)) / 2 (Loshchilov and Hutter, 2017).
    """

    _checks: ClassVar[Checks] = {"final": _share}

    def __init__(self, *, final: float = 0.0) -> None:
        self.final = final

    def __call__(self, step: int, total_steps: int) -> float:
        """Return the cosine's factor; after the last step it stays at `final`."""
        share = min(step / total_steps, 1.0) if total_steps > 0 else 1.0
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * share))


class WarmUp(OptionsRepr, Settings):
    """A linear rise to the full learning rate, then another schedule over the remaining steps.

    share: the part of the training that the rise takes; the first step has 1 / rise of the rate.
    """

    _checks: ClassVar[Checks] = {
        "after": lambda value, where: get_schedule(value),
        "share": _share,
    }

    def __init__(self, after: Schedule | str = "constant", *, share: float = 0.1) -> None:
        self.after: Any = after  # a schedule
        self.share = share

    def __call__(self, step: int, total_steps: int) -> float:
        """Return (step + 1) / rise while it rises, then the other schedule's factor."""
        rise = round(self.share * total_steps)
        if step < rise:
            return (step + 1) / rise
        factor: float = self.after(step - rise, total_steps - rise)
        return factor


SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "constant": Constant,
    "step": Step,
    "cosine": Cosine,
    "warmup-cosine": lambda: WarmUp(Cosine()),
}


def get_schedule(schedule: Schedule | str | None) -> Schedule:
    """Return the schedule of that name; a schedule is given back, None is the constant one."""
    if schedule is None:
        return Constant()
    if isinstance(schedule, type):
        raise TypeError(
            f"schedule: expected a schedule, got the class {schedule.__name__}; call it"
        )
    if callable(schedule):
        if not takes(schedule, 2):
            raise TypeError(
                "schedule: expected a function of (step, total_steps) that returns a factor, got "
                f"{shown(schedule):.160}"
            )
        return schedule
    return SCHEDULES[choice(schedule, "schedule", SCHEDULES)]()
