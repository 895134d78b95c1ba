"""What files hold of a model: its weights by name, and its layers' constructor arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array
from fastcnn._types import Array, Shape

__all__ = ["as_lists", "check_state", "config_of", "is_call", "is_index"]

_MISSING = object()


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


def config_of(module: Any) -> dict[str, Any]:
    """Return the constructor's arguments of a layer by name; see Module.config."""
    options: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(type(module).__init__).parameters.items())[1:]:
        value: Any = getattr(module, name, _MISSING)
        collects = parameter.kind is parameter.VAR_KEYWORD
        if value is _MISSING or (collects and not isinstance(value, Mapping)):
            kind = "a dict" if collects else "an attribute"
            raise ValueError(
                f"{type(module).__name__}: {name}: expected the constructor's argument as "
                f"{kind} self.{name}, got none; set it, or override config()"
            )
        if name == "name" and value is parameter.default is None:
            continue  # so that files say nothing of a name that was not given
        options.update(value if collects else {name: value})
    return options


# ---------------------------------------------------------------------- the calls of a Model
def as_lists(value: Any) -> Any:
    """Return lists where tuples are, as a file has them."""
    return list(map(as_lists, value)) if isinstance(value, (tuple, list)) else value


def is_index(value: object) -> bool:
    """Return whether a file's value is an index from 0 on."""
    return type(value) is int and 0 <= value < 2**31


def is_call(value: object) -> bool:
    """Return whether it is (a layer's index, those of values), or (-1, (of a value, in it))."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return False
    place, sources = value
    if not isinstance(sources, (tuple, list)) or not sources or not all(map(is_index, sources)):
        return False
    return is_index(place) or (place == -1 and len(sources) == 2)
