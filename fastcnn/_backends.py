"""The two backends by name, and whether one is the library's fast one, which does more."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, cast

from fastcnn._contract import PARTS
from fastcnn.backend import Backend

if TYPE_CHECKING:
    from fastcnn.fast import FastBackend

__all__ = ["as_fast", "get_backend", "packed_backend", "unpacked_backend"]

_OPS = [name for part in PARTS for name in vars(part) if not name.startswith("_")]


def get_backend(name: str | Backend) -> Backend:
    """Return the backend called "fast" or "reference"; a backend object is given back as it is.

    Raises ValueError for an unknown name, TypeError for anything that is no backend.
    """
    if isinstance(name, str):
        if name == "fast":
            from fastcnn.fast import FastBackend

            return FastBackend()
        if name == "reference":
            return cast("Backend", import_module("fastcnn.reference"))
        raise ValueError(f'backend: expected "fast" or "reference", got {name!r}')
    if isinstance(name, type):
        raise TypeError(f"backend: expected a backend, got the class {name.__name__}; call it")
    # By what an object answers to: since Python 3.12 isinstance does not see what a wrapper
    # hands on by __getattr__.
    if all(callable(getattr(name, op, None)) for op in _OPS):
        return name
    raise TypeError(
        f'backend: expected "fast", "reference" or an object with every op of '
        f"fastcnn.backend.Backend, got {type(name).__name__}"
    )


def packed_backend(backend: Backend) -> Backend | str:
    """Return what copies and pickles take along of a backend: of a module its name."""
    return backend.__name__ if isinstance(backend, ModuleType) else backend


def unpacked_backend(packed: Backend | str) -> Backend:
    """Return the backend of which packed_backend made this."""
    return cast("Backend", import_module(packed)) if isinstance(packed, str) else packed


def as_fast(backend: Backend) -> FastBackend | None:
    """Return the backend where plans may run in place of its ops, else None.

    A wrapper that hands calls on to a fast backend, a subclass, and a backend with a function put
    in an op's place want to be called.
    """
    if "_takes_plans" not in vars(type(backend)) or any(map(callable, vars(backend).values())):
        return None
    return cast("FastBackend", backend)
