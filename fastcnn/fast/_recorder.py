"""A fast backend that notes the kernel calls of the ops it runs, so that they can be repeated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from fastcnn._memory import empty, is_pooled
from fastcnn.backend import Array
from fastcnn.fast import FastBackend
from fastcnn.fast._conv_block import _Block

__all__ = ["Recorder"]

_WORKSPACE = "workspace"  # the kernels' argument that holds nothing before a call or after it


class Recorder(FastBackend):
    """Runs ops and notes their kernel calls.

    To make these again is to run the ops again on what their arrays hold by then, without the
    checks, allocations and look-ups in between. What is not the call of a kernel is not repeated,
    unless it is handed to `aside`. `whole`: whether nothing else came to light; an array that is
    not from the pool was made by NumPy.
    """

    def __init__(self, backend: FastBackend) -> None:
        super().__init__(backend.isa, backend._num_threads, convolution=backend.convolution)
        self._tape = _Tape()
        self._kernels: dict[int, _Noted] = {}

    @property
    def whole(self) -> bool:
        return self._tape.whole

    @classmethod
    def of(cls, backend: FastBackend) -> Recorder | None:
        """Return a recorder in the place of a backend; None where that has ops of its own."""
        own = type(backend) is not FastBackend or any(map(callable, vars(backend).values()))
        return None if own else cls(backend)

    def __len__(self) -> int:
        return len(self._tape.calls)

    def calls(self) -> list[Callable[[], Any]]:
        """Return the calls, to be made in this order; they share a workspace."""
        noted = self._tape.calls
        rooms = [room for _, given in noted for room in given if isinstance(room, _Room)]
        size = max((room.size for room in rooms), default=0)
        workspace = empty((size,), np.dtype(np.uint8))

        def with_workspace(argument: Any) -> Any:
            if isinstance(argument, _Room):
                return workspace[: argument.size].view(argument.dtype)
            return argument

        return [partial(kernel, *map(with_workspace, given)) for kernel, given in noted]

    def aside(self, call: Callable[[], Any]) -> None:
        """Make a call that is no op's, and note it too."""
        self._tape.calls.append((call, []))
        call()

    def _load(self, array: Array) -> Any:
        width = array.dtype.itemsize
        if width not in self._kernels:
            self._kernels[width] = _Noted(super()._load(array), self._tape)
        return self._kernels[width]

    def _plain_block(
        self, x: Array, w: Array, b: Array | None, block: _Block
    ) -> tuple[Array, Array]:
        self._tape.whole = False  # it writes to argmax
        return super()._plain_block(x, w, b, block)


class _Tape:
    """What a recorder notes. It knows no recorder: a cycle would keep the arrays alive."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], list[Any]]] = []
        self.whole = True

    def note(self, kernel: Any, *arguments: Any) -> Any:
        """Call a kernel, and note the call if it does more than look or tell a size."""
        arrays = [argument for argument in arguments if isinstance(argument, np.ndarray)]
        if arrays and kernel.__name__ != "places_above":
            self.whole = self.whole and all(map(is_pooled, arrays))
            given = list(arguments)
            names = kernel.__code__.co_varnames
            if _WORKSPACE in names:
                at = names.index(_WORKSPACE)
                given[at] = _Room(given[at])
            self.calls.append((kernel, given))
        return kernel(*arguments)


class _Room:
    """What a workspace takes."""

    def __init__(self, workspace: Array) -> None:
        self.size, self.dtype = workspace.nbytes, workspace.dtype


class _Noted:
    """Kernel modules, or one of them, whose calls are noted."""

    def __init__(self, holder: Any, tape: _Tape) -> None:
        self._holder, self._tape = holder, tape

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._holder, name)
        if isinstance(value, ModuleType):
            value = _Noted(value, self._tape)
        elif callable(value):
            value = partial(self._tape.note, value)
        setattr(self, name, value)
        return value
