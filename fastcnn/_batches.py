"""Batches of a data set: images as floats, their targets and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastcnn._backends import as_fast
from fastcnn._memory import empty
from fastcnn._several import Arrays, each, listed
from fastcnn._types import Array
from fastcnn.backend import Backend

__all__ = ["Samples", "batches", "floats", "require_batches"]


@dataclass(frozen=True)
class Samples:
    """Checked data, views where that will do.

    images (n, ...), targets (n, ...), weights (n,) or None. target_dtype: what a batch makes of
    the targets. rows: the places of those that count, None for all. Images are a tuple where a
    model takes several inputs, targets and their dtypes where it gives several outputs.
    """

    images: Arrays
    targets: Arrays
    weights: Array | None
    target_dtype: Any
    rows: Array | None = None

    def __len__(self) -> int:
        return len(listed(self.images)[0]) if self.rows is None else len(self.rows)

    def part(self, start: int, size: int | None = None) -> tuple[Arrays, Arrays, Array | None]:
        """Return (images, targets, weights) of `size` samples from `start` on, of the rest."""
        chosen: Any = slice(start, None if size is None else start + size)
        if self.rows is not None:
            chosen = self.rows[chosen]
        weights = None if self.weights is None else self.weights[chosen]
        images, targets = (
            each(lambda array: array[chosen], arrays) for arrays in (self.images, self.targets)
        )
        return images, targets, weights

    def all_targets(self) -> tuple[Arrays, Array | None]:
        """Return (targets, weights) of those that count."""
        if self.rows is None:
            return self.targets, self.weights
        weights = None if self.weights is None else self.weights[self.rows]
        return each(lambda array: array[self.rows], self.targets), weights


def require_batches(
    count: int, batch_size: int, drop_last: bool, steps: int, min_batch: int
) -> None:
    """Refuse a division into batches that would fail at its end, before it starts."""
    if steps == 0:
        raise ValueError(
            f"fit: batch_size: expected at most {count}, the number of images, with "
            f"drop_last, got {batch_size}"
        )
    smallest = batch_size if drop_last else count - (steps - 1) * batch_size
    if smallest < min_batch:
        raise ValueError(
            f"fit: batch_size: expected every batch to have at least {min_batch} "
            f"images, which this model's batch normalization needs, got {count} images in "
            f"batches of {batch_size}, the last with {smallest}; choose another batch_size "
            "or pass drop_last=True"
        )


_FEW_CHANNELS = 16  # that are copied one after another where they do not lie side by side


def floats(images: Array, dtype: np.dtype[Any], out: Array | None = None) -> Array:
    """Return a batch in the model's dtype, uint8 divided by 255; in `out` if given."""
    if out is None:
        if images.dtype == dtype and images.flags.c_contiguous:
            return images
        out = empty(images.shape, dtype)
    _copy(out, images if images.flags.c_contiguous else _gathered(images, slice(None)))
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
    kept: dict[Any, list[Array]] | None,
) -> Iterator[tuple[Arrays, Arrays, Array | None]]:
    """Yield `steps` batches (x, target, weights), x as `floats` has it; tuples of several.

    order: the places of the samples in the order to take them, None for all as they lie.

    kept: the arrays in which batches come, by their shapes and dtypes: all batches of one size come
    in the same, which the next one overwrites. With None each has arrays of its own.
    """
    images, weights = listed(samples.images), samples.weights
    arrays = (*images, *listed(samples.targets))
    kinds = (*[dtype] * len(images), *listed(samples.target_dtype))
    count = min(len(samples), steps * batch_size)
    made = 0
    for start in range(0, count, batch_size):
        size = min(batch_size, count - start)
        if made != size or kept is None:
            made = size
            forms = [((size, *a.shape[1:]), kind) for a, kind in zip(arrays, kinds, strict=True)]
            outs = (kept or {}).get(tuple(forms)) or [empty(*form) for form in forms]
            if kept is not None:
                kept[tuple(forms)] = outs
            x: Arrays = outs[0]
            target: Arrays = outs[-1]
            if isinstance(samples.images, tuple):
                x = tuple(outs[: len(images)])
            if isinstance(samples.targets, tuple):
                target = tuple(outs[len(images) :])
            if order is not None:
                takings = [
                    _taking(out, array, backend) for out, array in zip(outs, arrays, strict=True)
                ]
        if order is None:
            chosen: Any = slice(start, start + size)
            for out, array, kind in zip(outs, arrays, kinds, strict=True):
                floats(array[chosen], kind, out)
        else:
            chosen = order[start : start + size]
            for take in takings:
                take(chosen)
        yield x, target, None if weights is None else weights[chosen]


def _taking(out: Array, values: Array, backend: Backend) -> Callable[[Array], object]:
    """Return a function that writes the chosen images to `out`, as floats; or labels, as they are.

    It serves all batches in these arrays.
    """
    if values.dtype == out.dtype and values.ndim == 1 and values.flags.c_contiguous:
        return partial(values.take, out=out, mode="clip")  # "raise" would make a copy first
    fast = as_fast(backend) if out.dtype.kind == "f" else None
    taking = None if fast is None else fast._taking(out, values)
    return taking or (lambda chosen: floats(_gathered(values, chosen), out.dtype, out))


def _gathered(images: Array, chosen: Array | slice) -> Array:
    """Return images[chosen], read and written in the order in which the images lie in memory.

    Whatever that is: channels first, images side by side (Fortran's order), every other row.
    NumPy's take makes a copy of all images first where they do not lie one after another.
    """
    shape = images.shape[1:]
    # Along a stride of 0, as broadcast_to makes it, one is read for all.
    images = images[(slice(None), *(slice(None if stride else 1) for stride in images.strides[1:]))]
    order = sorted(range(images.ndim), key=lambda axis: -abs(images.strides[axis]))
    if images.strides[0] == 0:
        order = [0, *(axis for axis in order if axis)]
    at = order.index(0)
    view = images.transpose(order)
    if isinstance(chosen, slice):
        rows = view[(slice(None),) * at + (chosen,)]
        rows = rows.copy() if at else rows
    elif view.flags.c_contiguous and view.flags.aligned:
        rows = empty((*view.shape[:at], len(chosen), *view.shape[at + 1 :]), view.dtype)
        np.take(view, chosen, axis=at, out=rows, mode="clip")
    else:
        rows = view[(slice(None),) * at + (chosen,)]
    rows = rows.transpose(sorted(range(len(order)), key=order.__getitem__))
    return np.broadcast_to(rows, (len(rows), *shape))


def _copy(out: Array, images: Array) -> None:
    """Copy images to `out`, which is C-contiguous, in long inner loops."""
    channels = out.shape[-1]
    if out.ndim > 2 and channels <= _FEW_CHANNELS and images.strides[-1] != images.itemsize:
        for channel in range(channels):
            np.copyto(out[..., channel], images[..., channel], casting="same_kind")
    else:
        np.copyto(out, images, casting="same_kind")
