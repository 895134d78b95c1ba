"""What upsampling means, on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import assert_array, assert_close, assert_same, assert_same_bits

from fastcnn import FastBackend

METHODS = ("nearest", "bilinear")


def test_nearest_repeats_each_pixel(backend: Any, dtype: Any, rng: Any) -> None:
    for shape in ((2, 3, 4, 5), (1, 1, 1, 33), (3, 2, 1, 16), (0, 2, 3, 4)):
        x = rng.standard_normal(shape).astype(dtype)
        for factor in (1, 2, 3, (1, 4), (5, 2)):
            fh, fw = np.broadcast_to(factor, 2)
            y = backend.upsample2d(x, factor)
            expected = x.repeat(fh, 1).repeat(fw, 2)
            assert_array(y, expected.shape, dtype)
            assert_same_bits((y,), (expected,))
            dy = rng.integers(-8, 9, y.shape).astype(dtype)
            dx = backend.upsample2d_backward(dy, x.shape, factor)
            blocks = dy.reshape(shape[0], shape[1], fh, shape[2], fw, shape[3])
            assert_same(dx, blocks.sum((2, 4)), dtype)


@pytest.mark.parametrize(
    ("row", "factor", "expected"),
    [
        ([0, 4], 2, [0, 1, 3, 4]),
        ([0, 8, 4], 2, [0, 2, 6, 7, 5, 4]),
        ([0, 8], 4, [0, 0, 1, 3, 5, 7, 8, 8]),
        ([0, 3, 9], 3, [0, 0, 1, 2, 3, 5, 7, 9, 9]),
        ([5], 3, [5, 5, 5]),
        ([7, 2], 1, [7, 2]),
    ],
)
def test_bilinear_between_the_centres(
    row: Any, factor: int, expected: Any, backend: Any, dtype: Any
) -> None:
    """Worked out by hand; along each axis, in each channel, and in each image."""
    for channels in (1, 3, 17):
        x = np.multiply.outer(row, np.arange(1, channels + 1)).astype(dtype)
        wanted = np.multiply.outer(expected, np.arange(1, channels + 1)).astype(dtype)
        y = backend.upsample2d(x[None, None], (1, factor), method="bilinear")
        assert_close(y, wanted[None, None])
        y = backend.upsample2d(x[None, :, None], (factor, 1), method="bilinear")
        assert_close(y, wanted[None, :, None])
        both = np.stack([x, x[::-1]])[:, None]
        y = backend.upsample2d(both, (3, factor), method="bilinear")
        for image, one in zip(y, (wanted, wanted[::-1]), strict=True):
            assert_close(image, np.broadcast_to(one, (3, *one.shape)))


def test_bilinear_is_the_product_of_its_axes(backend: Any, rng: Any) -> None:
    x = rng.integers(-8, 9, (2, 3, 4, 5)).astype(np.float64)
    rows = backend.upsample2d(x, (4, 1), method="bilinear")
    expected = backend.upsample2d(rows, (1, 2), method="bilinear")
    assert_same(backend.upsample2d(x, (4, 2), method="bilinear"), expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [1, 2, 4, (2, 1), (1, 8), (16, 2)])
def test_backward_is_the_adjoint(
    method: str, factor: Any, fast_backends: list[Any], reference: Any, dtype: Any, rng: Any
) -> None:
    """Weights are halves, quarters and so on, so that whole numbers give the same bits."""
    for shape in ((2, 3, 4, 3), (1, 1, 2, 19), (1, 4, 1, 16)):
        x = rng.integers(-8, 9, shape).astype(dtype)
        y = reference.upsample2d(x, factor, method=method)
        dy = rng.integers(-8, 9, y.shape).astype(dtype)
        dx = reference.upsample2d_backward(dy, shape, factor, method=method)
        assert np.sum(y.astype("f8") * dy) == np.sum(dx.astype("f8") * x)
        for fast in fast_backends:
            assert_same(fast.upsample2d(x, factor, method=method), y, dtype)
            assert_same(fast.upsample2d_backward(dy, shape, factor, method=method), dx, dtype)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [3, (5, 7), (1, 6), 33])
def test_any_factor(
    method: str, factor: Any, fast_backends: list[Any], reference: Any, dtype: Any, rng: Any
) -> None:
    for shape in ((1, 2, 3, 5), (2, 1, 1, 18)):
        x = rng.standard_normal(shape)
        y = reference.upsample2d(x.astype(dtype).astype("f8"), factor, method=method)
        dy = rng.standard_normal(y.shape).astype(dtype)
        dx = reference.upsample2d_backward(dy.astype("f8"), shape, factor, method=method)
        for fast in fast_backends:
            assert_close(fast.upsample2d(x.astype(dtype), factor, method=method), y)
            assert_close(fast.upsample2d_backward(dy, shape, factor, method=method), dx)


def test_more_channels_than_a_block(
    fast_backend: Any, reference: Any, dtype: Any, rng: Any
) -> None:
    dy = rng.integers(-8, 9, (1, 2, 4, 2051)).astype(dtype)
    for method in METHODS:
        dx = reference.upsample2d_backward(dy, (1, 1, 2, 2051), 2, method=method)
        found = fast_backend.upsample2d_backward(dy, (1, 1, 2, 2051), 2, method=method)
        assert_same(found, dx, dtype)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_infinities_reach_what_sees_them(
    method: str, factor: int, value: float, backend: Any, dtype: Any
) -> None:
    """A pixel of weight 0 is not seen: not at its neighbours' centres, nor outside of them."""
    x = np.zeros((1, 5, 5, 17), dtype)
    x[0, 2, 2, 4] = value
    y = backend.upsample2d(x, factor, method=method)
    reach = (0, 0) if method == "nearest" else (factor // 2,) * 2
    seen = np.zeros((5 * factor, 5 * factor), bool)
    around = slice(2 * factor - reach[0], 3 * factor + reach[1])
    seen[around, around] = True
    np.testing.assert_array_equal(~np.isfinite(y[0, :, :, 4]), seen)
    assert (np.delete(y, 4, -1) == 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 16, 35])
