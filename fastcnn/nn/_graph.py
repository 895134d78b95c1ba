"""Networks of any shape: layers called on symbols, and the model between some of these.

A symbol knows the layer that gives it and the symbols which that was called on, so the outputs lead
back to the inputs. (Not to be mixed up with the tracer's Symbol, which stands for an array of one
batch and has its axis.)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._options import Shape, input_shape_of
from fastcnn.nn._places import is_several, shape_at, stepped
from fastcnn.nn._run import Tracing, run
from fastcnn.nn._state import as_lists, is_call, is_index

__all__ = ["Input", "Model", "Symbol", "called_on"]

_counter = itertools.count()


class Symbol:
    """An array that a network will see: what `Input` and a layer called on symbols return.

    shape: of one input, without the batch axis.
    """

    def __init__(
        self, shape: Shape, layer: Module | None, inputs: tuple[Symbol, ...], index: int = 0
    ) -> None:
        self.shape = shape
        # An Input has neither layer nor inputs; one of several that a layer gives has no layer, and
        # all that it gives as its input, of which it is number `index`.
        self._layer, self._inputs, self._index = layer, inputs, index
        # The order in which calls were written is that of their run; symbols may be copies of
        # another process's, whose numbers are higher than those that are next here.
        self._number: int = max([next(_counter), *(each._number + 1 for each in inputs)])

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


def symbols_or_error(layer: Module, x: object, backend: object) -> tuple[Symbol, ...] | None:
    """Return symbols_in(x); TypeError for symbols beside others or with a backend."""
    symbols, who = symbols_in(x), type(layer).__name__
    if symbols is None and isinstance(x, (list, tuple)) and any(map(_holds_symbols, x)):
        what = ", ".join(type(each).__name__ for each in x)
        raise TypeError(f"{who}: expected symbols alone in one list, got a list of {what:.80}")
    if symbols is not None and backend is not None:
        raise TypeError(
            f"{who}: backend: expected none where a layer is called on symbols, got "
            f"{backend if isinstance(backend, str) else type(backend).__name__!r:.80}"
        )
    return symbols


def _holds_symbols(x: object) -> bool:
    return isinstance(x, Symbol) or symbols_in(x) is not None


def called_on(layer: Module, symbols: tuple[Symbol, ...]) -> Any:
    """Return the symbol, or for a model of several outputs the list of them, of a layer's call."""
    shapes = tuple(symbol.shape for symbol in symbols)
    try:
        result = shape_at(layer, shapes[0] if len(shapes) == 1 else shapes)
    except (TypeError, ValueError) as error:
        behind = " and ".join(map(_named, symbols))
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{error} (called on {behind})") from error
    if is_several(result):
        whole = Symbol((), layer, symbols)
        return [Symbol(shape, None, (whole,), index) for index, shape in enumerate(result)]
    return Symbol(result, layer, symbols)


def _named(symbol: Symbol) -> str:
    if symbol._layer is not None:
        return f"what {type(symbol._layer).__name__} gives, {symbol.shape}"
    if not symbol._inputs:
        return f"an Input of shape {symbol.shape}"
    giver = type(symbol._inputs[0]._layer).__name__
    return f"output {symbol._index} of what {giver} gives, {symbol.shape}"


