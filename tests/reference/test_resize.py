"""What resizing means, on every backend."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from compare import assert_array, assert_close, assert_same, assert_same_bits
from resampling_calls import COORDINATES, METHODS, ROUNDINGS

from fastcnn import FastBackend, reference

# How upsample2d is a resize.
UPSAMPLED = {
    "nearest": {"coordinates": "asymmetric", "rounding": "floor"},
    "bilinear": {"method": "bilinear"},
}

# A row of pixels, the size that it becomes, options, and what is worked out by hand.
BY_HAND = [
    ([0, 1, 2, 3], 2, {}, [0, 2]),  # places 0.5 and 2.5
    ([0, 1, 2, 3], 2, {"rounding": "round_prefer_ceil"}, [1, 3]),
    ([0, 1, 2, 3], 2, {"rounding": "floor"}, [0, 2]),
    ([0, 1, 2, 3], 2, {"rounding": "ceil"}, [1, 3]),
    ([0, 1, 2], 5, {}, [0, 0, 1, 2, 2]),  # -0.2, 0.4, 1, 1.6, 2.2
    ([0, 1, 2], 5, {"rounding": "ceil"}, [0, 1, 1, 2, 2]),
    ([0, 1, 2], 5, {"rounding": "floor"}, [0, 0, 1, 1, 2]),
    ([0, 1, 2], 5, {"coordinates": "asymmetric"}, [0, 1, 1, 2, 2]),  # 0, 0.6, 1.2, 1.8, 2.4
    ([0, 1, 2], 5, {"coordinates": "align_corners"}, [0, 0, 1, 1, 2]),  # 0, 0.5, 1, 1.5, 2
    ([0, 1, 2, 3, 4], 1, {}, [2]),
    ([0, 1, 2, 3, 4], 1, {"coordinates": "pytorch_half_pixel"}, [0]),
    ([0, 1, 2, 3, 4], 1, {"coordinates": "align_corners"}, [0]),
    ([0, 8, 4], 2, {"method": "bilinear"}, [2, 5]),  # 0.25, 1.75
    ([0, 8, 4], 6, {"method": "bilinear"}, [0, 2, 6, 7, 5, 4]),
    ([0, 8, 4], 5, {"method": "bilinear", "coordinates": "align_corners"}, [0, 4, 8, 6, 4]),
    ([0, 8, 4, 4], 2, {"method": "bilinear", "coordinates": "asymmetric"}, [0, 4]),
    ([0, 8], 3, {"method": "bilinear", "coordinates": "asymmetric", "scale": 2}, [0, 4, 8]),
    ([0, 8], 3, {"method": "bilinear", "scale": 2.0}, [0, 2, 6]),
    (
        [0, 8, 16, 24],
        3,  # 3.2 cut off: 0.25, 1.5, 2.75 and not 0.125, 1.375, 2.625
        {"method": "bilinear", "coordinates": "half_pixel_symmetric", "scale": 0.8},
        [2, 12, 22],
    ),
    ([0, 8, 16, 24], 3, {"method": "bilinear", "scale": 0.8}, [1, 11, 21]),
    ([7], 4, {"method": "cubic"}, [7, 7, 7, 7]),
    # Half-way between pixels the weights of -0.5 are -1/16, 9/16, 9/16, -1/16.
    ([0, 16, 16, 32, 0], 1, {"method": "cubic", "cubic_coefficient": -0.5}, [16]),
    ([16, 32, 0, 16], 1, {"method": "cubic", "cubic_coefficient": -0.5}, [16]),
    # And those of -0.75 are -3/32, 19/32, 19/32, -3/32; rows end in copies of their ends.
    ([32, 0], 1, {"method": "cubic"}, [16]),
    ([32, 64, 0, 96], 1, {"method": "cubic"}, [26]),
    # Of the weights at a half those of two pixels inside are alike: halves.
    ([32, 64], 1, {"method": "cubic", "exclude_outside": True}, [48]),
    ([32, 64, 0, 96], 1, {"method": "cubic", "exclude_outside": True}, [26]),
]


@pytest.mark.parametrize(("row", "size", "options", "expected"), BY_HAND)
def test_by_hand(
    row: Any, size: int, options: Any, expected: Any, backend: Any, dtype: Any
) -> None:
    """Along each axis, in each channel, and in each image."""
    for channels in (1, 3, 17):
        x = np.multiply.outer(row, np.arange(1, channels + 1)).astype(dtype)
        wanted = np.multiply.outer(expected, np.arange(1, channels + 1)).astype(dtype)
        both = np.stack([x, -x])
        y = backend.resize2d(both[:, None], (1, size), **options)
        assert_same(y, np.stack([wanted, -wanted])[:, None], dtype)
        y = backend.resize2d(both[:, :, None], (size, 1), **options)
        assert_same(y, np.stack([wanted, -wanted])[:, :, None], dtype)


@pytest.mark.parametrize("method", UPSAMPLED)
@pytest.mark.parametrize("factor", [1, 2, 3, (5, 1), (4, 2)])
def test_upsampling_is_a_resize(method: str, factor: Any, backend: Any, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 4, 18)).astype(dtype)
    y = backend.upsample2d(x, factor, method=method)
    found = backend.resize2d(x, y.shape[1:3], **UPSAMPLED[method])
    assert_array(found, y.shape, dtype)
    assert_same_bits((found,), (y,))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_every_rule(
    method: str, coordinates: str, fast_backends: list[Any], dtype: Any, rng: Any
) -> None:
    for rounding, scale in product(ROUNDINGS, (None, 0.1, (1.7, 2.0))):
        if method != "nearest" and rounding not in ("floor", "ceil"):
            continue
        options = {"method": method, "coordinates": coordinates, "rounding": rounding}
        options["exclude_outside"] = rounding == "ceil"
        for size in ((1, 1), (2, 7), (9, 5), 4):
            x = rng.standard_normal((2, 4, 5, 3)).astype(dtype)
            y = reference.resize2d(x.astype("f8"), size, scale=scale, **options)
            dy = rng.standard_normal(y.shape).astype(dtype)
            given = dy.astype("f8"), x.shape, size
            dx = reference.resize2d_backward(*given, scale=scale, **options)
            assert np.isclose(np.sum(y * dy), np.sum(dx * x), atol=1e-4)
            for fast in fast_backends:
                assert_close(fast.resize2d(x, size, scale=scale, **options), y)
                found = fast.resize2d_backward(dy, x.shape, size, scale=scale, **options)
                assert_close(found, dx)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(6, 16), (2, 1), (3, 8), (12, 4)])
def test_backward_is_the_adjoint(
    method: str, size: Any, fast_backends: list[Any], dtype: Any, rng: Any
) -> None:
    """Weights are of few digits, so that whole numbers give the same bits."""
    for shape in ((2, 3, 4, 3), (1, 6, 2, 19), (1, 12, 8, 1029)):
        x = rng.integers(-8, 9, shape).astype(dtype)
        y = reference.resize2d(x, size, method=method, coordinates="asymmetric", scale=(2, 4))
        dy = rng.integers(-8, 9, y.shape).astype(dtype)
        options = {"method": method, "coordinates": "asymmetric", "scale": (2, 4)}
        dx = reference.resize2d_backward(dy, shape, size, **options)
        assert np.sum(y.astype("f8") * dy) == np.sum(dx.astype("f8") * x)
        for fast in fast_backends:
            assert_same(fast.resize2d(x, size, **options), y, dtype)
            assert_same(fast.resize2d_backward(dy, shape, size, **options), dx, dtype)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("method", "seen"), [("nearest", [4, 5]), ("bilinear", [3, 4, 5]), ("cubic", [1, 3, 4, 5, 7])]
)
def test_infinities_reach_what_sees_them(
    method: str, seen: Any, value: float, backend: Any, dtype: Any
) -> None:
    """A pixel of weight 0 is not seen: at places of pixels there is no other."""
    x = np.zeros((1, 5, 5, 17), dtype)
    x[0, 2, 2, 4] = value
    y = backend.resize2d(x, 9, method=method, coordinates="align_corners", cubic_coefficient=-0.7)
    spoiled = np.zeros((9, 9), bool)
    spoiled[np.ix_(seen, seen)] = True
    np.testing.assert_array_equal(~np.isfinite(y[0, :, :, 4]), spoiled)
    assert (np.delete(y, 4, -1) == 0).all()


def test_a_ratio_that_no_float_holds(backend: Any, dtype: Any) -> None:
    """1 / 0.1 is 10 in float32: the tenth pixel, and not the one before it."""
    x = np.arange(30, dtype=dtype).reshape(1, 1, 30, 1)
    scale = (1.0, float(np.float32(0.1)))
    options = {"coordinates": "asymmetric", "rounding": "floor"}
    assert backend.resize2d(x, (1, 3), scale=scale, **options).ravel().tolist() == [0, 10, 20]
    assert backend.resize2d(x, (1, 3), **options).ravel().tolist() == [0, 10, 20]


@pytest.mark.parametrize("scale", [5e-324, 1e-30, 1e308])
@pytest.mark.parametrize("method", METHODS)
def test_places_outside_see_the_rim(method: str, scale: float, backend: Any, dtype: Any) -> None:
    x = np.arange(5, dtype=dtype).reshape(1, 1, 5, 1)
    y = backend.resize2d(x, (1, 4), method=method, coordinates="asymmetric", scale=(1, scale))
    expected = [0, 4, 4, 4] if scale < 1 else [0, 0, 0, 0]
    np.testing.assert_allclose(y.ravel(), expected, rtol=0, atol=1e-300)


def test_a_sum_larger_than_what_it_comes_to(backend: Any, dtype: Any) -> None:
    """Terms of either sign, near the largest number that there is."""
    largest = float(np.finfo(dtype).max)
    x = np.full((1, 1, 4, 18), largest, dtype)
    x[:, :, 1:3] *= 0.5
    y = backend.resize2d(x, (1, 1), method="cubic")
    assert_close(y, np.full(y.shape, largest * (19 / 32 - 6 / 32)))
    dy = np.full((1, 1, 4, 18), 0.75 * largest, dtype)
    dy[:, :, 2:] *= -1
    if dtype == np.float32:  # float64 has nothing wider for the parts
        dx = backend.resize2d_backward(dy, (1, 1, 1, 18), (1, 4), method="bilinear")
        assert_same(dx, np.zeros(dx.shape), dtype)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 16, 33])
def test_any_number_of_threads(method: str, channels: int, fast_backend: Any, rng: Any) -> None:
    x = rng.standard_normal((3, 41, 40, channels), np.float32)
    serial, *others = (FastBackend(fast_backend.isa, threads) for threads in range(1, 9))
    for size in (60, (33, 57)):
        y = serial.resize2d(x, size, method=method)
        dy = rng.standard_normal(y.shape, np.float32)
        dx = serial.resize2d_backward(dy, x.shape, size, method=method)
        for backend in others:
            found = backend.resize2d(x, size, method=method)
            gradient = backend.resize2d_backward(dy, x.shape, size, method=method)
            assert_same_bits((found, gradient), (y, dx))
        one = serial.resize2d(x[1:2], size, method=method)
        assert_same_bits((one,), (y[1:2],))


def test_results_that_no_cache_keeps(fast_backend: Any, rng: Any) -> None:
    """From 32 MB on results are written past the caches: the same ones."""
    image = rng.standard_normal((1, 33, 32, 64), np.float32)
    one = fast_backend.resize2d(image, 60, method="bilinear")
    y = fast_backend.resize2d(np.repeat(image, 40, 0), 60, method="bilinear")
    np.testing.assert_array_equal(y, np.broadcast_to(one, y.shape))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 0}, ValueError, "size: expected"),
        ({"size": (2, -1)}, ValueError, "size: expected"),
        ({"size": 1.5}, TypeError, "size: expected an integer, got float 1.5"),
        ({"size": (1, 2, 3)}, ValueError, "size: expected a number or a"),
        ({"size": 2**40}, ValueError, "size: expected a result that fits in memory"),
        ({"method": "area"}, ValueError, 'method: expected one of "nearest", "bilinear", "cubic"'),
        ({"method": None}, TypeError, "method: expected one of"),
        ({"coordinates": "corners"}, ValueError, 'coordinates: expected one of "half_pixel"'),
        ({"coordinates": 1}, TypeError, "coordinates: expected one of"),
        ({"rounding": "up"}, ValueError, 'rounding: expected one of "round_prefer_floor"'),
        ({"rounding": b"floor"}, TypeError, "rounding: expected one of"),
        ({"scale": 0}, ValueError, "scale: expected a finite number"),
        ({"scale": (2.0, -1)}, ValueError, "scale: expected a finite number"),
        ({"scale": np.inf}, ValueError, "scale: expected a finite number"),
        ({"scale": "2"}, TypeError, "scale: expected a number, got str '2'"),
        ({"scale": (1, 2, 3)}, ValueError, "scale: expected a number or a"),
        ({"cubic_coefficient": np.nan}, ValueError, "cubic_coefficient: expected a finite number"),
        ({"exclude_outside": 1}, TypeError, "exclude_outside: expected True or False, got int 1"),
        ({"cubic_coefficient": True}, TypeError, "cubic_coefficient: expected a number"),
        ({"x": np.ones((2, 3, 4), "f4")}, ValueError, "x: expected an array of rank 4"),
        ({"x": np.ones((2, 0, 4, 3), "f4")}, ValueError, "x: expected"),
        ({"x": np.ones((0, 2, 4, 3), "f4"), "size": 2**40}, ValueError, "size: expected a res"),
    ],
)
def test_wrong_calls(options: Any, error: Any, message: str, backend: Any) -> None:
    call = {"x": np.ones((1, 2, 2, 1), np.float32), "size": 4, **options}
    with pytest.raises(error, match=f"^resize2d: {message}"):
        backend.resize2d(**call)
    if "x" not in options and options.get("size") != 2**40:
        call["dy"], call["x_shape"] = np.ones((1, 4, 4, 1), np.float32), call.pop("x").shape
        with pytest.raises(error, match=f"^resize2d_backward: {message}"):
            backend.resize2d_backward(**call)


def test_gradients_of_the_wrong_shape(backend: Any) -> None:
    dy = np.ones((1, 4, 4, 2), np.float32)
    for size in (1, 3, (4, 3)):
        with pytest.raises(ValueError, match=r"^resize2d_backward: dy: expected"):
            backend.resize2d_backward(dy, (1, 2, 2, 2), size)
    with pytest.raises(ValueError, match=r"^resize2d_backward: x_shape: expected a result that f"):
        backend.resize2d_backward(dy, (1, 2**60, 2, 2), 4)
