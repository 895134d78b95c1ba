"""A fast backend for weights that stay, as a plan of inference has them, called op by op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastcnn._memory import empty
from fastcnn.backend import Array
from fastcnn.fast import FastBackend

__all__ = ["Kept"]


class Kept(FastBackend):
    """Packs the weights of its ops, which must stay, in the first call."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.kept: dict[Any, tuple[Array, Array]] = {}

    def _kept(self, size: int, pack: Callable[..., None], w: Array, *more: Any) -> Array | None:
        key = pack, w.ctypes.data, w.shape
        if key not in self.kept:
            room = empty((size,), w.dtype)
            pack(room, w, *more)
            self.kept[key] = room, w  # w stays where it is while it is here
        return self.kept[key][0]
