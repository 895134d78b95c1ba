"""What the ops share that are bound by memory rather than by arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn._checks import fits_memory, too_large
from fastcnn._types import Array
from fastcnn.fast._base import Base

__all__ = ["MemoryBound"]

# To wake a sleeping team of threads takes up to 0.1 ms, in which one thread handles about as
# many elements as this.
_WORTH_A_TEAM = 100_000


class MemoryBound(Base):
    """A fast backend whose threads are only called for arrays worth it."""

    def _team(self, array: Array) -> int:
        """Return how many threads to use for an op that touches every element of `array`."""
        return self.num_threads if array.size >= _WORTH_A_TEAM else 1

    def _result(
        self, op: str, arguments: str, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Array:
        """Return an array for a result that may be too large by these arguments."""
        fits_memory(shape, f"{op}: {arguments}")
        try:
            return self._empty(shape, dtype)
        except MemoryError:
            raise MemoryError(too_large(shape, f"{op}: {arguments}")) from None
