"""What `fit` and `evaluate` are given, and how a part of it is held out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arrays import as_array
from fastcnn._several import Arrays, taken_apart
from fastcnn.backend import Array
from fastcnn.losses import Loss
from fastcnn.nn._options import number
from fastcnn.nn._places import count_of

__all__ = [
    "Counts",
    "Given",
    "Split",
    "as_arrays",
    "given",
    "given_pair",
    "require_weight",
    "split",
]


class Given(NamedTuple):
    """Arrays as a caller gave them: what happens to them later is seen. `where` names them."""

    x: Arrays
    y: Arrays
    sample_weight: Array | None
    where: str


class Counts(NamedTuple):
    """How many inputs a model takes, and how many outputs it gives; 0 for one by itself."""

    inputs: int
    outputs: int


def as_arrays(value: Any, count: int, where: str, of: str) -> Arrays:
    """Return what a caller gave as an array, or `count` of them as a tuple; 0 is one by itself."""
    if not count:
        return as_array(value, where)
    return tuple(as_array(one, name) for one, name in taken_apart(value, count, where, of))


def given(x: Any, y: Any, weight: ArrayLike | None, counts: Counts, where: str = "") -> Given:
    """Return what a caller gave, as arrays."""
    return Given(
        as_arrays(x, counts.inputs, f"{where}x", "inputs"),
        as_arrays(y, counts.outputs, f"{where}y", "outputs"),
        None if weight is None else as_array(weight, f"{where}sample_weight"),
        where,
    )


def given_pair(data: tuple[Any, ...] | None, counts: Counts) -> Given | None:
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
    return given(data[0], data[1], weight, counts, f"{where}: ")


def require_weight(targets: Arrays, weights: Array | None, loss: Loss, where: str) -> None:
    """Refuse data of which no sample counts: there is no mean of it."""
    if loss.weight(targets, weights) > 0:
        return
    if weights is not None and not weights.any():
        raise ValueError(f"{where}sample_weight: expected one above zero, got zero for all")
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
