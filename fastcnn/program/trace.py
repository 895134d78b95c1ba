"""The tracer: a backend that writes down which ops a model calls, and computes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from fastcnn.nn import Model
from fastcnn.nn._places import count_of, is_several, listed, shape_at, shapes_of
from fastcnn.nn._run import Tracing
from fastcnn.program.ops import OPS, parameters_of, result_dtype
from fastcnn.program.program import PYTHON, Node, Program, Value, unused

if TYPE_CHECKING:
    from fastcnn._types import Array, Shape
    from fastcnn.backend import Backend
    from fastcnn.nn import Buffer, Module

__all__ = ["Symbol", "shapes_given", "trace"]


_PLAIN = (int, float, str, bool)  # options that stay what they are


class Symbol:
    """An array of which only shape and dtype are known, as a layer's forward sees it in a trace."""

    def __init__(self, value: Value, tracer: Tracer) -> None:
        self._value, self._tracer = value, tracer
        self.shape, self.dtype = value.shape, value.dtype

    @property
    def ndim(self) -> int:
        """Return how many axes it has."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Return of how many numbers it is."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __add__(self, other: Any) -> Any:
        return self._tracer._call("add", self, other)

    def reshape(self, *shape: Any) -> Any:
        """Return the same numbers in another shape."""
        new = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        if -1 in new:
            rest = -math.prod(new)
            new = tuple(self.size // rest if size == -1 else size for size in new)
        return self._tracer._call("reshape", self, shape=new)

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise self._tracer.foreign("an operator or a function of NumPy's")

    __array__ = __array_function__ = __array_ufunc__ = _refuse
    __getitem__ = __setitem__ = __delitem__ = _refuse
    __bool__ = __float__ = __int__ = __complex__ = __index__ = __round__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __matmul__ = __rmatmul__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _refuse
    __divmod__ = __rdivmod__ = __pow__ = __rpow__ = __pos__ = __neg__ = __abs__ = _refuse
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __invert__ = _refuse
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _refuse
    __hash__ = object.__hash__  # which __eq__ would take away

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            raise self._tracer.foreign(f"the array's {name:.40}")


class _NoNumbers:
    """In the place of a generator: what is drawn in a trace would be the same in each step."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        raise self._tracer.foreign("numbers of rng, which nn.Dropout alone draws")


