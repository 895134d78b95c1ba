"""The forms in which files hold their weights, and what a model of a file can be asked for."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_files import FLOAT, agree, helper, model, node, numbers, numpy_helper, run, written

import fastcnn

W, X = numbers, (2, 4, 5, 6)
SHAPES = {"x": ("n", 4, 5, 6)}


def convolution(constants: dict[str, Any], *front: Any, **options: Any) -> Any:
    nodes = [*front, node("Conv", "x w b", "c", pads=[1] * 4), node("Relu", "c", "y")]
    return model(nodes, SHAPES, ["y"], constants, **options)


PLAIN = {"w": W(6, 4, 3, 3), "b": W(6)}


def test_constant_nodes(tmp_path: Path) -> None:
    front = [node("Constant", "", name, value=numpy_helper.from_array(array))
             for name, array in PLAIN.items()]  # fmt: skip
    agree(convolution({}, *front), {"x": W(*X)}, tmp_path, bound=1e-5)


def test_constant_nodes_of_numbers(tmp_path: Path) -> None:
    nodes = [
        node("Constant", "", "a", value_float=0.5),
        node("Constant", "", "b", value_floats=[1.0] * 6),
        node("Constant", "", "c", value_int=2), node("Constant", "", "s", value_ints=[0, -1]),
        node("Mul", "x a", "d"), node("Add", "d b", "e"), node("Gather", "e c", "f", axis=1),
        node("Reshape", "f s", "y"),
    ]  # fmt: skip
    agree(model(nodes, SHAPES, ["y"]), {"x": W(*X)}, tmp_path)


def test_a_chain_of_constants_is_a_weight(tmp_path: Path) -> None:
    """A kernel that is transposed, cast and scaled, a bias that is reshaped: PaddlePaddle's way."""
    front = [
        node("Transpose", "raw", "t", perm=[3, 2, 0, 1]), node("Cast", "t", "f", to=FLOAT),
        node("Mul", "f half", "w"), node("Reshape", "flat", "b"),
    ]  # fmt: skip
    front[-1].input.append("shape")
    constants = {"raw": W(3, 3, 4, 6).astype(np.float64), "half": np.array(0.5, np.float32),
                 "flat": W(1, 6, 1, 1), "shape": np.array([6])}  # fmt: skip
    made = convolution(constants, *front)
    agree(made, {"x": W(*X)}, tmp_path, bound=1e-5)
    loaded = fastcnn.onnx.load(tmp_path / "model.onnx")
    assert {name: x.shape for name, x in loaded.parameters().items()} == {
        "Conv_c.weight": (3, 3, 4, 6),
        "Conv_c.bias": (6,),
    }


def test_initializers_that_are_inputs_too_and_weights_of_constant_of_shape(tmp_path: Path) -> None:
    """IR version 3, as the light models of the package onnx."""
    front = [node("ConstantOfShape", "s", "w",
                  value=numpy_helper.from_array(np.array([0.25], np.float32)))]  # fmt: skip
    made = convolution({"s": np.array([6, 4, 3, 3]), "b": W(6)}, *front, opset=9)
    made.graph.input.extend(
        [helper.make_tensor_value_info("s", 7, [4]), helper.make_tensor_value_info("b", FLOAT, [6])]
    )
    made.ir_version = 3
    agree(made, {"x": W(*X)}, tmp_path, bound=1e-5)


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16", "DOUBLE"])
def test_weights_of_other_widths(kind: str, tmp_path: Path) -> None:
    """They are floats of 32 bits here, of the values that they have there."""
    made = convolution(PLAIN)
    narrow = [
        helper.make_tensor(
            name, getattr(helper.TensorProto, kind), array.shape, array.ravel().tolist()
        )
        for name, array in PLAIN.items()
    ]
    del made.graph.initializer[:]
    made.graph.initializer.extend(narrow)
    found = run(written(made, tmp_path), {"x": W(*X)})
    rounded = {each.name: np.asarray(numpy_helper.to_array(each), np.float32) for each in narrow}
    wanted = run(written(convolution(rounded), tmp_path), {"x": W(*X)})
    np.testing.assert_array_equal(found, wanted)


