"""Objects whose settings are checked whenever they are set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from fastcnn._sentences import explained

__all__ = ["Checks", "Settings"]

Checks = Mapping[str, Callable[[Any, str], Any]]  # of (value, "Class: name") by name


class Settings:
    """Base of what holds settings: one that is changed later is checked as in the constructor.

    The classes of fastcnn refuse names that they do not know: nothing would look at them. What
    they remember has names that begin with an underscore. A subclass of one's own may keep what
    it likes.
    """

    _checks: ClassVar[Checks] = {}
    _hint: ClassVar[str] = ""  # to wrong arguments of the constructor

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = explained(cls.__init__)  # type: ignore[method-assign]

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        if name in self._checks:
            value = self._checks[name](value, f"{kind.__name__}: {name}")
        elif kind.__module__.startswith("fastcnn.") and not name.startswith("_"):
            settings = ", ".join(self._checks) or "(it has none)"
            raise AttributeError(
                f"{kind.__name__}: expected one of its settings {settings}, got {name:.80}"
            )
        super().__setattr__(name, value)
