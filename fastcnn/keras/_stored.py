"""The arrays in Keras's files, and which layer each is of.

Keras 3 has a group for each layer, "layers/conv2d_1/vars" with arrays "0" and "1"; it is called by
the layer's class and place in the model, and tells the layer's name. Keras 2, and Keras 3 in .h5,
list the layers of a model with the names of their arrays, "conv2d_1/kernel:0"; those of a network
in it are all in its group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fastcnn.keras._build import Leaf, Step
from fastcnn.keras._hdf5 import Data, Group
from fastcnn.keras._table import arrays_of

__all__ = ["Stored", "stored_in", "stored_of"]

_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")  # the second in Keras 2.12 and 2.13
_DEEPEST = 20  # groups in groups


class Stored(NamedTuple):
    """The arrays of a layer in a file.

    where: the name of its group. name: what the file says that the layer is called. names: of the
    arrays, where the file has them.
    """

    where: str
    name: str | None
    names: tuple[str, ...] | None
    arrays: tuple[Data, ...]


# ---------------------------------------------------------------------- what a file holds
def stored_in(root: Group) -> list[Stored]:
    """Return all layers with arrays of a file, in order as far as it has one."""
    listed = _listed(root)
    if listed is not None:
        return [
            stored for name in listed[1] for stored in _split(name, _arrays_of(listed[0], name))
        ]
    return list(_walked(root, 0))


def _walked(group: Group, depth: int) -> Iterator[Stored]:
    """Yield the layers of Keras 3's groups, names with numbers in the order of these."""
    if depth > _DEEPEST:
        raise ValueError("its HDF5 data have groups in groups, too deep")
    own = group.group("vars")
    if own is not None:
        stored = _vars(own, group.path)
        if stored.arrays:
            yield stored
    for name in sorted(group, key=_numbered):
        # The state of an optimizer, and numbers of a random generator, are no layer's weights.
        if name in ("vars", "optimizer", "seed_generator") or name.startswith("metrics"):
            continue
        inner = group[name]
        if isinstance(inner, Group):
            yield from _walked(inner, depth + 1)


def _numbered(name: str) -> tuple[str, int]:
    head, _, number = name.rpartition("_")
    return (head, int(number)) if head and number.isdecimal() and len(number) < 9 else (name, 0)


def _vars(group: Group, where: str) -> Stored:
    """Return a layer of Keras 3: its arrays are called 0, 1, ..."""
    name = group.texts.get("name")
    arrays = []
    for at, key in enumerate(sorted(group, key=lambda key: (len(key), key))):
        data = group[key]
        if key != str(at) or not isinstance(data, Data):
            raise ValueError(f"{group.path:.120}: expected arrays 0, 1, ..., got {key!r:.40}")
        arrays.append(data)
    said = name if isinstance(name, str) else None
    return Stored(where.rstrip("/"), said, None, tuple(arrays))


def _listed(root: Group) -> tuple[Group, list[str]] | None:
    """Return the group that lists its layers, and their names; None where none does."""
    inner = root.group("model_weights") or root
    names = _texts(inner, "layer_names")
    return None if names is None else (inner, names)


def _texts(group: Group, name: str) -> list[str] | None:
    """Return an attribute that is a list of texts; a long one is kept in pieces."""
    pieces = [group.texts.get(name)]
    if pieces[0] is None:
        found = (group.texts.get(f"{name}{at}") for at in range(len(group.texts)))
        pieces = [piece for piece in found if piece is not None]
        if not pieces:
            return None
    return [
        each for piece in pieces for each in ([piece] if isinstance(piece, str) else piece or ())
    ]


def _arrays_of(root: Group, layer: str) -> list[tuple[str, Data]]:
    """Return the arrays of a layer that is listed, with their names."""
    group = root[layer]
    if not isinstance(group, Group):
        raise ValueError(f"{layer:.60} is no group")
    found = []
    for name in _texts(group, "weight_names") or ():
        data = group[name]
        if not isinstance(data, Data):
            raise ValueError(f"{group.path}{name:.60} is no array")
        found.append((name, data))
    return found


