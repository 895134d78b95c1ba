"""The places at which a layer is called: of one array or several, of shapes other than its first.

A shape here is that of one input or, of several, a tuple of these.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from fastcnn.backend import Array, Backend

if TYPE_CHECKING:
    from fastcnn.nn._module import Module

__all__ = ["count_of", "is_several", "require_one", "shape_at", "shapes_of", "stepped"]


def is_several(shape: Any) -> bool:
    """Return whether it is of several arrays."""
    return bool(shape) and isinstance(shape[0], tuple)


def shapes_of(x: Any) -> Any:
    """Return the shape of an array without its batch axis, or those of several."""
    if isinstance(x, (tuple, list)):
        return tuple(tuple(each.shape[1:]) for each in x)
    return tuple(x.shape[1:])


def count_of(x: Any) -> int:
    """Return how many inputs are in a batch."""
    return len(x[0] if isinstance(x, (tuple, list)) else x)


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


def stepped(step: Any, dy: Any, layer: Module, used: set[int], backend: Backend) -> Any:
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
    dx = step(dy)
    for parameter, gradient in zip(parameters, before, strict=True):
        if gradient is not None:
            now = parameter.grad
            parameter.grad = gradient if now is None else backend.add(gradient, now)
    return dx
