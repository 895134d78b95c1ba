"""The expressions that fusions replace, as programs, and cases of them: shapes and options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fused_calls import places_of, winning

from fastcnn import reference
from fastcnn.backend import Array
from fastcnn.program import Node, Program, Value
from fastcnn.program.match import _parsed
from fastcnn.program.ops import OPS, parameters_of, result_dtype

Options = dict[str, Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """Shapes of a pattern's variables, and the options of its ops by their names."""

    shapes: dict[str, Shape]
    options: dict[str, Options] = field(default_factory=dict)

    def __str__(self) -> str:
        shapes = ",".join("x".join(map(str, shape)) for shape in self.shapes.values())
        options = [f"{k}={v}" for given in self.options.values() for k, v in given.items()]
        return " ".join([shapes, *options]).replace(", ", ",")


def expression(pattern: str, variables: dict[str, Array], options: dict[str, Options]) -> Program:
    """Return the program of a pattern; its outputs are its value, and statistics on the way."""
    values = {name: Value(name, "input", a.shape, a.dtype) for name, a in variables.items()}
    dtype = next(iter(variables.values())).dtype
    nodes: list[Node] = []

    def call(part: Any) -> str | None:
        if isinstance(part, str):
            return part if part in variables else None
        names = zip(parameters_of(part.op).arrays, map(call, part.arguments), strict=False)
        given = {name: value for name, value in names if value is not None}
        chosen, row = options.get(part.op, {}), OPS[part.op]
        assert row.shapes is not None
        shapes = row.shapes(
            **{name: values[value].shape for name, value in given.items()}, **chosen
        )
        results = [part.op, *row.results[1:]]
        for result, name, shape in zip(results, row.results, shapes, strict=True):
            kind = result_dtype(part.op, name, dtype, chosen)
            values[result] = Value(result, "result", shape, kind)
        nodes.append(Node(part.op, tuple(results), given, chosen))
        return str(part.op)

    y = call(_parsed(pattern))
    outputs = (str(y), *(name for name in ("mean", "variance") if name in values))
    return Program(values, tuple(nodes), tuple(variables), outputs, {}, {}, len(nodes))


def giving(program: Program, *outputs: Any) -> Program:
    """Return the program with these values as outputs."""
    p = program
    return Program(p.values, p.nodes, p.inputs, outputs, p.updates, p.gradients, p.forward)


class Decided:
    """The reference, in whose backward pass those win that a fused op says have won.

    Of two numbers that are nearly equal, or next to 0, rounding decides.
    """

    def __init__(self, argmax: Array | None, pool_size: Any = 1) -> None:
        self.argmax, self.pool_size = argmax, pool_size

    def __getattr__(self, op: str) -> Any:
        return getattr(reference, op)

    def relu_backward(self, dy: Array, y: Array) -> Array:
        if self.argmax is None:
            return reference.relu_backward(dy, y)
        return np.where(self.argmax == 1, 0, dy) if self.pool_size == 1 else dy

    def max_pool2d_backward(
        self, dy: Array, argmax: Array, x_shape: Shape, pool_size: Any = 2, *, stride: Any = None
    ) -> Array:
        assert self.argmax is not None
        return winning(dy, self.argmax, x_shape, pool_size, stride)


def taken(z: Array, argmax: Array, pool_size: Any, stride: Any = None) -> Array:
    """Return what a pool that took those places of relu(z) gives."""
    window = tuple(np.broadcast_to(pool_size, 2))
    down, right = window if stride is None else np.broadcast_to(stride, 2)
    n, p, q, c = argmax.shape
    seen = np.lib.stride_tricks.sliding_window_view(z, window, (1, 2))[:, ::down, ::right]
    numbers = np.zeros((n, p, q, c, places_of(window) + 1))
    numbers[..., :-1] = np.maximum(seen[:, :p, :q], 0).reshape(n, p, q, c, places_of(window))
    chosen = argmax[..., None].astype(np.intp)
    return np.asarray(np.take_along_axis(numbers, chosen, -1)[..., 0])


