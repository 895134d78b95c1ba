"""Streams of randomness."""

from __future__ import annotations

from typing import Any

import numpy as np


class Stream:
    """The np.random.Generator of (seed, purpose, number), made at its first draw.

    Most steps draw nothing, and to make one takes as long as a small op.
    """

    def __init__(self, seed: int, purpose: int, number: int) -> None:
        self._origin = seed, purpose, number
        self._generator: np.random.Generator | None = None

    def __getattr__(self, name: str) -> Any:
        if self._generator is None:
            seed, *spawn_key = self._origin
            self._generator = np.random.default_rng(
                np.random.SeedSequence(seed, spawn_key=spawn_key)
            )
        return getattr(self._generator, name)
