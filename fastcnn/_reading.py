"""Files as they are found: opened with care, and named for what they are by what is in them."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

__all__ = ["brief", "header_of", "kind_of", "open_regular"]

_LARGEST_HEADER = 100_000_000  # bytes; what safetensors allows

_OF_PYTORCH = "a file of PyTorch (.pt), whose weights model.load_pytorch_state takes"
_BY_CONTENT = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file; fastcnn.keras reads Keras's (.h5)"),
    (b"\x93NUMPY", "an array of NumPy (.npy)"),
    # Before Python's other pickles: the number that torch.save put in front of its own.
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", _OF_PYTORCH),
    *((b"\x80" + bytes([protocol]), "a pickle of Python (.pkl)") for protocol in range(2, 6)),
    (b"GGUF", "a GGUF file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"<?xml", "an XML file, as OpenVINO writes it (.xml)"),
    (b"{", "a JSON file"),
)
_BY_NAME = {
    ".ckpt": "a checkpoint of another library",
    ".h5": "an HDF5 file, as Keras writes it",
    ".hdf5": "an HDF5 file",
    ".joblib": "a file of joblib",
    ".keras": "a model of Keras",
    ".npy": "an array of NumPy",
    ".npz": "arrays of NumPy",
    ".onnx": "a model of ONNX",
    ".pb": "a model of TensorFlow",
    ".pickle": "a pickle of Python",
    ".pkl": "a pickle of Python",
    ".pt": "a file of PyTorch",
    ".pth": "a file of PyTorch",
    ".tflite": "a model of TFLite",
}


def open_regular(name: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read its bytes; OSError for none, and for pipes and devices."""
    mode = os.stat(name).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "expected a regular file", os.fspath(name))
    return open(name, "rb")


def header_of(file: BinaryIO) -> bytes | None:
    """Return the length and the header with which a safetensors file begins; None if it is none."""
    file.seek(0)
    length = file.read(8)
    size = int.from_bytes(length, "little")
    left = os.fstat(file.fileno()).st_size - 8
    if len(length) < 8 or not 0 < size <= min(left, _LARGEST_HEADER):
        return None
    header = file.read(size)
    return length + header if header.startswith(b"{") and len(header) == size else None


def kind_of(file: BinaryIO) -> str:
    """Return in words what a file is that is no safetensors file, by its content, then its name."""
    file.seek(0)
    head = file.read(64)
    if not head:
        return "an empty file"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LARGEST_HEADER:
        return "a safetensors file that is damaged or cut off"
    if head.startswith(b"PK"):
        return _kind_of_zip(file)
    for start, kind in _BY_CONTENT:
        if head.startswith(start):
            return kind
    head = head.ljust(8, b"\0")
    if head[4:8] == b"TFL3":
        return "a model of TFLite (.tflite)"
    # A protobuf message that begins as ONNX's do: field 1, a small version; then a field of text
    # or a message: producer's name and version, domain, version, documentation, graph or opsets.
    if head[:1] == b"\x08" and 0 < head[1] < 32 and head[2] in b"\x12\x1a\x22\x28\x32\x3a\x42":
        return "a model of ONNX (.onnx)"
    by_name = _BY_NAME.get(os.path.splitext(str(file.name))[1].lower())
    return "a file of another kind" if by_name is None else f"{by_name}, by its name"


def _kind_of_zip(file: BinaryIO) -> str:
    import zipfile  # takes time, and is for errors only

    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception:  # whatever a damaged one makes zipfile say
        names = []
    ends = {name.rpartition("/")[2] for name in names}
    if ends & {"data.pkl", "constants.pkl", "archive_format"}:
        return _OF_PYTORCH
    if "config.json" in ends and any(end.endswith(".h5") for end in ends):
        return "a model of Keras (.keras), which fastcnn.keras.load reads"
    if names and all(name.endswith(".npy") for name in names):
        return "arrays of NumPy (.npz)"
    by_name = _BY_NAME.get(os.path.splitext(str(file.name))[1].lower())
    return "a zip archive" if by_name is None else f"{by_name}, by its name"


def brief(text: object, limit: int = 240) -> str:
    """Return an error's text on one line, cut, without characters that a terminal would act on."""
    line = " ".join(str(text).split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= limit else f"{line[: limit - 3]}..."
