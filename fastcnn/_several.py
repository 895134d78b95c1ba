"""Models with several inputs or outputs: how many, their names, and the arrays for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastcnn import nn
from fastcnn._types import Array
from fastcnn.nn._places import in_order, is_several, listed

__all__ = [
    "Arrays",
    "Ends",
    "dict_names_of",
    "each",
    "ends_in",
    "input_ends",
    "inputs_of",
    "is_any",
    "known_shape_of",
    "last_layers",
    "listed",
    "output_ends",
    "outputs_of",
    "places",
    "require_same_count",
    "several",
    "under",
]

Arrays = Any  # an array, or a tuple of them where a model takes or gives several


def several(shape: Any) -> int:
    """Return of how many arrays a model's input_shape or output_shape is; 0 for one by itself."""
    return len(shape) if is_several(shape) else 0


def inputs_of(model: nn.Module) -> int:
    """Return how many inputs a model takes; 0 for one by itself.

    Of a layer of one's own that is known once it is built.
    """
    while isinstance(model, nn.Sequential) and not model.built:
        model = model.layers[0]
    if isinstance(model, nn.Model) and not model.built:
        return 0 if model._one_input else len(model._input_shapes)
    return several(model.input_shape)


def known_shape_of(model: nn.Module) -> Any:
    """Return the input_shape of a model that is built or says it itself, else None."""
    if model.built:
        return model.input_shape
    first = _first(model)
    return first._own_shapes() if isinstance(first, nn.Model) else None


def outputs_of(model: nn.Module) -> int | None:
    """Return how many outputs a model gives; 0 for one by itself, None where nobody knows yet."""
    while isinstance(model, nn.Sequential) and not model.built:
        model = model.layers[-1]
    if isinstance(model, nn.Model) and not model.built:
        return 0 if model._one_output else len(model._results)
    return several(model.output_shape) if model.built else None


class Ends(NamedTuple):
    """The inputs or outputs of a model: how many, 0 for one by itself, and their names, if any."""

    what: str  # "inputs" or "outputs"
    number: int
    names: tuple[str, ...] | None

    def called(self, where: str) -> tuple[str, ...]:
        """Return what each is called in an error: x["image"], or x[0]."""
        keys: Any = range(self.number) if self.names is None else map('"{}"'.format, self.names)
        return places(where, keys)

    def listed(self, value: Any, where: str) -> tuple[Any, ...]:
        """Return the values of a list, or of a dict by the names, one for each in their order.

        TypeError for what is neither, ValueError for another number of them and for other names.
        """
        if isinstance(value, Mapping) and self.names is not None:
            return in_order(value, self.names, where, self.what)
        count = self.number or 1
        expected = f"{where}: expected a list of {count}, one for each of the model's {self.what}"
        if not isinstance(value, (list, tuple)):
            hint = "; these have no names" if isinstance(value, Mapping) else ""
            raise TypeError(f"{expected} in their order, got {type(value).__name__}{hint}")
        if len(value) != count:
            raise ValueError(f"{expected}, got {len(value)} of them")
        return tuple(value)


def places(where: str, keys: Iterable[Any]) -> tuple[str, ...]:
    """Return what the parts of an argument are called in an error."""
    return tuple(f"{where}[{key}]" for key in keys)


def input_ends(model: nn.Module) -> Ends:
    """Return what is known of a model's inputs."""
    first = _first(model)
    names = first.input_names if isinstance(first, nn.Model) else None
    return Ends("inputs", inputs_of(model), names)


def output_ends(model: nn.Module) -> Ends:
    """Return what is known of a model's outputs; of unknown ones, as if it were one by itself."""
    last = _last(model)
    names = last.output_names if isinstance(last, nn.Model) else None
    return Ends("outputs", outputs_of(model) or 0, names)


def dict_names_of(model: nn.Module) -> tuple[str, ...] | None:
    """Return the names of the outputs of a model that was made with a dict of them."""
    last = _last(model)
    return last.output_names if isinstance(last, nn.Model) and last._gives_dict else None


def _first(model: nn.Module) -> nn.Module:
    while isinstance(model, nn.Sequential):
        model = model.layers[0]
    return model


def _last(model: nn.Module) -> nn.Module:
    while isinstance(model, nn.Sequential):
        model = model.layers[-1]
    return model


_KEEPING = (nn.Flatten, nn.Dropout, nn.GlobalAvgPool2D)  # behind it, probabilities are some still


def last_layers(model: nn.Module) -> list[nn.Module | None]:
    """Return the layer that makes each output's numbers, None where there is none."""
    if isinstance(model, nn.Sequential):
        last = [layer for layer in model.layers if not isinstance(layer, _KEEPING)]
        return last_layers(last[-1]) if last else [None]
    if not isinstance(model, nn.Model):
        return [model]
    own: Any = getattr(type(model), "last_layers", None)
    if own is not None:  # the network of an ONNX file, which has operators
        told: list[nn.Module | None] = own(model)
        return told
    first = len(model._input_shapes)
    found: list[nn.Module | None] = []
    for at in model._results:
        index, layer = 0, None
        while at >= first and layer is None:
            place, sources = model._calls[at - first]
            if place < 0:
                at, index = sources
            elif isinstance(model.layers[place], _KEEPING):
                at = sources[0]
            else:
                layer = model.layers[place]
        behind = [None] if layer is None else last_layers(layer)
        found.append(behind[index] if index < len(behind) else None)
    return found


_LAYERS = {"softmax": nn.Softmax, "sigmoid": nn.Sigmoid}


def ends_in(model: nn.Module, *activations: str) -> bool:
    """Return whether the last layer of a model's one output is, or has, one of these activations.

    Behind what only moves numbers or takes their means, probabilities are probabilities.
    """
    return is_any(last_layers(model)[0], *activations)


def is_any(layer: nn.Module | None, *activations: str) -> bool:
    """Return whether a layer is, or has, one of these activations."""
    if isinstance(layer, tuple(_LAYERS[name] for name in activations)):
        return True
    return getattr(layer, "activation", None) in activations


# ---------------------------------------------------------------------- arrays
def each(function: Callable[..., Any], arrays: Arrays, *others: Any) -> Any:
    """Return function(array), or of several the tuple of what it returns for each."""
    if isinstance(arrays, tuple):
        return tuple(function(*them) for them in zip(arrays, *others, strict=True))
    return function(arrays, *others)


def under(names: Sequence[str] | None, outputs: Any) -> Any:
    """Return a model's outputs in a dict by these names; as they are where there are none."""
    if names is None:
        return outputs
    several_ = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return dict(zip(names, several_, strict=True))


def require_same_count(arrays: tuple[Array, ...], names: Sequence[str]) -> None:
    """Refuse inputs of which one has more samples than another."""
    count = len(arrays[0])
    for array, name in zip(arrays, names, strict=True):
        if np.ndim(array) == 0 or len(array) != count:
            raise ValueError(
                f"{name}: expected {count} samples, as {names[0]} has, got shape {np.shape(array)}"
            )
