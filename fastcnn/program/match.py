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
    """What a pattern found in a program.

    values: of the pattern's variables, None where an argument was not given (no bias). nodes: those
    that the fused op replaces, by the names of their ops. program: where they were found.
    """

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

    name: the op that computes the pattern; its parameters that are arrays have the names of the
    pattern's variables. pattern: calls of ops within each other, such as "relu(linear(x, w, b))",
    no op twice; arguments are arrays, by their places in the op's signature, and a call stands for
    its op's first result. results, gradients: as in a row of the table of ops. when: of a Match,
    whether the op can compute it and should. options: of a Match, the op's options.
    """

    name: str
    pattern: str
    results: tuple[str, ...]
    gradients: tuple[str, ...]
    when: Callable[[Match], bool]
    options: Callable[[Match], dict[str, Any]]


def register(fusions: Iterable[Fusion], backend: type) -> None:
    """Enter the rows' ops in the table of ops, with the signatures of a backend's methods.

    Each has a backward op, found by its name, but for those whose "gradient" is a result already.
    AttributeError for a method that is not there.
    """
    for row in fusions:
        OPS[row.name] = Op(row.results, row.gradients, None)
        FUSED[row.name] = method_of(backend, row.name)
        if "gradient" not in row.results:
            FUSED[backward_name(row.name)] = method_of(backend, backward_name(row.name))


def fuse(program: Program, fusions: Iterable[Fusion]) -> Program:
    """Return the program with one node in place of each pattern that is found.

    The first row goes first: a pattern comes before those that are parts of it. What is read
    elsewhere, too, or is an output, is never inside of a pattern. The program has no backward pass
    yet: that is made of the fused ops, by differentiate.
    """
    graph = _Graph(program)
    for fusion in fusions:
        if not _ops_of(_parsed(fusion.pattern)) <= graph.ops:
            continue
        fused = _replaced(graph, fusion)
        if fused is not graph.program:
            graph = _Graph(fused)
    return graph.program


class _Graph:
    """A program, and what leads from value to node."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.ops = {node.op for node in program.nodes}
        self.makers = {
            name: node for node in program.nodes for name in node.results if name is not None
        }
        self.reads = Counter(name for node in program.nodes for name in node.reads())
        self.reads.update(program.outputs)


def _replaced(graph: _Graph, fusion: Fusion) -> Program:
    """Return the program with every match of a row replaced; itself if there is none."""
    program, pattern = graph.program, _parsed(fusion.pattern)
    values = dict(program.values)
    fused: dict[int, Node | None] = {}  # by the identity of a node: what takes its place
    for node in program.nodes:
        found, nodes = dict[str, str | None](), dict[str, Node]()
        if node.op != pattern.op or not _matches(pattern, node, graph, found, nodes):
            continue
        variables = {k: None if v is None else values[v] for k, v in found.items()}
        match = Match(variables, nodes, program)
        if not fusion.when(match):
            continue
        fused.update((id(each), None) for each in nodes.values())
        arguments = {name: value for name, value in found.items() if value is not None}
        results = _results(fusion.name, node, nodes, values)
        fused[id(node)] = Node(fusion.name, results, arguments, fusion.options(match), node.layer)
    if not fused:
        return program
    nodes_left = (fused.get(id(node), node) for node in program.nodes)
    kept = tuple(node for node in nodes_left if node is not None)
    return replace(program, nodes=kept, values=values, forward=len(kept))


def _results(
    op: str, last: Node, nodes: Mapping[str, Node], values: dict[str, Value]
) -> tuple[str | None, ...]:
    """Return the results of a fused op, which replaces nodes up to the last.

    The first is that of the last node. Others, as an argmax, are those that a node gave under that
    name; what no node gave is a new value, of the shape of the first, or for a "gradient" of the
    node's first argument.
    """
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


@cache
def _ops_of(pattern: _Pattern) -> frozenset[str]:
    """Return the ops that a pattern calls."""
    inner = (_ops_of(each) for each in pattern.arguments if isinstance(each, _Pattern))
    return frozenset({pattern.op}).union(*inner)


def _matches(
    pattern: _Pattern,
    node: Node,
    graph: _Graph,
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
        if not isinstance(value, str) or value not in graph.makers or graph.reads[value] > 1:
            return False
        maker = graph.makers[value]
        if maker.results[0] != value or not _matches(wanted, maker, graph, found, nodes):
            return False
    return True
