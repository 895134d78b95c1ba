"""Arrays of a file become those of a model."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn._types import Array
from fastcnn.keras._build import Built, snake
from fastcnn.keras._hdf5 import Data, Group
from fastcnn.keras._held import Held, held_variants
from fastcnn.keras._stored import Stored, stored_in, stored_of
from fastcnn.keras._table import ROWS, arrays_of, kinds_of
from fastcnn.nn import Module

__all__ = ["fill", "load_into"]

_MOST_CONSTANTS = 1 << 22  # numbers that are in no file, as a scale of one
_SHOWN = 3  # layers that do not fit

Pairs = list[tuple[Held, Data]]


# ---------------------------------------------------------------------- of a described model
def fill(built: Built, root: Group, dtype: np.dtype[Any]) -> None:
    """Give a planned model the arrays of its file."""
    model = built.model
    inside = {id(module) for module in model.modules()}  # without what leads to no output
    pairs: Pairs = []
    for leaf, stored in zip(built.leaves, stored_of(root, built.leaves), strict=True):
        held = arrays_of(leaf.made)
        if held and all(id(module) in inside for module in leaf.made.modules):
            pairs += _paired(held, stored, leaf.path[-1].name)
    names = {id(variable): name for name, variable in model.variables().items()}
    sources = {names[id(h.module._own()[h.name])]: (h, d) for h, d in pairs if h.module is not None}
    rest = sum(
        math.prod(variable.shape)
        for name, variable in model.variables().items()
        if name not in sources
    )
    if rest > _MOST_CONSTANTS:
        raise ValueError(f"its layers have {rest} numbers that are not in the file")
    model.adopt(_Arrays(model, sources, dtype))
    for leaf in built.leaves:
        for module in leaf.made.modules:
            if not leaf.trains and module._own():
                module.trainable = False


class _Arrays(Mapping[str, Array]):
    """The arrays of a model by their names, each read when it is asked for."""

    def __init__(
        self, model: Module, sources: Mapping[str, tuple[Held, Data]], dtype: np.dtype[Any]
    ) -> None:
        self._variables, self._sources, self._dtype = model.variables(), sources, dtype
        self._name, self._last = "", np.empty(0)

    def __getitem__(self, name: str) -> Array:
        if name != self._name:
            if name in self._sources:
                self._last = _read(*self._sources[name], self._dtype)
            else:  # a constant, which is drawn without chance
                drawn = self._variables[name]._draw(np.random.default_rng(0))
                self._last = np.asarray(drawn, self._dtype)
            self._name = name
        return self._last

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


def _paired(held: Sequence[Held], stored: Stored | None, name: str) -> Pairs:
    """Return a layer's arrays and where they are, of shapes that fit."""
    arrays = () if stored is None else stored.arrays
    if stored is None or len(arrays) != len(held):
        wanted = ", ".join(each.there for each in held)
        raise ValueError(f"{name:.60}: expected arrays {wanted}, got {len(arrays)} in the file")
    if stored.names is not None and set(stored.names) == {each.there for each in held}:
        arrays = tuple(arrays[stored.names.index(each.there)] for each in held)
    pairs = list(zip(held, arrays, strict=True))
    for each, data in pairs:
        if not each.fits(data.shape):
            raise ValueError(f"{name:.60}: expected {each.shown()}, got {data.shape} in the file")
    return pairs


def _read(held: Held, data: Data, dtype: np.dtype[Any]) -> Array:
    """Return an array of the file as the variable has it."""
    assert held.module is not None
    array = data.numbers()
    if array.dtype.kind != "f":
        raise ValueError(f"{data.path:.120}: expected floats, got {array.dtype}")
    shape = held.module._own()[held.name].shape
    try:
        with np.errstate(over="raise"):
            array = array.astype(dtype, copy=False)
    except FloatingPointError:
        raise ValueError(
            f"{data.path:.120}: expected numbers that {dtype} holds, got larger ones"
        ) from None
    if array.size == 1:
        return np.full(shape, array.reshape(-1)[0])
    return array.reshape(shape)


