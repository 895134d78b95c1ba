"""Backward is the derivative of forward: by random projection, and as an exact adjoint.

The projection: for a random direction u of every input and a random weight v of every output,
sum(gradient * u) must be the slope of sum(v * op(inputs + h * u)) at h = 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from choice_calls import picked
from gradients import CASES, FUSED_CASES, Arrays, Case
from norm_gradients import NORM_CASES
from shape_gradients import SHAPE_CASES

from fastcnn.backend import Backend

CHOICE_CASES = [
    picked((2, 3, 1), (2, 3, 4), (4,)),
    picked((4,), (3, 1), (2, 3, 4)),
]
ALL_CASES = [*CASES, *NORM_CASES, *SHAPE_CASES, *CHOICE_CASES]
KINKS = ("pool", "relu", "max", "min", "abs")


def first(result: Any) -> Any:
    """Return what flows on of a forward op's results; what is saved has no gradient."""
    return result[0] if isinstance(result, tuple) else result


def check(case: Case, backend: Any, rng: np.random.Generator) -> None:
    inputs = case.inputs(rng)
    result = case.forward(backend, *inputs)
    shape = np.shape(first(result))
    v: Any = rng.standard_normal(shape) if shape else float(rng.standard_normal())
    gradients = case.backward(backend, v, result, *inputs)
    assert [g.shape for g in gradients] == [x.shape for x in inputs]
    directions = [rng.standard_normal(x.shape) for x in inputs]
    slope = sum(float(np.sum(g * u)) for g, u in zip(gradients, directions, strict=True))

    def projected(h: float) -> float:
        moved = [x + h * u for x, u in zip(inputs, directions, strict=True)]
        return float(np.sum(v * first(case.forward(backend, *moved))))

    # The fourth-order difference: its own error is h**4, far below rounding / h.
    h = 1e-6 if any(kink in case.op for kink in KINKS) else 1e-3
    near, far = projected(h) - projected(-h), projected(2 * h) - projected(-2 * h)
    assert (8 * near - far) / (12 * h) == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("case", ALL_CASES, ids=str)
def test_gradients(backend: Any, case: Case, rng: np.random.Generator) -> None:
    check(case, backend, rng)


@pytest.mark.parametrize("case", FUSED_CASES, ids=str)
def test_gradients_of_fused_ops(fast_backend: Any, case: Case, rng: np.random.Generator) -> None:
    check(case, fast_backend, rng)


def test_every_op_with_a_backward_is_checked() -> None:
    ops = {name.removesuffix("_backward") for name in dir(Backend) if "_backward" in name}
    assert {case.op for case in ALL_CASES} == ops


@pytest.mark.parametrize("case", ALL_CASES, ids=str)
def test_a_wrong_gradient_would_be_seen(
    reference: Any, case: Case, rng: np.random.Generator
) -> None:
    """One element of one gradient, the largest, off by a tenth, for each input in turn."""
    for wrong in range(len(case.inputs(rng))):

        def backward(*arguments: Any, wrong: int = wrong) -> Arrays:
            gradients = list(case.backward(*arguments))
            gradients[wrong] = gradients[wrong].copy()
            largest = np.unravel_index(np.argmax(np.abs(gradients[wrong])), gradients[wrong].shape)
            gradients[wrong][largest] *= 1.1
            return gradients

        faulty = Case(case.op, case.inputs, case.forward, backward)
        with pytest.raises(AssertionError):
            check(faulty, reference, rng)


# ---------------------------------------------------------------------- exact adjoints
def integers(rng: np.random.Generator, dtype: Any, *shape: int) -> Any:
    return rng.integers(-4, 5, shape).astype(dtype)


def product(a: Any, b: Any) -> int:
    """Return the scalar product of arrays of whole numbers, exactly."""
    assert (a == np.round(a)).all()
    assert (b == np.round(b)).all()
    return int(np.sum(a.astype(np.int64) * b.astype(np.int64)))


