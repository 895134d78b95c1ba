"""ONNX files for tests, made node by node, and ONNX Runtime's answers to them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn

# Of modules inside, for a folder of tests called onnx would do for `import onnx`.
helper = pytest.importorskip("onnx.helper", reason="onnx is not installed: no files")
numpy_helper = pytest.importorskip("onnx.numpy_helper", reason="onnx is not installed: no files")

FLOAT = 1  # TensorProto.FLOAT
_IR = {22: 10, 23: 11, 24: 12}  # the oldest version of files that may have these opsets


def numbers(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    """Return numbers about as large as those of a network."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def model(
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[Any]],
    outputs: Sequence[str],
    constants: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    dtypes: Mapping[str, int] | None = None,
) -> Any:
    """Return a model of these nodes; the outputs' shapes are left open."""
    kinds = dict(dtypes or {})
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [info(name, kinds.get(name, FLOAT), list(shape)) for name, shape in inputs.items()],
        [info(name, kinds.get(name, FLOAT), None) for name in outputs],
        [
            numpy_helper.from_array(np.array(array, order="C"), name)
            for name, array in (constants or {}).items()
        ],
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=_IR.get(opset, 8))


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """Return a node; inputs and outputs are words, "_" one that is left out."""
    given, made = (["" if word == "_" else word for word in names.split()]
                   for names in (inputs, outputs))  # fmt: skip
    return helper.make_node(op, given, made, name=f"{op}_{made[0]}", **attributes)


def written(made: Any, folder: Path, name: str = "model.onnx") -> Path:
    """Write a model to a file and return its path."""
    path = folder / name
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


# ---------------------------------------------------------------------- ONNX Runtime
def answers(made: Any, feeds: Mapping[str, Any]) -> list[Any]:
    """Return what ONNX Runtime makes of a model, or of a file."""
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: no judge")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    source = str(made) if isinstance(made, Path) else made.SerializeToString()
    session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    found: list[Any] = session.run(None, dict(feeds))
    return found


def run(path: Path, feeds: Mapping[str, Any], layout: str = "file", dtype: Any = "float32") -> Any:
    """Return what a file gives here, as a list of arrays with the file's axes."""
    loaded = fastcnn.onnx.load(path, layout=layout, dtype=dtype)
    given = [
        np.asarray(feeds[name], dtype if np.asarray(feeds[name]).dtype.kind == "f" else None)
        for name in loaded.input_names or ()
    ]
    last = layout == "NHWC"
    given = [x.transpose(0, 2, 3, 1) if last and x.ndim == 4 else x for x in given]
    made = fastcnn.Predictor(loaded, dtype=dtype)(*given)
    found = list(made) if isinstance(made, (list, tuple)) else [made]
    return [y.transpose(0, 3, 1, 2) if last and y.ndim == 4 else y for y in found]


def agree(
    made: Any,
    feeds: Mapping[str, Any],
    folder: Path,
    *,
    layouts: Sequence[str] = ("file", "NHWC"),
    bound: float = 2e-6,
) -> None:
    """Assert that a model gives here what it gives in ONNX Runtime, in both widths of floats."""
    path = written(made, folder)
    wanted = answers(made, feeds)
    for layout, dtype in [(layouts[0], "float64"), *((layout, "float32") for layout in layouts)]:
        found = run(path, feeds, layout, dtype)
        assert len(found) == len(wanted)
        for y, other in zip(found, wanted, strict=True):
            assert y.dtype == dtype
            assert y.shape == other.shape
            room = bound * max(1.0, float(np.abs(other[np.isfinite(other)]).max(initial=0)))
            np.testing.assert_allclose(y, other, rtol=0, atol=room, err_msg=f"{layout}, {dtype}")


# ---------------------------------------------------------------------- of one operator
class Case:
    """One operator on inputs: tuples are their shapes, arrays constants, None what is left out."""

    def __init__(
        self, op: str, *given: Any, opset: int = 17, results: int = 1, **attributes: Any
    ) -> None:
        self.op, self.given, self.opset = op, given, opset
        self.results, self.attributes = results, attributes

    @property
    def name(self) -> str:
        """What pytest calls it."""
        said = [str(tuple(getattr(each, "shape", each) or ())) for each in self.given]
        said += [f"{key}={value}" for key, value in self.attributes.items()]
        return re.sub(r"\s", "", f"{self.op}-{self.opset}-{'-'.join(said)}")

    def made(self) -> tuple[Any, dict[str, Any]]:
        """Return the model and what it is given."""
        words, inputs, constants = [], {}, {}
        for at, each in enumerate(self.given):
            words.append("_" if each is None else f"x{at}")
            if isinstance(each, tuple):
                inputs[f"x{at}"] = each
            elif each is not None:
                constants[f"x{at}"] = each
        feeds = {name: numbers(*shape, seed=len(name)) for name, shape in inputs.items()}
        shapes = {name: ("n", *shape[1:]) for name, shape in inputs.items()}
        outputs = [f"y{at}" for at in range(self.results)]
        nodes = [node(self.op, " ".join(words), " ".join(outputs), **self.attributes)]
        return model(nodes, shapes, outputs, constants, opset=self.opset), feeds
