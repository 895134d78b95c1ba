"""From what a file holds to an OnnxModel: constants are worked out, weights find their layers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

import numpy as np

from fastcnn._memory import copied
from fastcnn._types import Array
from fastcnn.onnx._call import OPERATORS
from fastcnn.onnx._constants import NUMPY
from fastcnn.onnx._file import File, read
from fastcnn.onnx._model import OnnxModel, run_node
from fastcnn.onnx._parts import needed
from fastcnn.onnx._room import Room

__all__ = ["graph_of"]

_FEW = 64  # numbers of a constant that is no weight: more are a buffer of the model
_SEVERAL = (
    "Split",
    "LSTM",
    "DynamicQuantizeLinear",
    "LayerNormalization",
    "Dropout",
)  # operators of several results
_OF_CONSTANTS = ("Cos", "Sin")  # operators of floats that are known without an input
_TILE = 64  # rows of a matrix that is transposed
_NORMS = ("InstanceNormalization", "GroupNormalization", "LayerNormalization")
_ARITHMETIC = ("Add", "Mul", "Sub", "Div")
_TO_LAST, _TO_FIRST = [0, 3, 1, 2], [0, 2, 3, 1]  # what exporters of NHWC frameworks write


class _Role(NamedTuple):
    """How a weight is held: under which name, with the file's axes in which order, if trained."""

    attribute: str
    order: tuple[int, ...]
    trained: bool = True


