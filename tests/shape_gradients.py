"""What is differentiated of shapes, reductions and functions; tests/gradients.py has the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gradients import IMAGES, Arrays, Case, away_from_kinks, normal

Draw = Callable[[np.random.Generator], Arrays]


def positive(*shapes: tuple[int, ...]) -> Draw:
    return lambda rng: [rng.uniform(0.5, 2, shape) for shape in shapes]


def apart(*shapes: tuple[int, ...]) -> Draw:
    """Numbers as of away_from_kinks, those of one array far from those of the others too."""
    sizes = [int(np.prod(shape)) for shape in shapes]

    def draw(rng: np.random.Generator) -> Arrays:
        (numbers,) = away_from_kinks((sum(sizes),))(rng)
        parts = np.split(numbers, np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    return draw


def of_shape(op: str, x: tuple[int, ...], draw: Any = normal, **options: Any) -> Case:
    """Return a case of an op whose backward op is given dy, the shape of x and the options."""

    def backward(backend: Any, dy: Any, y: Any, x: Any) -> Arrays:
        given = {key: value for key, value in options.items() if key != "value"}
        return [getattr(backend, f"{op}_backward")(dy, x.shape, **given)]

    return Case(
        op, draw(x), lambda backend, x: getattr(backend, op)(x, **options), backward, options
    )


def of_gradient(op: str, x: tuple[int, ...], **options: Any) -> Case:
    """Return a case of an op whose backward op is given dy and the options."""
    return Case(
        op,
        normal(x),
        lambda backend, x: getattr(backend, op)(x, **options),
        lambda backend, dy, y, x: [getattr(backend, f"{op}_backward")(dy, **options)],
        options,
    )


def extreme(op: str, x: tuple[int, ...], **options: Any) -> Case:
    return Case(
        op,
        away_from_kinks(x),
        lambda backend, x: getattr(backend, op)(x, **options),
        lambda backend, dy, y, x: [getattr(backend, f"{op}_backward")(dy, x, **options)],
        options,
    )


def two(op: str, a: tuple[int, ...], b: tuple[int, ...], draw: Any = normal) -> Case:
    """Return a case of an op of two arrays, which its backward op is given."""
    return Case(
        op,
        draw(a, b),
        lambda backend, a, b: getattr(backend, op)(a, b),
        lambda backend, dy, y, a, b: getattr(backend, f"{op}_backward")(dy, a, b),
        {"a": a, "b": b},
    )


def difference(a: tuple[int, ...], b: tuple[int, ...]) -> Case:
    return Case(
        "subtract",
        normal(a, b),
        lambda backend, a, b: backend.subtract(a, b),
        lambda backend, dy, y, a, b: backend.subtract_backward(dy, a.shape, b.shape),
        {"a": a, "b": b},
    )


def function(op: str, saves: str, draw: Any = positive) -> Case:
    def backward(backend: Any, dy: Any, y: Any, x: Any) -> Arrays:
        saved = {"x": (x,), "y": (y,), "": ()}[saves]
        return [getattr(backend, f"{op}_backward")(dy, *saved)]

    return Case(op, draw((4, 19)), lambda backend, x: getattr(backend, op)(x), backward)


PAIRS = [(IMAGES, IMAGES), (IMAGES, (3,)), ((2, 1, 1, 3), IMAGES), ((4, 1), (5,)), ((), (3, 2))]
SHAPE_CASES = [
    *(
        Case(
            "reshape",
            normal(x),
            lambda backend, x, shape=shape: backend.reshape(x, shape),
            lambda backend, dy, y, x: [backend.reshape_backward(dy, x.shape)],
            {"shape": shape},
        )
        for x, shape in [(IMAGES, (7, -1, 4)), ((1, 1), (1,)), ((), (1, 1))]
    ),
    of_gradient("transpose", IMAGES, axes=(3, 0, 2, 1)),
    of_gradient("transpose", (2, 3), axes=(-2, -1)),
    of_shape("expand", (7, 1, 3), shape=(2, 1, 6, 1)),
    of_shape("expand", (), shape=(2, 3)),
    of_shape("pad", IMAGES, widths=((0, 0), (1, 2), (0, 3), (1, 0)), value=2.5),
    of_shape("pad", IMAGES, widths=((1, 0), (1, 2), (0, 3), (0, 4)), mode="edge"),
    of_shape("pad", IMAGES, widths=((0, 1), (6, 6), (0, 3), (2, 0)), mode="reflect"),
    of_shape(
        "strided_slice",
        IMAGES,
        starts=(None, 5, 0, -1),
        stops=(1, 0, None, None),
        steps=(None, -2, 4, -1),
    ),
    of_shape("strided_slice", (5,), starts=(1,), stops=(-1,), steps=None),
    of_shape("take", IMAGES, indices=(2, 0, -1, 2), axis=1),
    of_shape("take", (4,), indices=(3, 3, 3, 0)),
    *(
        of_gradient(op, shape, block=2, mode=mode)
        for mode in ("DCR", "CRD")
        for op, shape in (("depth_to_space", (2, 3, 2, 12)), ("space_to_depth", (2, 4, 6, 3)))
    ),
    *(
        of_shape(op, IMAGES, axis=axis, keepdims=keepdims)
        for op in ("reduce_sum", "reduce_mean")
        for axis, keepdims in [
            (None, True),
            ((1, 2), False),
            ((-1, 1), True),
            (0, True),
            ((), True),
        ]
    ),
    *(
        extreme(op, IMAGES, axis=axis, keepdims=keepdims)
        for op in ("reduce_max", "reduce_min")
        for axis, keepdims in [(None, True), ((1, 2), True), ((-1, 0), False), (3, True)]
    ),
    *(difference(a, b) for a, b in PAIRS),
    *(two(op, a, b, positive) for op in ("divide", "power") for a, b in PAIRS),
    *(two(op, a, b, apart) for op in ("maximum", "minimum") for a, b in PAIRS[:3]),
    two("matmul", (2, 3), (3, 4)),
    two("matmul", (2, 5, 2, 3), (5, 3, 4)),
    two("matmul", (5, 1, 3, 1), (2, 1, 4)),
    two("matmul", (3, 4), (2, 4, 1)),
    two("matmul", (2, 3, 4), (4, 5)),
    function("log_softmax", "y", normal),
    function("exp", "y", normal),
    function("log", "x"),
    function("sqrt", "y"),
    function("abs", "x", away_from_kinks),
    function("negative", "", normal),
    function("reciprocal", "y"),
    function("erf", "x", normal),
]