def test_a_sum_larger_than_what_it_comes_to(
    method: str, channels: int, backend: Any, dtype: Any
) -> None:
    """Terms of either sign, near the largest number that there is."""
    dy = np.full((1, 10, 12, channels), float(np.finfo(dtype).max) * 0.75, dtype)
    dy[:, 3:7] = -dy[:, 3:7]
    dx = backend.upsample2d_backward(dy, (1, 5, 6, channels), 2, method=method)
    expected = upsampled_backward(dy[0, :, :, 0], method)
    beyond = np.abs(expected) > float(np.finfo(dtype).max)
    assert 0 < beyond.sum() < beyond.size
    found = dx[0].transpose(2, 0, 1).copy()
    if dtype == np.float32:  # float64 has nothing wider for the parts
        assert_close(found, np.broadcast_to(expected, found.shape))
    assert not np.isfinite(found[:, beyond]).any()


def upsampled_backward(dy: Any, method: str) -> Any:
    """Return the gradient of a plane enlarged twice, in the widest float that NumPy has."""
    height, width = (size // 2 for size in dy.shape)
    result = np.zeros((height, width), np.longdouble)
    for p, q in np.ndindex(dy.shape):
        for h, v in weights(p, height, method):
            for w, u in weights(q, width, method):
                result[h, w] += np.longdouble(v * u) * dy[p, q]
    return result


def weights(p: int, size: int, method: str) -> list[tuple[int, float]]:
    if method == "nearest":
        return [(p // 2, 1.0)]
    near = p // 2
    other = min(max(near + (1 if p % 2 else -1), 0), size - 1)
    return [(near, 0.75), (other, 0.25)]


@pytest.mark.parametrize("method", METHODS)
def test_results_that_no_cache_keeps(method: str, fast_backend: Any, rng: Any) -> None:
    """From 32 MB on results are written past the caches: the same ones."""
    image = rng.standard_normal((1, 33, 32, 64), np.float32)
    count = (34 << 20) // (4 * image.nbytes) + 1
    one = fast_backend.upsample2d(image, 2, method=method)
    y = fast_backend.upsample2d(np.repeat(image, count, 0), 2, method=method)
    np.testing.assert_array_equal(y, np.broadcast_to(one, y.shape))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 16, 33])
def test_any_number_of_threads(method: str, channels: int, fast_backend: Any, rng: Any) -> None:
    x = rng.standard_normal((3, 41, 40, channels), np.float32)
    serial, *others = (FastBackend(fast_backend.isa, threads) for threads in range(1, 9))
    for factor in (2, (3, 5)):
        y = serial.upsample2d(x, factor, method=method)
        dy = rng.standard_normal(y.shape, np.float32)
        dx = serial.upsample2d_backward(dy, x.shape, factor, method=method)
        for backend in others:
            found = backend.upsample2d(x, factor, method=method)
            gradient = backend.upsample2d_backward(dy, x.shape, factor, method=method)
            assert_same_bits((found, gradient), (y, dx))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"factor": 0}, ValueError, "factor: expected"),
        ({"factor": (2, -1)}, ValueError, "factor: expected"),
        ({"factor": 1.5}, TypeError, "factor: expected an integer, got float 1.5"),
        ({"factor": (1, 2, 3)}, ValueError, "factor: expected a number or a"),
        ({"factor": 2**40}, ValueError, "factor: expected a result that fits in memory"),
        (
            {"method": "cubic"},
            ValueError,
            'method: expected "nearest" or "bilinear", got \'cubic\'',
        ),
        ({"method": None}, TypeError, 'method: expected "nearest" or "bilinear", got None'),
        ({"x": np.ones((2, 3, 4), "f4")}, ValueError, "x: expected an array of rank 4"),
        ({"x": np.ones((2, 0, 4, 3), "f4")}, ValueError, "x: expected"),
        ({"x": np.ones((0, 2, 4, 3), "f4"), "factor": 2**40}, ValueError, "factor: expected a res"),
    ],
)
def test_wrong_calls(options: Any, error: Any, message: str, backend: Any) -> None:
    call = {"x": np.ones((1, 2, 2, 1), np.float32), "factor": 2, **options}
    with pytest.raises(error, match=f"^upsample2d: {message}"):
        backend.upsample2d(**call)
    if "x" not in options and options.get("factor") != 2**40:
        call["dy"], call["x_shape"] = np.ones((1, 4, 4, 1), np.float32), call.pop("x").shape
        with pytest.raises(error, match=f"^upsample2d_backward: {message}"):
            backend.upsample2d_backward(**call)


def test_a_gradient_has_the_shape_of_the_result(backend: Any) -> None:
    for factor in (1, 3, (2, 3)):
        with pytest.raises(ValueError, match=r"^upsample2d_backward: dy: expected"):
            backend.upsample2d_backward(np.ones((1, 4, 4, 2), np.float32), (1, 2, 2, 2), factor)
