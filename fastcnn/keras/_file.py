"""Keras's files, opened: what the model is, in words of JSON, and the HDF5 data of its weights.

.keras is a zip archive with both, .h5 has the words in an attribute, a file of weights has none.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

from fastcnn._files import naming
from fastcnn._reading import brief, kind_of, open_regular
from fastcnn.keras._hdf5 import SIGNATURE, Group, Hdf5

__all__ = ["Opened", "opened"]

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_LARGEST_CONFIG = 8 << 20  # bytes; that of a network of 800 layers has one
_MOST_VALUES = 500_000  # of JSON, each of which takes far more memory than it has bytes
_LARGEST_DIRECTORY = 1 << 18  # bytes, of a zip archive: Keras's have one of some hundred
_ROOM = 1 << 20  # bytes by which what is in an archive may be more than the archive


class Opened(NamedTuple):
    """What a file holds: the description of a model, if it has one, and its weights.

    version: of the Keras that wrote it, 2 or 3.
    """

    model: dict[str, Any] | None
    weights: Group
    version: int


@contextmanager
def opened(path: str, wanted: str) -> Iterator[Opened]:
    """Open a file, from which weights may be read while it is open.

    Raises ValueError, also for one that the caller raises, which says what was wanted of the file.
    """
    with naming(path), open_regular(path) as file:
        size = file.seek(0, io.SEEK_END)
        try:
            yield _contents(file, size)
        except (ValueError, TypeError, RecursionError) as error:
            said = (
                "it is nested too deep" if isinstance(error, RecursionError) else brief(error, 600)
            )
            raise ValueError(f"{path}: expected {wanted}: {said}") from None


def _contents(file: BinaryIO, size: int) -> Opened:
    file.seek(0)
    start = file.read(8)
    if start.startswith(b"PK"):
        try:
            return _archive(file, size)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError,
                OSError) as error:  # fmt: skip
            raise ValueError(f"its zip archive is damaged: {brief(error, 80)}") from None
    if start == SIGNATURE:
        root = Hdf5(file, size).root
        return Opened(_model_in(root), root, _version(root))
    raise ValueError(f"got {kind_of(file)}")


# ---------------------------------------------------------------------- .keras
class _Bounded(io.BufferedIOBase):
    """An archive's file as zipfile sees it, which reads its directory at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.most = _LARGEST_DIRECTORY

    def read(self, size: int | None = -1) -> bytes:
        """Read some bytes or the rest; ValueError for more than an archive of Keras's has."""
        data = self._file.read(
            self.most + 1 if size is None or size < 0 else min(size, self.most + 1)
        )
        if len(data) > self.most:
            raise ValueError(f"its zip archive has a directory of more than {self.most} bytes")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def _archive(file: BinaryIO, size: int) -> Opened:
    bounded = _Bounded(file)
    with zipfile.ZipFile(bounded) as archive:
        bounded.most = size
        names = archive.namelist()
        if len(set(names)) < len(names):
            raise ValueError("its zip archive has two parts of one name")
        for name in names:
            if ".." in name.replace("\\", "/").split("/"):
                raise ValueError(f"its zip archive has a part of the name {name!r:.80}")
        if _CONFIG not in names:
            file.seek(0)
            raise ValueError(f"got {kind_of(file)}")
        if _WEIGHTS not in names:
            raise ValueError(f"it has no {_WEIGHTS}, in which Keras keeps weights by default")
        model = _json(_part(archive, _CONFIG, _LARGEST_CONFIG), _CONFIG)
        weights = _part(archive, _WEIGHTS, size + _ROOM)
        version = 3
        if "metadata.json" in names:
            metadata = _json(_part(archive, "metadata.json", 1 << 16), "metadata.json")
            version = _major(metadata.get("keras_version"))
    return Opened(model, Hdf5(io.BytesIO(weights), len(weights)).root, version)


def _part(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Return a part of an archive, unpacked: at most so many bytes."""
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"its part {name} is packed in a way that is not read")
    with archive.open(name) as part:
        data = part.read(most + 1)
    if len(data) > most:
        raise ValueError(f"its part {name} is of more than {most} bytes")
    return data


# ---------------------------------------------------------------------- .h5
def _model_in(root: Group) -> dict[str, Any] | None:
    text = root.texts.get("model_config")
    if text is None:
        return None
    if not isinstance(text, str) or len(text) > _LARGEST_CONFIG:
        raise ValueError(f"its model_config is no text of at most {_LARGEST_CONFIG} bytes")
    return _json(text.encode(), "model_config")


def _version(root: Group) -> int:
    """Return 2 or 3, by what is said of a whole model or of weights."""
    inner = root.group("model_weights") or root
    if "layer_names" not in inner.texts and "layer_names0" not in inner.texts:
        return 3
    return _major(root.texts.get("keras_version", inner.texts.get("keras_version")))


def _major(version: object) -> int:
    """Return 2 or 3; Keras 1 wrote as Keras 2 does."""
    return 3 if isinstance(version, str) and version.startswith("3") else 2


def _json(data: bytes, name: str) -> dict[str, Any]:
    if sum(data.count(each) for each in b",[{") > _MOST_VALUES:
        raise ValueError(f"its {name} has more than {_MOST_VALUES} values")
    try:
        found = json.loads(data)
    except ValueError:
        raise ValueError(f"its {name} is no JSON") from None
    except RecursionError:
        raise ValueError(f"its {name} is nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError(f"its {name} is no object of JSON")
    return found
