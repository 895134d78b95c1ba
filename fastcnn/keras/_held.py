"""The arrays of Keras's layers, and whose they are here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from fastcnn._types import Shape
from fastcnn.nn import Module

__all__ = ["Held", "held_by", "held_variants", "of_norm"]

_LOOSE = ("kernel", "alpha")  # arrays that may have axes of length 1 in front, there or here
_STATISTICS = ("mean", "variance")

_THERE: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "Conv1D": (("kernel", "weight"), ("bias", "bias")),
    "Conv2D": (("kernel", "weight"), ("bias", "bias")),
    "Conv2DTranspose": (("kernel", "weight"), ("bias", "bias")),
    "Dense": (("kernel", "weight"), ("bias", "bias")),
    "DepthwiseConv2D": (("depthwise_kernel", "weight"), ("bias", "bias")),
    "SeparableConv2D": (
        ("depthwise_kernel", "depthwise_weight"),
        ("pointwise_kernel", "pointwise_weight"),
        ("bias", "bias"),
    ),
    "PReLU": (("alpha", "slope"),),
    "Rescaling": (),
}


class Held(NamedTuple):
    """An array of a layer of Keras's: what it is called there, and whose it is here.

    module, name: the layer and its variable, None of an array that nobody needs. multiplier: of a
    depthwise convolution, whose filters have two axes in Keras for the last one here.
    """

    there: str
    module: Module | None
    name: str
    multiplier: int = 0

    def fits(self, shape: Shape) -> bool:
        """Return whether an array of this shape in Keras is the variable."""
        if self.module is None:
            return True
        if self.there in _STATISTICS and math.prod(shape) == 1:  # of all channels
            return True
        own = self.module._own()[self.name].shape
        if self.multiplier:
            own = (*own[:2], own[3] // self.multiplier, self.multiplier)
        # A dense layer may be a convolution here, one for all channels has axes of length 1 there.
        return shape == own or (self.there in _LOOSE and _bare(shape) == _bare(own))

    def shown(self) -> str:
        """Return its name, and its shape here."""
        if self.module is None:
            return self.there
        return f"{self.there} {self.module._own()[self.name].shape}"


def _bare(shape: Shape) -> Shape:
    """Return a shape without the axes of length 1 in front."""
    while shape[:1] == (1,):
        shape = shape[1:]
    return shape


def held_by(module: Module) -> tuple[Held, ...]:
    """Return the arrays of a layer in the order in which Keras has them."""
    kind, own = type(module).__name__, module._own()
    if kind == "BatchNorm":
        return of_norm(module, True, True)
    names = _THERE.get(kind, tuple((name, name) for name in own))
    multiplier = vars(module).get("depth_multiplier", 0)
    found = [
        Held(there, module, here, multiplier if there == "depthwise_kernel" else 0)
        for there, here in names
        if here in own
    ]
    if kind == "Normalization":
        found.append(Held("count", None, "count"))
    return tuple(found)


def held_variants(module: Module) -> list[tuple[Held, ...]]:
    """Return what arrays Keras may have of a layer: batch normalization may lack some."""
    if type(module).__name__ != "BatchNorm":
        return [held_by(module)]
    without = ((True, True), (False, True), (True, False), (False, False))
    return [of_norm(module, scale, center) for scale, center in without]


def of_norm(layer: Module, scale: bool, center: bool) -> tuple[Held, ...]:
    """Return the arrays of batch normalization; without them scale is one, the center zero."""
    names = [("gamma", "gamma")] * bool(scale) + [("beta", "beta")] * bool(center)
    names += [("moving_mean", "running_mean"), ("moving_variance", "running_variance")]
    return tuple(Held(there, layer, here) for there, here in names)
