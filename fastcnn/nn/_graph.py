"""Networks of any shape: layers called on symbols, and the model between some of these."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastcnn.backend import Array, Backend
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._options import Shape, input_shape_of
from fastcnn.nn._run import Tracing, run

__all__ = ["Input", "Model", "Symbol", "called_on"]

_counter = itertools.count()


class Symbol:
    """An array that a network will see: what `Input` and a layer called on symbols return.

    shape: of one input, without the batch axis.
    """

    def __init__(self, shape: Shape, layer: Module | None, inputs: tuple[Symbol, ...]) -> None:
        self.shape = shape
        self._layer, self._inputs = layer, inputs
        self._number = next(_counter)  # the order in which calls were written is that of their run

    def __repr__(self) -> str:
        return f"Symbol({self.shape}, {_named(self)})"


def Input(shape: Sequence[int]) -> Symbol:  # as in Keras
    """Return a symbol for inputs of this shape, without the batch axis, such as (28, 28, 1)."""
    return Symbol(input_shape_of(shape, "Input: shape"), None, ())


def symbols_in(x: object) -> tuple[Symbol, ...] | None:
    """Return the symbols that a layer was called on, or None where it was called on arrays."""
    if isinstance(x, Symbol):
        return (x,)
    if isinstance(x, (list, tuple)) and x and all(isinstance(each, Symbol) for each in x):
        return tuple(x)
    return None


def called_on(layer: Module, symbols: tuple[Symbol, ...]) -> Any:
    """Return the symbol, or for a model of several outputs the list of them, of a layer's call."""
    shapes = tuple(symbol.shape for symbol in symbols)
    try:
        result = _planned(layer, shapes[0] if len(shapes) == 1 else shapes)
    except (TypeError, ValueError) as error:
        behind = " and ".join(map(_named, symbols))
        raise type(error)(f"{error} (called on {behind})") from error
    if result and isinstance(result[0], tuple):
        whole = Symbol((), layer, symbols)
        return [Symbol(shape, None, (whole,)) for shape in result]
    return Symbol(result, layer, symbols)


def _planned(layer: Module, shape: Any) -> Any:
    """Return the shape that a layer gives; at a second place it may see another than at the first.

    Its arrays must be of the same shapes at both.
    """
    if not layer._planned or layer.input_shape == shape:
        return layer.plan(shape)
    twin: Module = type(layer)(**layer.config())
    result = twin.plan(shape)
    if twin.shapes() != layer.shapes():
        raise ValueError(
            f"{type(layer).__name__}: expected inputs for which its weights are of the shapes that "
            f"they have, as {layer.input_shape}, got {shape}"
        )
    return result


def _named(symbol: Symbol) -> str:
    if symbol._layer is not None:
        return f"what {type(symbol._layer).__name__} gives, {symbol.shape}"
    return f"an Input of shape {symbol.shape}" if not symbol._inputs else f"{symbol.shape}"


