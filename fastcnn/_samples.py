"""What `fit` and `evaluate` are given, and how a part of it is held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array
from fastcnn._options import number
from fastcnn._several import Arrays, Ends
from fastcnn._types import Array
from fastcnn.losses import Loss
from fastcnn.nn._places import count_of

__all__ = [
    "ArraysLike",
    "Given",
    "Sides",
    "Split",
    "as_arrays",
    "given",
    "given_pair",
    "require_weight",
    "split",
]


# What a caller gives: an array, or a list or dict of them where a model has several ends.
ArraysLike = ArrayLike | Mapping[str, ArrayLike]


class Given(NamedTuple):
    """Arrays as a caller gave them: what happens to them later is seen. `where` names them."""

    x: Arrays
    y: Arrays
    sample_weight: Array | None
    where: str


class Sides(NamedTuple):
    """What is known of a model's inputs, and of the outputs that there are losses of."""

    inputs: Ends
    outputs: Ends


def as_arrays(value: Any, ends: Ends, where: str) -> Arrays:
    """Return what a caller gave as an array, or a tuple of as many as there are ends."""
    if ends.number:
        values = zip(ends.listed(value, where), ends.called(where), strict=True)
        return tuple(as_array(one, name) for one, name in values)
    if isinstance(value, Mapping) and ends.names is not None:
        (value,), (where,) = ends.listed(value, where), ends.called(where)
    return as_array(value, where)


def given(x: Any, y: Any, weight: ArrayLike | None, sides: Sides, where: str = "") -> Given:
    """Return what a caller gave, as arrays."""
    return Given(
        as_arrays(x, sides.inputs, f"{where}x"),
        as_arrays(y, sides.outputs, f"{where}y"),
        None if weight is None else as_array(weight, f"{where}sample_weight"),
        where,
    )


def given_pair(data: tuple[Any, ...] | None, sides: Sides) -> Given | None:
    """Return the arrays of fit's validation_data."""
    if data is None:
        return None
    where = "validation_data"
    if not isinstance(data, (tuple, list)):
        raise TypeError(f"fit: {where}: expected a pair (x, y), got {type(data).__name__}")
    if len(data) not in (2, 3):
        raise TypeError(
            f"fit: {where}: expected a pair (x, y), or (x, y, sample_weight), got {len(data)} of "
            "them"
        )
    weight = data[2] if len(data) == 3 else None
    return given(data[0], data[1], weight, sides, f"{where}: ")


def require_weight(targets: Arrays, weights: Array | None, loss: Loss, where: str) -> None:
    """Refuse data of which no sample counts: there is no mean of it."""
    if loss.weight(targets, weights) > 0:
        return
    if weights is not None and not weights.any():
        raise ValueError(f"{where}sample_weight: expected one above zero, got zero for all")
    ignored = getattr(loss, "ignore_label", None)
    if ignored is not None and np.all(targets == ignored):
        raise ValueError(
            f"{where}y: expected a label that counts, got {ignored}, which is ignored, everywhere"
        )
    raise ValueError(
        f"{where}class_weights: expected a weight above zero for a class that occurs in y"
        f"{'' if weights is None else ' with a sample_weight above zero'}, got zero for all"
    )


# ---------------------------------------------------------------------- validation_split
class Split(NamedTuple):
    """The places of the samples to train on, and of those held out for validation."""

    rows: Array
    held: Array


def split(share: float, targets: Arrays, rng: np.random.Generator) -> Split:
    """Hold out a share of the samples, drawn at random, each class giving its part of them.

    The samples in random order, sorted by class where targets are integers (n,), are taken at even
    distances. So a class gives its share to within one sample. (Of several outputs' targets none
    goes before the others: all samples are alike.)
    """
    where = "fit: validation_split"
    share = number(share, where, 0.0, 1.0, open_low=True, open_high=True)
    count = count_of(targets)
    held = round(count * share)
    if not 0 < held < count:
        raise ValueError(
            f"{where}: expected a share that leaves images on both sides, got {share:g} of {count}"
        )
    order = rng.permutation(count)
    if not isinstance(targets, tuple) and targets.ndim == 1 and targets.dtype.kind in "iu":
        order = order[np.argsort(targets[order], kind="stable")]
    taken = np.diff(np.arange(count + 1) * held // count) > 0
    return Split(np.sort(order[~taken]), np.sort(order[taken]))