CONVOLUTIONS = [
    ((2, 6, 7, 3), (3, 3, 3, 5), {}),
    ((3, 8, 5, 2), (5, 4, 2, 3), {"padding": "same", "stride": 2}),
    ((2, 9, 9, 4), (2, 3, 2, 6), {"padding": ((0, 3), (2, 1)), "groups": 2, "stride": (1, 3)}),
    ((1, 11, 10, 3), (3, 3, 3, 4), {"dilation": (2, 3), "padding": 3, "stride": 2}),
    ((2, 7, 7, 18), (3, 3, 1, 18), {"groups": 18, "padding": 1}),
    ((2, 5, 4, 3), (2, 2, 1, 9), {"groups": 3, "stride": 3, "dilation": 2}),
    ((1, 4, 4, 33), (1, 1, 33, 35), {"stride": 2}),
    ((2, 3, 3, 2), (7, 7, 2, 3), {"padding": 4}),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "options"), CONVOLUTIONS)
def test_convolution_is_bilinear_and_backward_its_adjoint(
    backend: Any, dtype: Any, x_shape: Any, w_shape: Any, options: Any, rng: Any
) -> None:
    x, w = integers(rng, dtype, *x_shape), integers(rng, dtype, *w_shape)
    y = backend.conv2d(x, w, **options)
    dy = integers(rng, dtype, *y.shape)
    dx, dw, db = backend.conv2d_backward(dy, x, w, **options)
    assert product(y, dy) == product(x, dx) == product(w, dw)
    np.testing.assert_array_equal(db, dy.sum(axis=(0, 1, 2)))


@pytest.mark.parametrize(
    ("x_shape", "pool_size", "options"),
    [
        ((2, 8, 8, 5), 2, {}),
        ((2, 9, 7, 3), 4, {"stride": 3}),
        ((1, 9, 9, 17), (2, 4), {"stride": (1, 3), "padding": (1, 2), "count_include_pad": True}),
        ((2, 6, 6, 3), (1, 8), {"padding": (0, 4), "stride": (3, 1), "count_include_pad": True}),
    ],
)
def test_average_pooling_and_its_adjoint(
    backend: Any, dtype: Any, x_shape: Any, pool_size: Any, options: Any, rng: Any
) -> None:
    """Windows of a power of two of places: times that many, every mean is a whole number."""
    scale = int(np.prod(np.broadcast_to(pool_size, 2)))
    x = integers(rng, dtype, *x_shape) * scale
    y = backend.avg_pool2d(x, pool_size, **options)
    dy = integers(rng, dtype, *y.shape) * scale
    dx = backend.avg_pool2d_backward(dy, x.shape, pool_size, **options)
    assert product(y, dy) == product(x, dx)


@pytest.mark.parametrize(
    ("pool_size", "options"),
    [
        (2, {}),
        (3, {"stride": 1, "padding": "same"}),
        ((3, 2), {"stride": (2, 1), "padding": 1, "ceil_mode": True}),
        (17, {"stride": 1, "padding": 8}),
    ],
)
def test_max_pooling_and_its_adjoint(
    backend: Any, dtype: Any, pool_size: Any, options: Any, rng: Any
) -> None:
    """With its winners held, the maximum is linear: <y, dy> = <x, dx> for ties as well."""
    x = integers(rng, dtype, 2, 9, 11, 18)
    y, argmax = backend.max_pool2d(x, pool_size, **options)
    dy = integers(rng, dtype, *y.shape)
    dx = backend.max_pool2d_backward(dy, argmax, x.shape, pool_size, **options)
    assert product(y, dy) == product(x, dx)
    assert dx.sum() == dy.sum()


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 5), (8, 33, 35)])
def test_linear_and_its_adjoint(backend: Any, dtype: Any, shape: Any, rng: Any) -> None:
    n, c, k = shape
    x, w, dy = (integers(rng, dtype, *s) for s in [(n, c), (c, k), (n, k)])
    dx, dw, db = backend.linear_backward(dy, x, w)
    assert product(backend.linear(x, w), dy) == product(x, dx) == product(w, dw)
    np.testing.assert_array_equal(db, dy.sum(axis=0))
