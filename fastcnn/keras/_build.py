"""A described network becomes a model of fastcnn's layers, planned and without weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastcnn import nn
from fastcnn._options import is_identifier
from fastcnn._types import Shape
from fastcnn.keras._graph import MOST_LAYERS, Call, Layer, Network, Place, layers_of
from fastcnn.keras._layers import known, unknown_in
from fastcnn.keras._table import Made, made_of
from fastcnn.nn import Module, Symbol

__all__ = ["Built", "Leaf", "Step", "built_of", "snake"]

_SHOWN = 12  # unknown layers
Shapes = tuple[Shape, ...]


class Step(NamedTuple):
    """A layer among those of its network: its name, and that of its group in Keras 3's files."""

    name: str
    group: str


class Leaf(NamedTuple):
    """A layer that holds no others: where it is in the file, what it is here, whether it trains."""

    path: tuple[Step, ...]
    made: Made
    trains: bool


class Built(NamedTuple):
    """A model, and all of its layers in the order of the file."""

    model: Any
    leaves: tuple[Leaf, ...]


def built_of(network: Network, version: int, input_shape: Any) -> Built:
    """Return the model that is described; input_shape: of inputs, where the file leaves it open.

    ValueError names the layers that fastcnn doesn't have, all at once, or else the first layer with
    options that it doesn't have.
    """
    layers = list(layers_of(network))
    if len(layers) > MOST_LAYERS:
        raise ValueError(f"it has {len(layers)} layers, more than {MOST_LAYERS}")
    plain = [each for each in layers if each.network is None and each.kind != "InputLayer"]
    unknown = dict.fromkeys(name for name in map(unknown_in, plain) if name is not None)
    if unknown:
        shown = [*unknown][:_SHOWN] + ["..."] * (len(unknown) > _SHOWN)
        raise ValueError(f"fastcnn has no {', '.join(shown)}; it has {', '.join(known())}")
    builder = _Builder(version)
    model = builder.network(network, (), _given(input_shape), network.trainable)
    if model is None:
        raise ValueError("it has no layers that do anything")
    model.plan(_shape_of(model))
    return Built(model, tuple(builder.leaves))


def _shape_of(model: Any) -> Any:
    """Return the shape of what a model is called on; its layers were called on symbols."""
    if isinstance(model, nn.Sequential):
        return model.layers[0].input_shape
    return model._own_shapes()


def _given(input_shape: Any) -> tuple[Any, ...] | None:
    """Return the shapes of inputs that were given, as of several."""
    if input_shape is None:
        return None
    several = bool(input_shape) and isinstance(input_shape[0], (tuple, list))
    return tuple(map(tuple, input_shape)) if several else (tuple(input_shape),)


