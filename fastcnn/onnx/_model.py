"""OnnxModel: the network of an ONNX file as a model of layers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any, NoReturn

import numpy as np

from fastcnn._shapes import fits
from fastcnn._types import Array, Shape
from fastcnn.backend import Backend
from fastcnn.nn import BatchNorm, Model, Module, Sigmoid, Softmax
from fastcnn.nn._own import interpreted
from fastcnn.nn._places import listed
from fastcnn.nn._run import Tracing
from fastcnn.nn._state import as_lists
from fastcnn.onnx import (  # noqa: F401  they enter their operators
    _elementwise,
    _norms,
    _quantized,
    _sequence,
    _shaping,
    _windows,
)
from fastcnn.onnx._call import OPERATORS, Call, Value
from fastcnn.onnx._constants import NUMPY
from fastcnn.onnx._parts import headless, last_ops
from fastcnn.onnx._room import Room
from fastcnn.onnx._tensor import Tensor, channels_last

__all__ = ["FAULTS", "OnnxModel", "Weights", "array_of", "run_node"]

# At which a network of open sizes is planned, height first: two of them that it takes.
_SIZES = tuple((h, w) for h, w in ((320, 320), (256, 256), *product((48, 32, 64), (320, 256))))
_SIZES += ((640, 640), (224, 224), (1024, 1024), (16000, 16000), (8000, 8000))
# What operators raise of what a file may hold, which is anything.
FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


class Weights(Module):
    """The arrays of one operator of a file, or of several that share them.

    sizes: the shape of each by its name; trained: the names of those that training changes.
    """

    def __init__(
        self, sizes: Mapping[str, Shape], trained: tuple[str, ...], *, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        self.sizes, self.trained = dict(sizes), tuple(trained)

    def declare(self, input_shape: Any) -> Any:
        for name, shape in self.sizes.items():
            declare = self.declare_parameter if name in self.trained else self.declare_buffer
            declare(name, tuple(shape), partial(_zeros, tuple(shape)))
        return input_shape

    def forward(self, x: Any, backend: Backend, **options: Any) -> NoReturn:
        raise TypeError("Weights: expected the model that they are of to be run, got them alone")


class _Graph:
    """What a graph's description holds, as it runs."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self.description = description
        self.inputs = [dict(each) for each in description["inputs"]]
        self.outputs = [dict(each) for each in description["outputs"]]
        self.nodes = [dict(node) for node in description["nodes"]]
        self.weights = {key: dict(value) for key, value in description["weights"].items()}
        self.constants = {key: array_of(each) for key, each in description["constants"].items()}
        self.opset = int(description["opset"])

    def layers(self) -> dict[str, Module]:
        """Return the layers that hold the weights, by their names."""
        found: dict[str, Module] = {}
        for name, each in self.description["layers"].items():
            if "sizes" in each:
                found[name] = Weights(each["sizes"], each["trained"], name=each["op"])
            else:
                found[name] = BatchNorm(momentum=each["momentum"], epsilon=each["epsilon"])
        return found


def _zeros(shape: Shape, rng: np.random.Generator) -> Array:
    return np.zeros(shape)


