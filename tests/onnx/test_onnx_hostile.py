"""Damaged and hostile ONNX files: one sentence each, within bounds of memory and time."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_files import FLOAT, helper, model, node, numbers, numpy_helper, run, written

import fastcnn

W = numbers
SHAPES = {"x": ("n", 4, 5, 6)}
ROOM = 128 << 20
SECONDS = 20  # with memory traced, on a crowded machine


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def refused(made: Any, folder: Path) -> str:
    """What is said of a file; it takes bounded memory, and no long time."""
    path = made if isinstance(made, Path) else written(made, folder)
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(ValueError, match="expected") as error:
            fastcnn.onnx.load(path)
        assert tracemalloc.get_traced_memory()[1] <= ROOM
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < SECONDS
    said = str(error.value)
    assert said.startswith(f"{path}: ")
    assert said.isprintable()
    assert len(said) <= 2000
    return said.removeprefix(f"{path}: ")


def small(*front: Any, constants: Any = None, read: str = "x", op: str = "Relu") -> Any:
    return model([*front, node(op, read, "y")], SHAPES, ["y"], constants)


# ---------------------------------------------------------------------- files of other kinds
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "an empty file"),
        (b"\x80\x02}q\x00.", "a pickle of Python"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file"),
        (b"<?xml version", "an XML file, as OpenVINO writes it"),
        (b"a text that is no model\n", "a damaged one"),
        (bytes(1000), "a damaged one"),
    ],
)
def test_another_kind_of_file_is_named(data: bytes, said: str, tmp_path: Path) -> None:
    assert refused(data, tmp_path).startswith(f"expected an ONNX model, got {said}")


def test_a_folder_and_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.onnx"):
        with pytest.raises(OSError, match=str(path)):
            fastcnn.onnx.load(path)


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    made = model([node("Conv", "x w", "y")], SHAPES, ["y"], {"w": W(3, 4, 2, 2)})
    whole = made.SerializeToString()
    for length in range(0, len(whole), 7):
        refused(whole[:length], tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="a file with holes takes no room there")
def test_a_file_of_more_than_two_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with open(path, "wb") as file:
        file.truncate((2 << 30) + 1)
    assert refused(path, tmp_path).startswith("expected an ONNX file of less than 2 GB, got 214748")


# ---------------------------------------------------------------------- weights beside it
def beside(location: str, **said: Any) -> Any:
    made = model([node("Conv", "x w", "y")], SHAPES, ["y"], {"w": W(3, 4, 2, 2)})
    (tensor,) = made.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    for key, value in {"location": location, **said}.items():
        tensor.external_data.add(key=key, value=str(value))
    return made


@pytest.mark.parametrize("location", ["../w.data", "/etc/hostname", "", ".", "a/../../w.data"])
def test_weights_outside_of_the_folder(location: str, tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(192))
    (tmp_path / "model").mkdir()
    said = refused(beside(location), tmp_path / "model")
    assert said.startswith("w: expected its numbers in a file in the same folder, got '")


@pytest.mark.skipif(os.name != "posix", reason="links need rights there")
def test_weights_behind_a_link_that_leaves_the_folder(tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(192))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "link").symlink_to(tmp_path / "w.data")
    said = refused(beside("link"), tmp_path / "model")
    assert said.startswith("w: expected its numbers in a file in the same folder, got 'link'")


@pytest.mark.parametrize(
    "said", [{"length": 10**15}, {"offset": 193}, {"offset": -1}, {"offset": "x"}, {"length": 3},
             {"offset": 8}, {"length": -5}, {"offset": 10**30}],
)  # fmt: skip
def test_weights_beside_it_that_do_not_fit(said: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(192))
    assert refused(beside("w.data", **said), tmp_path).startswith("w: expected ")


@pytest.mark.skipif(os.name != "posix", reason="a file with holes takes no room there")
def test_weights_beside_it_that_are_too_many(tmp_path: Path) -> None:
    with open(tmp_path / "w.data", "wb") as file:
        file.truncate(10 << 30)
    assert "expected numbers of shape [3, 4, 2, 2], got" in refused(beside("w.data"), tmp_path)


def test_no_file_beside_it(tmp_path: Path) -> None:
    path = written(beside("w.data"), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"w: expected a file with its numbers beside it"):
        fastcnn.onnx.load(path)


# ---------------------------------------------------------------------- graphs
def circle() -> Any:
    return model([node("Add", "x b", "a"), node("Relu", "a", "b")], SHAPES, ["b"])


def twice(what: str) -> Any:
    made = small(node("Relu", "x", "a"), read="a")
    if what == "result":
        made.graph.node.append(node("Tanh", "x", "a"))
    elif what == "input":
        made.graph.input.append(made.graph.input[0])
    else:
        tensor = numpy_helper.from_array(W(4), "w")
        made.graph.initializer.extend([tensor, tensor])
    return made


def function(domain: str) -> Any:
    made = small(node("Twice", "x", "a", domain=domain), read="a")
    made.functions.append(
        helper.make_function(domain, "Twice", ["a"], ["b"], [node("Add", "a a", "b")],
                             [helper.make_opsetid("", 17)])
    )  # fmt: skip
    return made


def sparse() -> Any:
    made = small()
    values = numpy_helper.from_array(W(2), "w")
    where = numpy_helper.from_array(ints(0, 3), "w_at")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, where, [2, 3]))
    return made


def choice() -> Any:
    inner = model([node("Relu", "x", "z")], {}, ["z"]).graph
    return small(node("If", "c", "a", then_branch=inner, else_branch=inner), read="a",
                 constants={"c": np.array(True)})  # fmt: skip


def opset(number: int) -> Any:
    made = small()
    made.opset_import[0].version = number
    return made


def typed(kind: int, dims: Any = ("n", 4)) -> Any:
    return model([node("Relu", "x", "y")], {"x": dims}, ["y"], dtypes={"x": kind})


GRAPHS: dict[str, tuple[Any, str]] = {
    "a circle": (circle, "expected nodes that can run one after another, got Add Add_a, which rea"),
    "reads nothing": (lambda: small(read="z"), "expected nodes that can run one after another"),
    "gives nothing": (
        lambda: model([node("Relu", "x", "y")], SHAPES, ["z"]),
        "expected each output of a node, got z of none",
    ),
    "a constant output": (
        lambda: model([node("Relu", "x", "y")], SHAPES, ["y", "w"], {"w": W(3)}),
        "expected outputs that depend on an input, got w, a constant",
    ),
    "no inputs": (
        lambda: model([node("Relu", "w", "y")], {}, ["y"], {"w": W(3)}),
        "expected ",
    ),
    "two results": (lambda: twice("result"), "expected one result called a, got several"),
    "two inputs": (lambda: twice("input"), "expected one input called x, got several"),
    "two weights": (lambda: twice("initializer"), "expected one initializer called w, got sev"),
    "a function": (lambda: function("mine"), "expected operators that fastcnn has, got mine.Twice"),
    "a function of theirs": (lambda: function(""), "expected ONNX's own operators, got a function"),
    "sparse weights": (sparse, "expected weights with all their numbers, got w, sparse"),
    "graphs inside": (choice, "expected operators that fastcnn has, got If (as If_a) of opset 17"),
    "opset 0": (lambda: opset(0), "expected an opset of 1 to "),
    "opset 1000": (lambda: opset(1000), "expected an opset of 1 to "),
    "words": (lambda: typed(8), "expected inputs of numbers, got x of kind 8"),
    "complex": (lambda: typed(14), "expected inputs of numbers, got x of kind 14"),
    "no batch": (lambda: typed(FLOAT, ()), "expected inputs with a batch axis, got x of shape []"),
    "a second result": (
        lambda: model(
            [node("MaxPool", "x", "y z", kernel_shape=[2, 2])], SHAPES, ["y", "z"]
        ),
        "expected the first result of MaxPool to be read alone, got z, another one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_is_none(name: str, tmp_path: Path) -> None:
    make, said = GRAPHS[name]
    assert refused(make(), tmp_path).startswith(said)


def test_all_operators_that_are_lacking_are_named(tmp_path: Path) -> None:
    nodes = [node("Sin", "x", "a"), node("Sin", "a", "b"), node("Gru\n\x1b[31m", "b", "c"),
             node("Fused", "c", "y", domain="com.microsoft")]  # fmt: skip
    assert refused(model(nodes, SHAPES, ["y"]), tmp_path) == (
        "expected operators that fastcnn has, got Sin (2 times, first as Sin_a), Gru ?[31m (as Gru "
        "?[31m_c), com.microsoft.Fused (as Fused_y) of opset 17"
    )


def test_what_is_only_for_training_is_left_out(tmp_path: Path) -> None:
    made = small()
    made.training_info.add().algorithm.CopyFrom(choice().graph)
    assert run(written(made, tmp_path), {"x": W(2, 4, 5, 6)})[0].shape == (2, 4, 5, 6)


# ---------------------------------------------------------------------- what does not fit
def one(
    op: str, words: str = "x w", constants: Any = None, shape: Any = None, **options: Any
) -> Any:
    shapes = {"x": shape or SHAPES["x"]}
    return model([node(op, words, "y", **options)], shapes, ["y"], constants, opset=13)


NORM = {"g": W(4), "b": W(4), "m": W(4), "v": W(4)}
MISFITS = {
    "channels": one("Conv", constants={"w": W(3, 5, 2, 2)}),
    "ranks": one("Conv", constants={"w": W(3, 4, 2)}),
    "a rank of five": one("Conv", constants={"w": W(3, 4, 2, 2, 2)}),
    "a number as a kernel": one("Conv", constants={"w": W()}),
    "a kernel of nothing": one("Conv", constants={"w": W(0, 4, 2, 2)}),
    "groups of zero": one("Conv", constants={"w": W(3, 4, 2, 2)}, group=0),
    "groups below zero": one("Conv", constants={"w": W(3, 4, 2, 2)}, group=-1),
    "a stride of zero": one("Conv", constants={"w": W(3, 4, 2, 2)}, strides=[0, 1]),
    "strides of words": one("Conv", constants={"w": W(3, 4, 2, 2)}, strides=["a", "b"]),
    "three strides": one("Conv", constants={"w": W(3, 4, 2, 2)}, strides=[1, 1, 1]),
    "three pads": one("Conv", constants={"w": W(3, 4, 2, 2)}, pads=[1, 1, 1]),
    "pads below zero": one("Conv", constants={"w": W(3, 4, 2, 2)}, pads=[-9, 0, 0, 0]),
    "another pad": one("Conv", constants={"w": W(3, 4, 2, 2)}, auto_pad="SOME"),
    "a window that is too large": one("Conv", constants={"w": W(3, 4, 7, 2)}),
    "no kernel": one("Conv", "x"),
    "no pool": one("MaxPool", "x"),
    "a pool of any size": one("AveragePool", "x", kernel_shape=[2**62, 2**62], pads=[2**61] * 4),
    "integers as a kernel": one("Conv", constants={"w": np.ones((3, 4, 2, 2), np.int64)}, group=2),
    "a matrix of other rows": one("MatMul", constants={"w": W(7, 3)}),
    "another Gemm": one("Gemm", constants={"w": W(7, 3)}, shape=("n", 5)),
    "numbers that do not meet": one("Add", constants={"w": W(7)}),
    "norms of other lengths": one("BatchNormalization", "x g b m v", NORM | {"v": W(5)}),
    "norms of numbers": one("BatchNormalization", "x g b m v", NORM | {"g": W()}),
    "norms of nothing": one("BatchNormalization", "x g b"),
    "a shape of other numbers": one("Reshape", constants={"w": ints(0, 7)}),
    "a shape below zero": one("Reshape", constants={"w": ints(-1, -1, -5)}),
    "a shape of floats": one("Reshape", constants={"w": W(3)}),
    "a shape of NaN": one("Reshape", constants={"w": np.full(2, np.nan, np.float32)}),
    "a shape that is no constant": one("Reshape", "x x"),
    "axes out of range": one("Unsqueeze", constants={"w": ints(9)}),
    "an axis out of range": one("Concat", "x x", axis=7),
    "axes that are no order": one("Transpose", "x", perm=[0, 1, 1, 3]),
    "axes that are too few": one("Transpose", "x", perm=[0, 1]),
    "no indices": one("Gather", constants={"w": ints()}, axis=1),
    "indices out of range": one("Gather", constants={"w": ints(77, 3)}, axis=1),
    "one index out of range": one("Gather", constants={"w": ints(77)}, axis=1),
    "parts of other lengths": one("Split", constants={"w": ints(77, 3)}, axis=1),
    "a step of zero": one("Slice", "x a b c d", {"a": ints(0), "b": ints(3), "c": ints(1),
                                                 "d": ints(0)}),
    "scales of nothing": one("Resize", "x _ w", {"w": W(0)}),
    "endless scales": one("Resize", "x _ w", {"w": np.full(4, np.inf, np.float32)}),
    "a mode of nobody": one("Resize", "x _ w", {"w": np.ones(4, np.float32)}, mode="best"),
    "no block": one("DepthToSpace", "x"),
    "blocks of zero": one("DepthToSpace", "x", blocksize=0),
    "no inputs": one("Relu", ""),
    "too many inputs": one("Where", "x x x x"),
    "a size of nothing": one("LRN", "x"),
    "dims of any size": one("Conv", constants={"w": W(3, 4, 2, 2)}, shape=("n", 2**62, 2**62, 9)),
    "a perm of numbers": one("Transpose", "x", perm=7),
    "a bias of other channels": one("Conv", "x w b", {"w": W(3, 4, 2, 2), "b": W(4)}),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit(name: str, tmp_path: Path) -> None:
    refused(MISFITS[name], tmp_path)


@pytest.mark.parametrize(
    ("kind", "dims", "data"),
    [(8, [2], {"string_data": [b"a", b"b"]}), (14, [1], {"float_data": [1.0, 2.0]}),
     (99, [1], {}), (0, [1], {}), (1, [-1], {}), (1, [2**40], {}), (1, [2**62, 2**62], {}),
     (1, [2], {"raw_data": b"123"}), (1, [3], {"float_data": [1.0]}),
     (7, [3], {"int32_data": [1]})],
)  # fmt: skip
def test_weights_that_are_no_numbers(kind: int, dims: Any, data: Any, tmp_path: Path) -> None:
    made = one("Mul", "x w")
    tensor = made.graph.initializer.add(name="w", data_type=kind, dims=dims)
    for field, value in data.items():
        if isinstance(value, bytes):
            setattr(tensor, field, value)
        else:
            getattr(tensor, field).extend(value)
    assert refused(made, tmp_path).startswith("w: ")


# ---------------------------------------------------------------------- room
def bomb(*nodes: Any, **constants: Any) -> Any:
    return model([*nodes, node("Add", "x z", "y")], {"x": ("n", 4)}, ["y"], constants)


def doubled() -> Any:
    nodes = [node("Concat", f"z{at} z{at}", f"z{at + 1}", axis=0) for at in range(60)]
    return bomb(*nodes, node("ReduceSum", "z60", "z"), z0=W(4))


def looked_at() -> Any:
    nodes = [node("ReduceSum", "a", f"s{at}") for at in range(2000)]
    return bomb(node("ConstantOfShape", "s", "a"), *nodes, node("Identity", "s7", "z"),
                s=ints(2**22))  # fmt: skip


big, huge = ints(2**31), ints(2**15, 2**15, 2**15)
BOMBS = {
    "ConstantOfShape": bomb(node("ConstantOfShape", "s", "z"), s=huge),
    "Expand": bomb(node("Expand", "a s", "z"), a=W(1), s=huge),
    "Tile": bomb(node("Tile", "a s", "z"), a=W(1), s=big),
    "Range": bomb(node("Range", "a b c", "z"), a=np.array(0), b=np.array(2**40), c=np.array(1)),
    "Range of floats": bomb(node("Range", "a b c", "z"), a=np.array(0.0), b=np.array(1e300),
                            c=np.array(1e-300)),
    "Pad": bomb(node("Pad", "a s", "z"), a=W(1), s=ints(2**33, 2**33)),
    "Add": bomb(node("Reshape", "a s", "b"), node("Add", "a b", "z"), a=W(20000), s=ints(-1, 1)),
    "MatMul": bomb(node("Reshape", "a s", "b"), node("Reshape", "a t", "c"),
                   node("MatMul", "b c", "z"), a=W(20000), s=ints(-1, 1), t=ints(1, -1)),
    "Concat": doubled(),
    "Gather": bomb(node("Gather", "a i", "z"), a=W(2, 20000), i=np.zeros(20000, np.int64)),
    "sums": looked_at(),
    "what shapes give": bomb(node("Shape", "x", "a"), node("Expand", "a s", "b"),
                             node("ReduceSum", "b", "z"), s=ints(2**31, 1)),
    "sizes below zero": bomb(node("ConstantOfShape", "s", "z"), s=ints(-5)),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_constants_that_would_be_large(name: str, tmp_path: Path) -> None:
    refused(BOMBS[name], tmp_path)


def test_a_quantized_file_may_become_wider(tmp_path: Path) -> None:
    """Bytes become floats, four times as large: the room is that of the file."""
    w = np.ones((1000, 1000, 1, 40), np.int8)
    made = bomb(node("DequantizeLinear", "q s", "f"), node("ReduceSum", "f", "z"), q=w,
                s=np.array(0.5, np.float32))  # fmt: skip
    assert run(written(made, tmp_path), {"x": W(2, 4)})[0].shape == (1, 1, 2, 4)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_chain_of_thousands(backwards: bool, tmp_path: Path) -> None:
    nodes = [node("Relu", f"v{at}" if at else "x", f"v{at + 1}") for at in range(10_000)]
    made = model(nodes[::-1] if backwards else nodes, {"x": ("n", 4)}, ["v10000"])
    start = time.perf_counter()
    x = W(2, 4)
    np.testing.assert_array_equal(run(written(made, tmp_path), {"x": x})[0], np.maximum(x, 0))
    assert time.perf_counter() - start < SECONDS


def test_sizes_that_only_shapes_have_take_no_memory(tmp_path: Path) -> None:
    """A map of activations may be of any size until it is computed."""
    nodes = [node("Expand", "x s", "a"), node("Tile", "a t", "b"), node("ReduceMean", "b", "y")]
    made = model(nodes, {"x": ("n", 1, 1)}, ["y"], {"s": ints(1, 2**20, 2**20), "t": ints(1, 9, 9)})
    tracemalloc.start()
    try:
        fastcnn.onnx.load(written(made, tmp_path))
        assert tracemalloc.get_traced_memory()[1] < ROOM
    finally:
        tracemalloc.stop()
