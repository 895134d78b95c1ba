"""Batches gathered by a kernel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastcnn._types import Array
from fastcnn.fast._base import Base

__all__ = ["Batches"]

_WORTH_A_TEAM = 1 << 14  # numbers of a batch: its rows come from memory, one after another


class Batches(Base):
    """What fills the arrays of a batch."""

    def _taking(self, batch: Array, rows: Array) -> Callable[[Array], None] | None:
        """Return a function of `chosen` that writes rows[chosen] to a batch, uint8 divided by 255.

        None where no kernel can.
        """
        if rows.dtype not in (batch.dtype, np.uint8) or not rows.size:
            return None
        if not rows.flags.c_contiguous or not rows.flags.aligned:
            return None
        kernel = self._load(batch).batches
        take = kernel.take if rows.dtype == batch.dtype else kernel.take_bytes
        threads = self.num_threads if batch.size >= _WORTH_A_TEAM else 1
        flat = batch.reshape(len(batch), -1), rows.reshape(len(rows), -1)
        return lambda chosen: take(*flat, chosen, threads)
