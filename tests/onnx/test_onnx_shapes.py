"""What moves, cuts and joins numbers in ONNX files, against ONNX Runtime: exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_files import FLOAT, Case, agree, model, node, numbers, run, written

import fastcnn

W, X = numbers, (2, 4, 5, 6)
LEAST, MOST = -(2**63), 2**63 - 1


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CASES = [
    *(Case("Transpose", X, perm=axes)
      for axes in ([0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 3, 2], [0, 1, 2, 3])),
    Case("Transpose", (2, 3, 4), perm=[0, 2, 1]),
    *(
        Case("Reshape", X, ints(*shape))
        for shape in ((0, -1), (0, 4, 30), (-1, 4, 30), (0, 0, -1), (-1, 2, 2, 5, 6), (0, 2, -1, 6),
                      (0, 120, 1, 1), (-1, 6, 4, 5), (0, 4, 1, 5, 6))
    ),
    Case("Flatten", X),
    Case("Flatten", X, axis=3, opset=9),
    Case("Flatten", X, axis=-1, opset=11),
    Case("Squeeze", (2, 4, 1, 1), axes=[2, 3], opset=11),
    Case("Squeeze", (2, 4, 1, 1), ints(-1, -2), opset=13),
    Case("Squeeze", (2, 4, 1, 3)),
    Case("Unsqueeze", (2, 4), axes=[2, 3], opset=11),
    Case("Unsqueeze", (2, 4), ints(-1, 1), opset=13),
    Case("Concat", X, X, axis=1),
    Case("Concat", X, W(2, 3, 5, 6), axis=1),
    Case("Concat", X, X, X, axis=-1),
    Case("Concat", X, axis=2),
    # slices: as attributes before opset 10, then as inputs
    Case("Slice", X, starts=[1, 0], ends=[3, MOST], axes=[1, 3], opset=9),
    Case("Slice", X, starts=[0, 1], ends=[MOST, -1], opset=9),
    *(
        Case("Slice", X, ints(*starts), ints(*ends), ints(*axes), ints(*steps))
        for starts, ends, axes, steps in (
            ((0,), (MOST,), (2,), (2,)),
            ((1, 1), (2**31 - 1, 10**9), (2, 3), (2, 2)),
            ((-1,), (LEAST,), (3,), (-1,)),
            ((-1,), (-(10**9),), (-1,), (-2,)),
            ((4, 5), (0, 1), (2, 3), (-1, -2)),
            ((-1, -2), (-4, -6), (2, 3), (-1, -2)),
            ((-3,), (-1,), (1,), (1,)),
            ((10,), (LEAST,), (2,), (-1,)),
        )
    ),
    Case("Slice", X, ints(0, 1), ints(2, 3), opset=10),
    Case("Slice", X, np.array([1], np.int32), np.array([3], np.int32), np.array([1], np.int32)),
    # splits: equal, unequal, by their number
    Case("Split", X, axis=1, results=2, opset=11),
    Case("Split", X, axis=1, split=[1, 3], results=2, opset=11),
    Case("Split", X, ints(1, 2, 3), axis=-1, results=3, opset=13),
    Case("Split", X, axis=2, num_outputs=2, results=2, opset=18),
    Case("Split", X, axis=2, num_outputs=3, results=3, opset=18),
    Case("Gather", X, ints(2, 0, 0), axis=1),
    Case("Gather", X, np.array(1), axis=2),
    Case("Gather", X, ints(-1), axis=-1),
    Case("Gather", X, np.array([[0, 3], [1, 2]]), axis=3),
    Case("Expand", (2, 4, 1, 1), ints(1, 4, 5, 6)),
    Case("Expand", (2, 1, 5), ints(3, 1)),
    Case("Expand", (2, 4), ints(1, 1)),
    Case("Tile", X, ints(1, 2, 1, 3)),
    Case("Tile", (2, 4, 1, 1), ints(1, 1, 5, 6)),
    # pads: as an attribute before opset 11, then as inputs
    Case("Pad", X, pads=[0, 0, 1, 2, 0, 0, 3, 0], value=0.5, opset=10),
    Case("Pad", X, ints(0, 0, 1, 2, 0, 0, 3, 0)),
    Case("Pad", X, ints(0, 1, 0, 2, 0, 0, 0, 1), np.array(-1.5, np.float32)),
    Case("Pad", X, ints(0, 0, 2, 1, 0, 0, 1, 3), mode="reflect"),
    Case("Pad", X, ints(0, 0, 2, 1, 0, 0, 1, 3), mode="edge"),
    Case("Pad", X, ints(0, 0, -1, 2, 0, 0, 1, -2)),
    Case("Pad", X, ints(1, 2), None, ints(-1), opset=18),
    Case("Pad", (2, 4, 5), ints(0, 0, 2, 0, 0, 1), mode="reflect"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_is_as_in_onnx_runtime(case: Case, tmp_path: Path) -> None:
    ends = case.op == "Transpose"  # are channels last as they are: see below
    agree(*case.made(), tmp_path, bound=0, layouts=["file"] if ends else ["file", "NHWC"])


# ---------------------------------------------------------------------- several operators
def shuffle() -> tuple[Any, ...]:
    """Channel shuffle: what ShuffleNet does between grouped convolutions."""
    nodes = [
        node("Conv", "x w", "a", group=2), node("Reshape", "a split", "b"),
        node("Transpose", "b", "c", perm=[0, 2, 1, 3, 4]), node("Reshape", "c joined", "d"),
        node("Conv", "d w", "y", group=2),
    ]  # fmt: skip
    constants = {"w": W(4, 2, 1, 1), "split": ints(-1, 2, 2, 5, 6), "joined": ints(-1, 4, 5, 6)}
    return nodes, ["y"], constants


def shapes_at_hand() -> tuple[Any, ...]:
    """Shape, Gather, Unsqueeze, Concat, Reshape: sizes of the input come back as a shape."""
    nodes = [
        node("Shape", "x", "s"), node("Gather", "s zero", "n", axis=0),
        node("Slice", "s one three", "cs"), node("Unsqueeze", "n front", "ns"),
        node("Gather", "s last", "columns", axis=0), node("Mul", "columns two", "wide"),
        node("Div", "cs two", "half"), node("Concat", "ns half minus", "shape", axis=0),
        node("Cast", "shape", "cast", to=7), node("Reshape", "x cast", "y"),
        node("Concat", "ns four five wide", "like", axis=0), node("ReduceMean", "x", "m", axes=[3]),
        node("Expand", "m like", "z"),
    ]  # fmt: skip
    constants = {
        "zero": np.array(0), "one": ints(1), "three": ints(3), "front": ints(0), "last": ints(3),
        "two": ints(2), "minus": ints(-1), "four": ints(4), "five": ints(5),
    }  # fmt: skip
    return nodes, ["y", "z"], constants


def focus() -> tuple[Any, ...]:
    """Slices of step 2 that a Concat joins: space to depth."""
    constants = {"most": ints(MOST), "two": ints(2), "rows": ints(2), "columns": ints(3),
                 "0": ints(0), "1": ints(1), "corner": ints(4, 6), "both": ints(2, 3),
                 "origin": ints(0, 0)}  # fmt: skip
    nodes = [node("Slice", "x origin corner both", "even")]
    for row in "01":
        nodes.append(node("Slice", f"even {row} most rows two", f"r{row}"))
        for column in "01":
            nodes.append(node("Slice", f"r{row} {column} most columns two", f"part{row}{column}"))
    return [*nodes, node("Concat", "part00 part10 part01 part11", "y", axis=1)], ["y"], constants


def gate() -> tuple[Any, ...]:
    """Squeeze and excitation by a matrix, with a mean whose axes are gone and come back."""
    nodes = [
        node("ReduceMean", "x", "m", axes=[2, 3], keepdims=0), node("MatMul", "m w", "h"),
        node("Add", "h b", "k"), node("Sigmoid", "k", "g"), node("Unsqueeze", "g at", "u"),
        node("Mul", "u x", "y"),
    ]  # fmt: skip
    return nodes, ["y"], {"w": W(4, 4), "b": W(4), "at": ints(2, 3)}


def attention() -> tuple[Any, ...]:
    """Heads of pixels: three projections, products, a softmax, and back to an image."""
    nodes = [
        node("Reshape", "x flat", "p"), node("Transpose", "p", "t", perm=[0, 2, 1]),
        node("MatMul", "t w", "qkv"), node("Reshape", "qkv heads", "r"),
        node("Transpose", "r", "u", perm=[2, 0, 3, 1, 4]), node("Split", "u", "q k v", axis=0),
        *(node("Squeeze", f"{each} first", f"{each}s") for each in "qkv"),
        node("Transpose", "ks", "kt", perm=[0, 1, 3, 2]), node("MatMul", "qs kt", "a"),
        node("Softmax", "a", "s", axis=-1), node("MatMul", "s vs", "o"),
        node("Transpose", "o", "ot", perm=[0, 2, 1, 3]), node("Reshape", "ot back", "f"),
        node("Transpose", "f", "ft", perm=[0, 2, 1]), node("Reshape", "ft image", "y"),
    ]  # fmt: skip
    constants = {"flat": ints(0, 4, -1), "w": W(4, 12) / 2, "heads": ints(0, 30, 3, 2, 2),
                 "first": ints(0), "back": ints(0, 30, 4), "image": ints(0, 4, 5, 6)}  # fmt: skip
    return nodes, ["y"], constants


@pytest.mark.parametrize("made", [shuffle, shapes_at_hand, focus, gate, attention])
def test_what_exporters_write(made: Any, tmp_path: Path) -> None:
    nodes, outputs, constants = made()
    whole = model(nodes, {"x": ("n", 4, 5, 6)}, outputs, constants)
    agree(whole, {"x": W(*X)}, tmp_path, bound=4e-6)


@pytest.mark.parametrize("rest", [120, -1])
@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_a_file_for_some_number_of_images_takes_any(
    batch: int | str, rest: int, tmp_path: Path
) -> None:
    """A Reshape that has the number in it, too."""
    shape = ints(0 if batch == "n" else int(batch), rest)
    nodes = [node("Reshape", "x shape", "r"), node("MatMul", "r w", "y")]
    made = model(nodes, {"x": (batch, 4, 5, 6)}, ["y"], {"shape": shape, "w": W(120, 3)})
    path, w = written(made, tmp_path), W(120, 3)
    for count in (1, 2, 3, 5):
        x = W(count, 4, 5, 6)
        (y,) = run(path, {"x": x})
        np.testing.assert_allclose(y, x.reshape(count, -1) @ w, atol=1e-4)


# ---------------------------------------------------------------------- the ends of a file
def test_channels_last_at_the_ends(tmp_path: Path) -> None:
    """Exporters of NHWC frameworks transpose there: images come and go as they are in the file."""
    nodes = [
        node("Transpose", "image:0", "a", perm=[0, 3, 1, 2]), node("Conv", "a w", "b"),
        node("Relu", "b", "c"), node("Transpose", "c", "map:0", perm=[0, 2, 3, 1]),
    ]  # fmt: skip
    made = model(nodes, {"image:0": ("n", 5, 6, 4)}, ["map:0"], {"w": W(3, 4, 2, 2)})
    loaded = fastcnn.onnx.load(written(made, tmp_path))
    assert loaded.input_shape == (5, 6, 4)
    assert loaded.output_shape == (4, 5, 3)
    agree(made, {"image:0": W(2, 5, 6, 4)}, tmp_path, layouts=["file"], bound=4e-6)
    x = W(2, 5, 6, 4)
    both = [fastcnn.Predictor(fastcnn.onnx.load(tmp_path / "model.onnx", layout=each))(x)
            for each in ("NHWC", "file")]  # fmt: skip
    np.testing.assert_array_equal(*both)
    moves = [each.op for each in loaded.program(2, fused=True).nodes]
    assert "transpose" not in moves


def test_several_inputs_and_outputs_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    nodes = [
        node("Flatten", "image", "f"), node("Concat", "f meta", "c", axis=1),
        node("MatMul", "c w", "scores"), node("Sub", "meta one", "z"), node("Relu", "image", "a"),
    ]  # fmt: skip
    shapes = {"meta": ("n", 3), "image": ("n", 2, 4, 4)}
    constants = {"w": W(35, 5), "one": W(3)}
    made = model(nodes, shapes, ["z", "scores", "a"], constants)
    feeds = {"image": W(2, 2, 4, 4), "meta": W(2, 3)}
    loaded = fastcnn.onnx.load(written(made, tmp_path))
    assert loaded.input_names == ("meta", "image")
    assert loaded.output_names == ("z", "scores", "a")
    assert loaded.input_shape == ((3,), (4, 4, 2))
    agree(made, feeds, tmp_path, bound=4e-6)


def test_integers_are_taken_as_they_are(tmp_path: Path) -> None:
    nodes = [node("Cast", "pixels", "f", to=FLOAT), node("Div", "f scale", "y")]
    made = model(nodes, {"pixels": ("n", 3, 4, 5)}, ["y"], {"scale": np.array(255, np.float32)},
                 dtypes={"pixels": 2})  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5)).astype(np.uint8)
    agree(made, {"pixels": pixels}, tmp_path)
