"""ONNX files as plain lists: nodes, constants, inputs and outputs. Nothing is computed here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastcnn._types import Array

__all__ = ["File", "package", "read"]

_MOST_BYTES = 2 << 30  # of a protobuf message


class File(NamedTuple):
    """What a file holds.

    nodes: {"op", "name", "inputs", "outputs", "attributes"} in the order of the file. constants:
    initializers by name. inputs: (name, dtype, dims) of what is no initializer, None for a size
    that is left open.
    """

    nodes: list[dict[str, Any]]
    constants: dict[str, Array]
    inputs: list[tuple[str, int, list[int | None] | None]]
    outputs: list[str]
    opset: int


def read(path: str) -> File:
    """Return what an ONNX file holds.

    Raises ValueError for what is no ONNX model, OSError for what cannot be read, ImportError where
    the package onnx is not installed.
    """
    onnx = package()
    size = os.path.getsize(path)
    if size > _MOST_BYTES:
        raise ValueError(f"{path}: expected an ONNX file of less than 2 GB, got {size} bytes")
    try:
        with open(path, "rb") as file:
            model = onnx.ModelProto.FromString(file.read())
    except OSError:
        raise
    except Exception as error:  # protobuf's own kinds
        raise ValueError(f"{path}: expected an ONNX model, got {_kind(path)}") from error
    if not model.graph.node and not model.graph.output:
        raise ValueError(f"{path}: expected an ONNX model, got {_kind(path)}")
    opset = max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")),
                default=1)  # fmt: skip
    folder = os.path.dirname(os.path.abspath(path))
    graph = model.graph
    constants = {each.name: _array(each, folder, path) for each in graph.initializer}
    nodes = list(_nodes(graph.node, constants, folder, path))
    inputs = [(each.name, *_type(each)) for each in graph.input if each.name not in constants]
    return File(nodes, constants, inputs, [each.name for each in graph.output], opset)


def package() -> Any:
    """Return the package onnx; ImportError where it is not installed."""
    try:
        import onnx
    except ImportError:
        raise ImportError(
            'fastcnn.onnx: expected the package onnx, got none; pip install "fastcnn[onnx]"'
        ) from None
    return onnx


def _kind(path: str) -> str:
    from fastcnn._reading import kind_of

    with open(path, "rb") as file:
        return kind_of(file) or "other bytes"


def _nodes(
    nodes: Any, constants: dict[str, Array], folder: str, path: str
) -> Iterator[dict[str, Any]]:
    """Yield the nodes, but for those that are constants."""
    for at, node in enumerate(nodes):
        op = node.op_type
        name = node.name or (node.output[0] if node.output else str(at))
        if node.domain not in ("", "ai.onnx"):
            op = f"{node.domain}.{op}"
        attributes = {each.name: _attribute(each, folder, path) for each in node.attribute}
        if op == "Constant":
            (value,) = attributes.values()
            constants[node.output[0]] = np.asarray(value)
            continue
        outputs = list(node.output)
        if op == "Split":
            attributes.setdefault("outputs", len(outputs))
        yield {
            "op": op,
            "name": name,
            "inputs": list(node.input),
            "outputs": outputs,
            "attributes": attributes,
        }


def _attribute(attribute: Any, folder: str, path: str) -> Any:
    """Return an attribute as Python has it: a number, a word, a list of these, an array."""
    kind = attribute.type
    if kind == 1:
        return float(attribute.f)
    if kind == 2:
        return int(attribute.i)
    if kind == 3:
        return attribute.s.decode("utf-8", "replace")
    if kind == 4:
        return _array(attribute.t, folder, path)
    if kind == 6:
        return [float(each) for each in attribute.floats]
    if kind == 7:
        return [int(each) for each in attribute.ints]
    if kind == 8:
        return [each.decode("utf-8", "replace") for each in attribute.strings]
    return attribute  # a graph, which few operators take


def _array(tensor: Any, folder: str, path: str) -> Array:
    """Return the numbers of a tensor; those in a file beside it, too, if that is in its folder."""
    from onnx import external_data_helper, numpy_helper

    try:
        if external_data_helper.uses_external_data(tensor):
            _require_inside(tensor, folder, path)
            external_data_helper.load_external_data_for_tensor(tensor, folder)
        array: Array = numpy_helper.to_array(tensor)
    except (OSError, ValueError):
        raise
    except Exception as error:  # of damaged files there are many kinds
        raise ValueError(f"{path}: {tensor.name:.80}: expected numbers, got {error}") from error
    return array


def _require_inside(tensor: Any, folder: str, path: str) -> None:
    location = next((each.value for each in tensor.external_data if each.key == "location"), "")
    beside = os.path.realpath(os.path.join(folder, location))
    if not location or os.path.commonpath([beside, os.path.realpath(folder)]) != os.path.realpath(
        folder
    ):
        raise ValueError(
            f"{path}: {tensor.name:.80}: expected its numbers in a file in the same folder, got "
            f"{location:.80!r}"
        )
    if not os.path.isfile(beside):
        raise FileNotFoundError(2, f"{path}: expected a file with its weights beside it", beside)


def _type(value: Any) -> tuple[int, list[int | None] | None]:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return kind.elem_type, None
    dims = [
        int(dim.dim_value) if dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0 else None
        for dim in kind.shape.dim
    ]
    return kind.elem_type, dims
