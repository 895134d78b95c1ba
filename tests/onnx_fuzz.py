"""Damaged ONNX files, to be read: each is read, or refused by a ValueError.

    python tests/onnx_fuzz.py [--count 100000] [--seed 0]

is the long run of what tests/onnx/test_onnx_fuzz.py does in short. It ends with an error where
another exception comes, where a file takes more than some seconds, or memory grows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx_files import model, node, numbers
from torch_fuzz import megabytes, mutated

import fastcnn

SECONDS = 5.0  # for a file: the worst ones take less than one on a machine that does nothing else
MEGABYTES = 500.0  # by which the process may grow over all files, which are small
NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    -1,
    -2,
    255,
    2**16,
    2**31 - 1,
    2**31,
    -(2**31),
    2**62,
    2**63 - 1,
    -(2**63),
)
OPERATORS = ("Add", "Clip", "Concat", "Conv", "Div", "Expand", "Flatten", "Gather", "Gemm",
             "LayerNormalization", "MatMul", "MaxPool", "Mul", "Pad", "Range", "ReduceMean", "Relu",
             "Reshape", "Resize", "Shape", "Slice", "Softmax", "Split", "Squeeze", "Tile",
             "Transpose", "Unsqueeze", "Where")  # fmt: skip


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def convolutions() -> Any:
    v = np.ones(4, np.float32)
    nodes = [
        node("Conv", "x w b", "a", pads=[1] * 4, strides=[1, 2], group=1),
        node("BatchNormalization", "a v v b v", "n", epsilon=1e-3), node("Relu", "n", "r"),
        node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
        node("ConvTranspose", "p t", "u", strides=[2, 2]), node("Resize", "u _ s", "z"),
        node("AveragePool", "z", "q", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
        node("Pad", "q k", "d"), node("GlobalAveragePool", "d", "g"), node("Flatten", "g", "f"),
        node("Gemm", "f m c", "y", transB=1),
    ]  # fmt: skip
    constants = {"w": numbers(4, 3, 3, 3), "b": numbers(4), "v": v, "t": numbers(4, 4, 2, 2),
                 "s": np.array([1, 1, 2, 2], np.float32), "k": ints(0, 0, 1, 0, 0, 0, 0, 2),
                 "m": numbers(5, 4), "c": numbers(5)}  # fmt: skip
    return model(nodes, {"x": ("n", 3, 8, 8)}, ["y"], constants)


def shapes() -> Any:
    nodes = [
        node("Shape", "x", "s"), node("Gather", "s i", "n", axis=0), node("Mul", "n two", "m"),
        node("Concat", "m minus", "c", axis=0), node("Div", "c two", "d"),
        node("Reshape", "x d", "r"), node("Unsqueeze", "r i", "u"), node("Squeeze", "u i", "q"),
        node("Split", "q parts", "e f", axis=1), node("Slice", "e i two i two", "l"),
        node("Expand", "l ones", "k"), node("Tile", "k ones", "t"), node("Softmax", "t", "y"),
        node("ConstantOfShape", "two", "z"), node("Range", "zero ten one", "w"),
        node("ReduceSum", "w", "a", keepdims=0), node("Cast", "a", "v", to=1),
        node("Where", "yes f v", "y2"), node("Transpose", "y2", "y3", perm=[1, 0]),
    ]  # fmt: skip
    constants = {"i": ints(0), "two": ints(2), "minus": ints(-2), "parts": ints(5, 7),
                 "ones": ints(1, 1), "zero": np.array(0), "ten": np.array(10), "one": np.array(1),
                 "yes": np.array([True, False] * 3 + [True])}  # fmt: skip
    return model(nodes, {"x": ("n", 3, 4)}, ["y", "y2"], constants, opset=18)


def numbers_of_integers() -> Any:
    nodes = [
        node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d"),
        node("DequantizeLinear", "w t", "f", axis=0), node("MatMul", "d f", "m"),
        node("LayerNormalization", "m g", "l"), node("HardSigmoid", "l", "h", alpha=0.2),
        node("Clip", "h _ one", "y"),
    ]  # fmt: skip
    constants = {"s": np.array(0.1, np.float32), "z": np.array(3, np.uint8),
                 "w": np.arange(12).reshape(4, 3).astype(np.int8), "g": np.ones(3, np.float32),
                 "t": np.full(4, 0.5, np.float32), "one": np.array(1, np.float32)}  # fmt: skip
    return model(nodes, {"x": (2, 3, 4)}, ["y"], constants)


def rearranged(made: Any, rng: np.random.Generator) -> Any:
    """Return a model with a fault, or a few, that its file has in the right places."""
    found = type(made)()
    found.CopyFrom(made)
    graph = found.graph

    def any_of(things: Any) -> Any:
        return things[rng.integers(len(things))]

    def number() -> int:
        return int(any_of(NUMBERS)) if rng.integers(2) else int(rng.integers(-3, 9))

    names = [name for each in graph.node for name in (*each.input, *each.output)]
    for _ in range(rng.choice([1, 1, 2, 4])):
        one, kind = any_of(graph.node), rng.integers(10)
        if kind == 0 and one.input:
            one.input[rng.integers(len(one.input))] = any_of(names)
        elif kind == 1 and one.output:
            one.output[rng.integers(len(one.output))] = any_of(names)
        elif kind == 2:
            one.op_type = any_of(OPERATORS)
        elif kind == 3:
            graph.node.remove(one)
            graph.node.extend([one] * int(rng.integers(1, 3)))
        elif kind == 4 and one.attribute:
            attribute = any_of(one.attribute)
            if attribute.ints:
                attribute.ints[rng.integers(len(attribute.ints))] = number()
            attribute.i = number()
            attribute.type = int(any_of([attribute.type, attribute.type, rng.integers(1, 15)]))
        elif kind == 5 and one.attribute:
            one.attribute.remove(any_of(one.attribute))
        elif kind in (6, 7):
            tensor = any_of(graph.initializer)
            if tensor.data_type == 7 and tensor.raw_data and len(tensor.raw_data) % 8 == 0:
                values = np.frombuffer(tensor.raw_data, np.int64).copy()
                values[rng.integers(len(values))] = number()
                tensor.raw_data = values.tobytes()
            elif tensor.dims:
                tensor.dims[rng.integers(len(tensor.dims))] = number()
            else:
                tensor.data_type = int(rng.integers(27))
        elif kind == 8:
            dim = any_of(graph.input[0].type.tensor_type.shape.dim)
            dim.dim_value = number()
        else:
            any_of([graph.input, graph.output, graph.initializer]).pop()
        if not (graph.node and graph.initializer and graph.input and graph.output):
            break
    return found


def damaged(count: int, seed: int) -> Iterator[bytes]:
    """Yield so many files: with faults in their bytes, and with faults in their places."""
    rng = np.random.default_rng(seed)
    models = [convolutions(), shapes(), numbers_of_integers()]
    for _ in range(count):
        made = models[rng.integers(len(models))]
        if rng.integers(2):
            yield rearranged(made, rng).SerializeToString()
        else:
            yield mutated(made.SerializeToString(), rng)


def read(data: bytes, path: Path) -> str:
    """Read a file and return what came of it; RuntimeError where it took long or said nothing."""
    path.write_bytes(data)
    start = time.perf_counter()
    try:
        fastcnn.onnx.load(path)
        said = "read"
    except FileNotFoundError:
        said = "beside it"
    except ValueError as error:
        said = str(error).removeprefix(f"{path}: ")
        if said == str(error) or "expected" not in said or not said.isprintable():
            raise RuntimeError(f"it says {error!r} of {data!r:.4000}") from None
        said = said[said.index("expected") :]
    except Exception as error:
        raise RuntimeError(f"it raised {error!r} of {data!r:.4000}") from error
    if time.perf_counter() - start > SECONDS:
        raise RuntimeError(f"it took longer than {SECONDS} s: {data!r:.4000}")
    return said


def run(count: int, seed: int, path: Path) -> Counter[str]:
    """Read damaged files; return how often what was said, by its first three words."""
    said: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in damaged(count, seed):
            said[" ".join(read(data, path).split()[:3])] += 1
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "damaged.onnx")
        for made in (convolutions(), shapes(), numbers_of_integers()):
            assert read(made.SerializeToString(), path) == "read"
        before = megabytes()
        said = run(given.count, given.seed, path)
    grown = megabytes() - before
    for words, times in said.most_common():
        print(f"{times:8} {words}")
    print(f"{given.count} files in {time.perf_counter() - start:.0f} s, {grown:.0f} MB more memory")
    if grown > MEGABYTES:
        raise SystemExit(f"expected at most {MEGABYTES} MB more")


if __name__ == "__main__":
    main()