class _Builder:
    """Builds networks, and notes their layers."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.leaves: list[Leaf] = []

    def network(
        self, network: Network, path: tuple[Step, ...], shapes: Any, trains: bool
    ) -> Module | None:
        """Return a network, None if it does nothing; shapes: of its inputs, where known."""
        steps = dict(zip((each.name for each in network.layers), _steps(network), strict=True))
        build = self._chain if network.is_sequential else self._graph
        model: Module | None = build(network, path, steps, shapes, trains)
        if model is not None and is_identifier(network.name):
            vars(model)["name"] = network.name
        return model

    # ------------------------------------------------------------------ one after another
    def _chain(
        self,
        network: Network,
        path: tuple[Step, ...],
        steps: Mapping[str, Step],
        shapes: Any,
        trains: bool,
    ) -> Module | None:
        declared = _first_shape(network)
        if shapes is not None and len(shapes) != 1:
            raise ValueError(f"{network.name:.60}: expected one input, got {len(shapes)}")
        shape = _closed(declared, None if shapes is None else shapes[0], network.name)
        symbols: Any = nn.Input(shape)
        modules: list[Module] = []
        for layer in network.layers:
            if layer.kind != "InputLayer":
                made = self._made(layer, (*path, steps[layer.name]), (symbols.shape,), trains)
                symbols = _called(made, symbols, layer.name)
                if not isinstance(symbols, Symbol):
                    raise ValueError(f"{layer.name:.60}: expected one output, got several")
                modules += made
        return nn.Sequential(modules) if modules else None

    def _made(
        self, layer: Layer, path: tuple[Step, ...], shapes: Shapes, trains: bool
    ) -> tuple[Module, ...]:
        """Return a layer, for inputs of these shapes."""
        trains = trains and layer.options.get("trainable") is not False
        if layer.network is not None:
            trains = trains and layer.network.trainable
            module = self.network(layer.network, path, shapes, trains)
            return () if module is None else (module,)
        try:
            made = made_of(layer, shapes, self.version, layer.name)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{layer.name:.60} ({layer.kind}): {error}") from None
        self.leaves.append(Leaf(path, made, trains))
        return made.modules

    # ------------------------------------------------------------------ of any shape
    def _graph(
        self,
        network: Network,
        path: tuple[Step, ...],
        steps: Mapping[str, Step],
        shapes: Any,
        trains: bool,
    ) -> Module | None:
        layers = {layer.name: layer for layer in network.layers}
        first = _first_calls(network)
        if shapes is not None and len(shapes) != len(network.inputs):
            raise ValueError(
                f"{network.name:.60}: expected {len(network.inputs)} inputs, got {len(shapes)}"
            )
        found: dict[tuple[str, int], Any] = {}
        for at, place in enumerate(network.inputs):
            layer = layers.get(place.layer)
            if layer is None or layer.kind != "InputLayer":
                raise ValueError(f"{place.layer:.60}: expected an InputLayer")
            given = None if shapes is None else shapes[at]
            shape = _closed(_declared(layer.options), given, layer.name)
            name = layer.name if is_identifier(layer.name) else None
            found[layer.name, 0] = [nn.Input(shape, name=name)]
        made: dict[str, tuple[Module, ...]] = {}

        def run(name: str, call: Call) -> list[Any]:
            symbols = [_at(found, place, first) for place in call.places]
            layer = layers[name]
            if not symbols:
                raise ValueError(f"{name:.60}: expected it to be called on arrays, got none")
            if call.numbers:
                symbols, layer = _with_numbers(layer, symbols, call.numbers)
            if name not in made:
                seen = tuple(symbol.shape for symbol in symbols)
                made[name] = self._made(layer, (*path, steps[name]), seen, trains)
            result = _called(made[name], symbols[0] if len(symbols) == 1 else symbols, name)
            return result if isinstance(result, list) else [result]

        for name, call, at in _in_order(network, first):
            found[name, at] = run(name, call)
        inputs = [found[place.layer, 0][0] for place in network.inputs]
        outputs = [_at(found, place, first) for place in network.outputs]
        if len(outputs) == 1 and outputs[0] in inputs:
            return None
        _keep_names_apart(outputs)
        return nn.Model(_named(inputs, network.input_names), _named(outputs, network.output_names))


def _called(modules: Sequence[Module], x: Any, name: str) -> Any:
    """Return what layers that run one after another give, called on symbols."""
    for module in modules:
        try:
            x = module(x)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name:.60}: {error}") from None
    return x


def _named(symbols: list[Any], names: tuple[str, ...] | None) -> Any:
    """Return symbols as a Model takes them: one, a list, or a dict if they were given in one."""
    if names is not None and all(map(is_identifier, names)):
        return dict(zip(names, symbols, strict=True))
    return symbols[0] if len(symbols) == 1 else symbols


def _keep_names_apart(symbols: Sequence[Symbol]) -> None:
    """Take the name from a layer that gives several of a model's outputs, of which it was one."""
    count = Counter(symbol.name for symbol in symbols)
    for symbol in symbols:
        if count[symbol.name] > 1:
            symbol.name = None
            if symbol._layer is not None:
                vars(symbol._layer)["name"] = None


def _with_numbers(
    layer: Layer, symbols: list[Any], numbers: tuple[float, ...]
) -> tuple[list[Any], Layer]:
    """Return the layer that an array times or plus a number is."""
    if layer.kind not in ("Add", "Multiply") or len(symbols) != 1 or len(numbers) != 1:
        raise ValueError(f"{layer.name:.60}: expected it to be called on arrays, got {numbers}")
    scale, offset = (numbers[0], 0.0) if layer.kind == "Multiply" else (1.0, numbers[0])
    return symbols, layer._replace(
        kind="Rescaling", is_op=False, options={"scale": scale, "offset": offset}
    )


# ---------------------------------------------------------------------- the order of calls
def _first_calls(network: Network) -> dict[str, int]:
    """Return the number of the first call of each layer, which for networks in it is 0 or 1.

    A network that is called elsewhere was called before: by itself, when it was made. Some
    versions of Keras count that call, of some kinds of networks; all calls that are kept are used.
    """
    places = [*network.outputs]
    places += [place for layer in network.layers for call in layer.calls for place in call.places]
    least: dict[str, int] = {}
    for place in places:
        least[place.layer] = min(place.call, least.get(place.layer, place.call))
    return {
        layer.name: min(least.get(layer.name, 0), 1) if layer.network is not None else 0
        for layer in network.layers
    }