# ---------------------------------------------------------------------- cases
def convolved(x: Shape, w: Shape, *, norm: bool = False, bias: bool = True, **options: Any) -> Case:
    """Return a case of a convolution with a max-pool behind it, or a norm and a max-pool."""
    vectors = [*["b"] * bias, *["gamma", "beta"] * norm]
    pool = {"pool_size": options.pop("pool_size", 2), "stride": options.pop("pool_stride", None)}
    shapes = {"x": x, "w": w, **dict.fromkeys(vectors, w[3:])}
    norms = {"batch_norm": {"epsilon": 1e-3}} if norm else {}
    return Case(shapes, {"conv2d": options, **norms, "max_pool2d": pool})


def normalized(x: Shape, **options: Any) -> Case:
    """Return a case of a norm, with a max-pool behind it if options of that are given."""
    pool = {"pool_size": options.get("pool_size"), "stride": options.get("pool_stride")}
    shapes = {"x": x, "gamma": x[3:], "beta": x[3:]}
    return Case(
        shapes, {"batch_norm": {"epsilon": 1e-3}, **({"max_pool2d": pool} if options else {})}
    )


# Channels and filters around every vector width, kernels, strides, pads, and pools of both kinds.
CONVOLVED = [
    convolved((3, 28, 28, 1), (5, 5, 1, 6), padding=2),
    convolved((2, 40, 57, 1), (3, 2, 1, 5), padding=((1, 0), (0, 2)), pool_stride=(1, 3)),
    convolved((1, 37, 75, 1), (4, 3, 1, 1), stride=2, padding=5, pool_stride=(3, 1)),
    convolved((2, 13, 13, 32), (3, 3, 32, 64)),
    convolved((1, 21, 20, 16), (3, 3, 16, 66)),  # more pixels and filters than a word has bits
    convolved((3, 7, 9, 17), (3, 3, 17, 33), padding=1),
    convolved((2, 8, 6, 16), (3, 3, 16, 67), padding="same"),
    convolved((1, 7, 7, 32), (3, 3, 32, 70), pool_stride=1),
    convolved((1, 9, 8, 5), (3, 3, 5, 7), padding=((2, 0), (0, 1))),
    convolved((2, 10, 10, 1), (3, 3, 1, 32)),
    convolved((1, 9, 8, 1), (3, 3, 1, 48), pool_stride=(1, 3)),
    convolved((2, 9, 9, 3), (5, 5, 3, 16), padding=2),
    convolved((2, 11, 7, 33), (1, 1, 33, 8), pool_size=3),
    convolved((2, 12, 12, 8), (3, 2, 8, 9), stride=2, padding=1, pool_size=3, pool_stride=2),
    convolved((2, 12, 9, 4), (3, 3, 4, 6), pool_size=(2, 3), pool_stride=1),
    convolved((2, 12, 12, 4), (3, 3, 2, 6), groups=2, dilation=2),
    convolved((2, 9, 9, 16), (3, 3, 16, 16), dilation=(2, 1), pool_size=(3, 2), pool_stride=2),
    convolved((1, 4, 4, 20), (3, 3, 20, 20), pool_stride=2**62),
    convolved((1, 8, 32, 1), (3, 3, 1, 4), pool_stride=(2**62, 2)),
    convolved((0, 8, 8, 4), (3, 3, 4, 4)),
    convolved((2, 13, 13, 32), (3, 3, 32, 24), bias=False),
    convolved((2, 8, 9, 1), (3, 3, 1, 32), bias=False),
    convolved((1, 9, 14, 1), (3, 3, 1, 5), bias=False, padding=1),
    convolved((1, 7, 6, 5), (3, 2, 5, 7), bias=False),
]
# Filters that see nine numbers at most, padded, strided, dilated, with outputs that end before the
# image does, pools with rims; more parts than images, and fewer.
FEW = [
    convolved((2, 9, 8, 2), (2, 2, 2, 16), norm=True, stride=2, padding="same", pool_size=(1, 2)),
    convolved((3, 28, 28, 1), (3, 3, 1, 32), norm=True),
    convolved((2, 8, 9, 1), (3, 3, 1, 16), norm=True, bias=False),
    convolved((33, 8, 7, 1), (3, 3, 1, 16), norm=True, padding=1),
    convolved(
        (2, 9, 30, 1), (3, 3, 1, 5), norm=True, padding=((0, 2), (1, 0)), pool_size=3, pool_stride=2
    ),
    convolved((2, 15, 14, 1), (3, 3, 1, 16), norm=True, stride=(3, 2), dilation=2),
    convolved((5, 12, 12, 9), (1, 1, 9, 33), norm=True, stride=3),
    convolved((2, 7, 40, 1), (1, 9, 1, 16), norm=True, pool_size=(2, 3)),
    convolved((1, 600, 3, 1), (3, 3, 1, 16), norm=True, pool_size=(2, 1)),
]
# Whole vectors of channels on every instruction set, and not; rims that no window reads.
NORMALIZED = [
    normalized((3, 6, 6, 32), pool_size=2),
    normalized((2, 7, 9, 48), pool_size=2),
    normalized((2, 8, 11, 16), pool_size=(3, 2)),
    normalized((2, 9, 9, 16), pool_size=3, pool_stride=2),
    normalized((2, 9, 9, 16), pool_size=2, pool_stride=3),
    normalized((2, 4, 9, 16), pool_size=(4, 1), pool_stride=1),
    normalized((9, 9, 33, 64), pool_size=2),
    normalized((3, 7, 6, 33), pool_size=2),
    normalized((4, 5, 6, 1), pool_size=2),
]
TABLES: dict[str, list[Case]] = {
    "conv2d_batch_norm_relu_max_pool2d": FEW,
    "conv2d_relu_max_pool2d": CONVOLVED,
    "batch_norm_relu_max_pool2d": NORMALIZED,
    "batch_norm_relu": [normalized(x) for x in [(3, 6, 5, 16), (5, 9, 7, 64), (4, 5, 3, 33)]],
    "linear_relu": [
        Case({"x": (n, c), "w": (c, k), "b": (k,)})
        for n, c, k in [(5, 7, 10), (1, 1, 1), (13, 33, 128), (3, 600, 70), (0, 4, 3)]
    ]
    + [Case({"x": (6, 5), "w": (5, 9)})],
    "cross_entropy_with_gradient": [
        Case({"logits": (n, c), "labels": shape}, {"softmax_cross_entropy": options})
        for n, c in [(5, 3), (1, 1), (130, 10), (3, 1000)]
        for shape in [(n,), (n, c)]
        for options in ({}, {"label_smoothing": 0.2})
    ],
}


