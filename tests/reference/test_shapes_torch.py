"""PyTorch as an outside judge of shapes, reductions, functions and products of matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compare import assert_close
from test_reference_torch import F, draw, leaf, nchw, nhwc, numpy, torch

X = (2, 6, 5, 8)


def judged(
    backend: Any,
    op: str,
    rng: Any,
    arrays: list[Any],
    twin: Callable[..., Any],
    saved: Callable[..., tuple[Any, ...]],
    *given: Any,
    **options: Any,
) -> None:
    """Compare an op and its gradients with PyTorch's; saved: what backward takes beside dy."""
    leaves = [leaf(x) for x in arrays]
    ty = twin(*leaves)
    y = getattr(backend, op)(*arrays, *given, **options)
    assert_close(y, numpy(ty))
    dy = draw(rng, arrays[0].dtype, *y.shape)
    ty.backward(torch.tensor(dy.astype(np.float64)))
    options.pop("value", None)
    found = getattr(backend, f"{op}_backward")(dy, *saved(y), *given, **options)
    for dx, t in zip(found if isinstance(found, tuple) else (found,), leaves, strict=True):
        assert_close(dx, numpy(t.grad))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("pads", [((1, 2), (0, 3)), ((4, 0), (3, 4)), ((0, 0), (1, 0))])
def test_pad(mode: str, pads: Any, backend: Any, dtype: Any, rng: Any) -> None:
    x = draw(rng, dtype, *X)
    name = {"edge": "replicate"}.get(mode, mode)
    value = {"value": 1.5} if mode == "constant" else {}
    widths = ((0, 0), *pads, (0, 0))

    def twin(t: Any) -> Any:
        return nhwc(F.pad(nchw(t), (*pads[1], *pads[0]), name, **value))

    judged(backend, "pad", rng, [x], twin, lambda y: (X,), widths, mode=mode, **value)


def test_pixel_shuffle(backend: Any, dtype: Any, rng: Any) -> None:
    deep, large = draw(rng, dtype, *X), draw(rng, dtype, 2, 6, 4, 3)
    for op, x, function in [
        ("depth_to_space", deep, F.pixel_shuffle),
        ("space_to_depth", large, F.pixel_unshuffle),
    ]:

        def twin(t: Any, function: Any = function) -> Any:
            return nhwc(function(nchw(t), 2))

        judged(backend, op, rng, [x], twin, lambda y: (), 2, mode="CRD")


def test_parts(backend: Any, dtype: Any, rng: Any) -> None:
    x = draw(rng, dtype, *X)
    bounds = (None, 1, -1, 0), (None, -1, None, None), (None, 2, -1, 3)

    def sliced(t: Any) -> Any:
        return t[:, 1:-1:2].flip(2)[..., ::3]

    judged(backend, "strided_slice", rng, [x], sliced, lambda y: (X,), *bounds)
    places = (3, 0, 3, -1)

    def taken(t: Any) -> Any:
        return t.index_select(2, torch.tensor([3, 0, 3, 4]))

    judged(backend, "take", rng, [x], taken, lambda y: (X,), places, 2)


def test_orders_and_repetitions(backend: Any, dtype: Any, rng: Any) -> None:
    x = draw(rng, dtype, *X)
    judged(backend, "transpose", rng, [x], lambda t: t.permute(2, 0, 3, 1), lambda y: (),
           (2, 0, 3, 1))  # fmt: skip
    row = draw(rng, dtype, 3, 1, 4)
    judged(backend, "expand", rng, [row], lambda t: t.expand(2, 3, 5, 4), lambda y: ((3, 1, 4),),
           (2, 1, 5, 1))  # fmt: skip


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("axes", [(1, 2), (3,), (0, 2), (0, 1, 2, 3)])
def test_reductions(axes: Any, keepdims: bool, backend: Any, dtype: Any, rng: Any) -> None:
    x = rng.permutation(np.prod(X)).reshape(X).astype(dtype)  # the winners are no ties
    for op, function in [
        ("reduce_sum", torch.sum),
        ("reduce_mean", torch.mean),
        ("reduce_max", torch.amax),
        ("reduce_min", torch.amin),
    ]:
        saved = (X,) if op in ("reduce_sum", "reduce_mean") else (x,)

        def twin(t: Any, function: Any = function) -> Any:
            return function(t, axes, keepdim=keepdims)

        judged(backend, op, rng, [x], twin, lambda y, saved=saved: saved, axes, keepdims=keepdims)


@pytest.mark.parametrize("op", ["subtract", "divide", "maximum", "minimum", "power"])
@pytest.mark.parametrize(("a_shape", "b_shape"), [(X, X), (X, (8,)), ((2, 1, 5, 1), (6, 1, 8))])
def test_functions_of_two(
    op: str, a_shape: Any, b_shape: Any, backend: Any, dtype: Any, rng: Any
) -> None:
    a, b = rng.uniform(0.5, 2, a_shape).astype(dtype), rng.uniform(0.5, 2, b_shape).astype(dtype)
    function = getattr(torch, {"power": "pow"}.get(op, op))
    saved = (a_shape, b_shape) if op == "subtract" else (a, b)
    judged(backend, op, rng, [a, b], function, lambda y: saved)


@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [((7, 9), (9, 5)), ((2, 3, 7, 9), (9, 5)), ((3, 7, 9), (2, 1, 9, 33)), ((7, 9), (2, 9, 1))],
)
def test_matmul(a_shape: Any, b_shape: Any, backend: Any, dtype: Any, rng: Any) -> None:
    a, b = draw(rng, dtype, *a_shape), draw(rng, dtype, *b_shape)
    judged(backend, "matmul", rng, [a, b], torch.matmul, lambda y: (a, b))


@pytest.mark.parametrize(
    ("op", "saves"),
    [
        ("exp", "y"),
        ("log", "x"),
        ("sqrt", "y"),
        ("abs", "x"),
        ("negative", ""),
        ("reciprocal", "y"),
        ("erf", "x"),
    ],
)
def test_functions_of_one(op: str, saves: str, backend: Any, dtype: Any, rng: Any) -> None:
    x = rng.uniform(0.25, 3, X).astype(dtype)
    if op not in ("log", "sqrt", "reciprocal"):
        x = draw(rng, dtype, *X)
    saved: dict[str, Callable[..., tuple[Any, ...]]] = {
        "x": lambda y: (x,),
        "y": lambda y: (y,),
        "": lambda y: (),
    }
    judged(backend, op, rng, [x], getattr(torch, op), saved[saves])


def test_log_softmax(backend: Any, dtype: Any, rng: Any) -> None:
    x = 4 * draw(rng, dtype, *X)
    judged(backend, "log_softmax", rng, [x], lambda t: F.log_softmax(t, -1), lambda y: (y,))
