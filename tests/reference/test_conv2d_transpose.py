"""What transposed convolution means, on every backend: the adjoint of convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_array, assert_close, assert_same, assert_same_bits
from exact import inner, integers, same
from hypothesis import given
from hypothesis import strategies as st

from fastcnn import FastBackend, reference
from fastcnn.backend import Array

# x (N, H, W, C), kernel (R, S), filters, options
TRANSPOSED: list[tuple[tuple[int, ...], tuple[int, int], int, dict[str, Any]]] = [
    ((2, 4, 5, 3), (3, 3), 5, {}),
    ((2, 4, 5, 3), (2, 2), 5, {"stride": 2}),
    ((2, 4, 5, 3), (3, 3), 5, {"stride": 2, "padding": "same"}),
    ((1, 4, 5, 3), (4, 4), 17, {"stride": 2, "padding": 1}),
    ((2, 4, 5, 3), (3, 2), 5, {"stride": (2, 3), "padding": "same"}),
    ((1, 3, 3, 2), (2, 1), 4, {"stride": (4, 3), "padding": "same"}),
    ((1, 3, 3, 2), (2, 1), 4, {"stride": (4, 3), "padding": "valid", "output_padding": (3, 2)}),
    ((2, 4, 5, 3), (3, 3), 5, {"stride": 2, "padding": 1, "output_padding": 1}),
    ((1, 4, 5, 3), (3, 4), 5, {"stride": (2, 1), "padding": ((0, 2), (3, 1))}),
    ((1, 4, 5, 3), (3, 3), 5, {"padding": (2, 1)}),
    # More padding than the kernel reaches cuts into what pixels are laid on.
    ((1, 6, 7, 3), (1, 1), 4, {"padding": 2}),
    ((1, 6, 6, 2), (2, 2), 3, {"stride": 2, "padding": ((3, 2), (0, 4))}),
    # Strides that leave outputs out, and one that is never taken.
    ((1, 3, 4, 3), (1, 1), 4, {"stride": 2}),
    ((1, 3, 4, 20), (1, 1), 33, {"stride": (2, 3), "output_padding": (1, 2)}),
    ((2, 1, 4, 3), (2, 2), 4, {"stride": (5, 2), "output_padding": (4, 1)}),
    ((2, 1, 1, 5), (3, 2), 7, {"stride": 9, "output_padding": (5, 8)}),
    # Winograd's shapes, one by one, depthwise, in groups of few and many, and the widths between.
    ((2, 9, 8, 16), (3, 3), 16, {"padding": 1}),
    ((2, 4, 3, 40), (1, 1), 24, {}),
    ((1, 5, 4, 33), (3, 3), 33, {"groups": 33, "padding": 1, "stride": 2, "output_padding": 1}),
    ((1, 4, 4, 16), (2, 2), 16, {"groups": 16, "stride": 2}),
    ((2, 4, 5, 32), (3, 3), 32, {"groups": 8, "padding": "same", "stride": (1, 2)}),
    ((1, 4, 3, 6), (2, 3), 4, {"groups": 2, "stride": 2}),
    ((1, 3, 3, 4), (3, 3), 12, {"groups": 4, "padding": 1}),
    ((1, 3, 3, 12), (2, 2), 4, {"groups": 4, "stride": 2}),
    ((3, 4, 4, 65), (2, 2), 1, {"stride": 2}),
    ((1, 3, 3, 1), (4, 4), 70, {"stride": 4}),
    ((0, 3, 3, 2), (2, 2), 3, {"stride": 2}),
]


def check(x: Array, w: Array, b: Array, seed: int, backends: list[Any], options: Any) -> None:
    """Whole numbers: every sum is exact, so every backend gives the same bits."""
    backends = [FastBackend(backend.isa, convolution="direct") for backend in backends]
    (y,) = same(backends, "conv2d_transpose", x, w, b, **options)
    (without_b,) = same(backends, "conv2d_transpose", x, w, **options)
    assert_same(y, without_b + b)
    (dy,) = integers(seed + 1, x.dtype, y.shape)
    dx, dw, db = same(backends, "conv2d_transpose_backward", dy, x, w, **options)
    assert inner(without_b, dy) == inner(x, dx) == inner(w, dw)
    assert db.tolist() == dy.sum((0, 1, 2)).tolist()
    # The convolution with the same filters goes the other way: from y's shape to x's.
    options = {name: value for name, value in options.items() if name != "output_padding"}
    assert_same(reference.conv2d(dy, w, **options), dx)
    of_conv, _, _ = reference.conv2d_backward(x, dy, w, weight_gradient=False, **options)
    assert_same(without_b, of_conv)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", range(len(TRANSPOSED)))
def test_the_adjoint_of_convolution(number: int, dtype: str, fast_backends: list[Any]) -> None:
    x_shape, kernel, filters, options = TRANSPOSED[number]
    w_shape = (*kernel, filters // options.get("groups", 1), x_shape[3])
    x, w, b = integers(number, dtype, x_shape, w_shape, (filters,))
    check(x, w, b, number, fast_backends, options)


@st.composite
def transposed(choose: st.DrawFn) -> tuple[Any, ...]:
    """Shapes and options that fit, small enough for the reference."""
    groups = choose(st.sampled_from([1, 1, 1, 2, 3, 17]))
    filters = choose(st.sampled_from([1, 2, 3] if groups > 1 else [1, 3, 17, 33]))
    channels = groups * choose(st.sampled_from([1, 2] if groups > 1 else [1, 5, 16, 35]))
    kernel = choose(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = choose(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    size = choose(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    more: tuple[int, ...] = tuple(choose(st.integers(0, s - 1)) for s in stride)
    padding: Any = choose(st.sampled_from(["same", "valid", None, None]))
    if padding is None:  # as much as leaves one output
        room = [
            (n - 1) * s + k + e - 1 for n, s, k, e in zip(size, stride, kernel, more, strict=True)
        ]
        before = [choose(st.integers(0, min(r, 4))) for r in room]
        after = [choose(st.integers(0, min(r - b, 4))) for r, b in zip(room, before, strict=True)]
        padding = tuple(zip(before, after, strict=True))
    options = {"stride": stride, "padding": padding, "groups": groups}
    if padding != "same":
        options["output_padding"] = more
    x_shape = (choose(st.integers(0, 2)), *size, channels)
    return x_shape, (*kernel, filters, channels), options


@given(case=transposed(), dtype=st.sampled_from(["float32", "float64"]), seed=st.integers(0))
def test_of_any_shape(case: Any, dtype: str, seed: int, fast_backends: list[Any]) -> None:
    x_shape, w_shape, options = case
    x, w, b = integers(seed, dtype, x_shape, w_shape, (w_shape[2] * options["groups"],))
    check(x, w, b, seed, fast_backends, options)


@pytest.mark.parametrize("number", range(len(TRANSPOSED)))
def test_numbers_of_any_kind(
    number: int, fast_backends: list[Any], dtype: Any, rng: np.random.Generator
) -> None:
    """With Winograd's tiles where they pay."""
    x_shape, kernel, filters, options = TRANSPOSED[number]
    w_shape = (*kernel, filters // options.get("groups", 1), x_shape[3])
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in (x_shape, w_shape, (filters,)))
    y = reference.conv2d_transpose(*(a.astype("f8") for a in (x, w, b)), **options)
    dy = rng.standard_normal(y.shape).astype(dtype)
    gradients = reference.conv2d_transpose_backward(
        *(a.astype("f8") for a in (dy, x, w)), **options
    )
    for backend in fast_backends:
        found = backend.conv2d_transpose(x, w, b, **options)
        assert_close(found, y, "conv2d_transpose", dtype=dtype)
        results = backend.conv2d_transpose_backward(dy, x, w, **options)
        for one, other in zip(results, gradients, strict=True):
            assert_close(one, other, "conv2d_transpose", dtype=dtype)