def graph_of(file: File, path: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return what OnnxModel is made of, and the arrays of its layers by their dotted names.

    Raises ValueError for operators that fastcnn does not have: all of them at once.
    """
    nodes = _ordered(file, path)
    constants = dict(file.constants)
    nodes = list(_folded(nodes, constants, file))
    _require_known(nodes, file, path)
    nodes = needed(nodes, file.outputs)
    _require_ends(nodes, file, path)
    _require_first_results(nodes, file, path)
    layers = _Layers(constants)
    written = [layers.node(node) for node in nodes]
    used = {name for node in nodes for name in node["inputs"]} | set(file.outputs)
    last = _channels_last(nodes, file)
    graph = {
        "opset": file.opset,
        "inputs": [_input(each, each[0] in last, path) for each in file.inputs if each[0] in used],
        "outputs": [{"name": n, "last": n in last} for n in file.outputs],
        "nodes": written,
        "weights": layers.weights,
        "layers": layers.layers,
        "constants": {
            name: _plain(array)
            for name, array in constants.items()
            if name in used and name not in layers.weights
        },
    }
    return graph, layers.arrays


# ---------------------------------------------------------------------- nodes
def _ordered(file: File, path: str) -> list[dict[str, Any]]:
    """Return the nodes, each behind those that it reads; in the order of the file if they can be.

    Each is looked at once for each of its inputs.
    """
    known = {"", *file.constants, *(name for name, *_ in file.inputs)}
    readers: dict[str, list[int]] = {}
    missing = []
    for at, node in enumerate(file.nodes):
        wanted = set(node["inputs"]) - known
        missing.append(len(wanted))
        for name in wanted:
            readers.setdefault(name, []).append(at)
    ready = [at for at, count in enumerate(missing) if count == 0]
    heapify(ready)
    found: list[dict[str, Any]] = []
    while ready:
        node = file.nodes[heappop(ready)]
        found.append(node)
        for name in node["outputs"]:
            known.add(name)
            for at in readers.get(name, ()):
                missing[at] -= 1
                if missing[at] == 0:
                    heappush(ready, at)
    if len(found) < len(file.nodes):
        node = next(node for node, count in zip(file.nodes, missing, strict=True) if count)
        lost = next(name for name in node["inputs"] if name not in known)
        raise ValueError(
            f"{path}: expected nodes that can run one after another, got {node['op']} "
            f"{node['name']:.80}, which reads {lost:.80}, that no node in front of it gives"
        )
    for name in file.outputs:
        if name not in known or not name:
            raise ValueError(f"{path}: expected each output of a node, got {name:.80} of none")
    return found


def _require_known(nodes: Iterable[dict[str, Any]], file: File, path: str) -> None:
    unknown: dict[str, list[str]] = {}
    for node in nodes:
        op = node["op"]
        if op not in OPERATORS and (op not in NUMPY or op in _OF_CONSTANTS):
            unknown.setdefault(node["op"], []).append(node["name"])
    if unknown:
        said = ", ".join(
            f"{op} ({len(names)} times, first as {names[0]:.60})"
            if len(names) > 1
            else f"{op} (as {names[0]:.60})"
            for op, names in unknown.items()
        )
        raise ValueError(
            f"{path}: expected operators that fastcnn has, got {said} of opset {file.opset}"
        )


def _require_first_results(nodes: Iterable[dict[str, Any]], file: File, path: str) -> None:
    """Refuse a second result that is read of an operator whose first alone is computed."""
    nodes = list(nodes)
    read = {name for node in nodes for name in node["inputs"]} | set(file.outputs)
    for node in nodes:
        for name in node["outputs"][1:]:
            if node["op"] not in _SEVERAL and name and name in read:
                raise ValueError(
                    f"{path}: expected the first result of {node['op']} to be read alone, got "
                    f"{name:.80}, another one of {node['name']:.80}"
                )


def _folded(
    nodes: Iterable[dict[str, Any]], constants: dict[str, Array], file: File
) -> Iterator[dict[str, Any]]:
    """Yield the nodes that depend on an input; the results of the others become constants."""
    room = Room(file.size)
    for node in nodes:
        given = [constants.get(name) if name else None for name in node["inputs"]]
        known = all(name == "" or name in constants for name in node["inputs"])
        if known and node["op"] in NUMPY:
            results = run_node(node, given, file.opset, None, np.dtype(np.float32), room=room)
            for name, array in zip(node["outputs"], results, strict=False):
                constants[name] = np.asarray(array)
        else:
            yield node


def _require_ends(nodes: Iterable[dict[str, Any]], file: File, path: str) -> None:
    """Refuse a network of nothing, or with outputs that depend on nothing."""
    if not file.inputs or not file.outputs:
        raise ValueError(
            f"{path}: expected a network with inputs and outputs, got {len(file.inputs)} and "
            f"{len(file.outputs)}"
        )
    made = {name for node in nodes for name in node["outputs"]}
    made.update(name for name, *_ in file.inputs)
    for name in file.outputs:
        if name not in made:
            raise ValueError(
                f"{path}: expected outputs that depend on an input, got {name:.80}, a constant"
            )


# ---------------------------------------------------------------------- weights
class _Layers:
    """The layers that hold a file's weights, as they are found.

    layers: what each is made of. arrays: theirs, by dotted names. weights: of each constant that is
    a weight, where it lies.
    """

    def __init__(self, constants: Mapping[str, Array]) -> None:
        self._constants = constants
        self._used: Counter[str] = Counter()
        self.layers: dict[str, dict[str, Any]] = {}
        self.arrays: dict[str, Array] = {}
        self.weights: dict[str, dict[str, Any]] = {}

    def node(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return a node as a graph has it, with the layer that holds its weights."""
        written = {key: node[key] for key in ("op", "name", "inputs", "outputs")}
        written["attributes"] = {
            key: _plain(value) if isinstance(value, np.ndarray) else value
            for key, value in node["attributes"].items()
        }
        if node["op"] == "BatchNormalization" and self._holds(node["inputs"][1:5]):
            written["layer"] = self._batch_norm(node)
            written["inputs"] = node["inputs"][:1]
            return written
        key = None
        for at, name in enumerate(node["inputs"]):
            array = self._constants.get(name)
            if array is None or array.dtype.kind != "f" or name in self.weights:
                continue
            role = _role(node, at, array)
            if role is None:
                continue
            if key is None:
                key = self._named(node)
                op = re.sub(r"\W", "_", node["op"])
                self.layers[key] = {"op": op, "sizes": {}, "trained": []}
            self._hold(key, name, array, role)
        return written

    def _holds(self, names: Iterable[str]) -> bool:
        return all(name in self._constants for name in names)

    def _hold(self, key: str, name: str, array: Array, role: _Role) -> None:
        stored = _moved(array, role.order)
        layer = self.layers[key]
        layer["sizes"][role.attribute] = list(stored.shape)
        if role.trained:
            layer["trained"].append(role.attribute)
        self.arrays[f"{key}.{role.attribute}"] = stored
        self.weights[name] = {
            "layer": key,
            "attribute": role.attribute,
            "order": list(role.order),
            "stored": list(stored.shape),
        }

    def _batch_norm(self, node: dict[str, Any]) -> str:
        key = self._named(node)
        options = node["attributes"]
        self.layers[key] = {
            "channels": len(self._constants[node["inputs"][1]]),
            "momentum": options.get("momentum", 0.9),
            "epsilon": options.get("epsilon", 1e-5),
        }
        names = ("gamma", "beta", "running_mean", "running_variance")
        for attribute, name in zip(names, node["inputs"][1:5], strict=True):
            self.arrays[f"{key}.{attribute}"] = self._constants[name]
        return key

    def _named(self, node: dict[str, Any]) -> str:
        """Return a name for the layer of a node: that of its weight, or of the node's scopes."""
        weight = node["inputs"][1] if len(node["inputs"]) > 1 else ""
        found = re.fullmatch(r"([\w.]+)\.(weight|kernel)", weight)
        base = found[1] if found else _path(node)
        self._used[base] += 1
        return base if self._used[base] == 1 else f"{base}_{self._used[base]}"


def _path(node: dict[str, Any]) -> str:
    """Return the scopes of a node, such as /layer1/layer1.0/conv1/Conv, in dotted words."""
    parts: list[str] = []
    for part in filter(None, re.split(r"[/:;@]", node["name"])):
        if parts and part.startswith(f"{parts[-1]}."):  # PyTorch's exporter repeats what is around
            parts.pop()
        parts.append(part)
    if len(parts) > 1 and parts[-1].startswith(node["op"]):
        parts.pop()
    return re.sub(r"[^0-9A-Za-z_]+", ".", ".".join(parts)).strip(".") or node["op"].lower()


def _role(node: dict[str, Any], at: int, array: Array) -> _Role | None:
    """Return how a constant that a node reads is held; None for one that is no weight."""
    op, rank = node["op"], array.ndim
    if op in ("Conv", "ConvTranspose"):
        if at == 1 and rank in (3, 4):
            return _Role("weight", (2, 3, 1, 0) if rank == 4 else (2, 1, 0))
        return _Role("bias", (0,)) if at == 2 else None
    if op == "Gemm":
        if at == 1:
            return _Role("weight", (1, 0) if node["attributes"].get("transB", 0) else (0, 1))
        return _Role("bias", tuple(range(rank))) if at == 2 and array.size > 1 else None
    if op == "MatMul" and rank >= 2:
        return _Role("weight", tuple(range(rank)))
    if op in _NORMS and at in (1, 2):
        return _Role("gamma" if at == 1 else "beta", tuple(range(rank)))
    if op == "PRelu" and at == 1:
        return _Role("slope", _beside_channels(rank))
    if op in ("LSTM", "GRU") and 1 <= at <= 3:
        return _Role(("weight", "recurrent_weight", "bias")[at - 1], tuple(range(rank)))
    if array.size <= 1:
        return None
    if op in _ARITHMETIC:
        trained = sum(size != 1 for size in array.shape) == 1
        words = {"Add": "bias", "Mul": "scale"}
        return _Role(words.get(op, "value"), _beside_channels(rank), trained)
    return _Role(f"value{at}", tuple(range(rank)), False) if array.size > _FEW else None


def _moved(array: Array, order: tuple[int, ...]) -> Array:
    """Return an array with its axes in this order; a large matrix tile by tile, which is faster."""
    if array.ndim != 2 or order == (0, 1):
        return np.ascontiguousarray(array.transpose(order))
    moved = np.empty(array.shape[::-1], array.dtype)
    for i in range(0, array.shape[0], _TILE):
        for j in range(0, array.shape[1], 16 * _TILE):
            moved[j : j + 16 * _TILE, i : i + _TILE] = array[i : i + _TILE, j : j + 16 * _TILE].T
    return moved


def _beside_channels(rank: int) -> tuple[int, ...]:
    """Return the order in which an operand meets images that have channels last."""
    return {4: (0, 2, 3, 1), 3: (1, 2, 0)}.get(rank, tuple(range(rank)))


def _plain(array: Array) -> dict[str, Any]:
    """Return a constant as a file's architecture can hold it."""
    if array.dtype.kind == "f":
        array = array.astype(np.float32 if array.dtype.itemsize < 8 else np.float64)
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": array.ravel().tolist()}


# ---------------------------------------------------------------------- the ends
def _input(each: tuple[str, int, Any], last: bool, path: str) -> dict[str, Any]:
    name, kind, dims = each
    if not dims:
        raise ValueError(
            f"{path}: expected inputs with a batch axis, got {name:.80} of shape {dims}"
        )
    return {
        "name": name,
        "batch": dims[0],
        "shape": dims[1:],
        "last": last,
        "integers": kind not in (1, 10, 11, 16),
    }


def _channels_last(nodes: list[dict[str, Any]], file: File) -> set[str]:
    """Return the inputs and outputs that have channels last in the file already.

    Its nodes transpose these, and nothing else reads or makes them.
    """
    readers: dict[str, list[dict[str, Any]]] = {}
    for node in nodes:
        for name in node["inputs"]:
            readers.setdefault(name, []).append(node)
    found = {
        name
        for name, _, dims in file.inputs
        if dims
        and len(dims) == 4
        and name in readers
        and all(_moves(node, _TO_LAST) for node in readers[name])
    }
    moved = {name for node in nodes if _moves(node, _TO_FIRST) for name in node["outputs"]}
    return found | moved.intersection(file.outputs)


def _moves(node: dict[str, Any], axes: list[int]) -> bool:
    return node["op"] == "Transpose" and list(node["attributes"].get("perm", [])) == axes


def model_of(path: str, layout: str, dtype: np.dtype[Any]) -> OnnxModel:
    """Return the built model of a file."""
    graph, arrays = graph_of(read(path), path)  # what was read is let go of here
    shapes = [_asked(each, layout) for each in graph["inputs"]]
    for each, shape in zip(graph["inputs"], shapes, strict=True):
        each["shape"] = shape
    model = OnnxModel(graph, layout)
    model.plan(model._own_shapes())
    for name, variable in model.variables().items():
        variable.data = copied(arrays.pop(name), dtype)  # one after another: they may be large
    model._settle()
    return model


def _asked(each: dict[str, Any], layout: str) -> list[int | None]:
    """Return the shape of one input as users give it."""
    shape: list[int | None] = each["shape"]
    if len(shape) == 3 and layout == "NHWC" and not each["last"]:
        return [shape[1], shape[2], shape[0]]
    return shape
