"""Fusion: nodes that a row of a table describes become one node of another op."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple, cast

from fastcnn.program.ops import FUSED, OPS, Op, backward_name, method_of, parameters_of
from fastcnn.program.program import Node, Program, Value

__all__ = ["Fusion", "Match", "fuse", "register"]


@dataclass(frozen=True)
class Match:
    """What a pattern found: its variables' values (None for no array), the nodes by their ops."""

    values: Mapping[str, Value | None]
    nodes: Mapping[str, Node]
    program: Program

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a value of the program."""
        return self.program.values[name].shape

    def option(self, op: str, name: str) -> Any:
        """Return an option of one of the nodes, as given or by default."""
        return self.nodes[op].attributes.get(name, parameters_of(op).options[name])


class Fusion(NamedTuple):
    """A row of a table of fusions.

    name: the op that computes the pattern, whose arrays are called as the pattern's variables.
    pattern: an expression of ops, each once. results, gradients: as in a row of the table of ops.
    when: whether it does so for what was found. options: the op's options.
    """

    name: str
    pattern: str
    results: tuple[str, ...]
    gradients: tuple[str, ...]
    when: Callable[[Match], bool]
    options: Callable[[Match], dict[str, Any]]


def register(fusions: Iterable[Fusion], backend: type) -> None:
    """Make ops of what the rows call: methods of a backend, with a backward op each.

    An op that gives its "gradient" itself has none.
    """
    for row in fusions:
        OPS[row.name] = Op(row.results, row.gradients, None)
        FUSED[row.name] = method_of(backend, row.name)
        if "gradient" not in row.results:
            FUSED[backward_name(row.name)] = method_of(backend, backward_name(row.name))


def fuse(program: Program, fusions: Iterable[Fusion]) -> Program:
    """Return the program with every pattern that is found replaced; the first row goes first.

    Values inside of a pattern have no other reader. Only the forward pass is looked at: it is
    differentiated afterwards.
    """
    for fusion in fusions:
        program = _replaced(program, fusion)
    return program


def _replaced(program: Program, fusion: Fusion) -> Program:
    pattern = _parsed(fusion.pattern)
    if not any(node.op == pattern.op for node in program.nodes):
        return program
    makers = {name: node for node in program.nodes for name in node.results if name is not None}
    reads = Counter(name for node in program.nodes for name in node.reads())
    reads.update(program.outputs)
    values = dict(program.values)
    fused: dict[int, Node | None] = {}  # by the identity of a node: what takes its place
    for node in program.nodes:
        found, nodes = dict[str, str | None](), dict[str, Node]()
        if not _matches(pattern, node, makers, reads, found, nodes):
            continue
        variables = {k: None if v is None else values[v] for k, v in found.items()}
        match = Match(variables, nodes, program)
        if not fusion.when(match):
            continue
        fused.update((id(each), None) for each in nodes.values())
        arguments = {name: value for name, value in found.items() if value is not None}
        results = _results(fusion.name, node, nodes, values)
        fused[id(node)] = Node(fusion.name, results, arguments, fusion.options(match), node.layer)
    nodes_left = (fused.get(id(node), node) for node in program.nodes)
    kept = tuple(node for node in nodes_left if node is not None)
    return replace(program, nodes=kept, values=values, forward=len(kept))


def _results(
    op: str, last: Node, nodes: Mapping[str, Node], values: dict[str, Value]
) -> tuple[str | None, ...]:
    """Return the results of a fused op: those of its nodes by their names, or new ones."""
    made = {
        name: result
        for node in nodes.values()
        for name, result in zip(OPS[node.op].results, node.results, strict=True)
        if name != OPS[node.op].results[0]
    }
    _, *others = OPS[op].results
    y = last.results[0]
    assert y is not None
    for name in others:
        if name not in made:
            new = made[name] = f"{y}.{name}"
            like = next(last.reads()) if name == "gradient" else y
            values[new] = replace(values[like], name=new, kind="result", source=None)
    return y, *(made[name] for name in others)


class _Pattern(NamedTuple):
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
    reads: Mapping[str, int],
    found: dict[str, str | None],
    nodes: dict[str, Node],
) -> bool:
    """Return whether a node is what a pattern describes; note its variables and nodes."""
    if node.op != pattern.op:
        return False
    nodes[node.op] = node
    for name, wanted in zip(parameters_of(node.op).arrays, pattern.arguments, strict=False):
        value = node.arguments.get(name)
        if isinstance(wanted, str):
            found[wanted] = cast("str | None", value)
            continue
        if not isinstance(value, str) or value not in makers or reads[value] > 1:
            return False
        maker = makers[value]
        if maker.results[0] != value or not _matches(wanted, maker, makers, reads, found, nodes):
            return False
    return True
