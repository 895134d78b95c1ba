"""What JSON can hold, checked before it is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["checked_notes", "json_value"]

_MOST_BITS = 1024  # of an integer: Python refuses to read those of thousands of digits


def checked_notes(notes: object, where: str) -> dict[str, Any]:
    """Return notes as a dict of what JSON can hold; None is empty.

    TypeError, or ValueError for a number that JSON has not, names the first value that is wrong.
    """
    if notes is None:
        return {}
    if not isinstance(notes, Mapping):
        raise TypeError(f"{where}: expected a dict, got {type(notes).__name__}")
    try:
        plain: dict[str, Any] = json_value(notes, where)
    except RecursionError:
        raise ValueError(f"{where}: expected values of JSON, got some nested too deep") from None
    return plain


def json_value(value: object, where: str) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        if value.bit_length() > _MOST_BITS:
            raise ValueError(
                f"{where}: expected an integer of at most {_MOST_BITS} bits, got one of "
                f"{value.bit_length()}"
            )
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where}: expected a number that JSON can hold, got {value}")
        return float(value)
    if isinstance(value, (list, tuple)):
        return [json_value(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(
                    f"{where}: expected keys that are strings, got {type(key).__name__} {key!r:.80}"
                )
        return {key: json_value(item, f"{where}[{key!r:.80}]") for key, item in value.items()}
    hint = "; .tolist() makes one" if isinstance(value, (np.ndarray, np.generic)) else ""
    raise TypeError(f"{where}: expected a value of JSON, got {type(value).__name__}{hint}")