# ---------------------------------------------------------------------- of a model that is there
def load_into(model: Module, root: Group) -> dict[str, str]:
    """Copy the arrays of a file into a built model; return where each came from, by its name.

    On any error nothing changes.
    """
    here = [
        (prefix, module)
        for prefix, module in model._named()
        if any(held_variants(module)) and module._own() and type(module).__name__ != "Rescaling"
    ]
    found = _matched(here, stored_in(root))
    dtype = model.dtype or np.dtype(np.float32)
    places = {id(variable): name for name, variable in model.variables().items()}
    read: list[tuple[Any, Array]] = []
    loaded: dict[str, str] = {}
    for held, data in found:
        if held.module is not None:
            variable = held.module._own()[held.name]
            read.append((variable, _read(held, data, dtype)))
            loaded[places[id(variable)]] = data.path
    for variable, array in read:
        np.copyto(variable.data, array)
    return loaded


def _matched(here: list[tuple[str, Module]], there: list[Stored]) -> Pairs:
    """Return which array goes where: by names if all layers have one, else by their order."""
    named = {stored.name: stored for stored in there if stored.name is not None}
    own = [module.name for _, module in here]
    waiting: dict[str | None, list[Stored]] = {}
    if len(named) == len(there) and len(set(own)) == len(own) and set(own) == set(named):
        waiting = {module.name: [named[module.name or ""]] for _, module in here}
        found = [(each, _taken(each[1], waiting.get(each[1].name, []))) for each in here]
    else:
        # Files of Keras 3 have an order in each class of layers, those of Keras 2 have one.
        known = set(map(snake, ROWS))
        for stored in there:
            waiting.setdefault(_kind(stored, known), []).append(stored)
        found = []
        for each in here:
            kinds = [*dict.fromkeys(map(snake, kinds_of(each[1]))), None]
            taken = (_taken(each[1], waiting.get(kind, [])) for kind in kinds)
            found.append((each, next((pairs for pairs in taken if pairs is not None), None)))
    missing = [each for each, pairs in found if pairs is None]
    rest = {id(stored) for each in waiting.values() for stored in each}
    left = [stored for stored in there if id(stored) in rest]
    if missing or left:
        raise ValueError(_misfits(missing, left))
    return [pair for _, pairs in found for pair in pairs or ()]


def _taken(module: Module, waiting: list[Stored]) -> Pairs | None:
    """Take the first of the layers that wait whose arrays fit; None if none does."""
    for at, stored in enumerate(waiting):
        variants = held_variants(module)
        if stored.names is not None:  # those of the same names first
            variants.sort(key=lambda held: {each.there for each in held} != set(stored.names or ()))
        for held in variants:
            try:
                pairs = _paired(held, stored, "")
            except ValueError:
                continue
            del waiting[at]
            return pairs
    return None


def _kind(stored: Stored, known: Collection[str]) -> str | None:
    """Return the class of a layer, where its group is called by it; others by an attribute."""
    last = stored.where.rpartition("/")[2]
    head, _, number = last.rpartition("_")
    kind = head if head and number.isdecimal() else last
    return kind if stored.names is None and kind in known else None


def _misfits(missing: list[tuple[str, Module]], left: list[Stored]) -> str:
    """Return what to say of layers that found no arrays, beside what was left in the file."""
    here = [f"{prefix[:-1] or 'the model'} ({type(module).__name__})" for prefix, module in missing]
    there = [f"{each.where:.60} {[data.shape for data in each.arrays]}" for each in left]
    shown = [
        ", ".join(each[:_SHOWN]) + f" and {len(each) - _SHOWN} more" * (len(each) > _SHOWN)
        if each
        else "nothing"
        for each in (here, there)
    ]
    return f"left are {shown[0]} of the model and {shown[1]} of the file"
