"""A model's architecture as JSON: the names of its layers and their options.

Layers of fastcnn.nn are {"layer": name, option: value, ...}, those of a user's own {"layer": name,
"options": {...}}. Reading builds layers that are known by name and nothing else.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, TypeVar

import numpy as np

from fastcnn import nn
from fastcnn._json import json_value

__all__ = ["architecture_of", "known_layers", "layer_from", "outline_of", "register"]

Layers = Mapping[str, type[nn.Module]]
L = TypeVar("L", bound=type[nn.Module])

_HOUSE: Layers = {
    cls.__name__: cls
    for cls in vars(nn).values()
    if isinstance(cls, type) and issubclass(cls, nn.Module) and cls is not nn.Module
}
_LATER = {"OnnxModel": "fastcnn.onnx"}  # where those are that are imported when a file names them
_registered: dict[str, type[nn.Module]] = {}


# ---------------------------------------------------------------------- layers of one's own
def register(layer: L) -> L:
    """Let model files name a layer or container of one's own; for use as a class decorator.

        @fastcnn.register
        class Scale(nn.Module): ...

    layer: a subclass of nn.Module; it is returned. Files name it by its class's name, which no
    layer of fastcnn.nn and no other registered one may have; the same class defined anew, as in
    a notebook, takes the place of the old. `fastcnn.load` makes it again from what `config()`
    gives: by default each constructor argument, kept as an attribute of the same name. Raises
    TypeError for what is no class of layers, ValueError for a name that is taken.
    """
    name = _checked_class(layer, "register")
    known = _registered.get(name)
    if known is not None and not _is_same(known, layer):
        raise ValueError(
            f"register: expected a name of its own, got {_origin(layer)} beside {_origin(known)}, "
            "which is registered; rename one"
        )
    _registered[name] = layer
    return layer


def known_layers(layers: Iterable[type[nn.Module]] = ()) -> Layers:
    """Return all layers by the names that files may use: the house's, registered ones and these."""
    if isinstance(layers, (type, str, Mapping)) or not isinstance(layers, Iterable):
        raise TypeError(f"load: layers: expected a list of classes, got {layers!r:.80}")
    added: dict[str, type[nn.Module]] = {}
    for layer in layers:
        name = _checked_class(layer, "load: layers")
        if added.setdefault(name, layer) is not layer:
            raise ValueError(f"load: layers: expected one class of each name, got two {name}")
    return {**_HOUSE, **_registered, **added}


def _checked_class(layer: object, where: str) -> str:
    """Return the name by which files know a class of layers, if it may have one."""
    if not isinstance(layer, type) or not issubclass(layer, nn.Module):
        raise TypeError(f"{where}: expected a subclass of nn.Module, got {layer!r:.80}")
    name = layer.__name__
    if name in _HOUSE or name in _LATER or layer is nn.Module:
        raise ValueError(
            f"{where}: expected a name that no layer of fastcnn.nn has, got {_origin(layer)}; "
            "rename the class"
        )
    return name


def _is_same(one: type, other: type) -> bool:
    """Whether two classes are one, or were made by the same lines of a program that ran twice."""
    return one is other or _origin(one) == _origin(other)


def _origin(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


# ---------------------------------------------------------------------- writing
def architecture_of(model: nn.Module) -> dict[str, Any]:
    """Return a layer, and those it holds, as JSON can hold it.

    Raises ValueError where a file cannot name a layer, or its config() would not make it again.
    """
    own: dict[str, type[nn.Module]] = {}
    architecture: dict[str, Any] = json.loads(json.dumps(_described(model, own)))
    if own:
        _require_remade(model, architecture, {**_HOUSE, **own})
    return architecture


def _described(module: nn.Module, own: dict[str, type[nn.Module]]) -> dict[str, Any]:
    """Return a layer in words, and note the classes that are not the house's."""
    cls = type(module)
    name = cls.__name__
    is_own = _HOUSE.get(name) is not cls and not cls.__module__.startswith(_LATER.get(name, "-"))
    if is_own:
        if name in _HOUSE:
            raise ValueError(
                f"save: expected layers of fastcnn.nn, got {name} of {cls.__module__:.80}, which "
                "has the name of one and is another; rename the class"
            )
        other = own.setdefault(name, _registered.get(name, cls))
        if not _is_same(other, cls):
            raise ValueError(
                f"save: expected one class of each name, got {_origin(cls):.80} beside "
                f"{_origin(other):.80}; rename one"
            )
        own[name] = cls
    options = {key: _plain(value, f"{name}: {key}", own) for key, value in module.config().items()}
    return {"layer": name, "options": options} if is_own else {"layer": name, **options}


def _plain(value: Any, where: str, own: dict[str, type[nn.Module]]) -> Any:
    if isinstance(value, nn.Module):
        return _described(value, own)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(item, where, own) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _plain(item, where, own) for key, item in value.items()}}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(
        f"save: {where}: expected a value of JSON or a layer, which a file can hold, got "
        f"{type(value).__name__}; override config() to give constructor arguments of that kind"
    )


