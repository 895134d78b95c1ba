"""The arrays of a model's layers, and what each is in PyTorch's layers."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fastcnn import nn
from fastcnn._types import Array, Shape
from fastcnn.nn import Buffer, Parameter
from fastcnn.program.trace import trace

__all__ = ["BATCHES", "ORDERS", "Layer", "Twin", "layers_of"]

ORDERS = ("CHW", "CWH", "HWC", "HCW", "WHC", "WCH")  # in which a network may flatten an image
BATCHES = "num_batches_tracked"  # of PyTorch's batch normalization, which has none here

# Of layers whose arrays are others in PyTorch: what an array is called there, and its axes there as
# axes of the array here: (R, S, I, O) is (O, I, R, S). All others are there as they are here.
_Axes = dict[str, tuple[str, "tuple[int, ...] | None"]]  # None: channels first
_KERNEL: _Axes = {"weight": ("weight", (3, 2, 0, 1))}
_MATRIX: _Axes = {"weight": ("weight", (1, 0))}
_NORM: _Axes = {
    "gamma": ("weight", None),
    "beta": ("bias", None),
    "running_mean": ("running_mean", None),
    "running_variance": ("running_var", None),
}
_THERE: tuple[tuple[type[nn.Module], _Axes], ...] = (
    (nn.Conv2D, _KERNEL),
    (nn.DepthwiseConv2D, _KERNEL),
    (nn.Conv2DTranspose, _KERNEL),
    (nn.Dense, _MATRIX),
    (nn.BatchNorm, _NORM),
    (nn.LayerNorm, _NORM),
    (nn.GroupNorm, _NORM),
    (nn.InstanceNorm, _NORM),
    (nn.LayerScale, {"gamma": ("layer_scale", None)}),  # as torchvision has it
)


class Twin(NamedTuple):
    """An array of a layer, and what it is in PyTorch.

    order: of an array whose first axis is over the features of a flattened image, which place each
    of them has there; None where it is the same.
    """

    variable: Parameter | Buffer
    name: str
    name_there: str
    axes: tuple[int, ...]
    order: Array | None

    @property
    def shape_there(self) -> Shape:
        """Return its shape in PyTorch."""
        return tuple(self.variable.shape[axis] for axis in self.axes)

    def from_there(self, array: Array) -> Array:
        """Return PyTorch's array as it is here, perhaps as a view."""
        here = array.reshape(self.shape_there).transpose(np.argsort(self.axes))
        return here if self.order is None else here[self.order]

    def to_there(self) -> Array:
        """Return a copy as PyTorch has it."""
        here = self.variable.data
        if self.order is not None:
            here = here[np.argsort(self.order)]
        return np.array(here.transpose(self.axes), order="C")


class Layer(NamedTuple):
    """A layer with arrays: what their names begin with, and each of them."""

    prefix: str
    module: nn.Module
    twins: tuple[Twin, ...]


def layers_of(model: nn.Module, flatten: str = "CHW") -> list[Layer]:
    """Return the layers of a built model that have arrays, in their order.

    flatten: in which order the network in PyTorch flattens images.
    """
    orders = _orders(model, flatten)
    found = []
    for prefix, module in model._named():
        there = next((names for kind, names in _THERE if isinstance(module, kind)), {})
        twins = []
        for name, variable in module._own().items():
            places = tuple(range(len(variable.shape)))
            name_there, axes = there.get(name, (name, places))
            if axes is None:
                axes = (*places[-1:], *places[:-1])
            order = orders.get(f"{prefix}{name}")
            twins.append(Twin(variable, f"{prefix}{name}", name_there, axes, order))  # type: ignore[arg-type]
        if twins:
            found.append(Layer(prefix, module, tuple(twins)))
    return found


# ---------------------------------------------------------------------- flattened images
def _orders(model: nn.Module, flatten: str) -> dict[str, Array]:
    """Return the order of each array that is over the features of a flattened image, by its name.

    The program says where an image is flattened. Ops that leave the number of features as it is
    (activations, normalization) hand their order on, a dense layer ends it.
    """
    program = trace(model, 1)
    features: dict[str, Array | None] = {}  # of values: the order of their features in PyTorch
    found: dict[str, Array | None] = {}
    for node in program.nodes:
        given = [program.values[name] for name in node.reads()]
        arrays = [value for value in given if value.kind in ("input", "result")]
        shape = program.values[str(node.results[0])].shape
        orders = [features.get(value.name) for value in arrays]
        order = next((each for each in orders if each is not None), None)
        if node.op == "reshape" and len(shape) == 2 < len(arrays[0].shape):
            order = _flattened(arrays[0].shape[1:], flatten)
        elif node.op == "concat" and len(shape) == 2 and order is not None:
            order = _joined(orders, [value.shape[1] for value in arrays])
        for value in given:
            if value.kind not in ("input", "result"):
                # A dense layer's weights have a row a feature, its biases are of its outputs.
                sees = value.name != node.arguments.get("b") if node.op == "linear" else True
                fits = order is not None and sees and value.shape[:1] == order.shape
                _note(found, value.name, order if fits else None, node.layer)
        if node.op == "linear" or order is None or shape[1:] != order.shape:
            order = None
        features[str(node.results[0])] = order
    return {name: order for name, order in found.items() if order is not None}


def _note(found: dict[str, Array | None], name: str, order: Array | None, layer: str) -> None:
    """Note the order of an array, which is the same at all places at which its layer is called."""
    if name in found and not np.array_equal(found[name], order):  # type: ignore[arg-type]
        raise ValueError(
            f"{layer}: expected features in one order at all of its places, got those of a "
            "flattened image at some, which PyTorch has in another order"
        )
    found[name] = order


def _flattened(shape: Shape, flatten: str) -> Array | None:
    """Return of each feature of an image (..., C) its place in PyTorch, which has (C, ...)."""
    axes = [len(shape) - 1, *range(len(shape) - 1)]
    if len(shape) == 3:
        axes = ["HWC".index(letter) for letter in flatten]
    there = np.arange(math.prod(shape)).reshape([shape[axis] for axis in axes])
    order = there.transpose(np.argsort(axes)).ravel()
    return None if np.array_equal(order, np.arange(len(order))) else order


def _joined(orders: list[Array | None], sizes: list[int]) -> Array:
    """Return the order of features that are joined."""
    parts = [np.arange(n) if each is None else each for each, n in zip(orders, sizes, strict=True)]
    starts = np.cumsum([0, *sizes[:-1]])
    return np.concatenate([part + start for part, start in zip(parts, starts, strict=True)])
