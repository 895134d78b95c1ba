"""Between the steps of training: when other threads may look at a model."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class StepLock:
    """Lets threads look at a model that one of them trains as it is between two steps.

    Who looks does not wait for others that look, and hardly ever for a step: it looks, and again,
    with the steps held back, only where a step came between. A copy is another lock.
    """

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._changing = False
        self._changes = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return StepLock, ()

    def held(self) -> AbstractContextManager[Any]:
        """Return a context manager that keeps steps, and `held` in other threads, waiting."""
        if self._process != os.getpid():  # a fork: who held it may not be here to let go
            self._renew()
        return self._lock

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change the model: no other thread gets to see a part of what the block does."""
        with self.held():
            outer, self._changing = self._changing, True
            try:
                yield
            finally:
                self._changes += 1
                self._changing = outer

    def change(self, make: Callable[[], T]) -> T:
        """Return what make() returns, which changes the model as a block of `changing` does.

        Each step does, and a generator takes three times as long.
        """
        with self.held():
            outer, self._changing = self._changing, True
            try:
                return make()
            finally:
                self._changes += 1
                self._changing = outer

    def unchanged(self, look: Callable[[], T]) -> T:
        """Return what look() returns of a model that did not change meanwhile."""
        changes = self._changes
        if not self._changing:
            result = look()
            if not self._changing and self._changes == changes:  # in this order
                return result
        with self.held():
            return look()
