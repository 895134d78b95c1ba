"""What every function shares: one image or a batch, and errors in the function's own names."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array
from fastcnn._backends import get_backend
from fastcnn._sentences import explained
from fastcnn._types import Array
from fastcnn.backend import Backend

__all__ = ["backend_of", "on_batch", "with_names"]

P = ParamSpec("P")
R = TypeVar("R")

_AXES = {
    1: "a vector (C,)",
    2: "a batch (N, C)",
    3: "an image (H, W, C)",
    4: "a batch (N, H, W, C)",
}


@lru_cache(maxsize=1)
def _fast() -> Backend:
    return get_backend("fast")


def backend_of(backend: str | Backend) -> Backend:
    return _fast() if backend == "fast" else get_backend(backend)


def with_names(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let errors speak of a function and its arguments, not of the op and its: w="filters"."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except (TypeError, ValueError) as error:
                said = re.match(r"\w+: (\w+)(?=: expected )", str(error))
                if said is None or type(error) not in (TypeError, ValueError):
                    raise
                where = f"{function.__name__}: {names.get(said[1], said[1])}"
                own = type(error)(f"{where}{str(error)[said.end() :]}")
                raise own.with_traceback(error.__traceback__) from None

        return explained(call)

    return decorate


def on_batch(
    name: str, op: Callable[[Array], Array], x: ArrayLike, ranks: tuple[int, ...] = (3, 4)
) -> Array:
    """Apply an op on batches to a batch, or to what has the first of these ranks: one of it."""
    array = as_array(x, f"{name}: x")
    if array.ndim == ranks[0]:
        result: Array = op(array[np.newaxis])[0]
        return result
    if array.ndim not in ranks and array.dtype.kind in "biuf":
        hint = "; x[..., None] adds the axis of channels" if array.ndim == ranks[0] - 1 == 2 else ""
        raise ValueError(
            f"{name}: x: expected {' or '.join(_AXES[rank] for rank in ranks)}, got shape "
            f"{array.shape}{hint}"
        )
    return op(array)