class Model(Module):
    """The network between inputs and outputs, which are symbols (one or a list of each).

        x = nn.Input((32, 32, 3))
        y = nn.Conv2D(16, 3, padding="same", activation="relu")(x)
        z = nn.concat([x, y])
        model = nn.Model(x, nn.Dense(10)(nn.GlobalAvgPool2D()(z)))

    A layer that is called at several places shares its weights; its gradients add up. Models,
    Sequential and Residual may hold each other. `layers` are those between the symbols, in the
    order of their first calls; weights are called "0.weight" after it. A list of one symbol is as
    that symbol.

    Raises ValueError for outputs that depend on another Input, and for inputs that no output uses.
    """

    layers: tuple[Module, ...]
    _hidden = Module._hidden | {"layers"}
    _hint = "; Sequential is a chain of layers"
    _has_row = False
    _runs_all = True
    _takes_several = True

    def __init__(
        self, inputs: Symbol | Sequence[Symbol], outputs: Symbol | Sequence[Symbol]
    ) -> None:
        super().__init__()
        given, wanted = _several(inputs, "inputs"), _several(outputs, "outputs")
        self._one_input, self._one_output = len(given) == 1, len(wanted) == 1
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
                else (values[id(symbol._inputs[0])], symbol._index),
            )
            for symbol in order
        )
        self._results = tuple(values[id(symbol)] for symbol in wanted)
        at = [place for place, _ in self._calls]
        self._shared = frozenset(place for place in at if place >= 0 and at.count(place) > 1)
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
            shapes.append(shape_at(self.layers[place], given[0] if len(given) == 1 else given))
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
        values = self._arrays(x)
        needed = [input_gradient] * len(values)
        steps: list[Any] = []
        several: dict[int, list[tuple[Any, Any]]] = {}  # shapes and dtypes of what a layer gave
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
            if isinstance(y, tuple):
                several[len(values)] = [(each.shape, each.dtype) for each in y]
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
            used: set[int] = set()
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
                    gradient = tuple(
                        np.zeros(*like) if (part := gradient.get(index)) is None else part
                        for index, like in enumerate(several[at])
                    )
                if place in self._shared:
                    dx = stepped(step, gradient, self.layers[place], used, backend)
                else:
                    dx = step(gradient)
                parts = dx if isinstance(dx, tuple) else (dx,)
                for source, part in zip(sources, parts, strict=False):
                    if needed[source]:
                        _add_to(gradients, source, part, backend)
            found = tuple(gradients.get(at) for at in range(count))
            return found[0] if self._one_input else found

        return (outputs[0] if self._one_output else outputs), backward

    def _arrays(self, x: Any) -> list[Any]:
        """Return the arrays of the inputs."""
        count = len(self._input_shapes)
        if self._one_input and not isinstance(x, (tuple, list)):
            return [x]
        if not isinstance(x, (tuple, list)) or len(x) != count:
            got = len(x) if isinstance(x, (tuple, list)) else type(x).__name__
            raise ValueError(f"Model: x: expected {count} arrays in a tuple, got {got}")
        return list(x)

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
        inputs: Any = None,
        layers: Any = None,
        calls: Any = None,
        outputs: Any = None,
        one_input: Any = None,
        one_output: Any = None,
    ) -> Model:
        """Return the model that config() tells of; ValueError for what is none."""
        told = {"layers": layers, "calls": calls, "outputs": outputs}
        lists = isinstance(inputs, (tuple, list)) and all(
            isinstance(each, (tuple, list)) for each in told.values()
        )
        if (
            not lists
            or not all(isinstance(layer, Module) for layer in layers)
            or not all(map(is_call, calls))
            or not all(map(is_index, outputs))
        ):
            raise ValueError("Model: expected lists of inputs, layers, calls and outputs")
        values: list[Any] = [Input(shape) for shape in inputs]
        count = len(values)
        try:
            for place, sources in calls:
                if place >= 0:
                    given = [values[at] for at in sources]
                    values.append(layers[place](given[0] if len(given) == 1 else given))
                elif isinstance(values[sources[0]], list):
                    values.append(values[sources[0]][sources[1]])
            wanted = [values[at] for at in outputs]
        except IndexError as error:
            raise ValueError("Model: expected calls of its layers, got others") from error
        model = cls(values[:count], wanted)
        told |= {"one_input": one_input, "one_output": one_output}
        made = model.config()
        if any(as_lists(value) != made[name] for name, value in told.items()):
            raise ValueError("Model: expected each of its layers and calls to be used, in order")
        return model


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


def _add_to(gradients: dict[int, Any], at: int, part: Array | None, backend: Backend) -> None:
    if part is not None:
        before = gradients.get(at)
        gradients[at] = part if before is None else backend.add(before, part)