class Tracer(Tracing):
    """Satisfies the contract: each op becomes a node, and returns symbols for its results.

    nodes, values and updates are those of the program that comes out.
    """

    name = "tracer"

    def __init__(self, model: Module, dtype: np.dtype[Any], training: bool) -> None:
        self.values: dict[str, Value] = {}
        self._counts: dict[str, int] = {}  # of values of a name
        self.nodes: list[Node] = []
        self.updates: dict[str, str] = {}
        self.training = training
        self._dtype = dtype
        self._layers = [type(model).__name__]  # that run, the innermost last
        self._rng = cast("np.random.Generator", _NoNumbers(self))
        self._prefixes: dict[int, str] = {}
        self._prefix = ""
        self._variables: dict[int, Value] = {}  # by the identity of their arrays
        for prefix, module in model._named():
            self._prefixes[id(module)] = prefix
            for name, variable in module._own().items():
                kind = "parameter" if name in module._parameters else "buffer"
                array = variable._data  # without numbers yet, where shapes alone are asked for
                value = Value(f"{prefix}{name}", kind, variable.shape, array.dtype, variable)
                self.values[value.name] = self._variables[id(array)] = value

    def _new(
        self, name: str, kind: str, shape: Shape, dtype: np.dtype[Any], source: Any = None
    ) -> Value:
        """Return a new value, its name followed by a number where there is one of that name."""
        if name in self.values:
            name = unused(name, self.values, self._counts)
        value = self.values[name] = Value(name, kind, shape, dtype, source)
        return value

    def input(self, name: str, shape: Shape, dtype: np.dtype[Any]) -> Symbol:
        """Return an input of the program."""
        return Symbol(self._new(name, "input", shape, dtype), self)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the program's floats."""
        return self._dtype

    def symbol(self, array: Array) -> Symbol:
        """Return a weight's array, or a constant, as ops return what they compute."""
        return Symbol(self._value(array), self)

    def foreign(self, what: str) -> TypeError:
        """Return the error of a layer that does something which is no op."""
        return TypeError(
            f"{self._layers[-1]}: forward: expected nothing but ops of the backend in a layer with "
            f"traceable = True, got {what}"
        )

    # ------------------------------------------------------------------ ops
    if not TYPE_CHECKING:  # mypy takes the contract's word for what each op returns

        def __getattr__(self, op: str) -> Callable[..., Any]:
            if op not in OPS:
                raise AttributeError(
                    f"{self._layers[-1]}: forward: expected an op of fastcnn.backend.Backend, got "
                    f"{op:.40}"
                )

            call = vars(self)[op] = partial(self._call, op)
            return call

    def _call(self, op: str, /, *given: Any, **options: Any) -> Any:
        known, row = parameters_of(op), OPS[op]
        arguments: dict[str, Any] = {}
        shapes: list[Any] = []
        attributes: dict[str, Any] = {}
        for name, value in (*zip(known.names, given, strict=False), *options.items()):
            if name not in known.arrays:
                attributes[name] = value if type(value) in _PLAIN else _fixed(value)
            elif isinstance(value, (list, tuple)):
                values = [self._value(each) for each in value]
                arguments[name] = tuple(each.name for each in values)
                shapes.append((name, tuple(each.shape for each in values)))
            elif value is not None:
                found = self._value(value)
                arguments[name] = found.name
                shapes.append((name, found.shape))
        try:
            made = _shapes_of(op, tuple(shapes), tuple(attributes.items()))
        except (IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self._layers[-1]}: forward: expected arguments that {op} takes, got shapes "
                f"{', '.join(str(shape) for _, shape in shapes)}"
            ) from error
        symbols: list[Symbol] = []
        for name, shape in zip(row.results, made, strict=True):
            dtype = result_dtype(op, name, self._dtype, attributes)
            value = self._new(f"{self._prefix}{name if symbols else op}", "result", shape, dtype)
            symbols.append(Symbol(value, self))
        names = tuple(symbol._value.name for symbol in symbols)
        self.nodes.append(Node(op, names, arguments, attributes, self._layers[-1]))
        return symbols[0] if len(symbols) == 1 else tuple(symbols)

    def _value(self, array: Any) -> Value:
        """Return the value that an op's argument is."""
        if isinstance(array, Symbol):
            return array._value
        if not isinstance(array, np.ndarray):
            raise self.foreign(f"{type(array).__name__} for an array")
        value = self._variables.get(id(array))
        if value is None:
            for known in self._variables.values():
                if known.kind != "constant" and np.may_share_memory(array, known.source._data):
                    raise self.foreign(f"what NumPy makes of {known.name}")
            name = f"{self._prefix}constant"
            value = self._new(name, "constant", array.shape, array.dtype, array)
            self._variables[id(array)] = value
        return value

    # ------------------------------------------------------------------ layers
    def layer(self, layer: Module, x: Any, *, training: bool) -> tuple[Any, Any]:
        """Write down a layer: its ops, or one node for all of a layer that is not traceable.

        Return (what it gives, None): a program needs no function for the backward pass.
        """
        outer = self._prefix
        self._prefix = self._prefixes.get(id(layer), outer)
        name = type(layer).__name__
        self._layers.append(f"{name} {self._prefix[:-1]}" if self._prefix else name)
        try:
            if layer.is_traceable():
                backend: Any = self
                first = len(self.nodes)
                y, _ = layer.forward(x, backend, training=training, rng=self._rng)
                if training and type(layer)._known is None:
                    self._require_read(layer, first)
            else:
                y = self._python(layer, x, training)
        finally:
            self._prefix = outer
            self._layers.pop()
        return y, None

    def _require_read(self, layer: Module, first: int) -> None:
        """Refuse a layer of one's own of which no op takes a parameter: it would not be trained."""
        read = {name for node in self.nodes[first:] for name in node.reads()}
        for name in layer._parameters:
            if f"{self._prefix}{name}" not in read:
                raise TypeError(
                    f"{self._layers[-1]}: forward: expected an op that takes {name}.data in a "
                    "layer with traceable = True, got none; what NumPy makes of it is never trained"
                )

    def _python(self, layer: Module, x: Any, training: bool) -> Any:
        names = tuple(self._value(each).name for each in listed(x))
        shape = shape_at(layer, shapes_of(x))
        name = f"{self._prefix}{type(layer).__name__.lower()}"
        results = [
            self._new(name, "result", (count_of(x), *each), self._dtype)
            for each in (shape if is_several(shape) else (shape,))
        ]
        arguments = {"x": names if isinstance(x, (tuple, list)) else names[0]}
        given = tuple(value.name for value in results)
        attributes = {"layer": layer, "training": training}
        self.nodes.append(Node(PYTHON, given, arguments, attributes, self._layers[-1]))
        symbols = tuple(Symbol(value, self) for value in results)
        return symbols if is_several(shape) else symbols[0]

    def update(
        self, buffers: tuple[Buffer, Buffer], batch: tuple[Any, Any], options: dict[str, float]
    ) -> None:
        """Write down what buffers become after the step: at a second place, once more."""
        arguments, results = {}, []
        for name, buffer in zip(("mean", "variance"), buffers, strict=True):
            like = self._variables[id(buffer._data)]
            arguments[f"running_{name}"] = self.updates.get(like.name, like.name)
            new = f"{self._prefix}next_{name}"
            results.append(self._new(new, "result", like.shape, like.dtype, buffer).name)
            self.updates[like.name] = results[-1]
        arguments["mean"], arguments["variance"] = (each._value.name for each in batch)
        node = Node("running_statistics", tuple(results), arguments, options, self._layers[-1])
        self.nodes.append(node)

    def mask(self, shape: Shape, rate: float) -> Any:
        """Write down that a mask of dropout is drawn."""
        return self._call("dropout_mask", shape=shape, rate=rate)


