"""Recurrent ops."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.functional._call import backend_of, with_names

__all__ = ["lstm"]


@with_names()
def lstm(
    x: ArrayLike,
    w: ArrayLike,
    r: ArrayLike,
    b: ArrayLike | None = None,
    *,
    h0: ArrayLike | None = None,
    c0: ArrayLike | None = None,
    reverse: bool = False,
    backend: str | Backend = "fast",
) -> Array:
    """Return what a long short-term memory gives at each step: x (N, T, C) -> y (N, T, K).

    See `fastcnn.backend.Backend.lstm`, which returns the last states too.
    """
    return backend_of(backend).lstm(x, w, r, b, h0=h0, c0=c0, reverse=reverse)[0]
