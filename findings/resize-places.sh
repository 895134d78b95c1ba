#!/usr/bin/env bash
# onnxruntime 1.32.0 works out the places of Resize in float32, also where sizes alone say them. Where
# a place is a whole number, or half of one, it may take the pixel beside it: one output of seven
# pixels lies at (0 + 1/2) * 7 - 1/2 = 3, and "floor" gives pixel 2.
# Ours: fast/_resample.py takes quotients of integers where sizes say them, and rounds to float32 where
# a file gives a scale: there both agree.
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
from onnx import TensorProto, helper

x = np.arange(7, dtype=np.float32).reshape(1, 1, 1, 7)
size = helper.make_tensor("size", TensorProto.INT64, [4], [1, 1, 1, 1])
node = helper.make_node(
    "Resize",
    ["x", "", "", "size"],
    ["y"],
    mode="nearest",
    coordinate_transformation_mode="half_pixel",
    nearest_mode="floor",
)
graph = helper.make_graph(
    [node],
    "resize",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, 1])],
    [size],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
)
(y,) = session.run(None, {"x": x})
print(f"onnxruntime {onnxruntime.__version__}: the pixel at place 3, rounded down: {y.item():g}")
assert y.item() == 2, y
PYTHON
echo "as described"