def _split(layer: str, arrays: list[tuple[str, Data]]) -> list[Stored]:
    """Return the layers whose arrays are in one group: more than one of a network."""
    parts: dict[str, list[tuple[str, Data]]] = {}
    for name, data in arrays:
        before, _, last = name.rpartition("/")
        # Numbers of a random generator have names like those of weights.
        if not last.startswith("seed_generator_state"):
            parts.setdefault(before, []).append((last.removesuffix(":0"), data))
    return [
        Stored(
            f"{layer}/{before}",
            before.rpartition("/")[2] or layer,
            tuple(name for name, _ in held),
            tuple(data for _, data in held),
        )
        for before, held in parts.items()
    ]


# ---------------------------------------------------------------------- by a description
def stored_of(root: Group, leaves: Sequence[Leaf]) -> list[Stored | None]:
    """Return the arrays of each layer of a model that the file describes; None of one without."""
    listed = _listed(root)
    if listed is None:
        by_name: dict[str, dict[str, list[Group]]] = {}
        return [_stored_at(root, leaf.path, by_name) for leaf in leaves]
    inner, names = listed[0], set(listed[1])
    found: list[Stored | None] = [None] * len(leaves)
    places: dict[str, list[int]] = {}
    for place, leaf in enumerate(leaves):
        places.setdefault(leaf.path[0].name, []).append(place)
    for layer, at in places.items():
        if layer not in names:
            continue
        stored = _split(layer, _arrays_of(inner, layer))
        if len(at) == 1 and len(leaves[at[0]].path) == 1:
            # The names of its arrays may be those of an older name of the layer.
            arrays = tuple(data for each in stored for data in each.arrays)
            labels = tuple(name for each in stored for name in each.names or ())
            found[at[0]] = Stored(layer, layer, labels, arrays) if arrays else None
            continue
        with_arrays = [place for place in at if arrays_of(leaves[place].made)]
        named = {each.name: each for each in stored}
        inside = [leaves[place].path[-1].name for place in with_arrays]
        if len(named) == len(stored) and set(inside) == set(named):
            stored = [named[name] for name in inside]
        if len(stored) != len(with_arrays):
            raise ValueError(
                f"{layer:.60}: expected arrays of {len(with_arrays)} layers, got those of "
                f"{len(stored)}"
            )
        for place, each in zip(with_arrays, stored, strict=True):
            found[place] = each
    return found


def _stored_at(
    root: Group, path: tuple[Step, ...], by_name: dict[str, dict[str, list[Group]]]
) -> Stored | None:
    group: Group = root
    for step in path:
        holder = next((found for each in _CONTAINERS if (found := group.group(each))), None)
        inner = None if holder is None else _member(holder, step, by_name)
        if inner is None:
            return None
        group = inner
    own = group.group("vars")
    stored = None if own is None else _vars(own, group.path)
    return stored if stored is not None and stored.arrays else None


def _member(holder: Group, step: Step, by_name: dict[str, dict[str, list[Group]]]) -> Group | None:
    """Return a layer's group: of the name that the file tells, else of that of its class.

    Most files have both, and they agree; Keras goes by the class. by_name: what is found of the
    groups that hold layers, by their paths.
    """
    found = holder.group(step.group)
    if found is not None and _called(found) in (None, step.name):
        return found
    if holder.path not in by_name:
        names = by_name[holder.path] = {}
        for key in holder:
            group = holder.group(key)
            name = None if group is None else _called(group)
            if group is not None and name is not None:
                names.setdefault(name, []).append(group)
    same = by_name[holder.path].get(step.name, [])
    return same[0] if len(same) == 1 else found


def _called(group: Group) -> str | None:
    own = group.group("vars")
    name = None if own is None else own.texts.get("name")
    return name if isinstance(name, str) else None
