"""What training measured."""

from __future__ import annotations


class History(dict[str, list[float]]):
    """Lists of floats by name, one a step ("step_loss") or an epoch (the others).

    It is a dict in all but its looks: a line with the numbers of the last epoch.
    """

    def __repr__(self) -> str:
        epochs = len(self.get("loss", ()))
        last = [
            f"{name} {values[-1]:.4f}"
            for name, values in self.items()
            if name != "step_loss" and values
        ]
        numbers = f": {', '.join(last)}" if last else ""
        return f"History({epochs} epoch{'s' * (epochs != 1)}{numbers})"
