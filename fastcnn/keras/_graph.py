"""The description of a model in Keras's words, of Keras 2 and 3 alike: layers and their calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = [
    "MOST_LAYERS",
    "Call",
    "Layer",
    "Network",
    "Place",
    "is_network",
    "layers_of",
    "network_of",
]

MOST_LAYERS = 10_000
_DEEPEST = 16  # of networks in networks
_NETWORKS = ("Sequential", "Functional", "Model")
_TENSOR = "__keras_tensor__"
_OPS = ("keras.src.ops", "keras.ops")  # where operators of arrays are: a + b is no layer


class Place(NamedTuple):
    """What a call of a layer gives: number `part` of it."""

    layer: str
    call: int
    part: int


class Call(NamedTuple):
    """What a layer was called on, and numbers among its arguments."""

    places: tuple[Place, ...]
    numbers: tuple[float, ...] = ()


class Layer(NamedTuple):
    """A layer as it is described; `network` is what it holds, if it holds one.

    is_op: it is an operator of arrays, which Keras doesn't count as a layer.
    """

    kind: str
    name: str
    options: Mapping[str, Any]
    calls: tuple[Call, ...]
    network: Network | None
    is_op: bool


class Network(NamedTuple):
    """Layers and what leads through them.

    Those of a Sequential run one after another and have no calls. shape: of the inputs of one,
    where it is known, with the batch axis. inputs, outputs: places, by their names if these were
    given.
    """

    name: str
    is_sequential: bool
    layers: tuple[Layer, ...]
    shape: Any
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    input_names: tuple[str, ...] | None
    output_names: tuple[str, ...] | None
    trainable: bool


def is_network(kind: str) -> bool:
    """Return whether a class of Keras's is one of networks."""
    return kind in _NETWORKS


def layers_of(network: Network) -> Iterator[Layer]:
    """Yield all layers, those of networks in it too."""
    for layer in network.layers:
        yield layer
        if layer.network is not None:
            yield from layers_of(layer.network)


def network_of(described: Any, depth: int = 0) -> Network:
    """Return the network that {"class_name": ..., "config": ...} describes."""
    described = _object(described, "the model")
    kind = _text(described.get("class_name"), "the model's class_name")
    if kind not in _NETWORKS:
        raise ValueError(
            f"it is a {kind:.60}, a class of its own, of which the file has no layers; "
            "fastcnn.keras.load_weights takes its weights"
        )
    if depth > _DEEPEST:
        raise ValueError(f"it has networks in networks, more than {_DEEPEST} deep")
    config = described.get("config")
    if kind == "Sequential" and isinstance(config, list):  # Keras before 2.2.3
        config = {"layers": config}
    config = _object(config, f"the config of {kind}")
    if not isinstance(config.get("layers"), list):
        raise ValueError(
            f"it is a {kind} of which the file has no layers; fastcnn.keras.load_weights takes its "
            "weights"
        )
    if len(config["layers"]) > MOST_LAYERS:
        raise ValueError(f"it has {len(config['layers'])} layers, more than {MOST_LAYERS}")
    name = _text(config.get("name", kind.lower()), f"the name of {kind}")
    layers = tuple(_layer(each, depth) for each in config["layers"])
    names = [layer.name for layer in layers]
    if len(set(names)) < len(names):
        raise ValueError(f"{name:.60}: expected layers of different names, got two of one")
    trainable = config.get("trainable") is not False
    if kind == "Sequential":
        shape = config.get("build_input_shape")
        return Network(name, True, layers, shape, (), (), None, None, trainable)
    inputs, input_names = _ends(config.get("input_layers"), f"{name:.60}: input_layers")
    outputs, output_names = _ends(config.get("output_layers"), f"{name:.60}: output_layers")
    return Network(name, False, layers, None, inputs, outputs, input_names, output_names, trainable)


# ---------------------------------------------------------------------- layers
def _layer(described: Any, depth: int) -> Layer:
    described = _object(described, "a layer")
    kind = _text(described.get("class_name"), "a layer's class_name")
    config = described.get("config")
    options = {} if isinstance(config, list) else _object(config, f"the config of {kind:.60}")
    name = described.get("name", options.get("name", kind))
    name = _text(name, f"the name of {kind:.60}")
    nodes = described.get("inbound_nodes", [])
    if not isinstance(nodes, list):
        raise ValueError(f"{name:.60}: inbound_nodes: expected a list")
    module = described.get("module")
    is_op = isinstance(module, str) and module.startswith(_OPS)
    holds = kind in _NETWORKS and not is_op
    network = network_of(described, depth + 1) if holds else None
    where = f"{name:.60}: inbound_nodes"
    calls = tuple(_call(node, where) for node in nodes)
    return Layer(kind, name, options, calls, network, is_op)


def _call(node: Any, where: str) -> Call:
    """Return a call of a layer, in Keras 3 {"args": ..., "kwargs": ...}, in Keras 2 a list."""
    if isinstance(node, dict):
        args, kwargs = node.get("args", []), node.get("kwargs", {})
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise ValueError(f"{where}: expected args and kwargs")
        places: list[Place] = []
        numbers: list[float] = []
        _collect(args, places, numbers, where)
        for key, value in kwargs.items():
            _require_plain(key, value, where)
        return Call(tuple(places), tuple(numbers))
    if not isinstance(node, list) or not node:
        raise ValueError(f"{where}: expected what the layer was called on")
    if isinstance(node[0], str):
        node = [node]
    for each in node:
        options = each[3] if isinstance(each, list) and len(each) > 3 else {}
        for key, value in _object(options, where).items():
            _require_plain(key, value, where)
    return Call(tuple(_place(each[:3] if isinstance(each, list) else each, where) for each in node))


def _collect(value: Any, places: list[Place], numbers: list[float], where: str) -> None:
    """Note the arrays among arguments, and the numbers."""
    if isinstance(value, list):
        for each in value:
            _collect(each, places, numbers, where)
    elif isinstance(value, dict) and value.get("class_name") == _TENSOR:
        history = _object(value.get("config"), where).get("keras_history")
        places.append(_place(history, where))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        numbers.append(float(value))
    elif value is not None:
        raise ValueError(f"{where}: expected arrays and numbers, got {value!r:.60}")


def _require_plain(key: str, value: Any, where: str) -> None:
    """Refuse an argument of a call that changes what it gives."""
    if value is not None and value is not False and not (key == "training" and value == 0):
        raise ValueError(f"{where}: expected a call without {key:.40}, got {value!r:.60}")


# ---------------------------------------------------------------------- places
def _place(value: Any, where: str) -> Place:
    """Return a place, which is written as [layer, call, part]."""
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not isinstance(value[0], str)
        or not all(type(each) is int and 0 <= each < 2**31 for each in value[1:])
    ):
        raise ValueError(f"{where}: expected [layer, call, part], got {value!r:.60}")
    return Place(*value)


def _ends(value: Any, where: str) -> tuple[tuple[Place, ...], tuple[str, ...] | None]:
    """Return places, one, a list or a dict of them, and the keys of a dict."""
    names = None
    if isinstance(value, dict):
        names, value = tuple(value), list(value.values())
    elif isinstance(value, list) and value and isinstance(value[0], str):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError(f"{where}: expected places of layers")
    return tuple(_place(each, where) for each in value), names


# ---------------------------------------------------------------------- JSON
def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object of JSON, got {value!r:.60}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}: expected a name, got {value!r:.60}")
    return value
