"""MNIST (LeCun, Cortes and Burges) and Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017).

Both are four IDX files of the same names: 60,000 training and 10,000 test images of 28x28 grey
pixels in ten classes. Files that are there already are checked for form only; files that are
not are downloaded, tried against their MD5 and put in place whole.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np

from fastcnn._types import Array
from fastcnn.datasets._idx import IMAGES, LABELS, read_idx

__all__ = ["data_folder", "load"]

_CLASSES: Final = 10
_SIZE: Final = (28, 28)

# file -> MD5 of the file as the mirrors serve it
_FILES: Final[dict[str, dict[str, str]]] = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
}
_MIRRORS: Final[dict[str, tuple[str, ...]]] = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion-mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ),
}
_TIMEOUT: Final = 30.0  # seconds without an answer before the next mirror is tried


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of the data sets: `data_dir`, else FASTCNN_DATA, else the cache."""
    if data_dir is not None:
        return Path(data_dir)
    if os.environ.get("FASTCNN_DATA"):
        return Path(os.environ["FASTCNN_DATA"])
    import pooch  # type: ignore[import-untyped]

    return Path(pooch.os_cache("fastcnn"))


def load(
    name: str = "mnist", data_dir: str | os.PathLike[str] | None = None
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return (x_train, y_train), (x_test, y_test) of "mnist" or "fashion-mnist".

    x (n, 28, 28, 1) uint8, y (n,) int64. The files lie in the folder `name` of
    `data_folder(data_dir)`, gzipped or plain (then without the ".gz"); missing ones are
    downloaded to it. Raises ValueError for a file of the wrong form, FileNotFoundError for a
    `data_dir` or FASTCNN_DATA that does not exist, ConnectionError where a missing file can be
    downloaded from no mirror, other OSErrors for files that cannot be read or written.
    """
    if name not in _FILES:
        raise ValueError(f"dataset: expected one of {', '.join(_FILES)}, got {name!r}")
    folder = data_folder(data_dir)
    named = data_dir is not None or os.environ.get("FASTCNN_DATA")
    if named and not folder.is_dir():  # as like as not mistyped: nothing is downloaded to it
        raise FileNotFoundError(
            f"data folder: expected one that exists, got {folder}; make it to download to it"
        )
    folder /= name
    # Everything is fetched before anything is read: what is missing is known at once.
    paths = [_fetch(name, file, folder) for file in _FILES[name]]
    return _read_pair(paths[0], paths[1]), _read_pair(paths[2], paths[3])


def _read_pair(image_path: Path, label_path: Path) -> tuple[Array, Array]:
    x = read_idx(image_path, IMAGES)
    y = read_idx(label_path, LABELS)
    if x.shape[1:] != _SIZE:
        raise ValueError(f"{image_path}: expected images of shape {_SIZE}, got {x.shape[1:]}")
    if len(x) != len(y):
        raise ValueError(
            f"{label_path}: expected a label for each of the {len(x)} images of {image_path}, "
            f"got {len(y)}"
        )
    if y.max() >= _CLASSES:
        raise ValueError(
            f"{label_path}: expected labels from 0 to {_CLASSES - 1}, got {int(y.max())}"
        )
    return x[..., np.newaxis], y.astype(np.int64)


def _fetch(name: str, file: str, folder: Path) -> Path:
    """Return the path of the file, gzipped or plain; download it where it is missing."""
    for path in (folder / file, folder / file.removesuffix(".gz")):
        if path.is_file():
            return path
    import pooch

    reasons = []
    for mirror in _MIRRORS[name]:
        try:
            return Path(
                pooch.retrieve(
                    mirror + file,
                    known_hash=f"md5:{_FILES[name][file]}",
                    fname=file,
                    path=folder,
                    downloader=pooch.HTTPDownloader(timeout=_TIMEOUT),
                )
            )
        except ValueError:
            reasons.append(f"{mirror} serves a file of another MD5")
        except OSError as error:
            reasons.append(f"{mirror}: {error.strerror or type(error).__name__}")
    raise ConnectionError(
        f"{name}: {file} is not in {folder} and could not be downloaded ({'; '.join(reasons)}); "
        "put the file there by hand, or name another data folder"
    )
