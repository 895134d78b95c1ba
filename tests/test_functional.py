"""fastcnn.functional: the source's vocabulary, for one image or a batch, on any backend."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from compare import assert_same_bits

import fastcnn
from fastcnn import functional
from fastcnn.backend import Backend

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((3, 6, 7, 4)).astype(np.float32)
ROWS = RNG.standard_normal((3, 4)).astype(np.float32)
W, B = RNG.standard_normal((3, 2, 2, 6)).astype(np.float32), np.arange(6, dtype=np.float32)
VECTOR = np.array([0.5, 1, 2, 4], np.float32)
MASK = RNG.random(IMAGES.shape) < 0.5
LABELS = np.array([3, 0, 1])

# The function, the first argument, its other arguments, and what they are to the backend's op.
CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "conv2d": (
        IMAGES,
        {"filters": W, "bias": B, "stride": (1, 2), "padding": "same", "dilation": 2, "groups": 2},
    ),
    "max_pool2d": (
        IMAGES,
        {"pool_size": 3, "stride": 2, "padding": 1, "dilation": (1, 2), "ceil_mode": True},
    ),
    "avg_pool2d": (
        IMAGES,
        {
            "pool_size": 3,
            "stride": 2,
            "padding": 1,
            "dilation": (2, 1),
            "ceil_mode": True,
            "count_include_pad": True,
        },
    ),
    "global_avg_pool2d": (IMAGES, {}),
    "batch_norm": (IMAGES, {"gamma": VECTOR, "beta": VECTOR, "epsilon": 1e-3}),
    "layer_norm": (IMAGES, {"gamma": VECTOR, "beta": VECTOR, "epsilon": 1e-3}),
    "group_norm": (IMAGES, {"gamma": VECTOR, "beta": VECTOR, "groups": 2}),
    "local_response_norm": (IMAGES, {"size": 3, "alpha": 0.5, "beta": 0.5, "k": 2.0}),
    "linear": (ROWS, {"w": ROWS.T, "b": VECTOR[:3]}),
    "lstm": (
        IMAGES[0],
        {
            "w": RNG.standard_normal((4, 8)).astype(np.float32),
            "r": RNG.standard_normal((2, 8)).astype(np.float32),
            "b": np.arange(8, dtype=np.float32),
            "h0": np.ones((6, 2), np.float32),
            "c0": np.ones((6, 2), np.float32),
            "reverse": True,
        },
    ),
    "add": (IMAGES, {"b": VECTOR}),
    "multiply": (IMAGES, {"b": VECTOR}),
    "prelu": (IMAGES, {"slope": VECTOR}),
    "concat": ([IMAGES, IMAGES[..., :3]], {"axis": 3}),
    "upsample2d": (IMAGES, {"factor": (2, 3), "method": "bilinear"}),
    "adaptive_avg_pool2d": (IMAGES, {"output_size": (4, 2)}),
    "resize2d": (
        IMAGES,
        {
            "size": (9, 4),
            "method": "cubic",
            "coordinates": "align_corners",
            "rounding": "floor",
            "scale": (1.5, 0.5),
            "cubic_coefficient": -0.5,
            "exclude_outside": True,
        },
    ),
    "conv2d_transpose": (
        IMAGES,
        {
            "filters": W.transpose(0, 1, 3, 2)[:, :, :, [0, 1, 0, 1]],
            "bias": np.arange(12, dtype=np.float32),
            "stride": (1, 2),
            "padding": 1,
            "output_padding": (0, 1),
            "groups": 2,
        },
    ),
    "reshape": (IMAGES[:], {"shape": (3, -1, 4)}),
    "transpose": (IMAGES[:], {"axes": (0, 3, 1, 2)}),
    "expand": (ROWS, {"shape": (2, 1, 1)}),
    "pad": (ROWS, {"widths": ((0, 1), (2, 1)), "mode": "reflect", "value": 2.0}),
    "strided_slice": (ROWS, {"starts": (1, 0), "stops": (None, 3), "steps": (1, 2)}),
    "take": (ROWS, {"indices": (2, 0), "axis": 0}),
    "depth_to_space": (IMAGES, {"block": 2, "mode": "CRD"}),
    "space_to_depth": (IMAGES, {"block": 1, "mode": "CRD"}),
    "reduce_sum": (ROWS, {"axis": 0, "keepdims": True}),
    "reduce_mean": (ROWS, {"axis": (0, 1), "keepdims": True}),
    "reduce_max": (ROWS, {"axis": 1}),
    "reduce_min": (ROWS, {"axis": -1, "keepdims": False}),
    **dict.fromkeys(("subtract", "divide", "maximum", "minimum"), (IMAGES, {"b": VECTOR})),
    "power": (np.abs(IMAGES), {"b": VECTOR}),
    "matmul": (IMAGES, {"b": ROWS.T}),
    **dict.fromkeys(("equal", "less"), (IMAGES, {"b": VECTOR})),
    "where": (IMAGES, {"a": VECTOR, "b": 2 * VECTOR}),
    **dict.fromkeys(("floor", "ceil", "round", "sign"), (IMAGES, {})),
    **dict.fromkeys(("exp", "abs", "negative", "reciprocal", "erf"), (IMAGES, {})),
    **dict.fromkeys(("log", "sqrt"), (np.abs(IMAGES), {})),
    "relu": (IMAGES, {}),
    "leaky_relu": (IMAGES, {"negative_slope": 0.25}),
    "clip": (IMAGES, {"low": -0.5, "high": 1}),
    "hard_sigmoid": (IMAGES, {"alpha": 0.2, "beta": 0.4}),
    "hard_swish": (IMAGES, {}),
    "elu": (IMAGES, {"alpha": 0.5}),
    "selu": (IMAGES, {}),
    "celu": (IMAGES, {"alpha": 0.5}),
    "gelu": (IMAGES, {"approximate": True}),
    "silu": (IMAGES, {}),
    "mish": (IMAGES, {}),
    "softplus": (IMAGES, {}),
    "sigmoid": (IMAGES, {}),
    "tanh": (IMAGES, {}),
    "softmax": (IMAGES, {}),
    "log_softmax": (IMAGES, {}),
    "dropout": (IMAGES, {"mask": MASK, "rate": 0.25}),
    "cross_entropy": (
        ROWS,
        {
            "labels": LABELS,
            "label_smoothing": 0.1,
            "class_weights": VECTOR,
            "sample_weights": VECTOR[:3],
            "ignore_label": 0,
        },
    ),
}
FRACTIONS = np.array([[0, 1, 0.5, 0], [1, 1, 0, 0.25], [0, 0, 0, 1]], np.float32)
WEIGHED = {"sample_weights": VECTOR[:3]}
CALLS |= {
    "mean_absolute_error": (ROWS, {"target": ROWS[::-1], **WEIGHED}),
    "huber": (ROWS, {"target": ROWS[::-1], "delta": 0.5, **WEIGHED}),
    "binary_cross_entropy": (ROWS, {"target": FRACTIONS, "pos_weight": [1, 2, 0, 3], **WEIGHED}),
    "focal": (ROWS, {"target": FRACTIONS, "alpha": None, "gamma": 1.5, **WEIGHED}),
    "dice": (
        ROWS,
        {
            "target": LABELS,
            "activation": "softmax",
            "smooth": 0.5,
            **WEIGHED,
            "ignore_label": 1,
        },
    ),
}
OPS = {"cross_entropy": "softmax_cross_entropy"}
NAMES = {name: {"filters": "w", "bias": "b"} for name in ("conv2d", "conv2d_transpose")}


def first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


def direct(backend: Any, name: str, x: Any, options: dict[str, Any]) -> Any:
    """What the backend's own op returns, which may be several results, first of them."""
    names = NAMES.get(name, {})
    renamed = {names.get(key, key): value for key, value in options.items()}
    return first(getattr(backend, OPS.get(name, name))(x, **renamed))


