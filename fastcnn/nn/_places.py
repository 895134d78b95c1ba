"""The places at which a layer is called: of one array or several, of shapes other than its first.

A shape here is that of one input or, of several, a tuple of these.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fastcnn._sentences import did_you_mean
from fastcnn._types import Array
from fastcnn.backend import Backend

if TYPE_CHECKING:
    from fastcnn.nn._module import Module

__all__ = [
    "count_of",
    "in_order",
    "is_several",
    "listed",
    "quoted",
    "require_one",
    "run_backward",
    "shape_at",
    "shapes_of",
]


def is_several(shape: Any) -> bool:
    """Return whether it is of several arrays."""
    return bool(shape) and isinstance(shape[0], tuple)


def shapes_of(x: Any) -> Any:
    """Return the shape of an array without its batch axis, or those of several."""
    if isinstance(x, (tuple, list)):
        return tuple(tuple(each.shape[1:]) for each in x)
    return tuple(x.shape[1:])


def listed(x: Any) -> tuple[Any, ...]:
    """Return what may be one or several as a tuple."""
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def count_of(x: Any) -> int:
    """Return how many inputs are in a batch."""
    return len(listed(x)[0])


def in_order(
    value: Mapping[Any, Any], names: tuple[str, ...], where: str, of: str
) -> tuple[Any, ...]:
    """Return a dict's values in the order of names, which are those of the model's `of`.

    ValueError where its keys are others.
    """
    unknown = [name for name in value if name not in names]
    missing = [name for name in names if name not in value]
    if unknown or missing:
        got = f"one for {unknown[0]!r:.80}" if unknown else f'none for "{missing[0]}"'
        hint = did_you_mean(str(unknown[0]), names) if unknown else ""
        raise ValueError(
            f"{where}: expected one for each of the model's {of} {quoted(names)}, got {got}{hint}"
        )
    return tuple(value[name] for name in names)


def quoted(names: Iterable[str]) -> str:
    """Return names as a sentence lists them."""
    return ", ".join(f'"{name}"' for name in names)


def require_one(layer: Module, shape: Any) -> None:
    """Refuse several inputs of a layer of the house that takes one."""
    if is_several(shape) and type(layer)._known is not None and not layer._takes_several:
        raise ValueError(
            f"{type(layer).__name__}: expected one input, got {len(shape)}, of shapes "
            f"{', '.join(map(str, shape))}"
        )


def shape_at(layer: Module, shape: Any) -> Any:
    """Return the shape that a layer gives for inputs of this shape.

    At a second place it may see another than at the first: its arrays must be of the same shapes.
    """
    if layer.input_shape == shape and layer.built:
        return layer.output_shape
    if not layer._planned or layer.input_shape == shape:
        return layer.plan(shape)
    known = layer._elsewhere.get(shape) if layer.built else None
    if known is None:
        # A copy that shares no layer, so that all inside stay planned as they are, but the arrays.
        twin = copy.deepcopy(layer, {id(each): each for each in layer.variables().values()})
        for module in twin.modules():
            vars(module)["built"] = False
        known = twin.plan(shape)
        if twin.shapes() != layer.shapes():
            raise ValueError(
                f"{type(layer).__name__}: expected inputs for which its weights are of the shapes "
                f"that they have, as {layer.input_shape}, got {shape}"
            )
        layer._elsewhere[shape] = known
    return known


def run_backward(closure: Any, dy: Any, layer: Module, used: set[int], backend: Backend) -> Any:
    """Run the backward pass of one of a layer's places, and return what it returns.

    Its gradients are added to those of its places in `used`, to which it is added.
    """
    parameters = list(layer.parameters().values())
    before: list[Array | None] = [None] * len(parameters)
    if id(layer) in used:
        before = [parameter.grad for parameter in parameters]
    used.add(id(layer))
    for parameter in parameters:
        parameter.grad = None
    dx = closure(dy)
    for parameter, gradient in zip(parameters, before, strict=True):
        if gradient is not None:
            now = parameter.grad
            parameter.grad = gradient if now is None else backend.add(gradient, now)
    return dx
