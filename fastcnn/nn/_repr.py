"""Objects in words: what a prompt or a notebook shows of them, on one line."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastcnn.nn._module import Module

_MOST = 100  # characters of a value


class OptionsRepr:
    """Base of what is shown as its constructor's call, without the options left at their defaults.

    An option is an attribute of the same name; what has none is left out.
    """

    def __repr__(self) -> str:
        options = []
        for name, parameter in list(inspect.signature(type(self).__init__).parameters.items())[1:]:
            value = getattr(self, name, parameter.default)
            if value is not parameter.default and repr(value) != repr(parameter.default):
                options.append(f"{name}={in_a_line(value)}")
        return f"{type(self).__name__}({', '.join(options)})"


def in_a_line(value: Any) -> str:
    """Return the repr of a value, or the name of a module, on one line and cut short."""
    if isinstance(value, ModuleType):
        return value.__name__
    text = " ".join(repr(value).split())
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."


def model_in_words(model: Module) -> str:
    """Return what kind of model it is, and of what size."""
    count = len(model.children())
    layers = f" of {count} layer{'s' * (count != 1)}" if count else ""
    size = f"{model.parameter_count:,} parameters" if model.built else "without weights yet"
    return f"{type(model).__name__}{layers}, {size}"