class OnnxModel(Model):
    """The network of an ONNX file, which `fastcnn.onnx.load` returns.

    Its operators run as ops of the backend; those that only do arithmetic with shapes are worked
    out anew for each size of input. `layers` hold the weights, one for each operator that has some,
    and are called as the weights are in the file; freezing one freezes these. Weights lie as ours
    do: filters (R, S, C, K), dense ones (C, K).

    graph: what config() tells of it. layout: "NHWC" of images that come and go channels last,
    "file" as the file has them.
    """

    _takes_several = True

    def __init__(
        self, graph: Mapping[str, Any], layout: str = "NHWC", *, name: str | None = None
    ) -> None:
        Module.__init__(self, name=name)
        self._graph, self.layout = _Graph(graph), layout
        inputs, outputs = self._graph.inputs, self._graph.outputs
        self._input_names = tuple(each["name"] for each in inputs)
        self._output_names = tuple(each["name"] for each in outputs)
        self._gives_dict = False
        self._one_input, self._one_output = len(inputs) == 1, len(outputs) == 1
        self._input_shapes = tuple(tuple(each["shape"]) for each in inputs)
        self._results = (0,) * len(outputs)  # of no layer that could be asked what it is
        held = self._graph.layers()
        self._names, vars(self)["layers"] = tuple(held), tuple(held.values())

    @property
    def takes_integers(self) -> tuple[bool, ...]:
        """Which of the inputs are integers in the file: they are taken as they are."""
        return tuple(bool(each["integers"]) for each in self._graph.inputs)

    def children(self) -> dict[str, Module]:
        return dict(zip(self._names, self.layers, strict=True))

    def config(self) -> dict[str, Any]:
        """Return what an OnnxModel is made of."""
        name = {} if self.name is None else {"name": self.name}
        return {"graph": as_lists(self._graph.description), "layout": self.layout, **name}

    @classmethod
    def from_config(  # type: ignore[override]  # a model of a kind of its own
        cls, graph: Any = None, layout: Any = None, name: Any = None
    ) -> OnnxModel:
        """Return the model that config() tells of."""
        return cls(graph, layout, name=name)

    def last_layers(self) -> list[Module | None]:
        """Return of each output a layer as the activation that makes it, None where none does."""
        layers: dict[str, type[Module]] = {"Softmax": Softmax, "Sigmoid": Sigmoid}
        made = (layers.get(op) for op in last_ops(self._graph.description))
        return [None if layer is None else layer() for layer in made]

    def without_head(self) -> OnnxModel:
        """Return the network in front of its last dense layer, with copies of the weights.

        Its output are the features that a new head may be trained on. Raises ValueError where the
        only output does not come from a dense layer: a MatMul or Gemm with weights, and what is
        added to its result.
        """
        self._require_built()
        graph = headless(self._graph.description)
        body = OnnxModel(graph, self.layout)
        body.plan(body._own_shapes())
        state = self.state_dict()
        body.adopt({name: state[name] for name in body.shapes()})
        return body

    # ------------------------------------------------------------------ building
    def plan(self, input_shape: Any) -> Any:
        """Declare the layers; a size that the file leaves open is None in the model's shapes."""
        if input_shape != self._own_shapes() or not any(None in s for s in self._input_shapes):
            return super().plan(input_shape)
        if self.built:
            return self.output_shape
        found: list[Any] = []
        for size in _SIZES:
            try:
                found.append(super().plan(self._closed(*size)))
            except ValueError as error:
                refused = error
            if len(found) == 2:
                break
        if not found:
            raise refused
        vars(self).update(input_shape=self._own_shapes(), output_shape=_open(found[0], found[-1]))
        return self.output_shape

    def _closed(self, height: int, width: int) -> Any:
        """Return the inputs' shapes with sizes in the place of those that are left open."""
        shapes = []
        for shape in self._input_shapes:
            first = shape.index(None) if None in shape else -1
            closed = {at: height if at == first else width for at in range(len(shape))}
            shapes.append(tuple(closed[at] if n is None else n for at, n in enumerate(shape)))
        return shapes[0] if self._one_input else tuple(shapes)

    def declare(self, input_shape: Any) -> Any:
        given = (input_shape,) if self._one_input else tuple(input_shape)
        if len(given) != len(self._input_shapes) or not all(map(fits, given, self._input_shapes)):
            raise ValueError(
                f"OnnxModel: expected inputs of shape {self._own_shapes()}, got {input_shape}"
            )
        described = self._graph.description["layers"].values()
        for layer, each in zip(self.layers, described, strict=True):
            layer.plan((each["channels"] if isinstance(layer, BatchNorm) else 1,))
        from fastcnn.program.trace import shapes_given

        batch = self._graph.inputs[0]["batch"] or 1
        result = shapes_given(self, given, batch)
        return result[0] if self._one_output else result

    # ------------------------------------------------------------------ running
    def forward(
        self,
        x: Any,
        backend: Backend,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        input_gradient: bool = True,
    ) -> Any:
        """Return (y, backward); x and y are arrays, or tuples of them where there are several."""
        if not isinstance(backend, Tracing):
            options: Any = {"training": training, "rng": rng, "input_gradient": input_gradient}
            return interpreted(self, x, backend, **options)
        graph, held = self._graph, self.children()
        values: dict[str, Value] = {"": None, **graph.constants}
        for each, array in zip(graph.inputs, listed(x), strict=True):
            rank = len(array.shape)
            last = rank == 4 and self.layout == "NHWC" and not each["last"]
            values[each["name"]] = Tensor(array, channels_last(rank) if last else None)
        tracer: Any = backend
        for name, each in graph.weights.items():
            variable = held[each["layer"]]._own()[each["attribute"]]
            values[name] = Tensor(tracer.symbol(variable._data), each["order"])
        dtype, made_for = tracer.dtype, graph.inputs[0]["batch"]
        batch = (int(made_for), int(listed(x)[0].shape[0])) if made_for else None
        room = Room(0)
        for node in graph.nodes:
            module = held.get(node.get("layer", ""))
            given = [values[name] for name in node["inputs"]]
            options = tracer, dtype, module, training, batch, room
            results = run_node(node, given, graph.opset, *options)
            values.update(zip(node["outputs"], results, strict=False))
        outputs = tuple(self._output(each, values[each["name"]], tracer) for each in graph.outputs)
        return (outputs[0] if self._one_output else outputs), None

    def _output(self, each: Mapping[str, Any], value: Value, tracer: Any) -> Any:
        """Return the array that an output is."""
        if not isinstance(value, Tensor):
            value = Tensor(np.asarray(value, tracer.dtype))
        last = value.rank == 4 and self.layout == "NHWC" and not each["last"]
        return value.stored(tracer, channels_last(4) if last else None)


def _open(one: Any, other: Any) -> Any:
    """Return a shape, or several, with None where two differ."""
    if isinstance(one, tuple):
        return tuple(map(_open, one, other))
    return one if one == other else None


def run_node(
    node: Mapping[str, Any],
    given: list[Value],
    opset: int,
    backend: Any,
    dtype: np.dtype[Any],
    module: Module | None = None,
    training: bool = False,
    batch: tuple[int, int] | None = None,
    room: Room | None = None,
) -> list[Value]:
    """Return the results of one operator; by NumPy where all that it is given is known.

    room: for what is known; 64 MB unless given.
    """
    op = node["op"]
    results = len(node["outputs"])
    options = node["attributes"], opset, backend, dtype, module, training, results, batch
    call = Call(op, given, *options)
    known = not any(isinstance(value, Tensor) for value in given)
    function = NUMPY.get(op) if known else None
    try:
        if function is not None:
            (room or Room(0)).take(node, given)
        with np.errstate(all="ignore"):  # as in the file: endless numbers are numbers, too
            found = (function or OPERATORS[op])(call)
    except FAULTS as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        said = str(error)
        if "expected" not in said:
            said = f"expected inputs and attributes that the operator takes, got {said}"
        raise kind(f"{op} {node['name']:.80}: {said}") from error
    return list(found) if isinstance(found, list) else [found]


def array_of(value: Any) -> Array:
    """Return a constant of a graph: {"dtype": ..., "shape": ..., "data": ...}."""
    if isinstance(value, np.ndarray):
        return value
    return np.array(value["data"], value["dtype"]).reshape(tuple(value["shape"]))
