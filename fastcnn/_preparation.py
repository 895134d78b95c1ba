"""What a backend offers beside its ops, if it does."""

from __future__ import annotations

from typing import Any, cast

from fastcnn.backend import Backend

__all__ = ["preparation"]


def preparation(backend: Backend) -> Any:
    """Return what makes a backend's ops ready (`fastcnn.fast._prepared.Preparation`), or None.

    Only where the ops are those of the class that offers it. A wrapper that hands calls on to a
    fast backend, a subclass, and a backend with a function put in an op's place want to be called.
    """
    if "prepared" not in vars(type(backend)) or any(map(callable, vars(backend).values())):
        return None
    return cast("Any", backend).prepared