def test_by_hand(backend: Any, dtype: Any) -> None:
    x = np.array([1, 2], dtype).reshape(1, 1, 2, 1)
    w = np.array([1, 10, 100], dtype).reshape(1, 3, 1, 1)
    for options, expected in (
        ({}, [1, 12, 120, 200]),
        ({"stride": (1, 2)}, [1, 10, 102, 20, 200]),
        ({"stride": (1, 2), "padding": (0, 1)}, [10, 102, 20]),
        ({"stride": (1, 2), "padding": (0, 1), "output_padding": (0, 1)}, [10, 102, 20, 200]),
        ({"stride": (1, 2), "padding": "same"}, [1, 10, 102, 20]),
        ({"stride": (1, 3)}, [1, 10, 100, 2, 20, 200]),
        ({"stride": (1, 4), "padding": "same"}, [1, 10, 100, 0, 2, 20, 200, 0]),
        ({"padding": "same"}, [12, 120]),
    ):
        y = backend.conv2d_transpose(x, w, **options)
        assert_array(y, (1, 1, len(expected), 1), dtype)
        assert_same(y.ravel(), expected)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_is_the_input_times_the_stride(kernel: int, stride: int, backend: Any) -> None:
    x, w = np.ones((1, 3, 4, 1), np.float32), np.ones((kernel, kernel, 1, 1), np.float32)
    y = backend.conv2d_transpose(x, w, stride=stride, padding="same")
    assert y.shape == (1, 3 * stride, 4 * stride, 1)