def test_there_is_a_function_for_every_forward_op() -> None:
    assert set(functional.__all__) == set(CALLS)
    ops = [op for op in dir(Backend) if not op.startswith("_")]
    forward = {op for op in ops if not op.endswith(("_backward", "_step", "_inference"))}
    assert {OPS.get(name, name) for name in CALLS} == forward - {"mean_squared_error"}


@pytest.mark.parametrize("name", CALLS)
def test_a_function_is_the_op(name: str, backend: Any) -> None:
    x, options = CALLS[name]
    result = getattr(functional, name)(x, **options, backend=backend)
    assert_same_bits((result,), (direct(backend, name, x, options),))


@pytest.mark.parametrize("name", CALLS)
def test_options_are_those_of_the_op_with_its_defaults(name: str, reference: Any) -> None:
    function = inspect.signature(getattr(functional, name)).parameters
    op = inspect.signature(getattr(reference, OPS.get(name, name))).parameters
    assert function["backend"].default == "fast"
    for parameter in op.values():
        mine = function.get(parameter.name)
        if mine is not None and (name, parameter.name) != ("dropout", "rate"):
            assert (mine.kind, mine.default) == (parameter.kind, parameter.default)
    x, options = CALLS[name]
    assert_same_bits(
        (getattr(functional, name)(x, **options),),
        (getattr(functional, name)(x, **options, backend=fastcnn.get_backend("fast")),),
    )


