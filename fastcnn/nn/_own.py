"""Layers of one's own: what forward gives is compared with what they declared; how they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.nn._places import (
    count_of,
    is_several,
    listed,
    run_backward,
    shape_at,
    shapes_of,
)
from fastcnn.nn._run import Tracing

if TYPE_CHECKING:
    from fastcnn.nn._module import Module
    from fastcnn.program import Node

__all__ = ["HOUSE", "Foreign", "checked", "interpreted", "is_traceable"]

Function = Callable[..., Any]

HOUSE = ("fastcnn.nn.", "fastcnn.onnx.")  # modules of the library's own layers

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def is_traceable(layer: Module) -> bool:
    """Return whether forward calls nothing but ops; see Module.is_traceable."""
    if "forward" in vars(layer):
        return False
    for cls in type(layer).__mro__:  # whichever comes first, the word or a forward without it
        if cls.__module__.startswith(HOUSE):
            return cls is type(layer)
        if "traceable" in vars(cls):
            return vars(cls)["traceable"] is True
        if "forward" in vars(cls):
            return False
    return False


def checked(forward: Function) -> Function:
    """Let the forward pass of a layer of one's own be compared with what the layer declared."""

    @wraps(forward)
    def run(self: Module, *args: Any, **kwargs: Any) -> Any:
        if type(self).forward is not run:  # a part of what a subclass does
            return forward(self, *args, **kwargs)
        self._require_built()
        if self.is_traceable():
            return _traced(self, forward, *args, **kwargs)
        result = forward(self, *args, **kwargs)
        if not isinstance(result, tuple) or len(result) != 2 or not callable(result[1]):
            raise TypeError(
                f"{type(self).__name__}: forward: expected to return (y, backward), an array and a "
                f"function, got {type(result).__name__}"
            )
        _require_outputs(self, args[0] if args else kwargs["x"], result[0])
        return result

    return run


def _require_outputs(layer: Module, x: Any, y: Any) -> None:
    """Refuse an output, or several, of other shapes than declared, or of another dtype."""
    name = type(layer).__name__
    inputs = shapes_of(x)
    declared = shape_at(layer, inputs)
    several = is_several(declared)
    if several and (not isinstance(y, tuple) or len(y) != len(declared)):
        got = f"{len(y)}" if isinstance(y, tuple) else type(y).__name__
        raise TypeError(f"{name}: forward: expected a tuple of {len(declared)} arrays, got {got}")
    count = count_of(x)
    given = getattr(listed(x)[0], "dtype", None)
    pairs = zip(y, declared, strict=True) if several else ((y, declared),)
    for each, expected in pairs:
        shape = getattr(each, "shape", None)
        if shape is None:
            raise TypeError(f"{name}: forward: expected an array, got {type(each).__name__}")
        if shape != (count, *expected):
            raise ValueError(
                f"{name}: declare: expected the shape that forward gives, which is {shape[1:]} for "
                f"inputs {inputs}, got {expected}"
                if shape[:1] == (count,)
                else f"{name}: forward: expected {count} outputs for {count} inputs, got an array "
                f"of shape {shape}"
            )
        dtype = getattr(each, "dtype", None)
        is_float = isinstance(dtype, np.dtype) and dtype.kind == "f"
        if is_float and given in _FLOATS and dtype != given:
            raise TypeError(
                f"{name}: forward: expected an array of {given}, as x is, got {dtype}; "
                "y.astype(x.dtype) is one"
            )


