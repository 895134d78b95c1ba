"""`fastcnn info FILE`: what is in a model file."""

from __future__ import annotations

import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcnn._model_files import holds_arrays_alone, is_onnx, onnx, read_model
from fastcnn.nn._words import rows

if TYPE_CHECKING:
    from fastcnn.nn import Module
    from fastcnn.program import Node, Program

__all__ = ["describe", "multiply_adds"]

_ANY_SIZE = 224  # pixels a side at which a network for images of any size is counted


def describe(path: Path) -> None:
    """Print a model's layers, shapes and parameters, or the arrays of a file that has no more.

    Of an ONNX file its operators come first: they are told even where fastcnn lacks some.
    """
    if holds_arrays_alone(path):
        table = _arrays(path)
        print(path)
        print(table)
        return
    if is_onnx(path):
        said = _operators(path)
        print(path)
        print(said, flush=True)
        print(_network(read_model(path)))
        return
    said = _network(read_model(path))
    print(path)
    print(said)


def _network(model: Module) -> str:
    """Return a table of the layers, and what is known of the whole."""
    from fastcnn.program import trace

    shape = _closed(model.input_shape)
    try:
        program = trace(model, 1, input_shape=shape)
    except ValueError as error:  # it takes images of other sizes
        return f"{model.summary()}\nMultiply-adds: not counted: {error}"
    count = f"Multiply-adds: {multiply_adds(program):,}"
    if shape != model.input_shape:
        count += f", with {_ANY_SIZE} for each size that is left open"
    summary = model.summary()
    if any(hasattr(module, "without_head") for module in model.modules()):
        head = ("Layer", "Output shape", "Parameters")
        summary = _table(head, _rows(model, program), summary.rpartition("-\n")[2])
    return f"{summary}\n{count}"


def _closed(shape: Any) -> Any:
    """Return a shape, or several, without sizes that are left open."""
    if isinstance(shape, tuple):
        return tuple(map(_closed, shape))
    return _ANY_SIZE if shape is None else shape


def _rows(model: Module, program: Program) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of a summary with the shapes of what operators of an ONNX file give.

    The layers there only hold weights: a summary can't tell more of them.
    """
    shapes: dict[str, str] = {}
    for node in program.nodes:
        for read in node.reads():  # such as "conv1.weight"
            shapes.setdefault(read.rpartition(".")[0], str(_result(program, node)[1:]))
    for label, shape, parameters in rows(model):
        said = re.sub(r' Weights "(\w+)"', r" \1", label)
        yield said, shapes.get(label.partition(" ")[0], shape), parameters


def _table(head: tuple[str, str, str], below: Iterable[tuple[str, str, str]], foot: str) -> str:
    """Return a table, its last column to the right, with lines below it."""
    table = [head, *below]
    first, second, third = (max(len(row[i]) for row in table) for i in range(3))
    lines = [f"{a:<{first}}  {b:<{second}}  {c:>{third}}" for a, b, c in table]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:], rule, foot])


def multiply_adds(program: Program) -> int:
    """Return how many products a program adds up, in convolutions, dense layers and matmul."""
    return sum(_of_node(program, node) for node in program.nodes[: program.forward])


def _of_node(program: Program, node: Node) -> int:
    def shape(name: str) -> tuple[int, ...]:
        return program.values[str(node.arguments[name])].shape

    if node.op == "conv2d":  # each output pixel of a channel is a sum over w (R, S, C / groups, K)
        return math.prod(_result(program, node)) * math.prod(shape("w")[:3])
    if node.op == "conv2d_transpose":  # each input pixel of a channel meets w (R, S, K / groups, C)
        return math.prod(shape("x")) * math.prod(shape("w")[:3])
    if node.op == "linear":
        return math.prod(_result(program, node)) * shape("w")[0]
    if node.op == "matmul":
        return math.prod(_result(program, node)) * shape("a")[-1]
    return 0


def _result(program: Program, node: Node) -> tuple[int, ...]:
    name = node.results[0]
    assert name is not None
    return program.values[name].shape


def _operators(path: Path) -> str:
    onnx()
    from fastcnn.onnx._file import read

    file = read(str(path))
    counts = Counter(node["op"] for node in file.nodes)
    listed = ", ".join(f"{op} {count}" for op, count in sorted(counts.items()))
    said = f"ONNX of opset {file.opset}: {listed}"
    return textwrap.fill(said, 100, subsequent_indent="    ")


def _arrays(path: Path) -> str:
    """Return a table of the arrays in a state dict of PyTorch."""
    from fastcnn.pytorch import load_state

    state = load_state(path)
    found = [(name, str(array.shape), str(array.dtype)) for name, array in state.items()]
    numbers = sum(array.size for array in state.values())
    foot = f"{len(state):,} arrays of {numbers:,} numbers, as PyTorch has them; no network"
    return _table(("Array", "Shape", "Type"), found, foot)
