"""What moves numbers about means, on every backend: by hand, and as NumPy has it."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from compare import assert_array, assert_same, assert_same_bits

SHAPES = [(), (1,), (5,), (2, 3), (3, 1, 4), (2, 4, 3, 5), (0, 3), (2, 0, 3)]


def whole(rng: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    return rng.integers(-8, 9, shape).astype(dtype)


def is_adjoint(y: Any, dy: Any, x: Any, dx: Any) -> bool:
    """Whether <y, dy> = <x, dx>, of whole numbers exactly."""
    return bool(np.sum(y.astype("f8") * dy) == np.sum(x.astype("f8") * dx))


# ---------------------------------------------------------------------- other shapes
@pytest.mark.parametrize("shape", SHAPES)
def test_reshape_keeps_the_order(shape: Any, backend: Any, dtype: Any, rng: Any) -> None:
    x = rng.standard_normal(shape).astype(dtype)
    for new in [(x.size,), (1, x.size, 1), shape[::-1], *([(-1,), (1, -1)] if x.size else [])]:
        y = backend.reshape(x, new)
        assert_array(y, x.reshape(new).shape, dtype)
        assert_same_bits((y,), (x.reshape(new),))
        assert not np.shares_memory(y, x)
        assert_same_bits((backend.reshape_backward(y, shape),), (x,))


@pytest.mark.parametrize(
    ("new", "error"),
    [
        ((2, 4), ValueError),
        ((-1, 4), ValueError),
        ((-1, -1), ValueError),
        ((-1, 0), ValueError),
        ((2, -3), ValueError),
        ((), ValueError),
        ((2.0, 3), TypeError),
        (6, TypeError),
        (None, TypeError),
    ],
)
def test_shapes_of_other_sizes(new: Any, error: Any, backend: Any) -> None:
    with pytest.raises(error, match=r"^reshape: shape: expected"):
        backend.reshape(np.ones((2, 3), np.float32), new)
    with pytest.raises(error, match=r"^reshape_backward: (dy, )?x_shape: expected"):
        backend.reshape_backward(np.ones((2, 3), np.float32), new)


@pytest.mark.parametrize("shape", SHAPES)
def test_transpose_puts_axes_in_order(shape: Any, backend: Any, dtype: Any, rng: Any) -> None:
    x = rng.standard_normal(shape).astype(dtype)
    for axes in permutations(range(len(shape))):
        y = backend.transpose(x, axes)
        assert_same_bits((y,), (np.array(x.transpose(axes), order="C"),))
        assert_same_bits((backend.transpose_backward(y, axes),), (x,))
        below = tuple(axis - len(shape) for axis in axes)
        assert_same_bits((backend.transpose(x, below),), (y,))


def test_axes_that_are_no_order(backend: Any) -> None:
    x = np.ones((2, 3), np.float32)
    for axes in [(0,), (0, 0), (0, 2), (0, -3), (0, 1, 2), (), (0, -2)]:
        for op in ("transpose", "transpose_backward"):
            with pytest.raises(ValueError, match=rf"^{op}: axes: expected"):
                getattr(backend, op)(x, axes)


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        ((), (2, 3)),
        ((3,), ()),
        ((3, 1), (4,)),
        ((2, 3, 1), (3, 4)),
        ((2, 1, 3), (1, 1, 4, 1)),
        ((2, 0), (1,)),
        ((1, 3), (0, 1)),
    ],
)
def test_expand_repeats(shape: Any, given: Any, backend: Any, dtype: Any, rng: Any) -> None:
    x = whole(rng, dtype, shape)
    y = backend.expand(x, given)
    assert_array(y, np.broadcast_shapes(shape, given), dtype)
    assert_same(y, x + np.zeros(given, dtype), dtype)
    dy = whole(rng, dtype, y.shape)
    dx = backend.expand_backward(dy, shape, given)
    assert_array(dx, shape, dtype)
    assert is_adjoint(y, dy, x, dx)


# ---------------------------------------------------------------------- pads
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 0, 1, 2, 3, 0]),
        ({"value": 7}, [7, 7, 1, 2, 3, 7]),
        ({"value": -np.inf}, [-np.inf, -np.inf, 1, 2, 3, -np.inf]),
        ({"mode": "edge"}, [1, 1, 1, 2, 3, 3]),
        ({"mode": "reflect"}, [3, 2, 1, 2, 3, 2]),
    ],
)
def test_pads_by_hand(options: Any, expected: Any, backend: Any, dtype: Any) -> None:
    y = backend.pad(np.array([1, 2, 3], dtype), [(2, 1)], **options)
    assert_same(y, np.array(expected), dtype)
    dx = backend.pad_backward(
        np.array([1, 2, 4, 8, 16, 32], dtype), (3,), [(2, 1)], mode=options.get("mode", "constant")
    )
    wanted = {"edge": [7, 8, 48], "reflect": [4, 8 + 2 + 32, 16 + 1], "constant": [4, 8, 16]}
    assert_same(dx, np.array(wanted[options.get("mode", "constant")]), dtype)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize(
    "widths",
    [
        ((0, 0), (0, 0), (0, 0), (0, 0)),
        ((0, 0), (1, 1), (2, 2), (0, 0)),
        ((1, 0), (0, 3), (4, 2), (0, 1)),
        ((0, 1), (3, 3), (4, 4), (2, 0)),
    ],
)
def test_pads_are_numpys(mode: str, widths: Any, backend: Any, dtype: Any, rng: Any) -> None:
    x = whole(rng, dtype, (2, 4, 5, 3))
    y = backend.pad(x, widths, mode=mode)
    assert_array(y, y.shape, dtype)
    assert_same_bits((y,), (np.pad(x, widths, mode),))  # type: ignore[call-overload]
    dy = whole(rng, dtype, y.shape)
    dx = backend.pad_backward(dy, x.shape, widths, mode=mode)
    assert_array(dx, x.shape, dtype)
    assert is_adjoint(y, dy, x, dx)


@pytest.mark.parametrize(
    ("widths", "mode", "shape"),
    [
        (((3, 0),), "reflect", (3,)),
        (((0, 3),), "reflect", (3,)),
        (((1, 0),), "reflect", (1,)),
        (((1, 0),), "reflect", (0,)),
        (((1, 0),), "edge", (0,)),
        (((1, -1),), "constant", (3,)),
        (((1, 1), (1, 1)), "constant", (3,)),
        ((1, 1), "constant", (3,)),
    ],
)
def test_pads_that_find_nothing_to_copy(widths: Any, mode: str, shape: Any, backend: Any) -> None:
    with pytest.raises(ValueError, match=r"^pad: widths: expected"):
        backend.pad(np.ones(shape, np.float32), widths, mode=mode)
    with pytest.raises(ValueError, match=r"^pad_backward: widths: expected"):
        backend.pad_backward(np.ones(4, np.float32), shape, widths, mode=mode)


def test_what_is_padded_to_no_memory_is_named(backend: Any) -> None:
    for width in (2**40, 2**62):
        with pytest.raises((ValueError, MemoryError), match="pad: widths: expected a result that"):
            backend.pad(np.ones((2, 3), np.float32), ((0, 0), (width, 1)))


# ---------------------------------------------------------------------- parts
BOUNDS = [None, 0, 1, 3, 4, 9, -1, -2, -4, -9, 2**63 - 1, -(2**63), 10**9]


def test_slices_are_pythons(backend: Any, dtype: Any, rng: Any) -> None:
    x = whole(rng, dtype, (4, 3))
    for start, stop, step in product(BOUNDS, BOUNDS, (None, 1, 2, 5, -1, -2, -5, 2**62)):
        y = backend.strided_slice(x, (start, None), (stop, None), (step, -1))
        expected = x[start:stop:step, ::-1]
        assert_same_bits((y,), (np.ascontiguousarray(expected),), f"{start}:{stop}:{step}")
        dy = whole(rng, dtype, y.shape)
        dx = backend.strided_slice_backward(dy, x.shape, (start, None), (stop, None), (step, -1))
        wanted = np.zeros_like(x)
        wanted[start:stop:step, ::-1] = dy
        assert_same(dx, wanted, dtype)


def test_what_is_left_out_of_a_slice_is_all(backend: Any, dtype: Any, rng: Any) -> None:
    x = whole(rng, dtype, (4, 3))
    assert_same(backend.strided_slice(x, None, None), x, dtype)
    assert_same(backend.strided_slice(x, (1, 0), None, None), x[1:], dtype)
    number = backend.strided_slice(x[0, 0], (), ())
    assert_array(number, (), dtype)
    assert number == x[0, 0]


def test_wrong_slices(backend: Any) -> None:
    x = np.ones((4, 3), np.float32)
    for call, name in [
        (((0,), (1, 1)), "starts"),
        (((0, 0), (1, 1, 1)), "stops"),
        (((0, 0), (1, 1), (1,)), "steps"),
        (((0, 0), (1, 1), (0, 1)), "steps"),
    ]:
        with pytest.raises(ValueError, match=rf"^strided_slice: {name}: expected"):
            backend.strided_slice(x, *call)
    for call, name in [((1, (1, 1)), "starts"), (((0, 0), (1.0, 1)), "stops")]:
        with pytest.raises(TypeError, match=rf"^strided_slice: {name}: expected"):
            backend.strided_slice(x, *call)


def test_take_is_numpys(backend: Any, dtype: Any, rng: Any) -> None:
    x = whole(rng, dtype, (2, 4, 3, 5))
    for axis in range(-4, 4):
        size = x.shape[axis]
        for places in [(), (0,), (-1, 0, size - 1, -size), tuple(rng.integers(0, size, 9))]:
            y = backend.take(x, places, axis)
            assert_same_bits((y,), (np.take(x, np.array(places, int), axis),))
            dy = whole(rng, dtype, y.shape)
            dx = backend.take_backward(dy, x.shape, places, axis)
            assert_array(dx, x.shape, dtype)
            assert is_adjoint(y, dy, x, dx)
    assert_same(backend.take(x, np.array([2, 1])), x[..., [2, 1]], dtype)


def test_places_that_are_not_there(backend: Any) -> None:
    x = np.ones((2, 3), np.float32)
    for places in [(3,), (-4,), (0, 7)]:
        with pytest.raises(ValueError, match=r"^take: indices: expected"):
            backend.take(x, places)
    for axis in (2, -3):
        with pytest.raises(ValueError, match=r"^take: axis: expected"):
            backend.take(x, (0,), axis)
    with pytest.raises(ValueError, match=r"^take: axis: expected an array that has axes"):
        backend.take(x[0, 0], (0,))


# ---------------------------------------------------------------------- blocks
def test_blocks_by_hand(backend: Any, dtype: Any) -> None:
    """One pixel of eight channels: a block of four pixels of two."""
    x = np.arange(8, dtype=dtype).reshape(1, 1, 1, 8)
    y = backend.depth_to_space(x, 2)
    assert y[0].tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    y = backend.depth_to_space(x, 2, mode="CRD")
    assert y[0].tolist() == [[[0, 4], [1, 5]], [[2, 6], [3, 7]]]


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("block", [1, 2, 3])
def test_each_is_the_inverse_and_the_gradient_of_the_other(
    mode: str, block: int, backend: Any, dtype: Any, rng: Any
) -> None:
    for shape in [(2, 3, 2, 5), (1, 1, 1, 1), (0, 2, 2, 3)]:
        deep = rng.standard_normal((*shape[:3], shape[3] * block**2)).astype(dtype)
        large = backend.depth_to_space(deep, block, mode=mode)
        assert_array(large, (shape[0], shape[1] * block, shape[2] * block, shape[3]), dtype)
        back = backend.space_to_depth(large, block, mode=mode)
        assert_same_bits((back,), (deep,))
        assert_same_bits((backend.depth_to_space_backward(large, block, mode=mode),), (deep,))
        assert_same_bits((backend.space_to_depth_backward(deep, block, mode=mode),), (large,))


def test_a_focus_is_space_to_depth(backend: Any, dtype: Any, rng: Any) -> None:
    """As YOLOX writes it, with slices of step 2, but for the order of the blocks."""
    x = rng.standard_normal((2, 4, 6, 3)).astype(dtype)
    parts = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
    assert_same_bits((backend.space_to_depth(x, 2),), (np.concatenate(parts, -1),))


def test_images_that_hold_no_blocks(backend: Any) -> None:
    x = np.ones((1, 4, 6, 6), np.float32)
    for op, block in (("depth_to_space", 2), ("space_to_depth", 4)):
        with pytest.raises(ValueError, match=rf"^{op}: x: expected .*multiples? of"):
            getattr(backend, op)(x, block)
    with pytest.raises(ValueError, match=r"depth_to_space: block: expected"):
        backend.depth_to_space(x, 0)
    with pytest.raises(ValueError, match=r"depth_to_space: mode: expected"):
        backend.depth_to_space(x, 1, mode="RCD")