def _require_remade(model: nn.Module, architecture: dict[str, Any], layers: Layers) -> None:
    """Refuse a model that would not come back from its file."""
    own = ", ".join(sorted(set(layers) - set(_HOUSE)))
    try:
        twin = layer_from(architecture, layers)
        twin.plan(model.input_shape)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"save: expected layers that their config() makes again, got {own:.80}: {error!s:.200}"
        ) from error
    here, there = model.shapes(), twin.shapes()
    if here != there:
        name = next(name for name in [*here, *there] if here.get(name) != there.get(name))
        raise ValueError(
            f"save: expected layers that their config() makes again, got {own:.80}: {name:.80} is "
            f"of shape {here.get(name)} in the model and {there.get(name)} in one made anew"
        )
    if json.dumps(_described(twin, {})) != json.dumps(architecture):
        raise ValueError(
            f"save: expected layers that their config() makes again, got {own:.80}: made anew, "
            "its config() is another; keep each argument as it was given"
        )


def outline_of(model: nn.Module) -> object:
    """Return as much of an architecture as can be compared, whether files can name it or not."""
    modules = list(model.modules())
    if all(_HOUSE.get(type(module).__name__) is type(module) for module in modules):
        return architecture_of(model)
    return [_outline_of_one(module) for module in modules]


def _outline_of_one(module: nn.Module) -> dict[str, Any]:
    """Return a layer's name and those of its options that are plain."""
    options = {}
    try:
        config = module.config()
    except ValueError:
        config = {}
    for name, value in config.items():
        try:
            options[name] = json_value(value, name)
        except (TypeError, ValueError):
            continue
    return {"layer": type(module).__name__, "options": options}


# ---------------------------------------------------------------------- reading
def layer_from(description: object, layers: Layers) -> nn.Module:
    """Return the layer that was described, without weights; ValueError for what is no layer."""
    if not isinstance(description, dict) or not isinstance(description.get("layer"), str):
        raise ValueError('architecture: expected objects with a "layer"')
    options = dict(description)
    name = options.pop("layer")
    if name in _LATER:
        layers = {**layers, name: getattr(import_module(_LATER[name]), name)}
    if name not in layers:
        raise ValueError(
            f"architecture: expected a layer of fastcnn.nn, got {name!r:.80}; register a class of "
            "this name with fastcnn.register, or pass it to fastcnn.load(path, layers=[...])"
        )
    if name not in _HOUSE and name not in _LATER:
        if set(options) != {"options"} or not isinstance(options["options"], dict):
            raise ValueError(f'architecture: {name:.80}: expected "options", got others')
        options = options["options"]
    make: Any = getattr(layers[name], "from_config", layers[name])
    known = inspect.signature(make).parameters
    unknown = sorted(set(options) - set(known))
    if unknown and not any(each.kind is each.VAR_KEYWORD for each in known.values()):
        raise ValueError(f"architecture: {name:.80}: expected its options, got {unknown[0]!r:.80}")
    given = {key: _option(value, layers) for key, value in options.items()}
    return _called(make, known, given)


def _called(
    layer: Callable[..., nn.Module],
    parameters: Mapping[str, inspect.Parameter],
    named: dict[str, Any],
) -> nn.Module:
    """Call a constructor with all arguments by name, those in front of *others by place."""
    placed: list[Any] = []
    collects = any(each.kind is each.VAR_POSITIONAL for each in parameters.values())
    for name, each in parameters.items():
        if name in named and each.kind is each.VAR_POSITIONAL:
            placed += named.pop(name)
        elif name in named and (
            each.kind is each.POSITIONAL_ONLY
            or (collects and each.kind is each.POSITIONAL_OR_KEYWORD)
        ):
            placed.append(named.pop(name))
    return layer(*placed, **named)


def _option(value: object, layers: Layers) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"dict"} and isinstance(value["dict"], dict):
            return {key: _option(item, layers) for key, item in value["dict"].items()}
        return layer_from(value, layers)
    if isinstance(value, list):
        return tuple(_option(item, layers) for item in value)
    return value
