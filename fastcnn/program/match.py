"""Fusion: nodes that a row of a table describes become one node of another op."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import chain
from typing import Any, NamedTuple, cast

from fastcnn.program.ops import (
    FUSED,
    OPS,
    Op,
    backward_name,
    method_of,
    parameters_of,
    result_dtype,
)
from fastcnn.program.program import Node, Program, Value

__all__ = ["Fusion", "Match", "fuse", "register"]


class Match(NamedTuple):
    """What a pattern found in a program.

    values: of the pattern's variables, None where an argument was not given (no bias). nodes: those
    that the fused op replaces, by the names of their ops; of an op that stands twice the inner one
    has a ' behind its name. program: where they were found. reads: how often each of its values is
    read.
    """

    values: Mapping[str, Value | None]
    nodes: Mapping[str, Node]
    program: Program
    reads: Mapping[str, int]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a value of the program."""
        return self.program.values[name].shape

    def option(self, op: str, name: str) -> Any:
        """Return an option of one of the nodes, as given or by default."""
        node = self.nodes[op]
        return node.attributes.get(name, parameters_of(node.op).options[name])


class Fusion(NamedTuple):
    """A row of a table of fusions.

    name: the op that computes the pattern; its parameters that are arrays have the names of the
    pattern's variables. pattern: calls of ops within each other, such as "relu(linear(x, w, b))";
    arguments are arrays, by their places in the op's signature, and a call stands for its op's
    first result. results, gradients: as in a row of the table of ops. when: of a Match, whether the
    op can compute it and should. options: of a Match, the op's options.
    """

    name: str
    pattern: str
    results: tuple[str, ...]
    gradients: tuple[str, ...]
    when: Callable[[Match], bool]
    options: Callable[[Match], dict[str, Any]]


def register(fusions: Iterable[Fusion], backend: type) -> None:
    """Enter the rows' ops in the table of ops, with the signatures of a backend's methods.

    Each that has gradients has a backward op, found by its name, unless "gradient" is a result
    already. AttributeError for a method that is not there.
    """
    for row in fusions:
        OPS[row.name] = Op(row.results, row.gradients, None)
        FUSED[row.name] = method_of(backend, row.name)
        if row.gradients and "gradient" not in row.results:
            FUSED[backward_name(row.name)] = method_of(backend, backward_name(row.name))


def fuse(program: Program, fusions: Iterable[Fusion]) -> Program:
    """Return the program with one node in place of each pattern that is found.

    Patterns are looked for from the program's last node to its first, and those that end in one
    node in the order of their rows: a pattern comes before those that are parts of it. What is read
    elsewhere, too, or is an output, is never inside of a pattern. The program has no backward pass
    yet: that is made of the fused ops, by differentiate.
    """
    rows: dict[str, list[Fusion]] = {}
    for fusion in fusions:
        rows.setdefault(_parsed(fusion.pattern).op, []).append(fusion)
    # What is handed out counts twice: it is never inside.
    reads = Counter(chain(program.outputs * 2, *(node.reads() for node in program.nodes)))
    makers = {name: node for node in program.nodes if reads[name := str(node.results[0])] == 1}
    values = dict(program.values)
    joined: set[int] = set()  # nodes within patterns that were found, by their identities
    kept: list[Node] = []
    for node in reversed(program.nodes):
        if id(node) in joined:
            continue
        for row in rows.get(node.op, ()):
            match = _matched(row, node, makers, program, reads)
            if match is not None:
                joined.update(map(id, match.nodes.values()))
                arguments = {k: v.name for k, v in match.values.items() if v is not None}
                results = _results(row.name, node, match.nodes, values)
                node = Node(row.name, results, arguments, row.options(match), node.layer)
                break
        kept.append(node)
    return program._replace(nodes=tuple(reversed(kept)), values=values, forward=len(kept))


def _matched(
    row: Fusion,
    node: Node,
    makers: Mapping[str, Node],
    program: Program,
    reads: Mapping[str, int],
) -> Match | None:
    """Return what a row's pattern is where it ends in this node; None where it is not there."""
    found: dict[str, str | None] = {}
    nodes: dict[str, Node] = {}
    if not _matches(_parsed(row.pattern), node, makers, found, nodes):
        return None
    values = {k: None if name is None else program.values[name] for k, name in found.items()}
    match = Match(values, nodes, program, reads)
    return match if row.when(match) else None


def _results(
    op: str, last: Node, nodes: Mapping[str, Node], values: dict[str, Value]
) -> tuple[str | None, ...]:
    """Return the results of a fused op, which replaces nodes up to the last.

    The first is that of the last node. Others, as an argmax, are those that a node gave under that
    name; what no node gave is a new value: an "argmax" of the shape of the first, a "gradient" of
    the node's first argument, and others, which the op keeps for itself, of its channels.
    """
    made = {
        name: result
        for node in nodes.values()
        for name, result in zip(OPS[node.op].results[1:], node.results[1:], strict=True)
    }
    _, *others = OPS[op].results
    y = last.results[0]
    assert y is not None
    for name in others:
        if name not in made:
            new = made[name] = f"{y}.{name}"
            like = values[last.reads()[0] if name == "gradient" else y]
            shape = like.shape if name in ("argmax", "gradient") else like.shape[-1:]
            values[new] = Value(new, "result", shape, result_dtype(op, name, like.dtype, {}))
    return y, *(made[name] for name in others)


class _Pattern(NamedTuple):
    """A call of an op; each argument is another one, or the name of a variable."""

    op: str
    arguments: tuple[_Pattern | str, ...]


@cache
def _parsed(text: str) -> _Pattern:
    def made(tree: ast.expr) -> _Pattern | str:
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
            return _Pattern(tree.func.id, tuple(map(made, tree.args)))
        return cast("ast.Name", tree).id

    return cast("_Pattern", made(ast.parse(text, mode="eval").body))


def _matches(
    pattern: _Pattern,
    node: Node,
    makers: Mapping[str, Node],
    found: dict[str, str | None],
    nodes: dict[str, Node],
) -> bool:
    """Return whether a node is what a pattern describes; note its variables and nodes."""
    if node.op != pattern.op:
        return False
    nodes[f"{node.op}'" if node.op in nodes else node.op] = node
    for name, wanted in zip(parameters_of(node.op).arrays, pattern.arguments, strict=False):
        value: Any = node.arguments.get(name)
        if isinstance(wanted, str):
            found[wanted] = value
            continue
        maker = makers.get(value)
        if maker is None or not _matches(wanted, maker, makers, found, nodes):
            return False
    return True
