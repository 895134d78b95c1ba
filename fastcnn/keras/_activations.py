"""Rows of activations, and the activation that other layers have as an option."""

from __future__ import annotations

from typing import Any, Final

from fastcnn import nn
from fastcnn.keras._graph import Layer
from fastcnn.keras._held import Held
from fastcnn.keras._table import Made, Options, Shapes, axis_of, made_of, new, row
from fastcnn.nn import Module
from fastcnn.nn._activation import ACTIVATIONS as NAMED

__all__ = ["activation_of", "inner_activation", "knows_activation"]

_ACTIVATIONS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "relu": ("ReLU", {}),
    "relu6": ("ReLU6", {}),
    "leaky_relu": ("LeakyReLU", {"negative_slope": 0.2}),
    "elu": ("ELU", {}),
    "selu": ("SELU", {}),
    "celu": ("CELU", {}),
    "gelu": ("GELU", {}),
    "silu": ("SiLU", {}),
    "swish": ("SiLU", {}),
    "mish": ("Mish", {}),
    "softplus": ("Softplus", {}),
    "hard_silu": ("HardSwish", {}),
    "hard_swish": ("HardSwish", {}),
    "hard_sigmoid": ("HardSigmoid", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "softmax": ("Softmax", {}),
}


def _function(value: Any) -> Any:
    """Return an activation's name, where it is a function, which Keras 3 may write as an object."""
    if isinstance(value, dict) and value.get("class_name") == "function":
        return value.get("config")
    return value


def inner_activation(value: Any) -> Layer | None:
    """Return the layer that an activation is, where it is one."""
    if not isinstance(value, dict) or value.get("class_name") == "function":
        return None
    options = value.get("config")
    return Layer(
        str(value.get("class_name")), "activation", options if isinstance(options, dict) else {},
        (), None, False,
    )  # fmt: skip


def activation_of(o: Options, shapes: Shapes) -> tuple[str | None, tuple[Module, ...]]:
    """Return the activation of a layer: its name here, or else the layers that are behind it."""
    value = o.get("activation")
    layer = inner_activation(value)
    if layer is not None:
        return None, made_of(layer, shapes, o.version, None).modules
    name = _function(value)
    if name in (None, "linear"):
        return None, ()
    cls, options = _ACTIVATIONS[name]
    if name == "hard_sigmoid" and o.version == 2:
        options = {"alpha": 0.2}
    here = next((each for each, kind in NAMED.items() if kind.__name__ == cls), None)
    if here is not None and not options:
        return here, ()
    return None, (new(cls, **options),)


@row("Activation")
def _activation_alone(o: Options, shapes: Shapes) -> Made:
    name, modules = activation_of(o, shapes)
    return Made(modules if name is None else (NAMED[name](),))


@row("ReLU", "ReLU")
def _relu(o: Options, shapes: Shapes) -> Made:
    o.only("threshold", 0)
    most, slope = o.get("max_value"), o.get("negative_slope") or 0.0
    if most == 6 and not slope:
        return Made((new("ReLU6"),))
    behind = () if most is None else (new("Clip", None if slope else 0.0, most),)
    if slope:
        return Made((new("LeakyReLU", slope), *behind))
    return Made(behind or (new("ReLU"),))


@row("LeakyReLU", "LeakyReLU")
def _leaky_relu(o: Options, shapes: Shapes) -> Made:
    return Made((new("LeakyReLU", o.get("negative_slope", o.get("alpha", 0.3))),))


@row("ELU", "ELU")
def _elu(o: Options, shapes: Shapes) -> Made:
    return Made((new("ELU", o.get("alpha", 1.0)),))


@row("Softmax", "Softmax")
def _softmax(o: Options, shapes: Shapes) -> Made:
    axis = axis_of(o, len(shapes[0]) + 1)
    return Made((new("Softmax") if axis == -1 else new("Softmax", axis=axis),))


@row("PReLU", "PReLU")
def _prelu(o: Options, shapes: Shapes) -> Made:
    shape = shapes[0]
    axes = o.get("shared_axes") or ()
    if any(size > 1 and axis not in axes for axis, size in enumerate(shape[:-1], 1)):
        raise ValueError(
            f"shared_axes: expected {tuple(range(1, len(shape)))}, which are those of pixels, got "
            f"{axes}"
        )
    layer = new("PReLU", shared=len(shape) in axes)
    return Made((layer,), (Held("alpha", layer, "slope"),))


def knows_activation(value: Any) -> bool:
    """Return whether an activation that is no layer is known."""
    name = _function(value)
    if not isinstance(name, str):
        return name is None
    return name == "linear" or (name in _ACTIVATIONS and hasattr(nn, _ACTIVATIONS[name][0]))
