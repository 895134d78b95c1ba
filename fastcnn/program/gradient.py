"""The backward pass of a program: a walk from its last node to its first.

An op's row in the table of ops (ops.py) says which of its arguments have gradients, and in which
order its backward op returns them; the signature of the backward op, in the contract, says what it
is given. A value that several nodes read has the sum of their gradients. What no wanted gradient
depends on is left out.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from fastcnn.backend import Backend
from fastcnn.nn._places import stepped
from fastcnn.program.ops import OPS, backward_name, parameters_of
from fastcnn.program.program import PYTHON, Node, Program, Value

__all__ = ["PYTHON_BACKWARD", "differentiate", "python_backward"]

PYTHON_BACKWARD = backward_name(PYTHON)


def differentiate(program: Program, wanted: Collection[str]) -> Program:
    """Return the program with a backward pass that ends in the gradients of these values.

    wanted: names of parameters and inputs. The pass begins with 1, the gradient of the number that
    a loss is, if that is the last output; else with the gradient of each output: inputs of the same
    shapes behind the program's own, called "d(output)".
    """
    return _Walk(program, wanted).program()


def python_backward(
    node: Node, program: Program, step: Any, dy: Any, used: set[int], backend: Backend
) -> list[Any]:
    """Run the backward pass of a layer that is no op; return the gradients of its inputs.

    used: layers whose other places, in this backward pass, have left their gradients already.
    """
    layer = node.attributes["layer"]
    if isinstance(dy, list):  # of several outputs, where some have none
        for at, (shape, dtype) in sorted(node.attributes["zeros"].items()):
            dy.insert(at, np.zeros(shape, dtype))
        dy = tuple(dy)
    places = [each for each in program.nodes if each.op == PYTHON_BACKWARD]
    if sum(each.attributes["layer"] is layer for each in places) > 1:
        dx = stepped(step, dy, layer, used, backend)
    else:
        dx = step(dy)
    return list(dx) if len(node.results) > 1 else [dx]


class _Walk:
    """One walk: the program so far, and of each value the gradients that were found for it."""

    def __init__(self, program: Program, wanted: Collection[str]) -> None:
        self._forward = program
        self._values = dict(program.values)
        self._nodes: list[Node] = []
        self._inputs = program.inputs
        self._wanted = set(wanted)
        self._needed = self._all_needed()
        self._parts: dict[str, list[str]] = {}  # of each value: its gradients so far

    def _all_needed(self) -> set[str]:
        """Return the values that depend on a wanted one: gradients go along these alone.

        Those of a layer that is no op depend on its own weights, too, which are not in the program.
        """
        needed = set(self._wanted)
        for node in self._forward.nodes:
            layer = node.attributes.get("layer")
            own = layer is not None and layer._trains
            if own or any(name in needed for name in node.reads()):
                needed.update(name for name in node.results if name is not None)
        return needed

    def program(self) -> Program:
        outputs = self._forward.outputs
        for name in outputs if self._forward.values[outputs[-1]].shape else ():
            seed = self._new(self._name(name), self._forward.values[name])
            self._values[seed] = replace(self._values[seed], kind="input")
            self._inputs += (seed,)
            self._parts.setdefault(name, []).append(seed)
        for node in reversed(self._forward.nodes[: self._forward.forward]):
            self._differentiate(node)
        gradients = {}
        for name in self._wanted_in_order():
            total = self._gradient(name)
            if total is not None:
                gradients[name] = total
        return replace(
            self._forward,
            values=self._values,
            nodes=(*self._forward.nodes, *self._nodes),
            inputs=self._inputs,
            gradients=gradients,
        )

    def _wanted_in_order(self) -> list[str]:
        return [name for name in self._forward.values if name in self._wanted]

    def _differentiate(self, node: Node) -> None:
        """Add what makes the gradients of a node's arguments of those of its result."""
        if node.op == PYTHON:
            self._python(node)
            return
        y = node.results[0]
        assert y is not None
        is_loss = not self._forward.values[y].shape
        if y not in self._needed or not (is_loss or y in self._parts):
            return
        row = OPS[node.op]
        given = {name: node.arguments.get(name) for name in row.gradients}
        goes_to = [name for name, names in given.items() if self._is_needed(names)]
        if not goes_to:
            return
        if "gradient" in row.results:  # the op has made it already, for a dloss of 1
            (logits,) = given.values()
            self._parts.setdefault(str(logits), []).append(str(node.results[-1]))
            return
        op = backward_name(node.op)
        known = parameters_of(op)
        arguments: dict[str, Any] = {}
        attributes: dict[str, Any] = {}
        results = dict(zip(row.results, node.results, strict=True))
        for name in known.arrays:
            if name == "dy":
                arguments[name] = self._gradient(y)
            elif (found := node.arguments.get(name, results.get(name))) is not None:
                arguments[name] = found
        # Two options stand for what need not be computed: a layer's input, which comes first in the
        # row, and its weights, which are all the others.
        for name in known.options:
            if name == "dloss":
                attributes[name] = 1.0
            elif name == "input_gradient":
                attributes[name] = row.gradients[0] in goes_to
            elif name == "weight_gradient":
                attributes[name] = any(each in goes_to for each in row.gradients[1:])
            elif name in node.attributes:
                attributes[name] = node.attributes[name]
            elif name.endswith("_shape"):
                attributes[name] = self._shape(node.arguments[name.removesuffix("_shape")])
            elif name == "shapes":
                (several,) = node.arguments.values()
                attributes[name] = [self._shape(each) for each in several]
        made: list[str | None] = []
        for name in row.gradients:
            names = given[name]
            if isinstance(names, tuple):
                made += [self._part(part) if part in self._needed else None for part in names]
            else:
                made.append(self._part(names) if names in self._needed else None)
        self._nodes.append(Node(op, tuple(made), arguments, attributes, node.layer))

    def _python(self, node: Node) -> None:
        """Add the backward pass of a layer that is no op; its own gradients it leaves itself."""
        results = [str(name) for name in node.results]
        if not any(name in self._needed and name in self._parts for name in results):
            return
        found = [self._gradient(name) for name in results]
        attributes = dict(node.attributes)
        arguments: dict[str, Any] = {"dy": found[0] or "", "y": results[0]}
        if len(results) > 1:
            arguments["dy"] = tuple(name for name in found if name is not None)
            attributes["zeros"] = {
                at: (self._values[results[at]].shape, self._values[results[at]].dtype)
                for at, name in enumerate(found)
                if name is None
            }
        xs = node.arguments["x"]
        made = tuple(
            self._part(x) if x in self._needed else None
            for x in ((xs,) if isinstance(xs, str) else xs)
        )
        self._nodes.append(Node(PYTHON_BACKWARD, made, arguments, attributes, node.layer))

    def _is_needed(self, names: str | tuple[str, ...] | None) -> bool:
        if names is None or isinstance(names, str):
            return names in self._needed
        return any(name in self._needed for name in names)

    def _shape(self, name: Any) -> tuple[int, ...]:
        return self._values[name].shape

    def _part(self, name: str) -> str:
        """Return the name of one more gradient of a value, and note it if it is needed."""
        parts = self._parts.setdefault(name, [])
        part = self._new(self._name(name), self._forward.values[name])
        parts.append(part)
        return part

    def _gradient(self, name: str) -> str | None:
        """Return the name of a value's gradient, or None; where there are parts, add them up."""
        parts = self._parts.get(name)
        if not parts:
            return None
        while len(parts) > 1:
            a, b = parts[:2]
            total = self._new(self._name(name), self._forward.values[name])
            self._nodes.append(Node("add", (total,), {"a": a, "b": b}, {}))
            parts[:2] = [total]
        return parts[0]

    def _new(self, name: str, like: Value) -> str:
        count, found = 1, name
        while found in self._values:
            count += 1
            found = f"{name}_{count}"
        dtype = like.dtype if like.dtype.kind == "f" else np.dtype(np.float32)
        self._values[found] = Value(found, "result", like.shape, dtype)
        return found

    def _name(self, name: str) -> str:
        """Return what a value's gradient is called."""
        return f"d({name})"
