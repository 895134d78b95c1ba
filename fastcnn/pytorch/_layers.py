"""The arrays of a model's layers, and what each is in PyTorch's layers."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fastcnn import nn
from fastcnn._types import Array, Shape
from fastcnn.nn._variable import Variable
from fastcnn.program import Node, Program, Value, trace

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
    (nn.PReLU, {"slope": ("weight", (0,))}),
    (nn.LayerScale, {"gamma": ("layer_scale", None)}),  # as torchvision has it
    (nn.Conv1D, {"weight": ("weight", (3, 2, 1))}),  # ours has images of one row
    # Of which PyTorch has no layer, or one with other arrays: these go as they are.
    (nn.SeparableConv2D, {}),
    (nn.Rescaling, {}),
    (nn.Normalization, {}),
    (nn.LSTM, {}),
)


Orders = tuple["Array | None", ...]  # of an array's first axis, or its first two
_ORDERED = "expected features of one order in PyTorch"


class Twin(NamedTuple):
    """An array of a layer, and what it is in PyTorch.

    orders: of each axis that is over the features of an image, which place each of them has there;
    None where it is the same.
    """

    variable: Variable
    name: str
    name_there: str
    axes: tuple[int, ...]
    orders: Orders

    @property
    def shape_there(self) -> Shape:
        """Return its shape in PyTorch."""
        return tuple(self.variable.shape[axis] for axis in self.axes)

    def from_there(self, array: Array) -> Array:
        """Return PyTorch's array as it is here, perhaps as a view."""
        there = array.reshape(self.shape_there)
        for axis, order in enumerate(self.orders):
            if order is not None:
                there = np.take(there, order, self.axes.index(axis))
        return there.transpose(np.argsort(self.axes)).reshape(self.variable.shape)

    def to_there(self) -> Array:
        """Return a copy as PyTorch has it."""
        here = self.variable.data
        for axis, order in enumerate(self.orders):
            if order is not None:
                here = np.take(here, np.argsort(order), axis)
        kept = sorted(self.axes)
        here = here.reshape([here.shape[axis] for axis in kept])
        return np.array(here.transpose([kept.index(axis) for axis in self.axes]), order="C")


class Layer(NamedTuple):
    """A layer with arrays: what their names begin with, and each of them."""

    prefix: str
    module: nn.Module
    twins: tuple[Twin, ...]


def layers_of(model: nn.Module, flatten: str = "CHW") -> list[Layer]:
    """Return the layers of a built model that have arrays, in their order.

    flatten: in which order the network in PyTorch flattens images.
    """
    orders = _orders(trace(model, 1), flatten)
    found = []
    for prefix, module in model._named():
        there = next((names for kind, names in _THERE if isinstance(module, kind)), {})
        twins = []
        for own, variable in module._own().items():
            name, places = f"{prefix}{own}", tuple(range(len(variable.shape)))
            name_there, axes = there.get(own, (own, places))
            if axes is None:
                axes = (*places[-1:], *places[:-1])
            twins.append(Twin(variable, name, name_there, axes, orders.get(name, ())))
        if twins:
            found.append(Layer(prefix, module, tuple(twins)))
    return found


# ---------------------------------------------------------------------- images and features
def _orders(program: Program, flatten: str) -> dict[str, Orders]:
    """Return the orders of arrays that are over the features of an image, by their names.

    The program says where an image is flattened, and where one is made of features. Ops that leave
    the number of features as it is (activations, normalization) hand their order on. A dense layer
    takes features in any order, and gives them in the one that is wanted behind it.
    """
    wanted = _wanted(program, flatten)
    order_of: dict[str, Array | None] = {
        name: wanted.get(name)
        for name in program.inputs  # in whose order they come is no matter
    }
    found: dict[str, Orders] = {}
    for node in program.nodes:
        arrays, weights = _read(program, node)
        result = program.values[str(node.results[0])]
        orders = [order_of.get(value.name) for value in arrays]
        before = next((order for order in orders if order is not None), None)
        after = before if before is not None and result.shape[1:] == before.shape else None
        if node.op == "linear":
            after = wanted.get(result.name)
        elif node.op == "reshape" and len(result.shape) == 2 and len(arrays[0].shape) == 4:
            after = _flattened(arrays[0].shape[1:], flatten)
        elif node.op == "concat" and len(result.shape) == 2 and before is not None:
            after = _joined(orders, [value.shape[1] for value in arrays])
        for value in weights:
            fits = after is not None and value.shape == after.shape
            of_axes: Orders = (after if fits else None,)
            if node.op == "linear" and value.name == node.arguments["w"]:
                of_axes = before, after
            if not all(map(_same, found.setdefault(value.name, of_axes), of_axes)):
                raise ValueError(f"{node.layer}: {_ORDERED} at all of its places")
        if not _same(wanted.get(result.name, after), after):
            raise ValueError(f"{node.layer}: {_ORDERED} of the image that is made of them")
        order_of[result.name] = after
    return found


def _wanted(program: Program, flatten: str) -> dict[str, Array]:
    """Return the order of values of which an image is made, before it ops that hand it on."""
    wanted: dict[str, Array] = {}
    for node in reversed(program.nodes):
        arrays, _ = _read(program, node)
        result = program.values[str(node.results[0])]
        order = None if node.op == "linear" else wanted.get(result.name)
        if node.op == "reshape" and len(result.shape) == 4 and len(arrays[0].shape) == 2:
            order = _flattened(result.shape[1:], flatten)
        if order is not None:
            wanted |= {each.name: order for each in arrays if each.shape[1:] == order.shape}
    return wanted


def _read(program: Program, node: Node) -> tuple[list[Value], list[Value]]:
    """Return the values that an op reads: what is computed, and what the model holds."""
    given = [program.values[name] for name in node.reads()]
    arrays = [value for value in given if value.kind in ("input", "result")]
    return arrays, [value for value in given if value.kind in ("parameter", "buffer")]


def _flattened(shape: Shape, flatten: str) -> Array | None:
    """Return of each feature of an image (H, W, C) its place in PyTorch; None if it is the same."""
    axes = ["HWC".index(letter) for letter in flatten]
    there = np.arange(math.prod(shape)).reshape([shape[axis] for axis in axes])
    order = there.transpose(np.argsort(axes)).ravel()
    return None if _same(order, np.arange(len(order))) else order


def _joined(orders: list[Array | None], sizes: list[int]) -> Array:
    """Return the order of features that are joined."""
    parts = [np.arange(n) if each is None else each for each, n in zip(orders, sizes, strict=True)]
    starts = np.cumsum([0, *sizes[:-1]])
    return np.concatenate([part + start for part, start in zip(parts, starts, strict=True)])


def _same(one: Array | None, other: Array | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)
