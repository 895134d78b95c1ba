"""A state dict of PyTorch into a model: which array goes where."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn import nn
from fastcnn._arrays import as_array
from fastcnn._options import choice, flag
from fastcnn._sentences import did_you_mean
from fastcnn._types import Array, Shape
from fastcnn.pytorch._layers import BATCHES, ORDERS, Layer, Twin, layers_of
from fastcnn.pytorch._load import load_state

__all__ = ["Loaded", "load_into"]

_WHO = "load_pytorch_state"
_WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before all names
_SHOWN = 3  # pairs of arrays that do not fit

State = Mapping[str, ArrayLike]


class Loaded(NamedTuple):
    """What `load_pytorch_state` did.

    loaded: PyTorch's name of the array that each of the model's arrays was loaded from. missing:
    names of the model's arrays that were left as they were. unexpected: PyTorch's names of arrays
    that went nowhere.
    """

    loaded: dict[str, str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def load_into(
    model: nn.Module,
    state: State | str | os.PathLike[str],
    strict: bool,
    names: Mapping[str, str] | None,
    flatten: str,
) -> Loaded:
    """See Module.load_pytorch_state."""
    flag(strict, f"{_WHO}: strict")
    layers = layers_of(model, choice(flatten, f"{_WHO}: flatten", ORDERS))
    arrays = _arrays(state)
    if names is None:
        found = _by_name(layers, arrays, lambda prefix: prefix)
        if len(found) < sum(len(layer.twins) for layer in layers):
            found = max(found, _in_order(layers, arrays), key=len)  # if by name there are as many
    else:
        found = _by_name(layers, arrays, _renaming(model, names))
    twins = [twin for layer in layers for twin in layer.twins]
    used = set(found.values())
    missing = [twin for twin in twins if twin.name not in found]
    unexpected = [name for name in arrays if name not in used]
    if strict and (missing or unexpected):
        raise ValueError(_misfits(missing, unexpected, arrays))
    here = [
        (twin, _cast(arrays[found[twin.name]], found[twin.name], twin.variable.data.dtype))
        for twin in twins
        if twin.name in found
    ]
    for twin, array in here:
        np.copyto(twin.variable.data, twin.from_there(array))
    return Loaded(found, tuple(twin.name for twin in missing), tuple(unexpected))


def _arrays(state: Any) -> dict[str, Array]:
    """Return what a state dict holds, but for what no model here has."""
    if not isinstance(state, Mapping):
        state = load_state(state)
    names = list(state)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{_WHO}: expected names that are strings, got {type(name).__name__}")
    arrays = {
        name: _array(state[name], name) for name in names if name.rpartition(".")[2] != BATCHES
    }
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in arrays):
            arrays = {name.removeprefix(wrapper): array for name, array in arrays.items()}
    return arrays


def _array(value: ArrayLike, name: str) -> Array:
    where = f"{_WHO}: {name:.80}"
    try:
        return as_array(value, where)
    except (RuntimeError, TypeError) as error:  # of a tensor that NumPy cannot take
        kind = type(value).__name__
        raise TypeError(f"{where}: expected an array, got {kind}: {error}") from None


def _cast(array: Array, name: str, dtype: np.dtype[Any]) -> Array:
    if array.dtype.kind != "f":
        raise TypeError(f"{_WHO}: {name:.80}: expected floats, got {array.dtype}")
    try:
        with np.errstate(over="raise"):
            return array.astype(dtype, copy=False)
    except FloatingPointError:
        raise ValueError(
            f"{_WHO}: {name:.80}: expected numbers that {dtype} holds, got larger ones"
        ) from None


# ---------------------------------------------------------------------- which is which
def _by_name(
    layers: list[Layer], arrays: Mapping[str, Array], there: Callable[[str], str]
) -> dict[str, str]:
    """Return PyTorch's names of arrays by ours, of those that fit; there: of a layer's prefix."""
    found = {}
    for layer in layers:
        for twin in layer.twins:
            name = f"{there(layer.prefix)}{twin.name_there}"
            if name in arrays and _bare(arrays[name].shape) == _bare(twin.shape_there):
                found[twin.name] = name
    return found


def _in_order(layers: list[Layer], arrays: Mapping[str, Array]) -> dict[str, str]:
    """Return the same where each layer takes the next of PyTorch's with arrays like its own."""
    modules: dict[str, dict[str, Shape]] = {}
    for name, array in arrays.items():
        prefix, dot, local = name.rpartition(".")
        modules.setdefault(prefix + dot, {})[local] = _bare(array.shape)
    waiting: dict[Any, list[str]] = {}
    for prefix, shapes in modules.items():
        waiting.setdefault(frozenset(shapes.items()), []).append(prefix)
    found: dict[str, str] = {}
    for layer in layers:
        own = {twin.name_there: _bare(twin.shape_there) for twin in layer.twins}
        alike = waiting.get(frozenset(own.items()))
        if alike:
            prefix = alike.pop(0)
            found |= {twin.name: f"{prefix}{twin.name_there}" for twin in layer.twins}
    return found


def _bare(shape: Shape) -> Shape:
    """Return a shape without the axes of an image of one pixel, for there may be none.

    A dense layer's weights are those of a 1x1 convolution, a factor a channel may be (C, 1, 1).
    """
    return shape[:-2] if len(shape) > 2 and shape[-2:] == (1, 1) else shape


def _renaming(model: nn.Module, names: Mapping[str, str]) -> Callable[[str], str]:
    """Return what tells the prefix of PyTorch's names from that of ours."""
    if not isinstance(names, Mapping):
        raise TypeError(f"{_WHO}: names: expected a dict of names, got {type(names).__name__}")
    known = [prefix.removesuffix(".") for prefix, _ in model._named()]
    for here, there in names.items():
        if not isinstance(here, str) or not isinstance(there, str):
            raise TypeError(f"{_WHO}: names: expected strings, got {here!r:.40}: {there!r:.40}")
        if here not in known:
            raise ValueError(
                f"{_WHO}: names: expected names of the model's layers, got {here!r:.80}"
                f"{did_you_mean(here, known)}"
            )
    longest = sorted(names, key=len, reverse=True)

    def renamed(prefix: str) -> str:
        for here in longest:
            if not here or prefix.startswith(f"{here}."):
                rest = prefix[len(here) + 1 :] if here else prefix
                return f"{names[here]}.{rest}" if names[here] else rest
        return prefix

    return renamed


def _called(twin: Twin) -> str:
    """Return PyTorch's name of an array where the layers are called as here."""
    prefix, dot, _ = twin.name.rpartition(".")
    return f"{prefix}{dot}{twin.name_there}"


def _misfits(missing: list[Twin], unexpected: list[str], arrays: Mapping[str, Array]) -> str:
    """Return what to say of arrays that found none, beside what was left there at that place."""
    left = dict.fromkeys(unexpected)
    pairs = []
    for twin in sorted(missing, key=lambda twin: _called(twin) not in left):  # of one name first
        name = _called(twin) if _called(twin) in left else next(iter(left), "")
        left.pop(name, None)
        pairs.append((f"{twin.name} {twin.shape_there}", name))
    pairs += [("nothing", name) for name in left]
    count = len(pairs)
    shown = "; ".join(
        f"{here} here and {f'{name:.80} {arrays[name].shape}' if name else 'nothing'} there"
        for here, name in pairs[:_SHOWN]
    )
    more = f"; {count - _SHOWN} more" if count > _SHOWN else ""
    return (
        f"{_WHO}: expected an array of PyTorch's for each of the model's, and none besides; left "
        f"are (shapes are PyTorch's) {shown}{more}"
    )