@lru_cache(maxsize=1024)
def _shapes_of(
    op: str, shapes: tuple[tuple[str, Any], ...], attributes: tuple[tuple[str, Any], ...]
) -> Sequence[Shape]:
    """Return the shapes of an op's results: a network repeats those of its layers."""
    function: Any = OPS[op].shapes  # fused ops, without, come later
    found: Sequence[Shape] = function(**dict(shapes), **dict(attributes))
    return found


def _fixed(value: Any) -> Any:
    """Return an option as it is now: a list or an array may hold other numbers later."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return tuple(map(_fixed, value)) if isinstance(value, list) else value


def shapes_given(model: Module, shapes: Sequence[Shape], batch_size: int = 1) -> list[Shape]:
    """Return the shapes, without the batch axis, of what a planned model gives for such inputs."""
    tracer = Tracer(model, np.dtype(np.float32), False)
    given = tuple(
        tracer.input(f"x{at}", (batch_size, *shape), tracer.dtype)
        for at, shape in enumerate(shapes)
    )
    backend: Any = tracer
    y, _ = model.forward(given if len(given) > 1 else given[0], backend)  # type: ignore[arg-type]
    return [tuple(each.shape[1:]) for each in listed(y)]


def trace(
    model: Module,
    batch_size: int,
    *,
    dtype: np.dtype[Any] | None = None,
    training: bool = False,
    loss: Callable[..., tuple[Any, Any]] | None = None,
    target: tuple[Shape, np.dtype[Any]] | None = None,
    input_shape: Any = None,
) -> Program:
    """Return the program of a built model for one batch size; dtype is that of its weights.

    input_shape: of one input, or a tuple of shapes, where it is not the model's. With a loss its
    value is the output behind the model's, and the target, of that shape and dtype, the input
    behind the model's.
    """
    dtype = dtype or model.dtype or np.dtype(np.float32)
    tracer = Tracer(model, dtype, training)
    shapes: Any = model.input_shape if input_shape is None else input_shape
    several = is_several(shapes)
    names = model.input_names if isinstance(model, Model) else None
    if names is None:
        names = tuple(f"x{at}" for at in range(len(shapes))) if several else ("x",)
    given = tuple(
        tracer.input(name, (batch_size, *shape), dtype)
        for name, shape in zip(names, shapes if several else (shapes,), strict=True)
    )
    y, _ = tracer.layer(model, given if several else given[0], training=training)
    # Behind those of all layers: none of their ops waits for these.
    tracer.nodes.sort(key=lambda node: node.op == "running_statistics")
    inputs = tuple(each._value.name for each in given)
    outputs = tuple(tracer._value(each).name for each in listed(y))
    if loss is not None:
        if isinstance(y, tuple):
            raise ValueError(
                f"loss: expected a model that gives one array, got one that gives {len(y)} of them"
            )
        assert target is not None
        labels = tracer.input("target", *target)
        tracer._layers = [type(loss).__name__]
        cost, _ = loss(cast("Array", y), cast("Array", labels), cast("Backend", tracer))
        inputs += (labels._value.name,)
        outputs += (cast(Any, cost)._value.name,)
    nodes = tuple(tracer.nodes)
    return Program(tracer.values, nodes, inputs, outputs, tracer.updates, {}, len(nodes))
