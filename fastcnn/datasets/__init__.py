"""Data sets as arrays: `load("strokes")`, `load("mnist")`, `load("fashion-mnist")`.

`strokes` is drawn by the package itself and needs no files; see `fastcnn.datasets.strokes` for
any number of its images. The others are read from IDX files; see `fastcnn.datasets.mnist`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from fastcnn._options import integer
from fastcnn._sentences import absent
from fastcnn._types import Array
from fastcnn.datasets import mnist, strokes

__all__ = ["CLASSES", "NAMES", "load", "mnist", "strokes"]

NAMES: Final = ("strokes", "mnist", "fashion-mnist")

_DIGITS: Final = tuple("0123456789")
_GARMENTS: Final = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# what the labels of each data set stand for
CLASSES: Final = {"strokes": _DIGITS, "mnist": _DIGITS, "fashion-mnist": _GARMENTS}


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    limit_train: int | None = None,
    limit_test: int | None = None,
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return (x_train, y_train), (x_test, y_test) of the data set called `name`.

    x (n, 28, 28, 1) uint8, y (n,) int64 with labels from 0 to 9, which CLASSES[name] names. The
    IDX files lie in DIR/mnist and DIR/fashion-mnist, DIR being `data_dir`, else the environment
    variable FASTCNN_DATA, else the platform's cache folder; missing files are downloaded. A DIR
    that is named must exist. `limit_train` and `limit_test` keep the first so many images. Raises
    ValueError for an unknown name, a limit below one or a file of the wrong form, TypeError for a
    limit that is no integer, OSError for files that cannot be had.
    """
    if name not in NAMES:
        raise ValueError(f"dataset: expected one of {', '.join(NAMES)}, got {name!r}")
    for option, limit in (("limit_train", limit_train), ("limit_test", limit_test)):
        if limit is not None:
            integer(limit, option)
    if name == "strokes":
        return strokes.load(
            train_size=min(strokes.TRAIN_SIZE, limit_train or strokes.TRAIN_SIZE),
            test_size=min(strokes.TEST_SIZE, limit_test or strokes.TEST_SIZE),
        )
    (x_train, y_train), (x_test, y_test) = mnist.load(name, data_dir)
    return (
        (x_train[:limit_train], y_train[:limit_train]),
        (x_test[:limit_test], y_test[:limit_test]),
    )


if not TYPE_CHECKING:  # with it, type checkers would take any name
    __getattr__ = absent(__name__)
