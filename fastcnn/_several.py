"""Models with several inputs or outputs: how many, and the lists of arrays for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastcnn import nn
from fastcnn.backend import Array
from fastcnn.nn._places import is_several

__all__ = [
    "Arrays",
    "each",
    "ends_in",
    "inputs_of",
    "is_any",
    "known_shape_of",
    "last_layers",
    "listed",
    "outputs_of",
    "require_same_count",
    "several",
    "taken_apart",
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
    return model._own_shapes() if isinstance(model, nn.Model) else None


def outputs_of(model: nn.Module) -> int | None:
    """Return how many outputs a model gives; 0 for one by itself, None where nobody knows yet."""
    while isinstance(model, nn.Sequential) and not model.built:
        model = model.layers[-1]
    if isinstance(model, nn.Model) and not model.built:
        return 0 if model._one_output else len(model._results)
    return several(model.output_shape) if model.built else None


_KEEPING = (nn.Flatten, nn.Dropout, nn.GlobalAvgPool2D)  # behind it, probabilities are some still


def last_layers(model: nn.Module) -> list[nn.Module | None]:
    """Return the layer that makes each output's numbers, None where there is none."""
    if isinstance(model, nn.Sequential):
        last = [layer for layer in model.layers if not isinstance(layer, _KEEPING)]
        return last_layers(last[-1]) if last else [None]
    if not isinstance(model, nn.Model):
        return [model]
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
def listed(arrays: Arrays) -> tuple[Any, ...]:
    """Return several as they are, and one as a tuple of one."""
    return arrays if isinstance(arrays, tuple) else (arrays,)


def each(function: Callable[..., Any], arrays: Arrays, *others: Any) -> Any:
    """Return function(array), or of several the tuple of what it returns for each."""
    if isinstance(arrays, tuple):
        return tuple(function(*them) for them in zip(arrays, *others, strict=True))
    return function(arrays, *others)


def taken_apart(value: Any, count: int, where: str, of: str) -> Iterator[tuple[Any, str]]:
    """Yield each of a list's values with what it is called; `of` are the model's that they go to.

    TypeError for what is no list, ValueError for one of another length.
    """
    if not isinstance(value, (list, tuple)):
        raise TypeError(
            f"{where}: expected a list of {count}, one for each of the model's {of} in their "
            f"order, got {type(value).__name__}"
        )
    if len(value) != count:
        raise ValueError(
            f"{where}: expected a list of {count}, one for each of the model's {of}, got "
            f"{len(value)} of them"
        )
    return ((one, f"{where}[{at}]") for at, one in enumerate(value))


def require_same_count(arrays: tuple[Array, ...], where: str) -> None:
    """Refuse inputs of which one has more samples than another."""
    count = len(arrays[0])
    for at, array in enumerate(arrays):
        if np.ndim(array) == 0 or len(array) != count:
            raise ValueError(
                f"{where}[{at}]: expected {count} samples, as {where}[0] has, got shape "
                f"{np.shape(array)}"
            )
