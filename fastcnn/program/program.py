"""Programs: what a model computes for one batch size, written down as ops on named arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastcnn.program.ops import parameters_of

__all__ = ["Node", "Program", "Value"]

Shape = tuple[int, ...]
Names = str | tuple[str, ...]  # of a value, or of several for an op that takes a list


@dataclass(frozen=True)
class Value:
    """One array of a program.

    name: "x", "3.weight" as in state_dict, or of a result its layer and op, "3.conv2d". kind:
    "input", "parameter", "buffer", "constant" or "result". shape: with the batch axis, () of a
    number. source: the Parameter or Buffer, or a constant's array.
    """

    name: str
    kind: str
    shape: Shape
    dtype: np.dtype[Any]
    source: Any = field(default=None, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Value):
            return NotImplemented
        mine, theirs = (self.name, self.kind, self.shape), (other.name, other.kind, other.shape)
        return mine == theirs and self.dtype == other.dtype and self.source is other.source

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True)
class Node:
    """One op of a program.

    results: names of what it gives, None for what it leaves out. arguments: the names of values by
    the op's parameters. attributes: its options, as far as they are given. layer: the layer that
    called it, for errors.
    """

    op: str
    results: tuple[str | None, ...]
    arguments: Mapping[str, Names]
    attributes: Mapping[str, Any]
    layer: str = field(default="", compare=False)

    def reads(self) -> Iterator[str]:
        """Yield the names of the values that it reads."""
        for names in self.arguments.values():
            if isinstance(names, str):
                yield names
            else:
                yield from names

    def __str__(self) -> str:
        given = [
            names if isinstance(names, str) else f"[{', '.join(names)}]"
            for names in self.arguments.values()
        ]
        defaults = parameters_of(self.op).options
        for name, value in self.attributes.items():
            if name not in defaults or not _is(defaults[name], value):
                given.append(f"{name}={_in_words(value)}")
        results = ", ".join("_" if name is None else name for name in self.results)
        return f"{results} = {self.op}({', '.join(given)})"


PYTHON = "python"  # the op that is a layer which is not traced


@dataclass(frozen=True)
class Program:
    """Ops in the order in which they run, and the arrays between them; print one to read it.

    inputs, outputs: names of values. updates: of a step in training the value that each buffer has
    after it. gradients: by the name of a parameter, or of an input, the value that is its gradient.
    forward: how many nodes are the forward pass; those after them are the backward pass. Two
    programs that are equal compute the same from the same arrays.
    """

    values: Mapping[str, Value]
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    updates: Mapping[str, str]
    gradients: Mapping[str, str]
    forward: int

    def last_reads(self) -> dict[str, int]:
        """Return by name which node is the last to read a value; what is handed out has none."""
        last = {name: index for index, node in enumerate(self.nodes) for name in node.reads()}
        for name in (*self.outputs, *self.updates.values(), *self.gradients.values()):
            last[name] = len(self.nodes)
        return last

    def __str__(self) -> str:
        rows = [(name, _shape(self.values[name])) for name in self.inputs]
        rows += [self._row(node) for node in self.nodes[: self.forward]]
        rows += [(f"{name} := {new}", "") for name, new in self.updates.items()]
        rows.append((f"return {', '.join(self.outputs)}", ""))
        if self.gradients:
            rows.append(("", ""))
            rows += [self._row(node) for node in self.nodes[self.forward :]]
            rows.append((f"return {', '.join(self.gradients.values())}", ""))
        width = max(len(left) for left, right in rows if right)
        return "\n".join(f"{left:<{width}}  {right}".rstrip() for left, right in rows)

    def _row(self, node: Node) -> tuple[str, str]:
        shapes = (_shape(self.values[name]) for name in node.results if name is not None)
        return str(node), ", ".join(shapes)


def _shape(value: Value) -> str:
    return str(value.shape) if value.shape else "a number"


def _is(default: Any, value: Any) -> bool:
    return type(default) is type(value) and bool(default == value)


def _in_words(value: Any) -> str:
    return type(value).__name__ if hasattr(value, "forward") else repr(value)