@pytest.mark.parametrize("name", [n for n, (x, _) in CALLS.items() if x is IMAGES])
def test_one_image_goes_in_and_one_comes_out(name: str, backend: Any) -> None:
    x, options = CALLS[name]
    one = {k: v[1] if v is MASK else v for k, v in options.items()}
    result = getattr(functional, name)(x[1], **one, backend=backend)
    alone = {k: v[1:2] if v is MASK else v for k, v in options.items()}
    expected = direct(backend, name, x[1:2], alone)[0]
    assert_same_bits((result,), (expected,))
    assert result.ndim == expected.ndim
    assert result.flags.c_contiguous


def test_one_vector_through_a_linear_layer(backend: Any) -> None:
    result = functional.linear(ROWS[1], ROWS.T, VECTOR[:3], backend=backend)
    assert result.shape == (3,)
    assert_same_bits((result,), (backend.linear(ROWS[1:2], ROWS.T, VECTOR[:3])[0],))


def test_batch_norm_of_statistics_that_are_given(backend: Any) -> None:
    arguments = (VECTOR, VECTOR + 1)
    given = {"mean": VECTOR, "variance": VECTOR}
    for x in (IMAGES, ROWS, IMAGES[0]):
        y = functional.batch_norm(x, *arguments, **given, epsilon=0.5, backend=backend)
        batch = x[None] if x.ndim == 3 else x
        expected = backend.batch_norm_inference(batch, *arguments, VECTOR, VECTOR, epsilon=0.5)
        assert_same_bits((y,), (expected[0] if x.ndim == 3 else expected,))
    for one in given:
        with pytest.raises(ValueError, match=r"batch_norm: .*mean and variance together"):
            functional.batch_norm(IMAGES, *arguments, **{one: VECTOR}, backend=backend)


def test_lists_are_arrays(backend: Any) -> None:
    image = [[[1.0], [2.0]], [[3.0], [4.0]]]
    filters = np.ones((2, 2, 1, 1)).tolist()
    assert functional.conv2d(image, filters, backend=backend).tolist() == [[[10.0]]]
    assert functional.max_pool2d(image, backend=backend).tolist() == [[[4.0]]]
    assert functional.linear([1.0, 2.0], [[1.0], [1.0]], backend=backend).tolist() == [3.0]


@pytest.mark.parametrize("name", CALLS)
def test_errors_are_those_of_the_op_in_the_functions_name(name: str, backend: Any) -> None:
    _, options = CALLS[name]
    function = getattr(functional, name)
    for bad, error in (
        ([] if name == "concat" else [[1.0], [1.0, 2.0]], ValueError),
        (None, TypeError),
        ("x", TypeError),
        (np.ones((2, 2), complex), TypeError),
    ):
        with pytest.raises(error, match=rf"^{name}: \w+: expected "):
            function(bad, **options, backend=backend)
    if name in (
        "conv2d",
        "conv2d_transpose",
        "max_pool2d",
        "avg_pool2d",
        "global_avg_pool2d",
        "adaptive_avg_pool2d",
        "resize2d",
        "upsample2d",
    ):
        for shape in [(), (3,), (3, 4), (1, 1, 6, 7, 4), (2, 0, 3, 4)]:
            with pytest.raises(ValueError, match=rf"^{name}: x: expected "):
                function(np.ones(shape, np.float32), **options, backend=backend)


@pytest.mark.parametrize("name", CALLS)
def test_the_backend_has_to_be_one(name: str) -> None:
    x, options = CALLS[name]
    with pytest.raises(ValueError, match=r"backend: expected .*, got 'slow'"):
        getattr(functional, name)(x, **options, backend="slow")
    with pytest.raises(TypeError, match=r"backend: expected .*, got int"):
        getattr(functional, name)(x, **options, backend=3)
