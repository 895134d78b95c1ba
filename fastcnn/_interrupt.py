"""Ctrl-C that never cuts a training step in two, and is never lost."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import AbstractContextManager
from types import FrameType, TracebackType


class Interrupts:
    """While entered, Ctrl-C works as ever, except inside `held()`, at whose end it arrives.

    Python drops what is raised inside `__del__` and other callbacks that have no caller; a
    Ctrl-C that lands there arrives at the end of the next `held()` too, or of all. Where
    Ctrl-C is nobody's (other threads, an ignored signal) nothing is changed.
    """

    def __init__(self) -> None:
        self._holding = False
        self._pending: tuple[int, FrameType | None] | None = None
        self._raised: BaseException | None = None
        self._installed = False

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if callable(previous):
                self._previous = previous
                self._previous_hook = sys.unraisablehook
                self._installed = True
                sys.unraisablehook = self._unraisable
                signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._installed:
            self._installed = False
            signal.signal(signal.SIGINT, self._previous)
            sys.unraisablehook = self._previous_hook
            self._raised = None
            self._deliver()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._holding:
            self._pending = (number, frame)
            return
        try:
            self._previous(number, frame)
        except BaseException as error:
            self._raised = error
            raise

    def _unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        if self._raised is not None and unraisable.exc_value is self._raised:
            self._raised = None
            self._pending = (signal.SIGINT, None)
        else:
            self._previous_hook(unraisable)

    def _deliver(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            self._previous(*pending)

    def held(self) -> AbstractContextManager[None]:
        """Return a context manager that holds Ctrl-C back until the end of the block."""
        return _Held(self)


class _Held:
    """A block that Ctrl-C waits for. Each step has one: a generator takes three times as long."""

    __slots__ = ("_by",)

    def __init__(self, by: Interrupts) -> None:
        self._by = by

    def __enter__(self) -> None:
        self._by._holding = True

    def __exit__(self, *error: object) -> None:
        self._by._holding = False
        self._by._deliver()
