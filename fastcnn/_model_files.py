"""Model files of every kind that the command takes: fastcnn's own, ONNX's and Keras's."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastcnn import nn
from fastcnn._reading import header_of, open_regular
from fastcnn.serialization import MODEL, load

if TYPE_CHECKING:
    from fastcnn.nn import Module

__all__ = ["KINDS", "file_of", "holds_arrays_alone", "is_onnx", "onnx", "read_model", "sized"]

KINDS: Final = "a file of fastcnn, .onnx, .keras or .h5"

_KERAS = (".keras", ".h5", ".hdf5")
_PYTORCH = (".pt", ".pth", ".bin")


def onnx() -> Any:
    """Return fastcnn.onnx; ValueError where the package is missing that it is on."""
    from fastcnn import onnx
    from fastcnn.onnx._file import package

    try:
        package()
    except ImportError as error:
        raise ValueError(str(error)) from None
    return onnx


def is_onnx(path: Path) -> bool:
    """Return whether a path is that of an ONNX file, by its name."""
    return path.suffix.lower() == ".onnx" and not path.is_dir()


def file_of(path: Path) -> Path:
    """Return the model file that a path stands for: itself, or that of a run's folder."""
    return path / MODEL if path.is_dir() else path


def read_model(path: Path) -> Module:
    """Return the model in a file, by the end of its name, or in a run's folder.

    Raises ValueError for a file that is damaged or of another kind, or needs a package that is
    missing, OSError for one that cannot be read.
    """
    if is_onnx(path):
        loaded: Module = onnx().load(path)
        return loaded
    if path.suffix.lower() in _KERAS and not path.is_dir():
        try:
            keras = import_module("fastcnn.keras")
        except ModuleNotFoundError:
            raise ValueError(
                f"{path}: expected a file that this fastcnn reads, got one of Keras, which it does "
                "not"
            ) from None
        model: Module = keras.load(path)
        return model
    return load(path)


def holds_arrays_alone(path: Path) -> bool:
    """Return whether a file has a state dict and no network: one of PyTorch, or named so."""
    if path.is_dir():
        return False
    if path.suffix.lower() in _PYTORCH:
        return True
    with open_regular(path) as file:
        head = header_of(file)
    try:
        metadata = json.loads(head[8:]).get("__metadata__", {}) if head else None
    except (ValueError, RecursionError):
        return False
    return isinstance(metadata, dict) and "fastcnn" not in metadata


def sized(model: Module, height: int, width: int, *, named: bool = False) -> Module:
    """Return a network that takes images of any size as one for images of this size.

    One that is for a size by itself comes back as it is. named: its outputs are a dict, by the
    names that they have.
    """
    shape = model.input_shape
    if not any(size is None for size in shape) or len(shape) != 3:
        return model
    given = (shape[0] or height, shape[1] or width, shape[2])
    names = getattr(model, "input_names", None) or (None,)
    x = nn.Input(given, name=names[0])
    y: Any = model(x)
    if named and (called := getattr(model, "output_names", None)) is not None:
        y = dict(zip(called, y if isinstance(y, list) else [y], strict=True))
    closed = nn.Model(x, y)
    closed.build()
    closed.notes = model.notes
    return closed
