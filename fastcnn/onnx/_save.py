"""A model as an ONNX file: its program for inference, op by op."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Any

import numpy as np

from fastcnn._files import write_atomically
from fastcnn._types import Shape
from fastcnn.nn import Model, Module
from fastcnn.onnx import _written_numbers, _written_shapes  # noqa: F401  they enter their ops
from fastcnn.onnx._emit import BATCH, Emitted, Emitter
from fastcnn.onnx._file import package
from fastcnn.onnx._tensor import Tensor
from fastcnn.onnx._written import FIRST, WRITTEN, Writing
from fastcnn.program import Node, Program, trace
from fastcnn.program.fold import folded

__all__ = ["OPSETS", "save_model"]

OPSETS = (13, 24)  # that can be written
_IR_VERSION = 8  # of 2021, which goes with opset 15, so that what is installed reads it
_IR_OF = {19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12}


def save_model(
    model: Module, path: str, *, opset: int, layout: str, fold: bool, open_size: bool
) -> None:
    """Write a built model; see fastcnn.onnx.save."""
    onnx = package()
    dtype = model.dtype or np.dtype(np.float32)
    program = trace(model, BATCH, dtype=dtype)
    emit = Emitter(onnx.helper, opset, dtype)
    inputs, outputs = _ends(model, program)
    emit.reserve(*inputs, *outputs)
    values: dict[str, Any] = {}
    declared = []
    for name, called in zip(program.inputs, inputs, strict=True):
        shape = program.values[name].shape
        value, order = _given(emit, called, shape, layout)
        values[name] = value
        declared.append((called, tuple(shape[axis] for axis in order)))
    for name, array in program.stored().items():
        values[name] = Tensor(emit.call(np.array(array), name))
    folds = _folds(program) if fold else {}
    inside = {id(node) for node in folds.values()}
    for node in program.nodes:
        if id(node) not in inside:
            product = folds.get(str(node.results[0]))
            if product is not None:
                node = _folded(emit, program, product, node, values)
            _write(emit, program, node, values, open_size)
    made = [
        _handed_out(emit, values[name], called, layout)
        for name, called in zip(program.outputs, outputs, strict=True)
    ]
    kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)

    def info(name: str, shape: Shape) -> Any:
        dims: list[Any] = ["batch" if size == BATCH else size for size in shape]
        if open_size and len(dims) == 4:
            places = (1, 2) if layout == "NHWC" else (2, 3)
            for place, word in zip(places, ("height", "width"), strict=True):
                dims[place] = word if name in inputs else None
        return onnx.helper.make_tensor_value_info(name, kind, dims)

    graph = onnx.helper.make_graph(
        emit.nodes,
        "fastcnn",
        [info(*each) for each in declared],
        [info(*each) for each in made],
        [onnx.numpy_helper.from_array(each, name) for name, each in emit.constants.items()],
    )
    written = onnx.helper.make_model(
        graph,
        producer_name="fastcnn",
        opset_imports=[onnx.helper.make_opsetid("", opset)],
        ir_version=_IR_OF.get(opset, _IR_VERSION),
    )
    onnx.checker.check_model(written, full_check=True)
    write_atomically(path, written.SerializeToString())


# ---------------------------------------------------------------------- the ends
def _ends(model: Module, program: Program) -> tuple[list[str], list[str]]:
    """Return what inputs and outputs are called in the file."""
    names = model.input_names if isinstance(model, Model) else None
    inputs = list(names or program.inputs)
    made = model.output_names if isinstance(model, Model) else None
    count = len(program.outputs)
    outputs = list(made or (["y"] if count == 1 else [f"y{at}" for at in range(count)]))
    taken = set(inputs)
    return inputs, [name if name not in taken else f"{name}_out" for name in outputs]


def _given(emit: Emitter, name: str, shape: Shape, layout: str) -> tuple[Tensor, tuple[int, ...]]:
    """Return an input as a tensor, and the order in which the file has its axes."""
    first = len(shape) == 4 and layout == "NCHW"
    order = FIRST if first else tuple(range(len(shape)))
    return Tensor(Emitted(name, tuple(shape[axis] for axis in order)), order), order


def _handed_out(emit: Emitter, value: Tensor, name: str, layout: str) -> tuple[str, Shape]:
    """Write that a tensor is an output of this name; return that and its shape in the file."""
    first = value.rank == 4 and layout == "NCHW"
    array = value.stored(emit, FIRST if first else None)
    emit.nodes.append(emit.output(array, name))
    return name, tuple(array.shape)


# ---------------------------------------------------------------------- nodes
def _write(
    emit: Emitter, program: Program, node: Node, values: dict[str, Any], open_size: bool
) -> None:
    """Write one op; leave what it gives in values."""
    function = WRITTEN.get(node.op)
    given = {
        name: values[each] if isinstance(each, str) else [values[one] for one in each]
        for name, each in node.arguments.items()
    }
    if function is None:
        raise ValueError(
            f"save: expected ops that ONNX has, got {node.op} of {node.layer or 'the model'}"
        )
    shapes = [program.values[str(name)].shape for name in node.results if name is not None]
    at = Writing(emit, shapes, str(node.results[0]), open_size)
    try:
        values[str(node.results[0])] = function(at, **given, **node.attributes)
    except ValueError as error:
        raise ValueError(f"save: {node.layer or 'the model'}: {node.op}: {error}") from error


# ---------------------------------------------------------------------- folding
def _folds(program: Program) -> dict[str, Node]:
    """Return, by the results of normalizations, the product in front that takes them in."""
    reads = Counter(chain(program.outputs, *(node.reads() for node in program.nodes)))
    makers = {str(node.results[0]): node for node in program.nodes}
    found = {}
    for node in program.nodes:
        x = str(node.arguments.get("x"))
        maker = makers.get(x)
        if node.op == "batch_norm_inference" and maker is not None and reads[x] == 1:
            weights = [program.values[str(maker.arguments.get(n, ""))] for n in "wb"
                       if n in maker.arguments]  # fmt: skip
            if maker.op in ("conv2d", "linear") and all(w.source is not None for w in weights):
                found[str(node.results[0])] = maker
    return found


def _folded(
    emit: Emitter, program: Program, product: Node, norm: Node, values: dict[str, Any]
) -> Node:
    """Return the node of a product that gives what the normalization behind it gives."""
    stored = program.stored()
    weight = stored[str(product.arguments["w"])]
    bias = stored[str(product.arguments["b"])] if "b" in product.arguments else None
    vectors = [stored[str(norm.arguments[n])] for n in ("gamma", "beta", "mean", "variance")]
    epsilon = float(norm.attributes.get("epsilon", 1e-5))
    arrays = folded(weight, bias, vectors, epsilon)
    names = product.arguments["w"], product.arguments.get("b", norm.arguments["beta"])
    arguments: dict[str, Any] = {"x": product.arguments["x"]}
    for key, array, name in zip("wb", arrays, names, strict=True):
        arguments[key] = f"folded {name}"
        values[arguments[key]] = Tensor(emit.call(array, str(name)))
    return product._replace(arguments=arguments, results=norm.results)