def _at(found: Mapping[tuple[str, int], Any], place: Place, first: Mapping[str, int]) -> Any:
    """Return the symbol at a place."""
    symbols = found.get((place.layer, place.call - first.get(place.layer, 0)))
    if symbols is None or place.part >= len(symbols):
        raise ValueError(f"{place.layer:.60}: expected a layer that was called before")
    return symbols[place.part]


def _in_order(network: Network, first: Mapping[str, int]) -> list[tuple[str, Call, int]]:
    """Return all calls, each behind those whose results it takes, else in the order of the file."""
    calls = {
        (layer.name, at): call
        for layer in network.layers
        if layer.kind != "InputLayer"
        for at, call in enumerate(layer.calls)
    }
    ordered: list[tuple[str, Call, int]] = []
    done: set[tuple[str, int]] = set()
    begun: set[tuple[str, int]] = set()
    for start in calls:
        stack = [start]
        while stack:
            key = stack[-1]
            before = [
                (place.layer, place.call - first.get(place.layer, 0)) for place in calls[key].places
            ]
            waiting = [each for each in before if each in calls and each not in done]
            if key in done or not waiting:
                stack.pop()
                if key not in done:
                    done.add(key)
                    ordered.append((key[0], calls[key], key[1]))
                continue
            if begun.intersection(waiting):
                raise ValueError(f"{key[0]:.60}: its layers are called in a circle")
            begun.add(key)
            stack += reversed(waiting)
    return ordered


# ---------------------------------------------------------------------- shapes of inputs
def _first_shape(network: Network) -> Any:
    """Return the shape of the input of a chain, as far as the file has it."""
    for layer in network.layers[:1]:
        shape = _declared(layer.options)
        if shape is not None:
            return shape
        inner = layer.network
        if inner is not None and inner.is_sequential:
            return _first_shape(inner) or network.shape
        if inner is not None:
            options = {each.name: each.options for each in inner.layers}
            return _declared(options.get(inner.inputs[0].layer, {})) or network.shape
    return network.shape


def _declared(options: Mapping[str, Any]) -> Any:
    """Return the shape that a layer says its input has, with the batch axis."""
    return options.get("batch_shape", options.get("batch_input_shape"))


def _closed(declared: Any, given: Any, name: str) -> Shape:
    """Return the shape of an input: what was given in the place of sizes that are left open."""
    if declared is None:
        if given is None:
            raise ValueError(f"{name:.60}: {_OPEN}, which the file doesn't have")
        return tuple(given)
    if not isinstance(declared, list) or len(declared) < 2:
        raise ValueError(f"{name:.60}: expected the shape of a batch, got {declared!r:.60}")
    sizes = declared[1:]
    if not all(size is None or (type(size) is int and 0 < size < 2**31) for size in sizes):
        raise ValueError(f"{name:.60}: expected a shape, got {declared!r:.60}")
    if given is None:
        if None in sizes:
            raise ValueError(f"{name:.60}: {_OPEN}, of which the file has {tuple(sizes)}")
        return tuple(sizes)
    fits = len(given) == len(sizes) and all(
        size in (None, own) for size, own in zip(sizes, given, strict=True)
    )
    if not fits:
        raise ValueError(f"{name:.60}: expected inputs of shape {tuple(sizes)}, got {given}")
    return tuple(given)


_OPEN = "load(path, input_shape=...) takes the shape of one input"


# ---------------------------------------------------------------------- groups in files
def _steps(network: Network) -> list[Step]:
    """Return the layers of a network as Keras 3's files call them: by class, in their order."""
    used: dict[str, int] = {}
    steps = []
    for layer in network.layers:
        if layer.is_op or (network.is_sequential and layer.kind == "InputLayer"):
            steps.append(Step(layer.name, ""))
            continue
        kind = snake(layer.kind)
        count = used[kind] = used.get(kind, -1) + 1
        steps.append(Step(layer.name, f"{kind}_{count}" if count else kind))
    return steps


def snake(kind: str) -> str:
    """Return a class's name as Keras writes groups: re_lu, conv2d_transpose.

    A capital begins a word behind a small letter, and where a small letter follows it.
    """
    text = "".join(each for each in kind if each.isalnum() or each == "_")
    found = ""
    for at, each in enumerate(text):
        begins = at > 0 and each.isupper()
        begins = begins and (text[at - 1].islower() or text[at + 1 : at + 2].islower())
        found += ("_" if begins else "") + each.lower()
    return found
