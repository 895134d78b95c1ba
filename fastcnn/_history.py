"""What training measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from fastcnn._sentences import no_attribute


class History(dict[str, list[float]]):
    """Lists of floats by name, one a step ("step_loss") or an epoch (the others).

    It is a dict in all but its looks: a line with the numbers of the last epoch.
    """

    _last: tuple[str, ...] | None = None  # what the last epoch measured, if that is known

    def add(self, numbers: Mapping[str, float]) -> None:
        """Take down the numbers of an epoch."""
        for name, value in numbers.items():
            self.setdefault(name, []).append(value)
        self._last = tuple(numbers)

    def copy(self) -> History:
        """Return a history of its own, with lists of its own."""
        twin = History({name: list(values) for name, values in self.items()})
        twin._last = self._last
        return twin

    def __repr__(self) -> str:
        epochs = len(self.get("loss", ()))
        # What has a number for every epoch has one for the last.
        names = self._last or [name for name in self if len(self[name]) == epochs]
        last = [
            f"{name} {values[-1]:.4f}"
            for name, values in self.items()
            if name in names and name != "step_loss" and values
        ]
        numbers = f": {', '.join(last)}" if last else ""
        return f"History({epochs} epoch{'s' * (epochs != 1)}{numbers})"

    if not TYPE_CHECKING:  # with it, type checkers would take any attribute

        def __getattr__(self, name: str) -> NoReturn:
            raise no_attribute(self, name, _ELSEWHERE)


_ELSEWHERE: dict[str, Any] = {
    "history": 'it is the dict itself, history["loss"] is a list of floats',
    "epoch": 'len(history["loss"]) is how many there were',
}
