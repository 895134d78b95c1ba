"""The tree of layers: what a module holds, and the arrays of all of them by dotted names."""

from __future__ import annotations

from collections import UserDict, UserList, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import numpy as np

from fastcnn._options import flag
from fastcnn._types import Shape
from fastcnn.nn import _words
from fastcnn.nn._variable import Buffer, Parameter, Variable

if TYPE_CHECKING:
    from fastcnn.nn._module import Module

__all__ = ["FIXED", "Tree", "fixed", "held", "holds", "unseen"]

Above = Any  # (the module that holds it, what is above that one), or None

V = TypeVar("V", bound=Variable)

FIXED = "expected the layers that the model was built with; make a new model of them and others"


class Tree:
    """Base of Module: its children are the layers in its attributes."""

    built: bool
    _frozen: bool
    _parameters: dict[str, Parameter]
    _buffers: dict[str, Buffer]
    _children: dict[str, Module]  # once built
    _below: list[tuple[str, Module]] | None  # once built and walked
    _hidden: ClassVar[frozenset[str]] = frozenset({"_children", "_below"})  # no child is in these
    _runs_all: ClassVar[bool] = False  # each of its children once

    @property
    def trainable(self) -> bool:
        """Whether training changes it; to set it, before or after `build`, sets it of all it holds.

        A layer that is frozen (False) keeps its weights, and no gradient is computed for them.
        Batch normalization that is frozen normalizes by its running statistics, in training too,
        and leaves them as they are.
        """
        return not self._frozen

    @trainable.setter
    def trainable(self, value: bool) -> None:
        frozen = not flag(value, f"{type(self).__name__}: trainable")
        for module in self.modules():
            vars(module)["_frozen"] = frozen

    @property
    def _trains(self) -> bool:
        """Whether it has weights that are trained."""
        return any(not module._frozen and module._parameters for module in self.modules())

    def children(self) -> dict[str, Module]:
        """Return the layers in this one's attributes by name, in the order of assignment.

        A layer in a list or tuple is called "blocks.0", one in a dict "heads.left". Once the
        model is built they are fixed: lists have become tuples.
        """
        if self.built:
            return dict(self._children)
        found: dict[str, Module] = {}
        for name, value in vars(self).items():
            if name not in self._hidden:
                found.update(held(name, value, type(self).__name__))
        return found

    def modules(self) -> Iterator[Module]:
        """Yield this module and all that it holds; one at two places is a ValueError."""
        return (module for _, module in self._named())

    def _named(self) -> Iterator[tuple[str, Module]]:
        """Yield all modules, each with what the names of its arrays start with.

        Once it is built they stay, and are walked once.
        """
        if not self.built:
            yield from self._walk()
            return
        if self._below is None:  # without itself: in a circle it would outlive its last use
            vars(self)["_below"] = list(self._walk())[1:]
        yield "", cast("Module", self)
        yield from cast("list[tuple[str, Module]]", self._below)

    def _walk(self) -> Iterator[tuple[str, Module]]:
        """Yield them as they are found.

        A layer runs at one place: a second backward would overwrite the gradients of the first.
        Sequential and Residual run what they hold; an attribute may be one more name for it.
        """
        places: dict[int, list[bool]] = {}  # of each module: whether it runs there
        rest: list[tuple[str, Module, bool, Above]] = [("", cast("Module", self), True, None)]
        while rest:
            prefix, module, runs, above = rest.pop()
            at = places.setdefault(id(module), [])
            at.append(runs)
            if _is_among(module, above):
                raise ValueError(
                    f"{type(self).__name__}: expected no layer within itself, got a "
                    f"{type(module).__name__} that holds itself"
                )
            if at.count(True) > 1 or at.count(False) > 1:
                raise ValueError(
                    f"{type(self).__name__}: expected each layer at one place, got the same "
                    f"{type(module).__name__} twice; make a new one for each place"
                )
            if len(at) > 1:
                continue
            yield prefix, module
            below = module, above
            rest += [
                (f"{prefix}{name}.", child, module._runs_all, below)
                for name, child in reversed(module.children().items())
            ]

    def parameters(self) -> dict[str, Parameter]:
        """Return every trained array by its dotted name, in the order of the layers."""
        return self._collect(lambda module: module._parameters)

    def trained_parameters(self) -> dict[str, Parameter]:
        """Return those of the parameters whose layers are not frozen."""
        return self._collect(lambda module: {} if module._frozen else module._parameters)

    def buffers(self) -> dict[str, Buffer]:
        """Return every array that is saved but not trained, by its dotted name."""
        return self._collect(lambda module: module._buffers)

    def variables(self) -> dict[str, Variable]:
        """Return parameters and buffers by their dotted names, layer by layer."""
        return self._collect(lambda module: module._own())

    def shapes(self) -> dict[str, Shape]:
        """Return the shape of every parameter and buffer by its dotted name."""
        return {name: variable.shape for name, variable in self.variables().items()}

    def _own(self) -> dict[str, Variable]:
        return {**self._parameters, **self._buffers}

    def _collect(self, own: Callable[[Module], Mapping[str, V]]) -> dict[str, V]:
        return {
            f"{prefix}{name}": variable
            for prefix, module in self._named()
            for name, variable in own(module).items()
        }

    @property
    def parameter_count(self) -> int:
        """The number of numbers that are trained, or would be if no layer were frozen."""
        return sum(_words.size(parameter.shape) for parameter in self.parameters().values())

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of the weights; None before `build`, or where there are none."""
        for module in self.modules():
            if module.built:
                for variable in module._own().values():
                    kind: np.dtype[Any] = variable.data.dtype
                    return kind
        return None

    @property
    def min_batch(self) -> int:
        """The smallest batch that this model can train on; batch normalization may need two."""
        return max((child.min_batch for child in self.children().values()), default=1)


# ---------------------------------------------------------------------- layers in attributes
def held(name: str, value: object, who: str) -> Iterator[tuple[str, Module]]:
    """Yield the layers in an attribute by name: of a list "blocks.0", of a dict "heads.a"."""
    if isinstance(value, Tree):
        yield name, cast("Module", value)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from held(f"{name}.{index}", item, who)
    elif isinstance(value, dict):
        for key, item in value.items():
            found = list(held(f"{name}.{key}", item, who))
            if found and (not isinstance(key, str) or not key or "." in key):
                raise ValueError(
                    f"{who}: {name}: expected layers under names without dots, got {key!r:.80}"
                )
            yield from found


def unseen(value: object, holder: object = None) -> Iterator[tuple[Module, object]]:
    """Yield the layers in an attribute that `held` passes over, each with what hides it."""
    items: Iterable[Any] = ()
    if isinstance(value, (dict, UserDict, MappingProxyType)):
        items = value.values()
    elif isinstance(value, (list, tuple, set, frozenset, deque, UserList)):
        items = value
    elif isinstance(value, np.ndarray) and value.dtype == object:
        items = value.flat
    if holder is None and not isinstance(value, (list, tuple, dict)):
        holder = value
    for item in items:
        if not isinstance(item, Tree):
            yield from unseen(item, holder)
        elif holder is not None:
            yield cast("Module", item), holder


def fixed(value: Any) -> Any:
    """Return lists and dicts of layers as what can't be changed any more."""
    if not holds(value) or isinstance(value, Tree):
        return value
    if isinstance(value, dict):
        return FixedDict({key: fixed(item) for key, item in value.items()})
    items = [fixed(item) for item in value]
    return tuple(items) if type(value) in (list, tuple) else value


class FixedDict(dict[str, Any]):
    """Layers by name, of a model that is built."""

    def _refuse(self, *args: object, **kwargs: object) -> Any:
        raise TypeError(FIXED)

    __setitem__ = __delitem__ = __ior__ = _refuse
    update = pop = popitem = clear = setdefault = _refuse

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return FixedDict, (dict(self),)


def holds(value: object) -> bool:
    return next(held("", value, ""), None) is not None


def _is_among(module: Module, above: Any) -> bool:
    while above is not None:
        if above[0] is module:
            return True
        above = above[1]
    return False
