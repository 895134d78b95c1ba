"""The progress bar of training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any


class ProgressBar:
    """One tqdm bar an epoch, with loss, accuracy and images per second.

    The rate is that of training alone: time spent on validation does not count.
    """

    def __init__(self, epoch: int, epochs: int, images: int) -> None:
        from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

        self._bar: Any = tqdm(
            total=images,
            desc=f"epoch {epoch}/{epochs}",
            bar_format="{desc} {percentage:3.0f}%|{bar:20}| {n}/{total} [{elapsed}]{postfix}",
        )
        self._start = time.perf_counter()
        self._done = 0
        self._rate = 0.0

    def advance(self, images: int, numbers: Mapping[str, float]) -> None:
        """Count a step's images and show the epoch's numbers so far."""
        self._done += images
        elapsed = time.perf_counter() - self._start
        self._rate = self._done / elapsed if elapsed > 0 else 0.0
        self._bar.set_postfix_str(self._said(numbers), refresh=False)
        self._bar.update(images)

    def finish(self, numbers: Mapping[str, float]) -> None:
        """Show the epoch's final numbers."""
        self._bar.set_postfix_str(self._said(numbers), refresh=True)

    def close(self) -> None:
        """Leave the bar as it is and end its line."""
        self._bar.close()

    def _said(self, numbers: Mapping[str, float]) -> str:
        said = [f"{name} {value:.4f}" for name, value in numbers.items()]
        return ", ".join([*said, f"{self._rate:,.0f} images/s"])