def test_numbers_in_fields_and_in_bytes(tmp_path: Path) -> None:
    """float_data, int64_data, and int8 that is kept in int32_data."""
    small = np.arange(-12, 12).reshape(6, 4, 1, 1).astype(np.int8)
    tensors = [
        helper.make_tensor("q", 3, small.shape, small.ravel().tolist()),
        helper.make_tensor("s", FLOAT, [], [0.125]),
        helper.make_tensor("axes", 7, [2], [2, 3]),
    ]
    assert tensors[0].int32_data
    assert not any(each.raw_data for each in tensors)
    nodes = [node("DequantizeLinear", "q s", "w"), node("Conv", "x w", "c"),
             node("ReduceSum", "c axes", "y")]  # fmt: skip
    made = model(nodes, SHAPES, ["y"])
    made.graph.initializer.extend(tensors)
    agree(made, {"x": W(*X)}, tmp_path, bound=1e-5)


def test_weights_in_a_file_beside_it(tmp_path: Path) -> None:
    beside = pytest.importorskip("onnx.external_data_helper")
    made = convolution(PLAIN)
    whole = run(written(made, tmp_path, "whole.onnx"), {"x": W(*X)})
    beside.convert_model_to_external_data(made, location="w.data", size_threshold=0)
    beside.write_external_data_tensors(made, str(tmp_path))
    written(made, tmp_path, "parts.onnx")
    assert (tmp_path / "w.data").stat().st_size >= PLAIN["w"].nbytes
    np.testing.assert_array_equal(run(tmp_path / "parts.onnx", {"x": W(*X)}), whole)


def test_a_kernel_that_is_shared_is_held_once(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "a", pads=[1] * 4), node("Conv", "a w", "y", pads=[1] * 4)]
    made = model(nodes, SHAPES, ["y"], {"w": W(4, 4, 3, 3) / 3})
    agree(made, {"x": W(*X)}, tmp_path, bound=1e-5)
    assert list(fastcnn.onnx.load(tmp_path / "model.onnx").parameters()) == ["Conv_a.weight"]


def test_what_nobody_reads_is_left_out(tmp_path: Path) -> None:
    """Operators of other domains as well, which are imported and not used."""
    nodes = [node("Conv", "x w", "c"), node("Conv", "x unread", "d"), node("Relu", "c", "y")]
    made = model(nodes, SHAPES, ["y"], {"w": W(6, 4, 1, 1), "unread": W(9, 4, 1, 1)})
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    path = written(made, tmp_path)
    assert list(fastcnn.onnx.load(path).parameters()) == ["Conv_c.weight"]


def test_nodes_are_run_in_an_order_that_works(tmp_path: Path) -> None:
    made = convolution(PLAIN)
    nodes = list(made.graph.node)
    wanted = run(written(made, tmp_path), {"x": W(*X)})
    del made.graph.node[:]
    made.graph.node.extend(nodes[::-1])
    np.testing.assert_array_equal(run(written(made, tmp_path), {"x": W(*X)}), wanted)


@pytest.mark.parametrize("dims", [None, [], ["n"], ["", "", ""]])
def test_declared_output_shapes_are_not_believed(dims: Any, tmp_path: Path) -> None:
    made = convolution(PLAIN)
    del made.graph.output[:]
    made.graph.output.append(helper.make_tensor_value_info("y", FLOAT, dims))
    assert fastcnn.onnx.load(written(made, tmp_path)).output_shape == (5, 6, 6)


@pytest.mark.parametrize("size", [-1, 0])
def test_a_batch_of_no_size_is_an_open_one(size: int, tmp_path: Path) -> None:
    made = convolution(PLAIN)
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    assert run(written(made, tmp_path), {"x": W(3, 4, 5, 6)})[0].shape == (3, 6, 5, 6)


