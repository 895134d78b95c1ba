"""Image files of few bytes, made by hand where Pillow does not write their kind; and read."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn._images import read_images


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def png(
    samples: Sequence[Sequence[int]],
    bits: int,
    *,
    colour: bool = False,
    key: Sequence[int] = (),
    size: tuple[int, int] | None = None,
) -> bytes:
    """Return a grey or RGB PNG of rows of samples, the colour `key` transparent.

    `size` is what its header tells, be it true or not.
    """
    channels = 3 if colour else 1
    width, height = size or (len(samples[0]) // channels, len(samples))
    header = struct.pack(">IIBBBBB", width, height, bits, 2 if colour else 0, 0, 0, 0)
    rows = b""
    for row in samples:
        text = "".join(f"{sample:0{bits}b}" for sample in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")
    transparent = _chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + transparent
        + _chunk(b"IDAT", zlib.compress(rows))
        + _chunk(b"IEND", b"")
    )


def tiff(
    pixels: np.ndarray, *, photometric: int = 1, sample_format: int = 1, bits: int = 0
) -> bytes:
    """Return a TIFF of one channel, in the byte order of the array.

    Of 12 `bits` two samples are packed into three bytes.
    """
    order = ">" if pixels.dtype.byteorder == ">" else "<"
    height, width = pixels.shape
    content = pixels.tobytes()
    if bits == 12:
        pairs = pixels.astype(np.uint32).reshape(-1, 2) @ np.array([4096, 1], np.uint32)
        content = b"".join(int(pair).to_bytes(3, "big") for pair in pairs)
    entries = [
        (256, width),
        (257, height),
        (258, bits or 8 * pixels.itemsize),
        (259, 1),
        (262, photometric),
        (273, 8 + 2 + 12 * 10 + 4),
        (277, 1),
        (278, height),
        (279, len(content)),
        (339, sample_format),
    ]
    directory = struct.pack(f"{order}H", len(entries))
    for tag, value in entries:
        directory += struct.pack(f"{order}HHII", tag, 4, 1, value)
    start = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, 8)
    return start + directory + bytes(4) + content


def headers(width: int, height: int) -> dict[str, bytes]:
    """Return files that tell of a large picture and hold next to nothing of it."""
    large_png = png([[0]], 8, size=(width, height))
    icon = b"ic10" + struct.pack(">I", 8 + len(large_png)) + large_png
    grey = np.zeros((1, 1), np.uint8)
    return {
        "png": large_png,
        "deep.png": png([[0]], 16, size=(width, height)),
        "bmp": b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0),
        "gif": b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0x80, 0, 0)
        + bytes([0, 0, 0, 255, 255, 255])
        + b","
        + struct.pack("<HHHHB", 0, 0, width, height, 0)
        + b"\x02\x02\x4c\x01\x00;",
        "tif": tiff(grey).replace(
            struct.pack("<HHII", 256, 4, 1, 1) + struct.pack("<HHII", 257, 4, 1, 1),
            struct.pack("<HHII", 256, 4, 1, width) + struct.pack("<HHII", 257, 4, 1, height),
        ),
        "psd": b"8BPS"
        + struct.pack(">H6xHIIHH", 1, 3, height, width, 8, 3)
        + struct.pack(">IIIH", 0, 0, 0, 0),
        "ppm": b"P6 %d %d 255\n" % (width, height),
        "icns": b"icns" + struct.pack(">I", 8 + len(icon)) + icon,
    }


def jpeg_header(sampling: Sequence[int], in_scan: int, frame: int = 0xC0) -> bytes:
    """Return a JPEG up to its first scan, which has so many of the components in it."""
    components = b"".join(bytes([i, both, 0]) for i, both in enumerate(sampling))
    start = struct.pack(">BHHB", 8, 100, 100, len(sampling)) + components
    scan = bytes([in_scan]) + bytes(2 * in_scan + 3)
    return (
        b"\xff\xd8\xff\xe0\x00\x04\xff\xda"  # a segment whose content looks like a marker
        + b"\xff"
        + struct.pack(">BBH", 0xFF, frame, 2 + len(start))
        + start
        + struct.pack(">BBH", 0xFF, 0xDA, 2 + len(scan))
        + scan
    )


def read(content: bytes, shape: tuple[int, ...] = (28, 28, 1)) -> np.ndarray:
    """Return what is read of a file, without its batch axis, nor the one of one channel."""
    Path("picture").write_bytes(content)
    labels, x = read_images("picture", shape)
    assert labels == ["picture"]
    assert x.dtype == np.uint8
    assert x.shape == (1, *shape)
    return x[0, :, :, 0] if shape[-1] == 1 else x[0]


def saved(image: Any, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