class Model(Module):
    """The network between inputs and outputs, which are symbols (one or a list of each).

        x = nn.Input((32, 32, 3))
        y = nn.Conv2D(16, 3, padding="same", activation="relu")(x)
        z = nn.concat([x, y])
        model = nn.Model(x, nn.Dense(10)(nn.GlobalAvgPool2D()(z)))

    A layer that is called at several places shares its weights; its gradients add up. Models,
    Sequential and Residual may hold each other. `layers` are those between the symbols, in the
    order of their first calls; weights are called "0.weight" after it.

    Raises ValueError for outputs that depend on another Input, and for inputs that no output uses.
    """

    layers: tuple[Module, ...]
    _hidden = Module._hidden | {"layers"}
    _hint = "; Sequential is a chain of layers"
    _has_row = False
    _runs_all = True

    def __init__(
        self, inputs: Symbol | Sequence[Symbol], outputs: Symbol | Sequence[Symbol]
    ) -> None:
        super().__init__()
        given, wanted = _several(inputs, "inputs"), _several(outputs, "outputs")
        self._one_input, self._one_output = inputs is given[0], outputs is wanted[0]
        self._input_shapes = tuple(symbol.shape for symbol in given)
        order = _order(given, wanted)
        layers: dict[int, Module] = {}
        for symbol in order:
            if symbol._layer is not None:
                layers.setdefault(id(symbol._layer), symbol._layer)
        vars(self)["layers"] = tuple(layers.values())
        places = {key: at for at, key in enumerate(layers)}
        values = {id(symbol): at for at, symbol in enumerate([*given, *order])}
        # Of each value behind the inputs: which layer gives it, of which values; or, of a layer
        # that gives several, which of them it is.
        self._calls = tuple(
            (
                -1 if symbol._layer is None else places[id(symbol._layer)],
                tuple(values[id(each)] for each in symbol._inputs)
                if symbol._layer is not None
                else (values[id(symbol._inputs[0])], _index_of(symbol, order)),
            )
            for symbol in order
        )
        self._results = tuple(values[id(symbol)] for symbol in wanted)
        for _ in self.modules():
            pass  # each at one place

    def children(self) -> dict[str, Module]:
        return {str(i): layer for i, layer in enumerate(self.layers)}

    # ------------------------------------------------------------------ building
    def build(
        self,
        input_shape: Any = None,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = np.float32,
        *,
        seed: int = 0,
    ) -> Shape:
        """Draw the initial weights; the inputs' shapes are known. See Module.build."""
        own = self._own_shapes()
        return super().build(own if input_shape is None else input_shape, rng, dtype, seed=seed)

    def _own_shapes(self) -> Any:
        return self._input_shapes[0] if self._one_input else self._input_shapes

    def declare(self, input_shape: Any) -> Any:
        if input_shape != self._own_shapes():
            raise ValueError(
                f"Model: expected inputs of shape {self._own_shapes()}, got {input_shape}"
            )
        shapes: list[Any] = list(self._input_shapes)
        for place, sources in self._calls:
            if place < 0:
                shapes.append(shapes[sources[0]][sources[1]])
                continue
            given = tuple(shapes[at] for at in sources)
            shapes.append(_planned(self.layers[place], given[0] if len(given) == 1 else given))
        results = tuple(shapes[at] for at in self._results)
        return results[0] if self._one_output else results

    # ------------------------------------------------------------------ running
    def forward(
        self,
        x: Any,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> tuple[Any, Backward]:
        """Return (y, backward); x and y are arrays, or tuples of them where there are several."""
        self._require_built()
        values: list[Any] = [x] if self._one_input else list(x)
        needed = [input_gradient] * len(values)
        steps: list[Any] = []
        for place, sources in self._calls:
            if place < 0:
                values.append(values[sources[0]][sources[1]])
                needed.append(needed[sources[0]])
                steps.append(None)
                continue
            layer = self.layers[place]
            given = tuple(values[at] for at in sources)
            before = any(needed[at] for at in sources)
            y, step = run(
                layer,
                given[0] if len(given) == 1 else given,
                backend,
                training=training,
                rng=rng,
                input_gradient=before,
            )
            values.append(y)
            needed.append(before or layer._trains)
            steps.append(step)
        outputs = tuple(values[at] for at in self._results)
        count = len(self._input_shapes)
        del values, x

        def backward(dy: Any) -> Any:
            gradients: dict[int, Any] = {}
            given = (dy,) if self._one_output else tuple(dy)
            for at, gradient in zip(self._results, given, strict=True):
                _add_to(gradients, at, gradient, backend)
            used: dict[int, int] = {}
            for at in range(len(needed) - 1, count - 1, -1):
                place, sources = self._calls[at - count]
                gradient = gradients.pop(at, None)
                step, steps[at - count] = steps[at - count], None
                if gradient is None or not needed[at]:
                    continue
                if place < 0:
                    parts = gradients.setdefault(sources[0], {})
                    parts[sources[1]] = gradient
                    continue
                if isinstance(gradient, dict):
                    gradient = self._whole(at, gradient)
                parts = self._stepped(step, gradient, self.layers[place], used, backend)
                for source, part in zip(sources, parts, strict=False):
                    if needed[source]:
                        _add_to(gradients, source, part, backend)
            found = tuple(gradients.get(at) for at in range(count))
            return found[0] if self._one_input else found

        return (outputs[0] if self._one_output else outputs), backward

    def _whole(self, at: int, parts: dict[int, Any]) -> Any:
        """Return the gradients of all that a layer gives; ValueError where one is not used."""
        place, _ = self._calls[at - len(self._input_shapes)]
        expected = len(self.layers[place].output_shape)
        if len(parts) != expected:
            raise ValueError(
                f"{type(self.layers[place]).__name__}: expected all {expected} outputs to be used "
                f"in training, got {len(parts)}"
            )
        return tuple(parts[index] for index in range(expected))

    def _stepped(
        self, step: Any, dy: Any, layer: Module, used: dict[int, int], backend: Backend
    ) -> tuple[Any, ...]:
        """Run a layer's backward pass; its gradients are added to those of its other places."""
        parameters = list(layer.parameters().values()) if id(layer) in used else []
        before = [parameter.grad for parameter in parameters]
        dx = step(dy)
        for parameter, gradient in zip(parameters, before, strict=True):
            if gradient is not None and parameter.grad is not None:
                parameter.grad = backend.add(gradient, parameter.grad)
        used[id(layer)] = 1
        return dx if isinstance(dx, tuple) else (dx,)

    def __call__(self, x: Any, backend: Backend | None = None) -> Any:
        if backend is None or isinstance(backend, (Tracing, str)):
            return super().__call__(x, backend)
        return self.forward(x, backend)[0]

    # ------------------------------------------------------------------ in files
    def config(self) -> dict[str, Any]:
        """Return what `from_config` makes the model of."""
        return {
            "inputs": [list(shape) for shape in self._input_shapes],
            "layers": list(self.layers),
            "calls": [[place, list(sources)] for place, sources in self._calls],
            "outputs": list(self._results),
            "one_input": self._one_input,
            "one_output": self._one_output,
        }

    @classmethod
    def from_config(
        cls,
        inputs: Any,
        layers: Any,
        calls: Any,
        outputs: Any,
        one_input: bool,
        one_output: bool,
    ) -> Model:
        """Return the model that config() tells of; ValueError for what is none."""
        try:
            values: list[Any] = [Input(shape) for shape in inputs]
            count = len(values)
            for place, sources in calls:
                if min(sources) < 0:
                    raise IndexError
                if place < 0:
                    values.append(values[sources[0]][sources[1]])
                else:
                    given = [values[at] for at in sources]
                    values.append(layers[place](given[0] if len(given) == 1 else given))
            wanted = [values[at] for at in outputs]
            return cls(
                values[0] if one_input else values[:count], wanted[0] if one_output else wanted
            )
        except (IndexError, KeyError) as error:
            raise ValueError("Model: expected calls of its layers, got others") from error


def _several(symbols: object, where: str) -> tuple[Symbol, ...]:
    found = symbols_in(symbols)
    if found is None:
        raise TypeError(
            f"Model: {where}: expected what nn.Input or a layer called on it returns, or a list of "
            f"these, got {type(symbols).__name__}"
        )
    if len({id(each) for each in found}) < len(found) and where == "inputs":
        raise ValueError("Model: inputs: expected each once, got one twice")
    return found


def _order(inputs: Iterable[Symbol], outputs: Iterable[Symbol]) -> list[Symbol]:
    """Return the symbols between inputs and outputs, in the order in which they were made."""
    given = {id(symbol) for symbol in inputs}
    found: dict[int, Symbol] = {}
    used: set[int] = set()
    rest = list(outputs)
    while rest:
        symbol = rest.pop()
        if id(symbol) in given:
            used.add(id(symbol))
        elif id(symbol) not in found:
            if symbol._layer is None and not symbol._inputs:
                raise ValueError(
                    f"Model: outputs: expected them to depend on its inputs alone, got one that "
                    f"depends on another Input, of shape {symbol.shape}"
                )
            found[id(symbol)] = symbol
            rest += symbol._inputs
    for symbol in inputs:
        if id(symbol) not in used:
            raise ValueError(
                f"Model: inputs: expected each to be used, got one of shape {symbol.shape} that no "
                "output depends on"
            )
    return sorted(found.values(), key=lambda symbol: symbol._number)


def _index_of(symbol: Symbol, order: list[Symbol]) -> int:
    """Return which of a layer's outputs a symbol is: they were made one after another."""
    return symbol._number - symbol._inputs[0]._number - 1


def _add_to(gradients: dict[int, Any], at: int, part: Array | None, backend: Backend) -> None:
    if part is not None:
        before = gradients.get(at)
        gradients[at] = part if before is None else backend.add(before, part)
