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
    return _Walk(program, set(wanted)).program()


class _Walk:
    """One walk: the program so far, and of each value the gradients that were found for it."""

    def __init__(self, program: Program, wanted: set[str]) -> None:
        self._forward, self._wanted = program, wanted
        self._values = dict(program.values)
        self._nodes: list[Node] = []
        self._parts: dict[str, list[str]] = {}  # of each value: its gradients so far
        # The values that depend on a wanted one: gradients go along these alone. Those of a layer
        # that is no op depend on its own weights, too, which are not in the program.
        self._needed = set(wanted)
        for node in program.nodes:
            trains = node.op == PYTHON and node.attributes["layer"]._trains
            if trains or not self._needed.isdisjoint(node.reads()):
                self._needed.update(map(str, node.results))

    def program(self) -> Program:
        forward, outputs = self._forward, self._forward.outputs
        seeds = [self._part(name) for name in outputs if self._values[outputs[-1]].shape]
        for seed in seeds:
            self._values[seed] = self._values[seed]._replace(kind="input")
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
            inputs=(*forward.inputs, *seeds),
            gradients=totals,
        )

    def _differentiate(self, node: Node) -> None:
        """Add what makes the gradients of a node's arguments of those of its result."""
        row = OPS[node.op]
        if not row.gradients and any(str(name) in self._parts for name in node.results):
            raise ValueError(
                f"{node.layer or node.op}: expected ops that have gradients in training, got "
                f"{node.op}"
            )
        y = str(node.results[0])
        is_loss = y == self._forward.outputs[-1] and not self._values[y].shape
        if y not in self._needed or not (is_loss or y in self._parts):
            return
        given = [_listed(node.arguments.get(name)) for name in row.gradients]
        needed = [not self._needed.isdisjoint(names) for names in given]
        if not any(needed):
            return
        if "gradient" in row.results:  # the op has made it already, for a dloss of 1
            ((logits,),) = given
            self._parts.setdefault(logits, []).append(str(node.results[-1]))
            return
        op = backward_name(node.op)
        read = {**node.arguments, **dict(zip(row.results, node.results, strict=True))}
        arguments: dict[str, Any] = {}
        attributes: dict[str, Any] = {}
        for name in parameters_of(op).names:
            if name == "dy":
                arguments[name] = self._gradient(y)
            elif name == "more":  # what others made of the first argument, to which it is added
                ((x,), *_) = given
                if needed[0] and x in self._parts:
                    arguments[name] = self._gradient(x)
                    del self._parts[x]
            elif read.get(name) is not None:
                arguments[name] = read[name]
            elif name in node.attributes:
                attributes[name] = node.attributes[name]
            elif name == "dloss":
                attributes[name] = 1.0
            # These two stand for what need not be computed: a layer's input, which comes first in
            # the row, and its weights, which are all the others.
            elif name == "input_gradient":
                attributes[name] = needed[0]
            elif name == "weight_gradient":
                attributes[name] = any(needed[1:])
            elif name == "shapes":
                attributes[name] = [self._values[each].shape for each in given[0]]
            elif name.endswith("_shape"):
                x = str(node.arguments[name.removesuffix("_shape")])
                attributes[name] = self._values[x].shape
        self._nodes.append(Node(op, self._made(given), arguments, attributes, node.layer))

    def _python(self, node: Node) -> None:
        """Add the backward pass of a layer that is no op; its own gradients it leaves itself."""
        results = [str(name) for name in node.results]
        if not any(name in self._needed and name in self._parts for name in results):
            return
        dys = tuple(self._gradient(name) for name in results if name in self._parts)
        attributes = dict(node.attributes)
        if len(results) > 1:
            attributes["zeros"] = {
                at: (self._values[name].shape, self._values[name].dtype)
                for at, name in enumerate(results)
                if name not in self._parts
            }
        arguments: dict[str, Any] = {"dy": dys if len(results) > 1 else dys[0], "y": results[0]}
        made = self._made([_listed(node.arguments["x"])])
        self._nodes.append(Node(PYTHON_BACKWARD, made, arguments, attributes, node.layer))

    def _made(self, arguments: Iterable[tuple[str, ...]]) -> tuple[str | None, ...]:
        """Return the results of a backward op: new gradients of arguments, as far as needed."""
        names = (name for several in arguments for name in several)
        return tuple(self._part(name) if name in self._needed else None for name in names)

    def _part(self, name: str) -> str:
        """Return the name of one more gradient of a value, and note it."""
        part = self._new(name)
        self._parts.setdefault(name, []).append(part)
        return part

    def _gradient(self, name: str) -> str:
        """Return the name of a value's gradient; where there are parts, add them up."""
        parts = self._parts[name]
        while len(parts) > 1:
            total = self._new(name)
            self._nodes.append(Node("add", (total,), {"a": parts[0], "b": parts[1]}, {}))
            parts[:2] = [total]
        return parts[0]

    def _new(self, name: str) -> str:
        """Return the name of a new value, one more gradient of another."""
        like = self._values[name]
        dtype = like.dtype if like.dtype.kind == "f" else np.dtype(np.float32)
        found = unused(f"d({name})", self._values)
        self._values[found] = Value(found, "result", like.shape, dtype)
        return found


def _listed(names: Names | None) -> tuple[str, ...]:
    """Return the names of an argument: one, several of a list, or none of what is not given."""
    return names if isinstance(names, tuple) else ("",) if names is None else (names,)
