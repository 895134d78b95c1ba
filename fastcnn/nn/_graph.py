"""Model: the network between symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastcnn._sentences import explained
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn._module import Backward, Module
from fastcnn.nn._places import in_order, run_backward, shape_at
from fastcnn.nn._run import Tracing, run
from fastcnn.nn._state import as_lists, is_call, is_index
from fastcnn.nn._symbol import Input, Symbol, between, ends

Symbols = Symbol | Sequence[Symbol] | Mapping[str, Symbol]

__all__ = ["Model"]


class Model(Module):
    """The network between inputs and outputs, which are symbols (one, a list or a dict of each).

        x = nn.Input((32, 32, 3))
        y = nn.Conv2D(16, 3, padding="same", activation="relu")(x)
        z = nn.concat([x, y])
        model = nn.Model(x, nn.Dense(10)(nn.GlobalAvgPool2D()(z)))

    A layer that is called at several places shares its weights; its gradients add up. Models,
    Sequential and Residual may hold each other. `layers` are those between the symbols, in the
    order of their first calls; weights are called "0.weight" after it. A list of one symbol is as
    that symbol.

    `input_names` and `output_names` are the keys of a dict, else the names of the Inputs, or of the
    layers that make the outputs; None where one has none. By them Trainer and Predictor take arrays
    in dicts. Of outputs given as a dict they return a dict, else a list.

    Raises ValueError for outputs that depend on another Input, for inputs that no output uses, and
    for a name at two places.
    """

    layers: tuple[Module, ...]
    _hidden = Module._hidden | {"layers"}
    _hint = "; Sequential is a chain of layers"
    _of_symbols = True
    _building = "build()"
    _has_row = False
    _runs_all = True
    _takes_several = True

    def __init__(self, inputs: Symbols, outputs: Symbols, *, name: str | None = None) -> None:
        super().__init__(name=name)
        (given, names), (wanted, made) = ends(inputs, "inputs"), ends(outputs, "outputs")
        self._input_names, self._output_names = names, made
        self._gives_dict = isinstance(outputs, Mapping)
        self._one_input, self._one_output = len(given) == 1, len(wanted) == 1
        self._input_shapes = tuple(symbol.shape for symbol in given)
        order = between(given, wanted)
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

    @property
    def input_names(self) -> tuple[str, ...] | None:
        """What the inputs are called, if all of them have a name."""
        return self._input_names

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """What the outputs are called, if all of them have a name."""
        return self._output_names

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
        closures: list[Any] = []
        several: dict[int, list[tuple[Any, Any]]] = {}  # shapes and dtypes of what a layer gave
        for place, sources in self._calls:
            if place < 0:
                values.append(values[sources[0]][sources[1]])
                needed.append(needed[sources[0]])
                closures.append(None)
                continue
            layer = self.layers[place]
            given = tuple(values[at] for at in sources)
            before = any(needed[at] for at in sources)
            y, closure = run(
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
            closures.append(closure)
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
                closure, closures[at - count] = closures[at - count], None
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
                    dx = run_backward(closure, gradient, self.layers[place], used, backend)
                else:
                    dx = closure(gradient)
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

    @explained
    def __call__(self, x: Any, backend: Backend | None = None) -> Any:
        """Return the output, or a tuple of several; of symbols see Module.__call__.

        x: an array or a symbol, or of several a list or a dict by the names of the inputs.
        """
        if isinstance(x, Mapping) and self.input_names is not None:
            x = in_order(x, self.input_names, "Model: x", "inputs")
        if backend is None or isinstance(backend, (Tracing, str)):
            return super().__call__(x, backend)
        return self.forward(x, backend)[0]

    # ------------------------------------------------------------------ in files
    def config(self) -> dict[str, Any]:
        """Return what `from_config` makes the model of."""
        names = {
            "input_names": self.input_names,
            "output_names": self.output_names if self._gives_dict else None,
            "name": self.name,
        }
        return {
            "inputs": [list(shape) for shape in self._input_shapes],
            "layers": list(self.layers),
            "calls": [[place, list(sources)] for place, sources in self._calls],
            "outputs": list(self._results),
            "one_input": self._one_input,
            "one_output": self._one_output,
            **{key: as_lists(value) for key, value in names.items() if value is not None},
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
        input_names: Any = None,
        output_names: Any = None,
        name: Any = None,
    ) -> Model:
        """Return the model that config() tells of; ValueError for what is none."""
        told = {"layers": layers, "calls": calls, "outputs": outputs}
        lists = isinstance(inputs, (tuple, list)) and all(
            isinstance(each, (tuple, list)) for each in told.values()
        )
        named = [(input_names, inputs), (output_names, outputs)]
        lists = lists and all(
            names is None
            or (
                isinstance(names, (tuple, list))
                and len(names) == len(of)
                and all(isinstance(each, str) for each in names)
            )
            for names, of in named
        )
        if (
            not lists
            or not all(isinstance(layer, Module) for layer in layers)
            or not all(map(is_call, calls))
            or not all(map(is_index, outputs))
        ):
            raise ValueError("Model: expected lists of inputs, layers, calls and outputs")
        values: list[Any] = [
            Input(shape, name=each)
            for shape, each in zip(inputs, input_names or [None] * len(inputs), strict=True)
        ]
        count = len(values)
        try:
            for place, sources in calls:
                if place >= 0:
                    given = [values[at] for at in sources]
                    values.append(layers[place](given[0] if len(given) == 1 else given))
                elif isinstance(values[sources[0]], list):
                    values.append(values[sources[0]][sources[1]])
            wanted: Any = [values[at] for at in outputs]
        except IndexError as error:
            raise ValueError("Model: expected calls of its layers, got others") from error
        if output_names is not None:
            wanted = dict(zip(output_names, wanted, strict=True))
        model = cls(values[:count], wanted, name=name)
        told |= {"one_input": one_input, "one_output": one_output}
        optional = {"input_names": input_names, "output_names": output_names, "name": name}
        told |= {key: value for key, value in optional.items() if value is not None}
        made = model.config()
        if any(as_lists(value) != made[name] for name, value in told.items()):
            raise ValueError("Model: expected each of its layers and calls to be used, in order")
        return model


def _add_to(gradients: dict[int, Any], at: int, part: Array | None, backend: Backend) -> None:
    if part is not None:
        before = gradients.get(at)
        gradients[at] = part if before is None else backend.add(before, part)
