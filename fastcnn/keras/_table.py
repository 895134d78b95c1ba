"""The table of Keras's layers, into which the files of rows enter theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from fastcnn import nn
from fastcnn._options import is_identifier
from fastcnn._types import Shape
from fastcnn.keras._graph import Layer
from fastcnn.keras._held import Held, held_by
from fastcnn.nn import Module

__all__ = [
    "ROWS",
    "Made",
    "Maker",
    "Options",
    "Shapes",
    "arrays_of",
    "axis_of",
    "kinds_of",
    "last_axis",
    "made_of",
    "new",
    "row",
]


class Made(NamedTuple):
    """What a layer is here: layers that run one after another, none if it does nothing."""

    modules: tuple[Module, ...]
    arrays: tuple[Held, ...] | None = None  # None: those of the modules


class Options:
    """The options of a layer, in the words of Keras."""

    def __init__(self, layer: Layer, version: int) -> None:
        self.kind, self.version = layer.kind, version
        self._options = layer.options

    def get(self, name: str, default: Any = None) -> Any:
        """Return an option; lists are tuples."""
        return _plain(self._options.get(name, default))

    def need(self, name: str) -> Any:
        """Return an option that the file must have."""
        if name not in self._options:
            raise ValueError(f"expected its {name}, got none")
        return self.get(name)

    def only(self, name: str, *allowed: Any) -> None:
        """Refuse an option that is none of these, of which the first is that of a file without."""
        value = self.get(name, allowed[0])
        if not any(value == each and (value is True) == (each is True) for each in allowed):
            raise ValueError(f"{name}: expected {_listed(allowed)}, got {value!r:.60}")


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, list) else value


def _listed(values: Sequence[Any]) -> str:
    return " or ".join(map(repr, values))


Shapes = tuple[Shape, ...]
Maker = Callable[[Options, Shapes], Made]


class Row(NamedTuple):
    needs: tuple[str, ...]  # classes of fastcnn.nn
    make: Maker


ROWS: Final[dict[str, Row]] = {}


def row(kinds: str, *needs: str) -> Callable[[Maker], Maker]:
    """Enter what makes layers of these kinds into the table."""

    def entered(make: Maker) -> Maker:
        for kind in kinds.split():
            ROWS[kind] = Row(needs, make)
        return make

    return entered


def new(name: str, *args: Any, **options: Any) -> Any:
    """Return a new layer of fastcnn.nn by the name of its class."""
    if not hasattr(nn, name):
        raise ValueError(f"expected options that need no {name}, which fastcnn doesn't have")
    return getattr(nn, name)(*args, **options)


def axis_of(o: Options, rank: int, default: int = -1) -> int:
    """Return an axis, counted from the end; rank is that of arrays with the batch axis."""
    axis = o.get("axis", default)
    if isinstance(axis, tuple) and len(axis) == 1:
        axis = axis[0]
    if type(axis) is not int or not -rank < axis < rank or axis == 0:
        raise ValueError(f"axis: expected one of an array of {rank} axes, got {axis!r:.40}")
    return axis if axis < 0 else axis - rank


def last_axis(o: Options, shapes: Shapes) -> None:
    if axis_of(o, len(shapes[0]) + 1) != -1:
        raise ValueError(f"axis: expected the last one, of channels, got {o.get('axis')}")


# ---------------------------------------------------------------------- using it
def made_of(layer: Layer, shapes: Shapes, version: int, name: str | None) -> Made:
    """Return what a layer that is known is here; name: what the last of them is called.

    Raises ValueError, which doesn't name the layer, for options that fastcnn doesn't have.
    """
    if layer.options.get("data_format") == "channels_first":
        raise ValueError(
            "data_format: expected channels_last, got channels_first; Keras writes the other with "
            'keras.config.set_image_data_format("channels_last")'
        )
    policy = layer.options.get("dtype")
    if isinstance(policy, dict) and "Quant" in str(policy.get("class_name")):
        raise ValueError("dtype: expected floats, got a layer that is quantized")
    made = ROWS[f"ops.{layer.kind}" if layer.is_op else layer.kind].make(
        Options(layer, version), shapes
    )
    if made.modules and is_identifier(name):
        vars(made.modules[-1])["name"] = name
    return made


def kinds_of(module: Module) -> list[str]:
    """Return the names of Keras's layers that a layer may stand for."""
    return [kind for kind, row in ROWS.items() if row.needs == (type(module).__name__,)]


def arrays_of(made: Made) -> tuple[Held, ...]:
    """Return the arrays of what a layer of Keras's is, in the order in which Keras has them."""
    if made.arrays is not None:
        return made.arrays
    return tuple(held for module in made.modules for held in held_by(module))
