"""The backward pass of a program: a walk from its last node to its first.

An op's row in the table of ops (ops.py) says which of its arguments have gradients, and in which
order its backward op returns them; the signature of the backward op, in the contract, says what it
is given. A value that several nodes read has the sum of their gradients. What no wanted gradient
depends on is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from fastcnn.program.ops import OPS, backward_name, parameters_of
from fastcnn.program.program import PYTHON, Names, Node, Program, Value, unused

__all__ = ["PYTHON_BACKWARD", "differentiate"]

PYTHON_BACKWARD = backward_name(PYTHON)


def differentiate(program: Program, wanted: Collection[str]) -> Program:
    """Return the program with a backward pass that ends in the gradients of these values.

    wanted: names of parameters and inputs. The pass begins with 1, the gradient of the number that
    a loss is, if that is the last output; else with the gradient of each output: inputs of the same
    shapes behind the program's own, called "d(output)".
    """
    return _Walk(program, wanted).program()


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
            if own or not needed.isdisjoint(node.reads()):
                needed.update(map(str, node.results))
        return needed

    def program(self) -> Program:
        forward, outputs = self._forward, self._forward.outputs
        for name in outputs if self._values[outputs[-1]].shape else ():
            seed = self._part(name)
            self._values[seed] = self._values[seed]._replace(kind="input")
            self._inputs += (seed,)
        for node in reversed(forward.nodes[: forward.forward]):
            if node.op == PYTHON:
                self._python(node)
            else:
                self._differentiate(node)
        wanted = [name for name in forward.values if name in self._wanted]
        totals = {name: self._gradient(name) for name in wanted if name in self._parts}
        return forward._replace(
            values=self._values,
            nodes=(*forward.nodes, *self._nodes),
            inputs=self._inputs,
            gradients=totals,
        )

    def _differentiate(self, node: Node) -> None:
        """Add what makes the gradients of a node's arguments of those of its result."""
        y = str(node.results[0])
        is_loss = not self._values[y].shape
        if y not in self._needed or not (is_loss or y in self._parts):
            return
        row = OPS[node.op]
        given = [node.arguments.get(name) for name in row.gradients]
        needed = [self._is_needed(names) for names in given]
        if not any(needed):
            return
        if "gradient" in row.results:  # the op has made it already, for a dloss of 1
            (logits,) = given
            self._parts.setdefault(str(logits), []).append(str(node.results[-1]))
            return
        op = backward_name(node.op)
        known = parameters_of(op)
        results = dict(zip(row.results, node.results, strict=True))
        options = {
            "dloss": 1.0,
            # These two stand for what need not be computed: a layer's input, which comes first in
            # the row, and its weights, which are all the others.
            "input_gradient": needed[0],
            "weight_gradient": any(needed[1:]),
            **node.attributes,
        }
        arguments: dict[str, Any] = {}
        attributes: dict[str, Any] = {}
        for name in (*known.arrays, *known.options):
            if name == "dy":
                arguments[name] = self._gradient(y)
            elif name in options:
                attributes[name] = options[name]
            elif name == "shapes":
                (several,) = node.arguments.values()
                attributes[name] = [self._values[each].shape for each in several]
            elif name.endswith("_shape"):
                x = str(node.arguments[name.removesuffix("_shape")])
                attributes[name] = self._values[x].shape
            elif (found := node.arguments.get(name, results.get(name))) is not None:
                arguments[name] = found
        self._nodes.append(Node(op, self._made(given), arguments, attributes, node.layer))

    def _python(self, node: Node) -> None:
        """Add the backward pass of a layer that is no op; its own gradients it leaves itself."""
        results = [str(name) for name in node.results]
        if not any(name in self._needed and name in self._parts for name in results):
            return
        found = [self._gradient(name) if name in self._parts else None for name in results]
        attributes = dict(node.attributes)
        arguments: dict[str, Any] = {"dy": found[0] or "", "y": results[0]}
        if len(results) > 1:
            arguments["dy"] = tuple(name for name in found if name is not None)
            attributes["zeros"] = {
                at: (self._values[results[at]].shape, self._values[results[at]].dtype)
                for at, name in enumerate(found)
                if name is None
            }
        made = self._made([node.arguments["x"]])
        self._nodes.append(Node(PYTHON_BACKWARD, made, arguments, attributes, node.layer))

    def _made(self, arguments: Iterable[Names | None]) -> tuple[str | None, ...]:
        """Return the results of a backward op: new gradients of arguments, as far as needed."""
        return tuple(
            self._part(name) if name in self._needed else None
            for names in arguments
            for name in (names if isinstance(names, tuple) else (names,))
        )

    def _is_needed(self, names: Names | None) -> bool:
        if isinstance(names, tuple):
            return any(name in self._needed for name in names)
        return names in self._needed

    def _part(self, name: str) -> str:
        """Return the name of one more gradient of a value, and note it."""
        part = self._new(name)
        self._parts.setdefault(name, []).append(part)
        return part

    def _gradient(self, name: str) -> str:
        """Return the name of a value's gradient; where there are parts, add them up."""
        parts = self._parts[name]
        while len(parts) > 1:
            a, b = parts[:2]
            total = self._new(name)
            self._nodes.append(Node("add", (total,), {"a": a, "b": b}, {}))
            parts[:2] = [total]
        return parts[0]

    def _new(self, name: str) -> str:
        """Return the name of a new value, one more gradient of another."""
        like = self._values[name]
        dtype = like.dtype if like.dtype.kind == "f" else np.dtype(np.float32)
        found = unused(f"d({name})", self._values)
        self._values[found] = Value(found, "result", like.shape, dtype)
        return found
