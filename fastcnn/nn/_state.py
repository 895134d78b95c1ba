"""What a model takes as its weights by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array
from fastcnn.backend import Array
from fastcnn.nn._options import Shape

__all__ = ["check_state"]


def check_state(
    shapes: Mapping[str, Shape],
    state: Mapping[str, ArrayLike],
    dtype: np.dtype[Any] | None,
) -> dict[str, Array]:
    """Return the state's arrays if names, shapes and dtypes are as expected, else raise."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state: expected a mapping of names to arrays, got {type(state).__name__}")
    missing = [name for name in shapes if name not in state]
    unexpected = [f"{name!s:.80}" for name in state if name not in shapes]
    if missing or unexpected:
        parts = [
            f"{what} {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            for what, names in (("missing:", missing), ("unexpected:", unexpected))
            if names
        ]
        raise ValueError(f"state: expected the names of this model's arrays; {'; '.join(parts)}")
    arrays = {}
    for name, shape in shapes.items():
        array = as_array(state[name], f"state: {name}")
        if dtype is None or array.dtype.newbyteorder("=") != dtype:
            raise TypeError(f"state: {name}: expected dtype {dtype}, got {array.dtype}")
        if array.shape != shape:
            raise ValueError(f"state: {name}: expected shape {shape}, got {array.shape}")
        arrays[name] = array
    return arrays
