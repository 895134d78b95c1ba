"""Arrays whose axes have an order of their own, against NumPy's, on drawn shapes and orders."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcnn.onnx._tensor import Tensor, channels_last, expanded, meeting


class Moves:
    """What tensors ask of a backend, by NumPy, and how often numbers were moved."""

    def __init__(self) -> None:
        self.moved = 0

    def reshape(self, x: Any, shape: Any) -> Any:
        assert isinstance(shape, tuple)
        return x.reshape(shape)

    def transpose(self, x: Any, axes: Any) -> Any:
        self.moved += 1
        return np.ascontiguousarray(x.transpose(axes))

    def expand(self, x: Any, shape: Any) -> Any:
        return np.broadcast_to(x, shape)


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple)


@st.composite
def tensors(draw: Any, shape: Any = None) -> tuple[Tensor, np.ndarray]:
    """Return a tensor in an order of its own, and the array that the file means."""
    sizes = draw(shapes) if shape is None else shape
    order = draw(st.permutations(range(len(sizes))))
    whole = np.arange(math.prod(sizes), dtype=np.float32).reshape(sizes)
    return Tensor(np.ascontiguousarray(whole.transpose(order)), order), whole


def meant(tensor: Tensor) -> np.ndarray:
    """Return the array that the file means."""
    return tensor.array.transpose([tensor.order.index(axis) for axis in range(tensor.rank)])


def split(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return shapes of as many numbers: other cuts of these axes, and of none of them."""
    count = math.prod(shape)
    found = [(count,), (1, *shape), (*shape, 1), tuple(n for n in shape if n != 1) or (1,)]
    found += [(*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :])
              for at in range(len(shape) - 1)]  # fmt: skip
    found += [(*shape[:at], 2, shape[at] // 2, *shape[at + 1 :])
              for at in range(len(shape)) if shape[at] % 2 == 0]  # fmt: skip
    found += [(n, count // n) for n in range(2, 7) if count % n == 0]
    return found


@given(tensors(), st.data())
def test_transposed_moves_nothing(drawn: Any, data: Any) -> None:
    tensor, whole = drawn
    axes = data.draw(st.permutations(range(tensor.rank)))
    found = tensor.transposed(axes)
    assert found.array is tensor.array
    assert found.shape == whole.transpose(axes).shape
    np.testing.assert_array_equal(meant(found), whole.transpose(axes))


@given(tensors(), st.data())
def test_reshaped(drawn: Any, data: Any) -> None:
    tensor, whole = drawn
    shape = data.draw(st.sampled_from(split(tensor.shape)))
    backend = Moves()
    found = tensor.reshaped(backend, shape)
    assert found.shape == shape
    np.testing.assert_array_equal(meant(found), whole.reshape(shape))
    if sorted(tensor.order) == list(tensor.order):
        assert backend.moved == 0


@given(tensors(), st.data())
def test_stored(drawn: Any, data: Any) -> None:
    tensor, whole = drawn
    order = data.draw(st.permutations(range(tensor.rank)))
    backend = Moves()
    np.testing.assert_array_equal(tensor.stored(backend, order), whole.transpose(order))
    real = [[axis for axis in each if tensor.shape[axis] != 1] for each in (order, tensor.order)]
    assert backend.moved == (real[0] != real[1])


@given(tensors(), st.lists(st.integers(1, 4), max_size=2), st.data())
def test_meeting_and_expanded(drawn: Any, lead: list[int], data: Any) -> None:
    tensor, whole = drawn
    sizes = [data.draw(st.sampled_from((1, size))) for size in whole.shape]
    start = data.draw(st.integers(0, len(sizes) - 1))
    other, plain = data.draw(tensors(tuple(sizes[start:])))
    for one, two in (((tensor, whole), (other, plain)), ((other, plain), (tensor, whole))):
        (a, b), order = meeting(Moves(), np.dtype(np.float32), one[0], two[0])
        np.testing.assert_array_equal(meant(Tensor(a - b, order)), one[1] - two[1])
    shape = (*lead, *(4 if size == 1 else size for size in whole.shape))
    found = expanded(Moves(), tensor, shape)
    np.testing.assert_array_equal(meant(found), np.broadcast_to(whole, shape))


def images() -> Tensor:
    return Tensor(np.arange(240.0).reshape(2, 4, 5, 6), channels_last(4))  # of shape (2, 6, 4, 5)


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 2, 3, 4, 5), (2, 6, 4, 5)],  # groups of channels, and back
        [(2, 6, 20), (2, 6, 4, 5)],  # pixels as rows
        [(2, 6, 2, 2, 5), (2, 6, 4, 5)],
        [(2, 6, 1, 4, 5)],
        [(2, 1, 6, 4, 5, 1)],
    ],
)
def test_images_stay_where_they_are(shapes: Any) -> None:
    """What networks do to them, between two convolutions."""
    tensor, whole, backend = images(), meant(images()), Moves()
    for shape in shapes:
        tensor, whole = tensor.reshaped(backend, shape), whole.reshape(shape)
        np.testing.assert_array_equal(meant(tensor), whole)
    assert backend.moved == 0


def test_channels_are_shuffled_by_one_move() -> None:
    backend = Moves()
    y = images().reshaped(backend, (2, 2, 3, 4, 5)).transposed((0, 2, 1, 3, 4))
    y = y.reshaped(backend, (2, 6, 4, 5))
    y.stored(backend, channels_last(4))
    assert backend.moved == 1


def test_pixels_in_front_of_channels_are_rows_already() -> None:
    """What attention wants: Reshape to (n, c, h * w), then Transpose."""
    backend = Moves()
    rows = images().reshaped(backend, (2, 6, 20)).transposed((0, 2, 1))
    assert rows.stored(backend).shape == (2, 20, 6)
    assert backend.moved == 0
