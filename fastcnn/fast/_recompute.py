"""What a fused kernel cannot tell in float32 is computed again, op by op.

Sums show it in the midst of a kernel, when some of the results are written: all of them are
replaced. It is rare, and need not be fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcnn._types import Array

__all__ = ["noting", "otherwise", "where_narrow"]


def noting(fits: list[bool], kernel: Any, *arguments: Any) -> None:
    """Call a kernel and note whether its sums fit."""
    fits[0] = kernel(*arguments)


def otherwise(fits: list[bool], compute: Callable[[], tuple[Array, ...]], *results: Array) -> None:
    """Replace the results where the sums did not fit."""
    if not fits[0]:
        for result, array in zip(results, compute(), strict=True):
            np.copyto(result, array)


def where_narrow(sums: Array, compute: Callable[[], tuple[Array, ...]], *results: Array) -> None:
    """Replace the results where batch_norm_statistics found the dtype too narrow."""
    otherwise([sums[2, 0] == 0], compute, *results)