def test_what_is_not_asked_for(backend: Any, rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((2, 3, 3, 4)), rng.standard_normal((2, 2, 5, 4))
    dy = rng.standard_normal((2, 4, 4, 5))
    op = backend.conv2d_transpose_backward
    dx, dw, db = op(dy, x, w)
    found = op(dy, x, w, input_gradient=False)
    assert_same_bits(found, (None, dw, db))
    assert_same_bits(op(dy, x, w, weight_gradient=False), (dx, None, None))
    with pytest.raises(TypeError, match=r"^conv2d_transpose_backward: input_gradient: expected"):
        op(dy, x, w, input_gradient=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"output_padding": 2}, ValueError, "output_padding: expected less than the stride of 2"),
        ({"output_padding": (0, -1)}, ValueError, "output_padding: expected"),
        ({"output_padding": 0.5}, TypeError, "output_padding: expected an integer"),
        ({"stride": 1, "output_padding": 1}, ValueError, "output_padding: expected less than"),
        ({"padding": "same", "output_padding": 1}, ValueError, "output_padding: expected 0 with"),
        ({"padding": "SAME"}, ValueError, "padding: expected"),
        ({"padding": 4}, ValueError, r"x: expected .* output .*\(3 - 1\) \* 2 \+ 2 - 8 \+ 0"),
        ({"groups": 3}, ValueError, "groups: expected a divisor of the 4 channels of x, got 3"),
        ({"groups": 0}, ValueError, "groups: expected"),
        ({"w": np.ones((2, 2, 3, 5), "f4")}, ValueError, "w: expected"),
        ({"w": np.ones((2, 2, 4), "f4")}, ValueError, "w: expected an array of rank 4"),
        ({"w": np.ones((2, 2, 0, 4), "f4")}, ValueError, "w: expected"),
        ({"w": np.ones((2, 2, 3, 4), "f8")}, TypeError, "w: expected float32"),
        ({"x": np.ones((1, 3, 0, 4), "f4")}, ValueError, "x: expected"),
        ({"stride": 2**40}, ValueError, "stride: expected a result that fits in memory, got one"),
        ({"b": np.ones(4, "f4")}, ValueError, "b: expected shape"),
        ({"b": np.ones((1, 3), "f4")}, ValueError, "b: expected an array of rank 1"),
    ],
)
def test_wrong_calls(options: Any, error: Any, message: str, backend: Any) -> None:
    x, w = np.ones((1, 3, 3, 4), np.float32), np.ones((2, 2, 3, 4), np.float32)
    call = {"x": x, "w": w, "stride": 2, **options}
    with pytest.raises(error, match=f"^conv2d_transpose: {message}"):
        backend.conv2d_transpose(**call)
    if "b" not in options:
        call["dy"] = np.ones((1, 6, 6, 3), np.float32)
        with pytest.raises(error, match=f"^conv2d_transpose_backward: {message}"):
            backend.conv2d_transpose_backward(**call)


def test_a_gradient_has_the_shape_of_the_result(backend: Any) -> None:
    x, w = np.ones((1, 3, 3, 4), np.float32), np.ones((2, 2, 3, 4), np.float32)
    for shape in ((1, 6, 5, 3), (2, 6, 6, 3), (1, 6, 6, 4)):
        with pytest.raises(ValueError, match=r"^conv2d_transpose_backward: dy: expected shape"):
            backend.conv2d_transpose_backward(np.ones(shape, np.float32), x, w, stride=2)
