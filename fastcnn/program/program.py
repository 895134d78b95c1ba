"""Programs: what a model computes for one batch size, written down as ops on named arrays."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, NamedTuple, cast

import numpy as np

from fastcnn._types import Array, Shape
from fastcnn.program.ops import parameters_of

__all__ = ["PYTHON", "Names", "Node", "Program", "Value", "unused"]

Names = str | tuple[str, ...]  # of a value, or of several for an op that takes a list


class Value(NamedTuple):
    """One array of a program: what is known of it before the program runs.

    name: "x" of an input, if its nn.Input has no name, "3.weight" of a parameter or buffer, as in
    state_dict, "3.conv2d" of a result, by its layer and op, "d(3.weight)" of a gradient. kind:
    "input", "parameter", "buffer", "constant" (an array that a layer holds by itself) or "result".
    shape: with the batch axis, () of a number. source: the Parameter or Buffer, or a constant's
    array; None of other kinds.
    """

    name: str
    kind: str
    shape: Shape
    dtype: np.dtype[Any]
    source: Any = None

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Value) and self[:-1] == other[:-1]
        return same and self.source is cast("Value", other).source

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.name)


class Node(NamedTuple):
    """One call of an op.

    results: the names of the values that it gives, None for one that it need not give. arguments:
    the names of the values that it reads, by the op's parameters. attributes: its options, as far
    as they are given. layer: which layer called it.
    """

    op: str
    results: tuple[str | None, ...]
    arguments: Mapping[str, Names]
    attributes: Mapping[str, Any]
    layer: str = ""

    def reads(self) -> list[str]:
        """Return the names of the values that it reads."""
        found: list[str] = []
        for names in self.arguments.values():
            if isinstance(names, str):
                found.append(names)
            else:
                found += names
        return found

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


PYTHON = "python"  # the op that is all that a layer does which is not traceable


class Program(NamedTuple):
    """Ops in the order in which they run, and the arrays between them; print one to read it.

    values: all of them by name. inputs, outputs: names of values, a loss the last of the outputs.
    updates: by the name of a buffer, the value that it has after a step of training. gradients: by
    the name of a parameter or input, the value that is its gradient. forward: how many of the nodes
    are the forward pass; those after them are the backward pass. Two programs that are equal
    compute the same from the same arrays.
    """

    values: Mapping[str, Value]
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    updates: Mapping[str, str]
    gradients: Mapping[str, str]
    forward: int

    def last_uses(self) -> list[list[str]]:
        """Return of each node the names of the values that nobody needs once it has run.

        What is handed out when all have run, as outputs and gradients, is not among them.
        """
        seen: set[Any] = {None, *self.outputs, *self.updates.values(), *self.gradients.values()}
        uses: list[list[Any]] = []
        for node in reversed(self.nodes):
            ended = []
            for name in (*node.reads(), *node.results):
                if name not in seen:
                    seen.add(name)
                    ended.append(name)
            uses.append(ended)
        return uses[::-1]

    def stored(self) -> dict[str, Array]:
        """Return the arrays of parameters, buffers and constants, as they are now."""
        return {
            name: value.source if value.kind == "constant" else value.source._data
            for name, value in self.values.items()
            if value.kind in ("parameter", "buffer", "constant")
        }

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


def unused(name: str, names: Container[str], counts: dict[str, int] | None = None) -> str:
    """Return a name that is not among others: itself, or followed by the next number.

    counts: the last number behind each name, for names of which there are thousands.
    """
    counts = {} if counts is None else counts
    count = counts.get(name, 1)
    found = name if count == 1 else f"{name}_{count}"
    while found in names:
        count += 1
        found = f"{name}_{count}"
    counts[name] = count
    return found


def _shape(value: Value) -> str:
    return str(value.shape) if value.shape else "a number"


def _is(default: Any, value: Any) -> bool:
    return type(default) is type(value) and bool(default == value)


def _in_words(value: Any) -> str:
    return type(value).__name__ if hasattr(value, "forward") else repr(value)