def cases(op: str) -> Iterator[Case]:
    """Yield the cases of a fused op: those of its table, and of shapes that are drawn."""
    yield from TABLES[op]
    rng = np.random.default_rng(len(op))
    for _ in range(6):
        yield from _drawn(op, rng)


def _drawn(op: str, rng: np.random.Generator) -> Iterator[Case]:
    """Yield a case of shapes and options that nobody chose; none where they don't fit."""
    n, h, w = (int(rng.integers(low, high)) for low, high in ((1, 4), (6, 15), (6, 15)))
    c, k = int(rng.integers(1, 20)), int(rng.integers(1, 40))
    size, step = (tuple(map(int, rng.integers(1, 4, 2))) for _ in range(2))
    pool = {"pool_size": size, "pool_stride": step}
    if op.startswith("conv2d"):
        norm = "batch_norm" in op
        r, s = map(int, rng.integers(1, 4, 2))
        groups = 1 if norm else int(rng.choice([1, 1, 2]))
        depth = max(9 // (r * s), 1) if norm else c
        yield convolved(
            (n, h, w, depth * groups),
            (r, s, depth, k * groups),
            norm=norm,
            bias=bool(rng.integers(2)),
            stride=tuple(map(int, rng.integers(1, 3, 2))),
            padding=tuple(tuple(map(int, rng.integers(0, 3, 2))) for _ in range(2)),
            dilation=int(rng.integers(1, 3)),
            groups=groups,
            **pool,
        )
    elif op == "batch_norm_relu_max_pool2d":
        yield normalized((n, h, w, int(rng.choice([16, c, 32]))), **pool)
    elif op == "batch_norm_relu":
        yield normalized((n, h, w, k))
    elif op == "linear_relu":
        yield Case({"x": (n * h, c), "w": (c, k), "b": (k,)})
