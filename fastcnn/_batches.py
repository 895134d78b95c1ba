"""Batches of a data set: images as floats, their targets and weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn._memory import empty
from fastcnn._preparation import preparation
from fastcnn.backend import Array, Backend

__all__ = ["Samples", "batches", "floats"]


@dataclass(frozen=True)
class Samples:
    """Checked data, views where that will do.

    images (n, ...), targets (n, ...), weights (n,) or None. target_dtype: what a batch makes of
    the targets. rows: the places of those that count, None for all.
    """

    images: Array
    targets: Array
    weights: Array | None
    target_dtype: np.dtype[Any]
    rows: Array | None = None

    def __len__(self) -> int:
        return len(self.images if self.rows is None else self.rows)

    def part(self, start: int, size: int | None = None) -> tuple[Array, Array, Array | None]:
        """Return (images, targets, weights) of `size` samples from `start` on, of the rest."""
        chosen: Any = slice(start, None if size is None else start + size)
        if self.rows is not None:
            chosen = self.rows[chosen]
        weights = None if self.weights is None else self.weights[chosen]
        return self.images[chosen], self.targets[chosen], weights

    def all_targets(self) -> tuple[Array, Array | None]:
        """Return (targets, weights) of those that count."""
        if self.rows is None:
            return self.targets, self.weights
        weights = None if self.weights is None else self.weights[self.rows]
        return self.targets[self.rows], weights


def floats(images: Array, dtype: np.dtype[Any], out: Array | None = None) -> Array:
    """Return a batch in the model's dtype, uint8 divided by 255; in `out` if given."""
    if out is None:
        if images.dtype == dtype:
            return images
        out = empty(images.shape, dtype)
    np.copyto(out, images, casting="same_kind")
    if images.dtype == np.uint8 and dtype.kind == "f":
        np.divide(out, 255, out=out)
    return out


def batches(
    samples: Samples,
    batch_size: int,
    dtype: np.dtype[Any],
    backend: Backend,
    *,
    steps: int,
    order: Array | None,
    same_arrays: bool,
) -> Iterator[tuple[Array, Array, Array | None]]:
    """Yield `steps` batches (x, target, weights), x as `floats` has it.

    order: the places of the samples in the order to take them, None for all as they lie.

    With `same_arrays` batches of one size come in the same: the next one overwrites them.
    """
    images, targets, weights = samples.images, samples.targets, samples.weights
    kind = samples.target_dtype
    count = min(len(samples), steps * batch_size)
    x, target = np.empty((0,)), np.empty((0,))
    for start in range(0, count, batch_size):
        size = min(batch_size, count - start)
        if len(x) != size or not same_arrays:
            x = empty((size, *images.shape[1:]), dtype)
            target = empty((size, *targets.shape[1:]), kind)
        if order is None:
            chosen: Any = slice(start, start + size)
            floats(images[chosen], dtype, x)
            floats(targets[chosen], kind, target)
        else:
            chosen = order[start : start + size]
            _take(x, images, chosen, backend)
            _take(target, targets, chosen, backend)
        yield x, target, None if weights is None else weights[chosen]


def _take(x: Array, images: Array, chosen: Array, backend: Backend) -> None:
    """Write the chosen images to x, as floats; or labels, as they are."""
    prepared = preparation(backend) if x.dtype.kind == "f" else None
    if prepared is not None and prepared.take(x, images, chosen):
        return
    rows = x if images.dtype == x.dtype else empty(x.shape, images.dtype)
    # "raise" would make a copy first.
    np.take(images, chosen, axis=0, out=rows, mode="clip")
    if rows is not x:
        floats(rows, x.dtype, x)
