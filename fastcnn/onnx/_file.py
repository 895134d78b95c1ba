"""ONNX files as plain lists: nodes, constants, inputs and outputs. Nothing is computed here.

Nothing in a file is believed: what does not fit is a ValueError, and no number in it makes more
memory be asked for than the file has bytes for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fastcnn._reading import kind_of, open_regular
from fastcnn._types import Array

__all__ = ["File", "package", "read"]

_MOST_BYTES = 2 << 30  # of a protobuf message
_WIDEST = 16  # bytes of a number
_OTHERS = (5, 9, 10, 11, 12, 13, 14)  # AttributeProto: graphs, sparse tensors, types
# TensorProto.DataType: numbers that NumPy has, and what stands here for those that it lacks.
_KNOWN = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13)
_WIDER: dict[int, type[np.generic]] = {
    **dict.fromkeys((16, 17, 18, 19, 20, 23, 24), np.float32),  # bfloat16, of 8 bits and of 4
    **dict.fromkeys((22, 26), np.int8),  # of 4 bits and of 2
    **dict.fromkeys((21, 25), np.uint8),
}


class File(NamedTuple):
    """What a file holds.

    nodes: {"op", "name", "inputs", "outputs", "attributes"} in the order of the file. constants:
    initializers by name. inputs: (name, dtype, dims) of what is no initializer, None for a size
    that is left open. size: bytes, with those of the files beside it.
    """

    nodes: list[dict[str, Any]]
    constants: dict[str, Array]
    inputs: list[tuple[str, int, list[int | None] | None]]
    outputs: list[str]
    opset: int
    size: int


def read(path: str) -> File:
    """Return what an ONNX file holds.

    Raises ValueError for what is no ONNX model, OSError for what cannot be read, ImportError where
    the package onnx is not installed.
    """
    onnx = package()
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _MOST_BYTES:
            raise ValueError(f"{path}: expected an ONNX file of less than 2 GB, got {size} bytes")
        try:
            model = onnx.ModelProto.FromString(file.read())
        except OSError:
            raise
        except Exception as error:  # protobuf's own kinds
            raise ValueError(f"{path}: expected an ONNX model, got {_kind(file)}") from error
        graph = model.graph
        if not graph.node and not graph.output:
            raise ValueError(f"{path}: expected an ONNX model, got {_kind(file)}")
    _require_plain(model, path)
    opset = max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")),
                default=1)  # fmt: skip
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= opset <= newest:
        raise ValueError(f"{path}: expected an opset of 1 to {newest}, got {opset}")
    folder = os.path.dirname(os.path.abspath(path))
    constants = {each.name: _array(each, folder, path) for each in graph.initializer}
    nodes = list(_nodes(graph.node, constants, folder, path))
    inputs = [(each.name, *_type(each, path)) for each in graph.input if each.name not in constants]
    outputs = [each.name for each in graph.output]
    whole = max(size, sum(array.nbytes for array in constants.values()))
    return File(nodes, constants, inputs, outputs, opset, whole)


def package() -> Any:
    """Return the package onnx; ImportError where it is not installed."""
    try:
        import onnx

        onnx.ModelProto  # noqa: B018  a folder of this name is no package
    except (ImportError, AttributeError):
        raise ImportError(
            'fastcnn.onnx: expected the package onnx, got none; pip install "fastcnn[onnx]"'
        ) from None
    return onnx


def _kind(file: BinaryIO) -> str:
    kind = kind_of(file)
    return "a damaged one" if "ONNX" in kind else kind


def _require_plain(model: Any, path: str) -> None:
    """Refuse what is read nowhere below, and names that stand for two things."""
    graph = model.graph
    if graph.sparse_initializer:
        name = graph.sparse_initializer[0].values.name
        raise ValueError(f"{path}: expected weights with all their numbers, got {name:.80}, sparse")
    for function in model.functions:
        if function.domain in ("", "ai.onnx"):
            raise ValueError(
                f"{path}: expected ONNX's own operators, got a function {function.name:.80}"
            )
    _require_once((each.name for each in graph.initializer), "initializer", path)
    _require_once((each.name for each in graph.input), "input", path)
    given = {each.name for each in (*graph.initializer, *graph.input)}
    made = (name for node in graph.node for name in node.output if name)
    _require_once((*given, *made), "result", path)


def _require_once(names: Iterable[str], what: str, path: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{path}: expected one {what} called {name:.80}, got several")
        seen.add(name)


def _nodes(
    nodes: Any, constants: dict[str, Array], folder: str, path: str
) -> Iterator[dict[str, Any]]:
    """Yield the nodes, but for those that are constants."""
    for at, node in enumerate(nodes):
        op = node.op_type
        name = node.name or (node.output[0] if node.output else str(at))
        if node.domain not in ("", "ai.onnx"):
            op = f"{node.domain}.{op}"
        attributes = {
            each.name: _attribute(each, folder, path)
            for each in node.attribute
            if each.type not in _OTHERS  # operators that have these are refused by their names
        }
        if op == "Constant":
            constants[node.output[0]] = _constant(attributes, name, path)
            continue
        yield {
            "op": op,
            "name": name,
            "inputs": list(node.input),
            "outputs": list(node.output),
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
    raise ValueError(
        f"expected attributes of numbers, words or arrays, got {attribute.name:.80} of kind {kind}"
    )


def _constant(attributes: dict[str, Any], name: str, path: str) -> Array:
    """Return what a Constant node gives."""
    values = [value for key, value in attributes.items() if key.startswith("value")]
    array = np.asarray(values[0] if values else "nothing")
    if len(values) != 1 or array.dtype.kind not in "fiub":
        raise ValueError(f"{path}: {name:.80}: expected a constant of numbers, got {array!s:.80}")
    kinds = {"value_float": np.float32, "value_floats": np.float32}
    return array.astype(kinds.get(next(iter(attributes)), array.dtype), copy=False)


def _array(tensor: Any, folder: str, path: str) -> Array:
    """Return the numbers of a tensor; those in a file beside it, too, if that is in its folder."""
    onnx = package()
    where, kind = f"{path}: {tensor.name:.80}", tensor.data_type
    if kind not in _KNOWN and kind not in _WIDER:
        raise ValueError(f"{where}: expected numbers, got a tensor of kind {kind}")
    if any(size < 0 for size in tensor.dims):
        raise ValueError(f"{where}: expected a shape, got {list(tensor.dims)!s:.80}")
    try:
        if onnx.external_data_helper.uses_external_data(tensor):
            tensor.raw_data = _beside(tensor, folder, where)
            tensor.data_location = 0
        array: Array = onnx.numpy_helper.to_array(tensor)
    except OSError:
        raise
    except Exception as error:  # of damaged files there are many kinds
        said = str(error).removeprefix(f"{where}: ")
        raise ValueError(
            f"{where}: {said}"
            if said.startswith("expected")
            else f"{where}: expected numbers of shape {list(tensor.dims)!s:.80}, got {said}"
        ) from error
    return array.astype(_WIDER[kind]) if kind in _WIDER else array


def _beside(tensor: Any, folder: str, where: str) -> bytes:
    """Return the bytes of a tensor that are in a file beside it."""
    said = {each.key: each.value for each in tensor.external_data}
    location = said.get("location", "")
    beside, inside = (
        os.path.realpath(os.path.join(folder, name)) for name in (location or ".", ".")
    )
    if beside == inside or os.path.commonpath([beside, inside]) != inside:
        raise ValueError(
            f"{where}: expected its numbers in a file in the same folder, got {location!r:.80}"
        )
    if not os.path.isfile(beside):
        raise FileNotFoundError(2, f"{where}: expected a file with its numbers beside it", beside)
    size, start = os.path.getsize(beside), int(said.get("offset", 0))
    length = int(said.get("length", size - start))
    if not 0 <= start <= start + length <= size:
        raise ValueError(
            f"{where}: expected bytes {start} to {start + length} of {location:.80}, got {size}"
        )
    if length > _WIDEST * math.prod(tensor.dims):
        raise ValueError(
            f"{where}: expected numbers of shape {list(tensor.dims)!s:.80}, got {length} bytes"
        )
    with open_regular(beside) as file:
        file.seek(start)
        return file.read(length)


def _type(value: Any, path: str) -> tuple[int, list[int | None] | None]:
    kind = value.type.tensor_type
    if kind.elem_type not in _KNOWN and kind.elem_type != 16:
        raise ValueError(
            f"{path}: expected inputs of numbers, got {value.name:.80} of kind {kind.elem_type}"
        )
    if not kind.HasField("shape"):
        return kind.elem_type, None
    dims = [
        int(dim.dim_value) if dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0 else None
        for dim in kind.shape.dim
    ]
    return kind.elem_type, dims
