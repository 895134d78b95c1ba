"""PReLU: exact values, slopes of every shape, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_close, assert_same, assert_same_bits

from fastcnn import FastBackend, nn, reference

NAN, INF = np.nan, np.inf


def test_prelu(backend: Any, dtype: Any) -> None:
    x = np.array([[-2, 0, 4], [-INF, NAN, -8]], dtype)
    slope = np.array([0.5, 3, -0.25], dtype)
    assert_same(backend.prelu(x, slope), [[-1, 0, 4], [-INF, NAN, 2]], dtype)
    dy = np.array([[1, 2, 3], [4, 5, 6]], dtype)
    dx, dslope = backend.prelu_backward(dy, x, slope)
    assert_same(dx, [[0.5, 6, 3], [2, 15, -1.5]], dtype)
    assert_same(dslope, [-INF, NAN, -48], dtype)


def test_one_slope_for_all(backend: Any, dtype: Any) -> None:
    x, dy = np.array([[-2, 0, 4], [-1, 5, -8]], dtype), np.full((2, 3), 3, dtype)
    slope = np.array([2], dtype)
    assert_same(backend.prelu(x, slope), [[-4, 0, 4], [-2, 5, -16]], dtype)
    dx, dslope = backend.prelu_backward(dy, x, slope)
    assert_same(dx, [[6, 6, 3], [6, 3, 6]], dtype)
    assert_same(dslope, [-33], dtype)


SHAPES = [
    ((2, 3, 4, 5), (5,)),
    ((2, 3, 4, 5), (1,)),
    ((2, 3, 4, 5), ()),
    ((2, 3, 4, 5), (3, 4, 5)),
    ((2, 3, 4, 5), (2, 1, 1, 5)),
    ((2, 3, 4, 5), (3, 1, 5)),  # axes of the repetition lie apart
    ((2, 3, 4, 5), (4, 1)),
    ((3, 1, 7), (3, 1, 1)),
    ((4099,), (4099,)),
    ((1, 70, 90, 3), (3,)),  # several pieces, and parts of the sums
    ((3, 40, 41, 70), (70,)),
    ((2, 5, 3000), (3000,)),
    ((), ()),
    ((0, 3), (3,)),
]


@pytest.mark.parametrize(("x_shape", "slope_shape"), SHAPES, ids=str)
def test_slopes_of_any_shape(
    x_shape: Any, slope_shape: Any, fast_backend: Any, dtype: Any, rng: Any
) -> None:
    """On small integers the fast backend is exact, however it cuts its work."""
    x, dy = (rng.integers(-4, 5, x_shape).astype(dtype) for _ in range(2))
    slope = rng.integers(-4, 5, slope_shape).astype(dtype)
    expected = reference.prelu(x, slope), *reference.prelu_backward(dy, x, slope)
    assert expected[2].shape == slope_shape
    for threads in (1, 3, 8):
        fast = FastBackend(fast_backend.isa, threads)
        found = fast.prelu(x, slope), *fast.prelu_backward(dy, x, slope)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, dtype)


def test_threads_and_images_leave_the_bits(fast_backend: Any, dtype: Any, rng: Any) -> None:
    x, dy = (rng.standard_normal((4, 60, 61, 24)).astype(dtype) for _ in range(2))
    slope = rng.standard_normal(24).astype(dtype)
    one = FastBackend(fast_backend.isa, 1)
    y, gradients = one.prelu(x, slope), one.prelu_backward(dy, x, slope)
    for threads in (2, 5, 8):
        several = FastBackend(fast_backend.isa, threads)
        assert_same_bits((several.prelu(x, slope),), (y,))
        assert_same_bits(several.prelu_backward(dy, x, slope), gradients)
    for i in range(4):
        assert_same_bits((one.prelu(x[i : i + 1], slope),), (y[i : i + 1],))
        assert_same_bits(one.prelu_backward(dy[i], x[i], slope)[:1], (gradients[0][i],))


def test_it_is_leaky_relu_and_relu(backend: Any, dtype: Any, rng: Any) -> None:
    x = rng.standard_normal((3, 5, 7)).astype(dtype)
    assert_close(
        backend.prelu(x, np.full(7, 0.25, dtype)), backend.leaky_relu(x, negative_slope=0.25)
    )
    assert_same(backend.prelu(x, np.zeros(1, dtype)), backend.relu(x))


def test_many_terms_are_added_in_double(backend: Any, rng: Any) -> None:
    x = -rng.random((1000, 33, 2)).astype(np.float32)
    _, dslope = backend.prelu_backward(np.ones_like(x), x, np.ones(2, np.float32))
    expected = x.astype(np.float64).sum((0, 1))
    np.testing.assert_allclose(dslope, expected, rtol=1e-7)


@pytest.mark.parametrize("op", ["prelu", "prelu_backward"])
@pytest.mark.parametrize(
    ("x_shape", "slope_shape", "sentence"),
    [
        ((2, 3), (2,), r"x, slope: expected shapes that broadcast, got \(2, 3\) and \(2,\)"),
        (
            (3,),
            (2, 3),
            r"slope: expected a shape that broadcasts to \(3,\), that of x, got \(2, 3\)",
        ),
        (
            (2, 1),
            (3,),
            r"slope: expected a shape that broadcasts to \(2, 1\), that of x, got \(3,\)",
        ),
        (
            (3,),
            (1, 3),
            r"slope: expected a shape that broadcasts to \(3,\), that of x, got \(1, 3\)",
        ),
    ],
)
def test_shapes_that_do_not_fit(
    op: str, x_shape: Any, slope_shape: Any, sentence: str, backend: Any
) -> None:
    arrays = [np.ones(x_shape)] * (1 + op.endswith("backward"))
    with pytest.raises(ValueError, match=f"^{op}: {sentence}$"):
        getattr(backend, op)(*arrays, np.ones(slope_shape))


def test_a_gradient_of_another_shape(backend: Any) -> None:
    with pytest.raises(ValueError, match=r"^prelu_backward: dy: expected .*\(2, 3\)"):
        backend.prelu_backward(np.ones(3), np.ones((2, 3)), np.ones(3))


# ---------------------------------------------------------------------- the layer
def test_the_layer_learns_its_slopes(backend: Any) -> None:
    layer = nn.PReLU()
    layer.build((2, 3), dtype=np.float64)
    assert layer.slope.data.tolist() == [0.25] * 3
    x = np.array([[[-4.0, 2, -8], [1, -2, 3]]])
    y, backward = layer.forward(x, backend, training=True)
    assert y.tolist() == [[[-1, 2, -2], [1, -0.5, 3]]]
    assert backward(np.ones_like(x)).tolist() == [[[0.25, 1, 0.25], [1, 0.25, 1]]]
    assert layer.slope.grad.tolist() == [-4, -2, -8]
    layer.trainable = False
    _, backward = layer.forward(x, backend, training=True)
    backward(np.ones_like(x))
    assert layer.slope.grad is None


def test_a_shared_slope_is_one(backend: Any) -> None:
    layer = nn.PReLU(shared=True)
    layer.build((5, 6, 3))
    assert layer.slope.data.tolist() == [0.25]
    with pytest.raises(TypeError, match=r"^PReLU: shared: expected True or False, got int 1"):
        nn.PReLU(shared=1)  # type: ignore[arg-type]