# ---------------------------------------------------------------------- the model
def residual() -> Any:
    """A network with batch normalization, a sum, a pool and a dense layer."""
    v = np.abs(W(6)) + 0.5
    nodes = [
        node("Conv", "x w", "a", pads=[1] * 4), node("BatchNormalization", "a g b m v", "n"),
        node("Relu", "n", "r"), node("Conv", "r u", "s", pads=[1] * 4), node("Add", "s r", "t"),
        node("GlobalAveragePool", "t", "p"), node("Flatten", "p", "f"),
        node("Gemm", "f k c", "y", transB=1),
    ]  # fmt: skip
    constants = {"w": W(6, 4, 3, 3), "g": v, "b": W(6), "m": W(6, seed=2), "v": v + 1,
                 "u": W(6, 6, 3, 3) / 5, "k": W(3, 6), "c": W(3)}  # fmt: skip
    return model(nodes, SHAPES, ["y"], constants)


def test_files_copies_and_pickles_of_it_have_the_same_bits(tmp_path: Path) -> None:
    loaded = fastcnn.onnx.load(written(residual(), tmp_path))
    x = W(3, 5, 6, 4)
    y = fastcnn.Predictor(loaded)(x)
    loaded.save(tmp_path / "model.safetensors")
    again = fastcnn.load(tmp_path / "model.safetensors")
    assert type(again) is fastcnn.onnx.OnnxModel
    for other in (again, copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))):
        np.testing.assert_array_equal(fastcnn.Predictor(other)(x), y)
        assert list(other.state_dict()) == list(loaded.state_dict())
    predict = pickle.loads(pickle.dumps(fastcnn.Predictor(loaded)))
    np.testing.assert_array_equal(predict(x), y)
    np.testing.assert_array_equal(fastcnn.Trainer(loaded).predict(x), y)


def test_a_file_written_by_it_is_loaded_without_the_package_onnx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(residual(), tmp_path)
    fastcnn.onnx.load(path).save(tmp_path / "model.safetensors")
    monkeypatch.setitem(sys.modules, "onnx", None)
    fastcnn.load(tmp_path / "model.safetensors")
    with pytest.raises(ImportError, match=r"expected the package onnx.*fastcnn\[onnx\]"):
        fastcnn.onnx.load(path)


def test_threads_and_batches_leave_the_bits(tmp_path: Path) -> None:
    predict = fastcnn.Predictor(fastcnn.onnx.load(written(residual(), tmp_path)))
    x = W(5, 5, 6, 4)
    whole = predict(x)
    try:
        for count in (1, 2, 3):
            fastcnn.set_num_threads(count)
            np.testing.assert_array_equal(predict(x), whole)
    finally:
        fastcnn.set_num_threads(None)
    np.testing.assert_array_equal(np.concatenate([predict(each[None]) for each in x]), whole)


def test_its_normalization_is_folded_into_the_convolution(tmp_path: Path) -> None:
    loaded = fastcnn.onnx.load(written(residual(), tmp_path))
    assert loaded.parameter_count == 6 * 4 * 9 + 12 + 6 * 6 * 9 + 18 + 3
    assert "Conv_a" in loaded.summary()
    ops = [each.op for each in loaded.program(1, fused=True).nodes]
    assert "batch_norm_inference" not in ops


def test_the_reference_runs_it_too(tmp_path: Path) -> None:
    path = written(residual(), tmp_path)
    x = W(2, 5, 6, 4)
    loaded = fastcnn.onnx.load(path, dtype="float64")
    found = fastcnn.Predictor(loaded, backend="reference")(x.astype(np.float64))
    np.testing.assert_allclose(found, fastcnn.Predictor(loaded)(x.astype(np.float64)), atol=1e-12)
