"""Hostile sizes: strides, windows, paddings, groups and shapes that are wrong or gigantic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hostile import CALLS, CONVS, F4, HUGE, PLACES, POOLS, TRANSPOSED, call, ones, refuses

from fastcnn import get_backend


@pytest.fixture(scope="module", params=["reference", "fast"])
def backend(request: pytest.FixtureRequest) -> Any:
    """One backend of each kind: checks are Python, the same for every instruction set."""
    return get_backend(request.param)


def virtual(*shape: int) -> np.ndarray:
    """An array of any shape that takes no memory."""
    return np.broadcast_to(F4(1), shape)


@pytest.mark.parametrize(
    ("op", "option"),
    [
        *((op, option) for op in CONVS for option in ("stride", "dilation")),
        *((op, option) for op in POOLS for option in ("stride", "pool_size", "dilation")),
        *((op, "stride") for op in TRANSPOSED),
    ],
)
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        ((2, 0), ValueError),
        ((-1, 2), ValueError),
        ((1, 2, 3), ValueError),
        ((1,), ValueError),
        ((), ValueError),
        (10**30, ValueError),
        pytest.param(10**5000, ValueError, id="5000 digits"),
        (True, TypeError),
        (np.bool_(True), TypeError),
        (np.array([[1, 1], [1, 1]]), TypeError),
        (1.0, TypeError),
        (np.float32(1), TypeError),
        ("2", TypeError),
        ("same", TypeError),
        ((1, 1.5), TypeError),
        ((1, None), TypeError),
        (((1, 1), (1, 1)), TypeError),
        ({1: 2}, TypeError),
    ],
)
def test_sizes(backend: Any, op: str, option: str, value: Any, error: Any) -> None:
    refuses(backend, error, op, option, **{option: value})


@pytest.mark.parametrize("op", [*CONVS, *TRANSPOSED, *POOLS])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, ValueError),
        ((0, -1), ValueError),
        (((0, 0), (0, -1)), ValueError),
        ("SAME", ValueError),
        ("full", ValueError),
        ("", ValueError),
        ((1, 1, 1, 1), ValueError),
        ((1,), ValueError),
        (((1, 1),), ValueError),
        ((1, (1, 1)), ValueError),
        (((1, 1), (1, 1, 1)), ValueError),
        (((1, 1), (1, 1), (1, 1)), ValueError),
        (10**30, ValueError),
        (True, TypeError),
        (0.5, TypeError),
        (None, TypeError),
        (b"same", TypeError),
        ((0, None), TypeError),
        (((0, 0), (0, 0.0)), TypeError),
    ],
)
def test_padding(backend: Any, op: str, value: Any, error: Any) -> None:
    refuses(backend, error, op, "padding", padding=value)


@pytest.mark.parametrize("op", CONVS)
def test_a_message_is_one_line_and_short(backend: Any, op: str) -> None:
    for option, value in [
        ("stride", list(range(1000))),
        ("dilation", np.ones((30, 30))),
        ("padding", [[1, 1]] * 500),
        ("groups", "x" * 1000),
    ]:
        with pytest.raises((TypeError, ValueError)) as caught:
            call(backend, op, **{option: value})
        assert len(str(caught.value)) < 250
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("op", CONVS)
def test_groups_and_filters(backend: Any, op: str) -> None:
    for groups, error in [
        (0, ValueError),
        (-1, ValueError),
        (3, ValueError),
        (5, ValueError),
        (HUGE, ValueError),
        (True, TypeError),
        (2.0, TypeError),
        (None, TypeError),
        ((1, 2), TypeError),
    ]:
        refuses(backend, error, op, "groups|w", groups=groups)
    refuses(backend, ValueError, op, "w|groups", groups=1)
    refuses(backend, ValueError, op, "w|groups", groups=4)
    # 4 channels in 4 groups, but 6 filters.
    refuses(backend, ValueError, op, "groups|w", groups=4, w=ones(3, 3, 1, 6))
    for shape in [(0, 3, 2, 6), (3, 0, 2, 6), (3, 3, 0, 6), (3, 3, 2, 0)]:
        refuses(backend, ValueError, op, "w|dy|b", w=ones(*shape))
    refuses(backend, ValueError, op, "x|w", x=ones(2, 6, 6, 0))
    refuses(backend, ValueError, op, "x|dy", x=ones(2, 0, 6, 4))
    refuses(backend, ValueError, op, "x|dy", x=ones(2, 0, 6, 4), padding=3)


def test_an_output_below_one_shows_the_arithmetic(backend: Any) -> None:
    x, w = ones(1, 2, 9, 1), ones(3, 3, 1, 1)
    with pytest.raises(ValueError, match=r"conv2d: x: .*\(2 \+ 0 \+ 0 - .*// 1 \+ 1 = 0"):
        backend.conv2d(x, w)
    with pytest.raises(ValueError, match=r"conv2d: x: .*\(9 \+ 1 \+ 1 - .*// 2 \+ 1 = "):
        backend.conv2d(x, w, padding=1, stride=2, dilation=(1, 6))
    with pytest.raises(ValueError, match=r"max_pool2d: x: .* = 0"):
        backend.max_pool2d(x, 3, stride=1)
    with pytest.raises(ValueError, match=r"avg_pool2d: x: .* = 0"):
        backend.avg_pool2d(x, 3, stride=1)


@pytest.mark.parametrize("op", POOLS)
def test_pools(backend: Any, op: str) -> None:
    for padding in (2, (0, 2), ((2, 0), (0, 0)), ((0, 0), (0, 2))):
        refuses(backend, ValueError, op, "padding", pool_size=3, padding=padding)
    for padding in (2, ((0, 2), (0, 0))):
        options = {"padding": padding, "pool_size": 2, "dilation": 2}
        refuses(backend, ValueError, op, "padding", **options)
    refuses(backend, ValueError, op, "dilation", pool_size=2, dilation=7, padding=1)
    for value in (1, 0, None, "yes", 1.0):
        refuses(backend, TypeError, op, "ceil_mode", ceil_mode=value)
        if op.startswith("avg"):
            refuses(backend, TypeError, op, "count_include_pad", count_include_pad=value)
    if "backward" not in op:
        for shape in [(2, 0, 6, 4), (2, 6, 0, 4), (2, 6, 6, 0)]:
            refuses(backend, ValueError, op, "x", x=ones(*shape))


@pytest.mark.parametrize("op", [op for op in CALLS if "x_shape" in CALLS[op]])
@pytest.mark.parametrize(
    ("x_shape", "error"),
    [
        ((2, 6, 6), ValueError),
        ((2, 6, 6, 4, 1), ValueError),
        ((), ValueError),
        ((2, 6, 6, 5), ValueError),
        ((3, 6, 6, 4), ValueError),
        ((-2, 6, 6, 4), ValueError),
        ((2, 0, 6, 4), ValueError),
        ((2, 6, -6, 4), ValueError),
        ((2, 10**30, 6, 4), ValueError),
        ((2, 6.0, 6, 4), TypeError),
        ((2, True, 6, 4), TypeError),
        (None, TypeError),
        (6, TypeError),
        ("2664", TypeError),
    ],
)
def test_x_shape(backend: Any, op: str, x_shape: Any, error: Any) -> None:
    options = ["axis", *CALLS[op]] if error is ValueError else []
    refuses(backend, error, op, "|".join(["x_shape", *options]), x_shape=x_shape)


def test_argmax(backend: Any) -> None:
    op = "max_pool2d_backward"
    for kind in (np.int32, np.int64, np.int8, bool, F4):
        refuses(backend, TypeError, op, "argmax", argmax=PLACES.astype(kind))
    for place in (4, 255):
        wrong = PLACES.copy()
        wrong[1, 2, 2, 3] = place
        refuses(backend, ValueError, op, "argmax", argmax=wrong)
    # In the window, and not in the image: the first window's place 0 is a pad.
    refuses(backend, ValueError, op, "argmax", padding=1, dy=ones(2, 4, 4, 4),
            argmax=np.zeros((2, 4, 4, 4), np.uint8))  # fmt: skip
    for place in (-1, -(2**31), 17 * 17, 2**31 - 1):
        wrong = np.full((2, 1, 1, 4), place, np.int32)
        changes = {"dy": ones(2, 1, 1, 4), "x_shape": (2, 17, 17, 4), "pool_size": 17}
        refuses(backend, ValueError, op, "argmax", argmax=wrong, **changes)


def test_gigantic_steps_and_dilations_work_where_one_window_fits(backend: Any) -> None:
    x, w = ones(1, 6, 6, 4), ones(1, 1, 4, 2)
    for stride in (HUGE, (HUGE, 7)):
        assert backend.conv2d(x, w, stride=stride, dilation=HUGE).shape == (1, 1, 1, 2)
        assert backend.max_pool2d(x, 2, stride=stride)[0].shape == (1, 1, 1, 4)
        assert backend.avg_pool2d(x, 2, stride=stride, padding="same").shape == (1, 1, 1, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"padding": HUGE},
        {"padding": (0, HUGE)},
        {"padding": 2**31},
        {"padding": 2**40, "stride": 3},
        {"padding": ((HUGE, 0), (0, 0))},
        {"dilation": HUGE},
        {"dilation": 2**40},
        {"dilation": (HUGE, 1), "padding": (HUGE, 0)},
        {"dilation": HUGE, "padding": "same", "stride": HUGE},
    ],
)
@pytest.mark.parametrize("op", CONVS)
def test_gigantic_convolutions(backend: Any, op: str, changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, MemoryError)):
        call(backend, op, **changes)


def test_padding_that_makes_a_result_too_large_is_named(backend: Any) -> None:
    x, w = np.zeros((1, 4, 4, 1), np.float32), np.zeros((3, 3, 1, 1), np.float32)
    said = "conv2d: padding: expected a result that fits in memory, got one of shape"
    for padding in (2**31, 2**40):
        with pytest.raises(ValueError, match=said):
            backend.conv2d(x, w, padding=padding)
    for padding in (2**27, 2**28):  # more than any machine has, and less than an address holds
        with pytest.raises(MemoryError, match=said):
            backend.conv2d(x, w, padding=padding)


@pytest.mark.parametrize("op", POOLS)
def test_gigantic_pools(backend: Any, op: str) -> None:
    for size in (7, HUGE, (1, HUGE), 2**33):
        refuses(backend, ValueError, op, "x|dy|pool_size|argmax", pool_size=size)
    refuses(backend, ValueError, op, "padding", padding=HUGE)


def test_a_window_of_too_many_places_to_number(backend: Any) -> None:
    refuses(backend, ValueError, "max_pool2d", "pool_size", pool_size=HUGE, ceil_mode=True)
    refuses(backend, ValueError, "max_pool2d", "pool_size", pool_size=2**16, ceil_mode=True)
    assert call(backend, "avg_pool2d", pool_size=2**16, ceil_mode=True).shape == (2, 1, 1, 4)


def test_gigantic_results_are_a_memory_error(backend: Any) -> None:
    for shape in [(1, 2**24, 2**24, 1), (2**40, 2, 2, 1)]:
        for op in ("relu", "max_pool2d", "softmax", "gelu"):
            with pytest.raises((MemoryError, ValueError)):
                getattr(backend, op)(virtual(*shape))
    for x_shape in [(2**40, 2, 2, 1), (1, 2**30, 2**30, 1), (HUGE, HUGE, HUGE, 1)]:
        with pytest.raises((MemoryError, ValueError)):
            backend.global_avg_pool2d_backward(virtual(x_shape[0], 1), x_shape)
