#!/usr/bin/env bash
# onnx 1.23.2: the reference evaluator takes BatchNormalization of opsets 9 to 13 for training: it
# mixes the batch's own mean and variance into the stored ones, by the momentum. With one output the
# operator is in inference there, and ONNX Runtime 1.32.0 normalizes by the stored numbers.
# Ours: files of these opsets are judged by ONNX Runtime and by hand.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0
venv/bin/python - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
vectors = {"scale": 1, "bias": 0, "mean": 0, "variance": 1}
constants = [numpy_helper.from_array(np.full(1, v, np.float32), k) for k, v in vectors.items()]
x = np.full((1, 1, 1, 4), 8, np.float32)


def results(opset, **attributes):
    node = helper.make_node("BatchNormalization", ["x", *vectors], ["y"], epsilon=0.0, **attributes)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 1, 4]) for n in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": x})[0][0, 0, 0, 0], ReferenceEvaluator(model).run(None, {"x": x})[0][0, 0, 0, 0]


for opset in (9, 12, 15):
    for attributes in ({}, {"momentum": 0.5}):
        runtime, evaluator = results(opset, **attributes)
        print("opset", opset, attributes, "runtime", runtime, "evaluator", evaluator)
        assert runtime == 8
        assert (evaluator == 8) == (opset >= 14)
PYTHON
echo "as described"
