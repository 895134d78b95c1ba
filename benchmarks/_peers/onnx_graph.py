"""The cases as ONNX models, for those peers that read them: float32, NCHW, fixed batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import NodeProto, TensorProto, checker, helper, numpy_helper

from benchmarks import _networks
from benchmarks._cases import Convolution, Inference
from benchmarks._networks import NETWORKS, flattened_image, walk
from benchmarks._peers.layout import oihw, out_in
from fastcnn import nn
from fastcnn.backend import Array

__all__ = ["convolution_model", "network_model"]

OPSET, IR_VERSION = 17, 8  # of 2022: every runtime of today reads them


def network_model(case: Inference) -> bytes:
    """Return a network from images "x" (batch, C, H, W) to logits "y" (batch, classes)."""
    graph = _Graph(_networks.model(case.network))
    graph.nodes[-1].output[0] = "y"
    height, width, channels = NETWORKS[case.network].input_shape
    x_shape = (case.batch, channels, height, width)
    return _model(
        graph.nodes, graph.constants, x_shape, (case.batch, NETWORKS[case.network].classes)
    )


class _Graph:
    """The nodes of a fastcnn model, and the weights they read."""

    def __init__(self, model: nn.Sequential) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Array] = {}
        self._flattened = flattened_image(walk(model))
        self._chain(model, "", "x")

    def _node(self, op: str, inputs: Sequence[str], **attributes: object) -> str:
        """Add a node; return the name of its result."""
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def _chain(self, part: nn.Module, prefix: str, x: str) -> str:
        for name, layer in walk(part, prefix):
            x = self._layer(name, layer, x)
        return x

    def _layer(self, name: str, layer: nn.Module, x: str) -> str:
        if isinstance(layer, nn.Residual):
            body = self._chain(layer.body, f"{name}.body", x)
            other = x
            if layer.shortcut is not None:
                other = self._chain(layer.shortcut, f"{name}.shortcut", x)
            return self._node("Add", [body, other])
        inputs = [x]
        for key, variable in layer.variables().items():
            array = variable.data
            if array.ndim == 4:
                array = oihw(array)
            elif array.ndim == 2:
                array = out_in(array, self._flattened.get(name))
            self.constants[f"{name}.{key}"] = array
            inputs.append(f"{name}.{key}")  # in the order of ONNX
        if isinstance(layer, (nn.Conv2D, nn.DepthwiseConv2D)):
            groups = layer.groups if isinstance(layer, nn.Conv2D) else layer.input_shape[2]
            pads, strides = [layer.padding] * 4, [layer.stride] * 2
            return self._node("Conv", inputs, pads=pads, strides=strides, group=groups)
        if isinstance(layer, nn.MaxPool2D):
            size = [layer.pool_size] * 2
            strides = size if layer.stride is None else [layer.stride] * 2
            pads = [layer.padding] * 4
            return self._node("MaxPool", inputs, kernel_shape=size, strides=strides, pads=pads)
        if isinstance(layer, nn.BatchNorm):
            return self._node("BatchNormalization", inputs, epsilon=layer.epsilon)
        if isinstance(layer, nn.Dense):
            return self._node("Gemm", inputs, transB=1)
        if isinstance(layer, nn.GlobalAvgPool2D):
            return self._node("Flatten", [self._node("GlobalAveragePool", inputs)])
        return self._node({nn.ReLU: "Relu", nn.Flatten: "Flatten"}[type(layer)], inputs)


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