def _traced(
    self: Module, forward: Function, x: Any, backend: Any, *args: Any, **kwargs: Any
) -> Any:
    """Return (y, backward) of a layer whose forward returns y alone, made of ops."""
    if not isinstance(backend, Tracing):
        return interpreted(self, x, backend, *args, **kwargs)
    y = forward(self, x, backend, *args, **kwargs)
    declared = shape_at(self, shapes_of(x))
    several, count = is_several(declared), count_of(x)
    expected = [(count, *shape) for shape in (declared if several else (declared,))]
    given = y if several and isinstance(y, tuple) else (y,)
    shapes = [getattr(each, "shape", None) for each in given]
    if shapes != expected:
        what = f"arrays of shapes {expected}" if several else f"an array of shape {expected[0]}"
        got = f"shape {shapes[0]}" if not several and shapes[0] is not None else type(y).__name__
        raise ValueError(
            f"{type(self).__name__}: forward: expected {what} from a layer with "
            f"traceable = True, got {got}"
        )
    return y, None


def interpreted(
    layer: Module,
    x: Any,
    backend: Any,
    *,
    training: bool = False,
    rng: np.random.Generator | None = None,
    input_gradient: bool = True,
) -> tuple[Any, Function]:
    """Return (y, backward) as Module.forward does, of a layer that has no backward of its own.

    Its program says what backward does.
    """
    from fastcnn.program import Interpreter, differentiate, trace

    xs = listed(x)
    traced = trace(
        layer, count_of(x), dtype=xs[0].dtype, training=training, input_shape=shapes_of(x)
    )
    inputs, parameters = traced.inputs, layer.trained_parameters()
    program = differentiate(traced, [*(inputs if input_gradient else ()), *parameters])
    run = Interpreter(program, backend)
    outputs = run.forward(*xs, rng=rng)
    several = is_several(layer.output_shape)

    def backward(dy: Any) -> Any:
        gradients = run.backward(*(dy if several else (dy,)))
        found = tuple(gradients.get(name) for name in inputs)
        for name, parameter in parameters.items():
            if name in gradients:  # what foreign layers computed is there already
                parameter.grad = gradients[name]
        return found if isinstance(x, (tuple, list)) else found[0]

    return (tuple(outputs) if several else outputs[0]), backward


class Foreign:
    """Runs the layers of a program that are no ops, step by step, and knows a step's `rng`.

    It holds what their forward passes leave for their backward passes.
    """

    def __init__(self, nodes: Iterable[Node], backend: Backend) -> None:
        self._backend = backend
        own = [node for node in nodes if "layer" in node.attributes]
        backs = [node for node in own if "dy" in node.arguments]
        self._wanted = {str(node.arguments["y"]) for node in backs}
        self._places = [id(node.attributes["layer"]) for node in backs]
        self.start(None)

    def start(self, rng: np.random.Generator | None) -> None:
        """Begin a step; rng is for what its layers draw."""
        self.rng = rng
        self._closures: dict[str, Callable[[Any], Any]] = {}
        self._used: set[int] = set()  # layers whose other places have left their gradients

    def forward(self, node: Node, x: Array | list[Array]) -> list[Any]:
        """Return a layer's outputs."""
        layer, training = node.attributes["layer"], node.attributes["training"]
        name, given = str(node.results[0]), tuple(x) if isinstance(x, list) else x
        if training or name in self._wanted:
            y, backward = layer.forward(given, self._backend, training=training, rng=self.rng)
            if name in self._wanted:
                self._closures[name] = backward
        else:
            y = layer(given, self._backend)
        return [y] if len(node.results) == 1 else list(y)

    def backward(self, node: Node, dy: Any) -> list[Any]:
        """Return the gradients of a layer's inputs; its weights' it leaves by itself."""
        layer, closure = node.attributes["layer"], self._closures.pop(str(node.arguments["y"]))
        if isinstance(dy, list):  # of several outputs, where some have none
            for at, (shape, dtype) in sorted(node.attributes["zeros"].items()):
                dy.insert(at, np.zeros(shape, dtype))
            dy = tuple(dy)
        if self._places.count(id(layer)) > 1:
            dx = run_backward(closure, dy, layer, self._used, self._backend)
        else:
            dx = closure(dy)
        return list(dx) if len(node.results) > 1 else [dx]
