"""Backward is the derivative of forward: by random projection, and as an exact adjoint.

The projection: for a random direction u of every input and a random weight v of every output,
sum(gradient * u) must be the slope of sum(v * op(inputs + h * u)) at h = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from fastcnn.backend import Backend

Arrays = list[Any]


@dataclass(frozen=True)
class Case:
    """An op, the inputs that it is differentiated by, and how forward and backward are called."""

    op: str
    inputs: Callable[[np.random.Generator], Arrays]
    forward: Callable[..., Any]  # (backend, *inputs) -> what is differentiated, saved or not
    backward: Callable[..., Any]  # (backend, dy, result, *inputs) -> gradients of the inputs
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        text = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.op}({text})".replace(" ", "")


def normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Arrays]:
    return lambda rng: [rng.standard_normal(shape) for shape in shapes]


def away_from_kinks(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Arrays]:
    """Numbers whose gaps, to each other and to 0, are far wider than a step of the projection."""

    def draw(rng: np.random.Generator) -> Arrays:
        sizes = [int(np.prod(shape)) for shape in shapes]
        return [
            (rng.permutation(size) - size / 2 + 0.25).reshape(shape) / size * 4
            for size, shape in zip(sizes, shapes, strict=True)
        ]

    return draw


def conv(x: tuple[int, ...], w: tuple[int, ...], **options: Any) -> Case:
    return Case(
        "conv2d",
        normal(x, w, w[-1:]),
        lambda backend, x, w, b: backend.conv2d(x, w, b, **options),
        lambda backend, dy, y, x, w, b: backend.conv2d_backward(dy, x, w, **options),
        options,
    )


def block(x: tuple[int, ...], w: tuple[int, ...], **options: Any) -> Case:
    return Case(
        "conv_block",
        normal(x, w, w[-1:]),
        lambda backend, x, w, b: backend.conv_block(x, w, b, **options),
        lambda backend, dy, saved, x, w, b: backend.conv_block_backward(
            dy, saved[1], x, w, **options
        ),
        options,
    )


def norm_block(x: tuple[int, ...], w: tuple[int, ...], **options: Any) -> Case:
    """The bias is no input: what it adds is in the mean too, and its gradient zero."""
    bias, options = np.linspace(-1, 1, w[-1]), {"epsilon": 0.1, **options}

    def backward(
        backend: Any, dy: Any, saved: Any, x: Any, w: Any, gamma: Any, beta: Any
    ) -> Arrays:
        dx, dw, db, dgamma, dbeta = backend.conv_norm_block_backward(
            dy, saved[1], x, w, bias, gamma, *saved[2:], **options
        )
        assert abs(db).max() < 1e-12
        return [dx, dw, dgamma, dbeta]

    return Case(
        "conv_norm_block",
        normal(x, w, w[-1:], w[-1:]),
        lambda backend, x, w, gamma, beta: backend.conv_norm_block(
            x, w, bias, gamma, beta, **options
        ),
        backward,
        options,
    )


def max_pool(x: tuple[int, ...], pool_size: Any, **options: Any) -> Case:
    return Case(
        "max_pool2d",
        away_from_kinks(x),
        lambda backend, x: backend.max_pool2d(x, pool_size, **options),
        lambda backend, dy, saved, x: [
            backend.max_pool2d_backward(dy, saved[1], x.shape, pool_size, **options)
        ],
        {"pool_size": pool_size, **options},
    )


def avg_pool(x: tuple[int, ...], pool_size: Any, **options: Any) -> Case:
    return Case(
        "avg_pool2d",
        normal(x),
        lambda backend, x: backend.avg_pool2d(x, pool_size, **options),
        lambda backend, dy, y, x: [backend.avg_pool2d_backward(dy, x.shape, pool_size, **options)],
        {"pool_size": pool_size, **options},
    )


def activation(op: str, saves: str, **options: Any) -> Case:
    return Case(
        op,
        away_from_kinks((4, 19)),
        lambda backend, x: getattr(backend, op)(x, **options),
        lambda backend, dy, y, x: [
            getattr(backend, f"{op}_backward")(dy, y if saves == "y" else x, **options)
        ],
        options,
    )


def cross_entropy(labels: Any, **options: Any) -> Case:
    return Case(
        "softmax_cross_entropy",
        normal((5, 4)),
        lambda backend, z: backend.softmax_cross_entropy(z, labels, **options),
        lambda backend, dy, saved, z: [
            backend.softmax_cross_entropy_backward(dy, saved[1], labels, **options)
        ],
        {"rank": np.ndim(labels), **dict.fromkeys(options, "given")},
    )


LABELS = np.array([0, 3, 1, 1, 2])
SOFT = np.random.default_rng(0).dirichlet(np.ones(4), 5)
WEIGHTS = {
    "class_weights": np.array([1.0, 2.0, 0.5, 3.0]),
    "sample_weights": np.array([1.0, 0.0, 2.0, 0.5, 1.0]),
}
MASK = np.random.default_rng(0).random((3, 17)) < 0.5
IMAGES = (2, 7, 6, 3)
CASES = [
    conv((2, 5, 6, 3), (3, 3, 3, 5)),
    conv((1, 8, 7, 2), (3, 2, 2, 3), stride=2, padding="same"),
    conv((2, 6, 5, 4), (2, 3, 2, 6), padding=((1, 0), (2, 1)), groups=2),
    conv((1, 9, 9, 2), (3, 3, 2, 3), stride=(2, 1), dilation=(2, 3), padding=2),
    conv((2, 6, 6, 5), (3, 3, 1, 10), groups=5, padding=1, stride=2),
    conv((2, 4, 3, 9), (1, 1, 9, 17)),
    block((2, 9, 8, 3), (3, 3, 3, 5)),
    block((2, 10, 9, 16), (3, 3, 16, 8), padding=1, pool_size=3, pool_stride=2),
    block((2, 8, 8, 2), (2, 3, 1, 4), groups=2, stride=(1, 2)),
    max_pool(IMAGES, 2),
    max_pool(IMAGES, (3, 2), stride=(2, 1), padding=1, ceil_mode=True),
    max_pool(IMAGES, 3, stride=1, padding="same"),
    avg_pool(IMAGES, 2),
    avg_pool(IMAGES, (3, 2), stride=(2, 1), padding=1, ceil_mode=True),
    avg_pool(IMAGES, 3, stride=2, padding=1, ceil_mode=True, count_include_pad=True),
    Case(
        "global_avg_pool2d",
        normal(IMAGES),
        lambda backend, x: backend.global_avg_pool2d(x),
        lambda backend, dy, y, x: [backend.global_avg_pool2d_backward(dy, x.shape)],
    ),
    *(
        Case(
            "batch_norm",
            normal(shape, shape[-1:], shape[-1:]),
            lambda backend, x, gamma, beta: backend.batch_norm(x, gamma, beta, epsilon=0.1),
            lambda backend, dy, saved, x, gamma, beta: backend.batch_norm_backward(
                dy, x, gamma, *saved[1:], epsilon=0.1
            ),
            {"rank": len(shape)},
        )
        for shape in [(11, 5), (3, 4, 2, 5)]
    ),
    *(
        Case(
            "batch_norm_block",
            normal(shape, shape[-1:], shape[-1:]),
            lambda backend, x, gamma, beta, options=options: backend.batch_norm_block(
                x, gamma, beta, epsilon=0.1, **options
            ),
            lambda backend, dy, saved, x, gamma, beta, options=options: (
                backend.batch_norm_block_backward(
                    dy, saved[1], x, gamma, *saved[2:], epsilon=0.1, **options
                )
            ),
            options,
        )
        for shape, options in [
            ((3, 4, 2, 16), {}),
            ((2, 5, 5, 16), {"pool_size": 2}),
            ((2, 5, 7, 5), {"pool_size": (2, 3)}),
            ((1, 7, 6, 32), {"pool_size": 3, "pool_stride": 2}),
        ]
    ),
    norm_block((3, 7, 6, 1), (3, 3, 1, 4)),
    norm_block((3, 7, 6, 3), (3, 3, 3, 4), padding=1, pool_size=(3, 2), pool_stride=2),
    *(
        Case(
            "batch_norm_inference",
            normal(shape, shape[-1:], shape[-1:]),
            lambda backend, x, gamma, beta: backend.batch_norm_inference(
                x, gamma, beta, np.arange(5.0), np.arange(1.0, 6), epsilon=0.1
            ),
            lambda backend, dy, y, x, gamma, beta: backend.batch_norm_inference_backward(
                dy, x, gamma, np.arange(5.0), np.arange(1.0, 6), epsilon=0.1
            ),
            {"rank": len(shape)},
        )
        for shape in [(11, 5), (3, 4, 2, 5)]
    ),
    Case(
        "linear",
        normal((4, 7), (7, 9), (9,)),
        lambda backend, x, w, b: backend.linear(x, w, b),
        lambda backend, dy, y, x, w, b: backend.linear_backward(dy, x, w),
    ),
    activation("relu", "y"),
    activation("leaky_relu", "x", negative_slope=0.2),
    activation("elu", "x", alpha=1.5),
    activation("gelu", "x"),
    activation("silu", "x"),
    activation("sigmoid", "y"),
    activation("tanh", "y"),
    activation("softmax", "y"),
    Case(
        "dropout",
        normal((3, 17)),
        lambda backend, x: backend.dropout(x, MASK, rate=0.3),
        lambda backend, dy, y, x: [backend.dropout_backward(dy, MASK, rate=0.3)],
    ),
    cross_entropy(LABELS),
    cross_entropy(LABELS, label_smoothing=0.2, **WEIGHTS),
    cross_entropy(SOFT, label_smoothing=0.2, **WEIGHTS),
    Case(
        "mean_squared_error",
        normal((3, 5), (3, 5)),
        lambda backend, prediction, target: backend.mean_squared_error(prediction, target),
        lambda backend, dy, loss, prediction, target: [
            backend.mean_squared_error_backward(dy, prediction, target),
            -backend.mean_squared_error_backward(dy, prediction, target),
        ],
    ),
]


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
    h = 1e-6 if any(kink in case.op for kink in ("pool", "relu", "block")) else 1e-3
    near, far = projected(h) - projected(-h), projected(2 * h) - projected(-2 * h)
    assert (8 * near - far) / (12 * h) == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients(backend: Any, case: Case, rng: np.random.Generator) -> None:
    check(case, backend, rng)


def test_every_op_with_a_backward_is_checked() -> None:
    ops = {name.removesuffix("_backward") for name in dir(Backend) if "_backward" in name}
    assert {case.op for case in CASES} == ops


@pytest.mark.parametrize("case", CASES, ids=str)
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
