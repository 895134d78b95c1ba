"""What is differentiated: every op with a backward, called in the ways that matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from loss_cases import loss_cases

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


def transposed(x: tuple[int, ...], w: tuple[int, ...], **options: Any) -> Case:
    return Case(
        "conv2d_transpose",
        normal(x, w, (w[2] * options.get("groups", 1),)),
        lambda backend, x, w, b: backend.conv2d_transpose(x, w, b, **options),
        lambda backend, dy, y, x, w, b: backend.conv2d_transpose_backward(dy, x, w, **options),
        options,
    )


def block(x: tuple[int, ...], w: tuple[int, ...], **options: Any) -> Case:
    return Case(
        "conv2d_relu_max_pool2d",
        normal(x, w, w[-1:]),
        lambda backend, x, w, b: backend._conv2d_relu_max_pool2d(x, w, b, **options),
        lambda backend, dy, saved, x, w, b: backend._conv2d_relu_max_pool2d_backward(
            dy, saved[1], x, w, **options
        ),
        options,
    )


def norm_block(x: tuple[int, ...], **options: Any) -> Case:
    op = "_batch_norm_relu_max_pool2d" if options else "_batch_norm_relu"
    options = {"epsilon": 0.1, **options}
    return Case(
        op.removeprefix("_"),
        normal(x, x[-1:], x[-1:]),
        lambda backend, x, gamma, beta: getattr(backend, op)(x, gamma, beta, **options),
        lambda backend, dy, saved, x, gamma, beta: getattr(backend, f"{op}_backward")(
            dy, saved[1], x, gamma, *saved[2:], **options
        ),
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


def summed(a: tuple[int, ...], b: tuple[int, ...]) -> Case:
    return Case(
        "add",
        normal(a, b),
        lambda backend, a, b: backend.add(a, b),
        lambda backend, dy, y, a, b: backend.add_backward(dy, a.shape, b.shape),
        {"a": a, "b": b},
    )


def multiplied(a: tuple[int, ...], b: tuple[int, ...]) -> Case:
    return Case(
        "multiply",
        normal(a, b),
        lambda backend, a, b: backend.multiply(a, b),
        lambda backend, dy, y, a, b: backend.multiply_backward(dy, a, b),
        {"a": a, "b": b},
    )


def sloped(x: tuple[int, ...], slope: tuple[int, ...]) -> Case:
    return Case(
        "prelu",
        lambda rng: [*away_from_kinks(x)(rng), *normal(slope)(rng)],
        lambda backend, x, slope: backend.prelu(x, slope),
        lambda backend, dy, y, x, slope: backend.prelu_backward(dy, x, slope),
        {"x": x, "slope": slope},
    )


def joined(axis: int, *shapes: tuple[int, ...]) -> Case:
    return Case(
        "concat",
        normal(*shapes),
        lambda backend, *xs: backend.concat(xs, axis),
        lambda backend, dy, y, *xs: backend.concat_backward(dy, [x.shape for x in xs], axis),
        {"axis": axis, "shapes": shapes},
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
    transposed((2, 3, 4, 3), (3, 3, 5, 3)),
    transposed((1, 4, 3, 2), (3, 2, 3, 2), stride=2, padding="same"),
    transposed((2, 3, 4, 4), (2, 3, 3, 4), padding=((1, 0), (2, 1)), groups=2, stride=(1, 2)),
    transposed((1, 3, 3, 16), (3, 3, 1, 16), stride=2, padding=1, output_padding=1, groups=16),
    transposed((2, 2, 3, 9), (1, 1, 17, 9)),
    transposed((1, 3, 3, 5), (2, 2, 7, 5), stride=(4, 3), output_padding=(3, 0)),
    max_pool(IMAGES, 2),
    max_pool(IMAGES, (3, 2), stride=(2, 1), padding=1, ceil_mode=True),
    max_pool(IMAGES, 3, stride=1, padding="same"),
    avg_pool(IMAGES, 2),
    avg_pool(IMAGES, (3, 2), stride=(2, 1), padding=1, ceil_mode=True),
    avg_pool(IMAGES, 3, stride=2, padding=1, ceil_mode=True, count_include_pad=True),
    avg_pool(IMAGES, (3, 2), stride=1, padding=1, dilation=(2, 3), count_include_pad=True),
    max_pool(IMAGES, (3, 2), stride=1, padding=1, dilation=(2, 3)),
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
    *(
        join(a, b)
        for join in (summed, multiplied)
        for a, b in [
            (IMAGES, IMAGES),
            (IMAGES, (3,)),
            ((2, 1, 1, 3), IMAGES),
            (IMAGES, (7, 6, 1)),
            ((4, 1), (5,)),
            ((2, 3, 4), (1, 3, 1)),
            ((), (3, 2)),
        ]
    ),
    *(
        sloped(x, slope)
        for x, slope in [
            (IMAGES, (3,)),
            (IMAGES, (1,)),
            (IMAGES, (7, 6, 3)),
            (IMAGES, (6, 1)),
            (IMAGES, (2, 1, 1, 3)),
            (IMAGES, (7, 1, 3)),
            (IMAGES, (2, 1, 6, 1)),
            (IMAGES, ()),
            ((5,), (5,)),
        ]
    ),
    joined(-1, IMAGES, (2, 7, 6, 5), IMAGES),
    joined(1, (2, 3, 4), (2, 1, 4)),
    joined(0, (3,)),
    *(
        Case(
            "upsample2d",
            normal(shape),
            lambda backend, x, options=options: backend.upsample2d(x, **options),
            lambda backend, dy, y, x, options=options: [
                backend.upsample2d_backward(dy, x.shape, **options)
            ],
            options,
        )
        for shape in (IMAGES, (1, 1, 3, 17))
        for options in [
            {"factor": 2},
            {"factor": (3, 1)},
            {"factor": 2, "method": "bilinear"},
            {"factor": (5, 4), "method": "bilinear"},
        ]
    ),
    *(
        Case(
            "adaptive_avg_pool2d",
            normal(IMAGES),
            lambda backend, x, size=size: backend.adaptive_avg_pool2d(x, size),
            lambda backend, dy, y, x, size=size: [
                backend.adaptive_avg_pool2d_backward(dy, x.shape, size)
            ],
            {"output_size": size},
        )
        for size in ((3, 4), 9)
    ),
    *(
        Case(
            "resize2d",
            normal(IMAGES),
            lambda backend, x, options=options: backend.resize2d(x, **options),
            lambda backend, dy, y, x, options=options: [
                backend.resize2d_backward(dy, x.shape, **options)
            ],
            options,
        )
        for options in [
            {"size": (5, 11)},
            {"size": (5, 11), "method": "bilinear"},
            {"size": (3, 2), "method": "cubic", "coordinates": "asymmetric", "scale": 0.4},
            {"size": 9, "method": "bilinear", "coordinates": "align_corners"},
        ]
    ),
    activation("relu", "y"),
    activation("leaky_relu", "x", negative_slope=0.2),
    activation("clip", "y", low=-1.22, high=0.72),
    activation("clip", "y", high=0.72),
    activation("hard_sigmoid", "y"),
    activation("hard_sigmoid", "y", alpha=-0.7, beta=0.3),
    activation("hard_swish", "x"),
    activation("elu", "x", alpha=1.5),
    activation("selu", "x"),
    activation("celu", "x", alpha=1.5),
    activation("gelu", "x"),
    activation("gelu", "x", approximate=True),
    activation("silu", "x"),
    activation("mish", "x"),
    activation("softplus", "x"),
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
    *loss_cases(Case),
]

# The fused ops of the fast backend. That of a convolution with a norm is for float32 alone.
FUSED_CASES = [
    block((2, 9, 8, 3), (3, 3, 3, 5)),
    block((2, 10, 9, 16), (3, 3, 16, 8), padding=1, pool_size=3, pool_stride=2),
    block((2, 8, 8, 2), (2, 3, 1, 4), groups=2, stride=(1, 2)),
    norm_block((3, 4, 2, 16)),
    norm_block((2, 5, 5, 16), pool_size=2),
    norm_block((2, 5, 7, 5), pool_size=(2, 3)),
    norm_block((1, 7, 6, 32), pool_size=3, pool_stride=2),
    Case(
        "linear_relu",
        normal((4, 7), (7, 9), (9,)),
        lambda backend, x, w, b: backend._linear_relu(x, w, b),
        lambda backend, dy, y, x, w, b: backend._linear_relu_backward(dy, x, w, y),
    ),
    *(
        Case(
            "cross_entropy_with_gradient",
            normal((5, 4)),
            lambda backend, z, labels=labels: backend._cross_entropy_with_gradient(z, labels),
            lambda backend, dy, saved, z: [dy * saved[1]],
            {"rank": labels.ndim},
        )
        for labels in (LABELS, SOFT)
    ),
]
