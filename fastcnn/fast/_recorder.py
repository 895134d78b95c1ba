"""A fast backend that notes the kernel calls of the ops it runs, so that they can be repeated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from fastcnn._memory import empty, is_pooled, memory_of
from fastcnn.backend import Array
from fastcnn.fast import FastBackend
from fastcnn.fast._conv_block import _Block

__all__ = ["Recorder"]

# Of arrays that are kept for the next step, beyond which op after op takes less memory and as long.
_MOST_BYTES = 64 << 20
_WORKSPACE = "workspace"  # the kernels' argument that holds nothing before a call or after it


class Recorder(FastBackend):
    """Runs ops and notes their kernel calls.

    To make these again is to run the ops again on what their arrays hold by then, without the
    checks, allocations and look-ups in between. What is not the call of a kernel is not repeated,
    unless it is handed to `aside`. `whole`: whether nothing else came to light; an array that is
    not from the pool was made by NumPy. And whether it is worth the memory: nothing is kept else.
    """

    def __init__(self, backend: FastBackend) -> None:
        super().__init__(backend.isa, backend._num_threads, convolution=backend.convolution)
        self._tape = _Tape()
        self._kernels: dict[int, _Noted] = {}

    @property
    def whole(self) -> bool:
        return self._tape.whole

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
        if self.whole:
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
        self._tape.drop()  # it writes to argmax
        return super()._plain_block(x, w, b, block)


class _Tape:
    """What a recorder notes. It knows no recorder: a cycle would keep the arrays alive."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], list[Any]]] = []
        self.whole = True
        self._seen: set[int] = set()  # the memory of the arrays, by its identity,
        self._bytes = 0  # and its size

    def drop(self) -> None:
        """Note nothing more, and let go of what was."""
        self.whole = False
        self.calls.clear()

    def note(self, kernel: Any, *arguments: Any) -> Any:
        """Call a kernel, and note the call if it does more than look or tell a size."""
        arrays = [argument for argument in arguments if isinstance(argument, np.ndarray)]
        if self.whole and arrays and kernel.__name__ != "places_above":
            given = list(arguments)
            names = kernel.__code__.co_varnames
            if _WORKSPACE in names:
                at = names.index(_WORKSPACE)
                given[at] = _Room(given[at])
            self.calls.append((kernel, given))
            self._keep(given)
            if not all(map(is_pooled, arrays)) or self._bytes > _MOST_BYTES:
                self.drop()
        return kernel(*arguments)

    def _keep(self, given: list[Any]) -> None:
        """Count the memory that a call keeps."""
        for memory in (memory_of(array) for array in given if isinstance(array, np.ndarray)):
            if id(memory) not in self._seen:
                self._seen.add(id(memory))
                self._bytes += memory.nbytes


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
