"""What a caller gives becomes an array; what would lose something by it is refused."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

import numpy as np

from fastcnn._types import Array

__all__ = ["as_array", "require_unmasked"]


def as_array(value: Any, where: str) -> Array:
    """Return `value` as an array of whatever dtype, an array as it is.

    TypeError for what is none (None, a generator), ValueError for lists of unequal lengths and for
    masked numbers, which would become numbers like others.
    """
    if type(value) is np.ndarray:
        return value
    require_unmasked(value, where)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{where}: expected an array, got what is none: {error}") from None
    if array.ndim == 0 and array.dtype == object and not isinstance(value, np.ndarray):
        several = isinstance(value, (Iterator, Set))
        hint = "; np.array(list(...)) makes one of it" if several else ""
        raise TypeError(f"{where}: expected an array, got {type(value).__name__}{hint}")
    return array


def require_unmasked(value: Any, where: str) -> None:
    """Refuse an array with masked numbers, and a list of arrays that has one."""
    arrays = value if isinstance(value, (list, tuple)) else [value]
    if not arrays or not isinstance(arrays[0], np.ndarray):
        return  # numbers, as a rule
    if any(isinstance(each, np.ma.MaskedArray) and np.ma.is_masked(each) for each in arrays):
        raise ValueError(
            f"{where}: expected an array without masked numbers, got some that are; its method "
            "filled(0) puts numbers in their place"
        )
