"""Batches from arrays of any memory order: the same numbers, and no copy of all."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn._batches import Samples, batches, floats
from fastcnn.backend import Array

COUNT = 23
SHAPE = (5, 4, 3)

LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "C": lambda x: x,
    "channels first": lambda x: np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
    "width first": lambda x: np.ascontiguousarray(x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3),
    "Fortran": np.asfortranarray,
    "images second": lambda x: np.ascontiguousarray(x.transpose(1, 0, 2, 3)).transpose(1, 0, 2, 3),
    "images last": lambda x: np.ascontiguousarray(x.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2),
    "every other image": lambda x: np.repeat(x, 2, axis=0)[::2],
    "every other row": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "every other channel": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    "backwards": lambda x: x[::-1, ::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1, ::-1],
    "Fortran, every other image": lambda x: np.asfortranarray(np.repeat(x, 2, axis=0))[::2],
    "swapped bytes": lambda x: x.astype(x.dtype.newbyteorder()),
    "Fortran, swapped": lambda x: np.asfortranarray(x.astype(x.dtype.newbyteorder())),
    "unaligned": lambda x: unaligned(x),
    "unaligned channels first": lambda x: unaligned(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
}


def unaligned(x: Any) -> Any:
    memory = np.zeros(x.nbytes + 1, np.uint8)[1:]
    view = memory.view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def numbers(dtype: Any, shape: tuple[int, ...] = (COUNT, *SHAPE)) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def samples(images: Array, dtype: Any) -> Samples:
    """Images that are their own targets, as of an autoencoder."""
    return Samples(images, images, None, np.dtype(dtype))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_gives_the_same_batches(layout: str, backend: Any) -> None:
    rng = np.random.default_rng(1)
    kinds = ("u1", "f2", "f4", "f8")
    shapes = (SHAPE, (5, 4, 1), (1, 6, 20))
    for kind, shape, dtype in itertools.product(kinds, shapes, (np.float32, np.float64)):
        plain = numbers(kind, (COUNT, *shape))
        view = LAYOUTS[layout](plain)
        np.testing.assert_array_equal(view, plain)
        expected = plain.astype(dtype) / (255 if kind == "u1" else 1)
        options: dict[str, Any] = {"steps": 3, "kept": None}
        for order in (None, rng.permutation(COUNT)):
            data = batches(
                samples(view, dtype), 10, np.dtype(dtype), backend, order=order, **options
            )
            xs, targets, _ = zip(*data, strict=True)
            assert all(x.flags.c_contiguous and x.dtype == dtype for x in xs)
            indices = np.arange(COUNT) if order is None else order
            np.testing.assert_array_equal(np.concatenate(xs), expected[indices])
            np.testing.assert_array_equal(np.concatenate(targets), expected[indices])
        part = floats(view[3:9], np.dtype(dtype))
        assert part.dtype == dtype
        np.testing.assert_array_equal(part, expected[3:9])


@pytest.mark.parametrize("axes", [(0,), (1,), (3,), (0, 3), (0, 1, 2, 3)], ids=str)
def test_what_is_repeated_by_a_stride_of_zero(axes: tuple[int, ...], backend: Any) -> None:
    small = numbers("f4")[tuple(slice(1 if axis in axes else None) for axis in range(4))]
    view = np.broadcast_to(small, (COUNT, *SHAPE))
    order = np.random.default_rng(1).permutation(COUNT)
    ((x, target, _),) = batches(
        samples(view, view.dtype),
        COUNT,
        view.dtype,
        backend,
        steps=1,
        order=order,
        kept=None,
    )
    np.testing.assert_array_equal(x, view[order])
    np.testing.assert_array_equal(target, view[order])


def test_vectors_of_any_layout(backend: Any) -> None:
    """As they come from a table, whose columns lie one after another."""
    plain = numbers("f8", (COUNT, 7))
    order = np.random.default_rng(1).permutation(COUNT)
    for view in (plain, np.asfortranarray(plain), np.repeat(plain, 2, axis=1)[:, ::2]):
        ((x, _, _),) = batches(
            samples(view, "f4"),
            COUNT,
            np.dtype("f4"),
            backend,
            steps=1,
            order=order,
            kept=None,
        )
        np.testing.assert_array_equal(x, plain[order].astype("f4"))


@pytest.mark.parametrize("layout", ["channels first", "Fortran", "every other row", "memmap"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_batch_takes_the_memory_of_a_batch(
    layout: str, shuffle: bool, backend: Any, tmp_path: Path
) -> None:
    count, batch = 20_000, 20  # 60 MB, and 60 KB
    if layout == "memmap":
        file = np.memmap(tmp_path / "x", np.uint8, "w+", shape=(count, 3, 32, 32))
        images = np.asarray(file).transpose(0, 2, 3, 1)
    elif layout == "Fortran":
        images = np.zeros((3, 32, 32, count), np.uint8).T
    elif layout == "channels first":
        images = np.zeros((count, 3, 32, 32), np.uint8).transpose(0, 2, 3, 1)
    else:
        images = np.zeros((count, 64, 32, 3), np.uint8)[:, ::2]
    order = np.random.default_rng(0).permutation(count) if shuffle else None
    stream = batches(
        samples(images, "f4"),
        batch,
        np.dtype("f4"),
        backend,
        steps=2,
        order=order,
        kept={},
    )
    tracemalloc.start()
    try:
        for _ in stream:
            pass
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()
