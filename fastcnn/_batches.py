"""Batches of a data set: images as floats, and their targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastcnn._memory import empty
from fastcnn._preparation import preparation
from fastcnn.backend import Array, Backend

__all__ = ["batches", "floats"]


def floats(images: Array, dtype: np.dtype[Any], out: Array | None = None) -> Array:
    """Return a batch in the model's dtype, uint8 divided by 255; in `out` if given."""
    if out is None:
        if images.dtype == dtype:
            return images
        out = empty(images.shape, dtype)
    np.copyto(out, images, casting="same_kind")
    if images.dtype == np.uint8:
        np.divide(out, 255, out=out)
    return out


def batches(
    images: Array,
    targets: Array,
    batch_size: int,
    dtype: np.dtype[Any],
    backend: Backend,
    *,
    steps: int,
    order: Array | None,
    same_arrays: bool,
) -> Iterator[tuple[Array, Array]]:
    """Yield `steps` batches of images, as `floats` has them, and targets, gathered in `order`.

    With `same_arrays` batches of one size come in the same: the next one overwrites them.
    """
    count = min(len(images), steps * batch_size)
    x, target = np.empty((0,)), np.empty((0,))
    for start in range(0, count, batch_size):
        size = min(batch_size, count - start)
        if len(x) != size or not same_arrays:
            x = empty((size, *images.shape[1:]), dtype)
            target = empty((size, *targets.shape[1:]), targets.dtype)
        if order is None:
            floats(images[start : start + size], dtype, x)
            np.copyto(target, targets[start : start + size])
        else:
            chosen = order[start : start + size]
            _take(x, images, chosen, backend)
            # "raise" would make a copy first.
            np.take(targets, chosen, axis=0, out=target, mode="clip")
        yield x, target


def _take(x: Array, images: Array, chosen: Array, backend: Backend) -> None:
    """Write the chosen images to x, as floats."""
    prepared = preparation(backend)
    if prepared is not None and prepared.take(x, images, chosen):
        return
    rows = x if images.dtype == x.dtype else empty(x.shape, images.dtype)
    np.take(images, chosen, axis=0, out=rows, mode="clip")
    if rows is not x:
        floats(rows, x.dtype, x)
