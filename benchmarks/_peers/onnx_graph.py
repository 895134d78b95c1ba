"""The cases as ONNX models, for those peers that read them: float32, NCHW, fixed batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import TensorProto, checker, helper, numpy_helper

from benchmarks._cases import Convolution, Inference
from benchmarks._peers.layout import oihw, torch_order
from fastcnn.backend import Array

__all__ = ["convolution_model", "network_model"]

OPSET, IR_VERSION = 17, 8  # of 2022: every runtime of today reads them


def network_model(case: Inference, weights: Mapping[str, Array]) -> bytes:
    """Return the sample network from images "x" (batch, 1, 28, 28) to logits "y" (batch, 10)."""
    names = ("w0", "b0", "w1", "b1", "w2", "b2", "w3", "b3")
    constants = dict(zip(names, torch_order(weights), strict=True))
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("MaxPool", ["r0"], ["p0"], **pool),
        helper.make_node("Conv", ["p0", "w1", "b1"], ["c1"]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], **pool),
        helper.make_node("Flatten", ["p1"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["g"], transB=1),
        helper.make_node("Relu", ["g"], ["r2"]),
        helper.make_node("Gemm", ["r2", "w3", "b3"], ["y"], transB=1),
    ]
    return _model(nodes, constants, (case.batch, 1, 28, 28), (case.batch, 10))


def convolution_model(case: Convolution, w: Array) -> bytes:
    """Return one convolution from "x" (N, C, H, W) to "y" (N, K, P, Q) with constant filters."""
    node = helper.make_node(
        "Conv",
        ["x", "w"],
        ["y"],
        pads=[case.padding] * 4,
        strides=[case.stride] * 2,
        group=case.groups,
    )
    return _model(
        [node],
        {"w": oihw(w)},
        (case.batch, case.channels, case.size, case.size),
        (case.batch, case.filters, case.output, case.output),
    )


def _model(
    nodes: Sequence[object],
    constants: Mapping[str, Array],
    x_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "benchmark",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y_shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized
