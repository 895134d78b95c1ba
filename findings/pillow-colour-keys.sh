#!/usr/bin/env bash
# Pillow 13.0.0: the colour key (tRNS) of a PNG is lost for 2-bit, 4-bit and 16-bit grey and for
# 16-bit RGB. Pillow scales the pixels to 8 bits and leaves the key as the file has it, so
# convert("RGBA") finds no pixel of that colour, and what should be transparent is opaque ink. With
# 1 and 8 bits it works. A 16-bit TIFF whose zero is white (PhotometricInterpretation 0) is read
# with black and white swapped, though an 8-bit one is not.
# Ours: fastcnn/_pictures.py scales the key and turns such TIFFs by itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pillow==13.0.0
venv/bin/python - <<'PYTHON'
import io
import struct
import sys
import zlib

import PIL
from PIL import Image


def png(bits, color, row, key):
    """A picture of 2x1: the first pixel has the colour of the key, the second another."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, bits, color, 0, 0, 0))
            + chunk(b"tRNS", key) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b""))


def alphas(file):
    image = Image.open(io.BytesIO(file)).convert("RGBA")
    return [image.getpixel((x, 0))[3] for x in (0, 1)]


key = struct.pack(">H", 1)
found = {
    "1-bit grey": alphas(png(1, 0, bytes([0b10000000]), key)),
    "2-bit grey": alphas(png(2, 0, bytes([0b01110000]), key)),
    "4-bit grey": alphas(png(4, 0, bytes([0x1F]), key)),
    "8-bit grey": alphas(png(8, 0, bytes([1, 255]), key)),
    "16-bit grey": alphas(png(16, 0, struct.pack(">2H", 4660, 65535), struct.pack(">H", 4660))),
    "16-bit RGB": alphas(png(16, 2, struct.pack(">6H", *[4660] * 3, *[65535] * 3), struct.pack(">3H", *[4660] * 3))),
}


def tiff(bits):
    """1x1, its number the largest, zero is white: black."""
    tags = [(256, 3, 1), (257, 3, 1), (258, 3, bits), (259, 3, 1), (262, 3, 0), (273, 4, 8), (277, 3, 1),
            (278, 3, 1), (279, 4, bits // 8)]
    data = b"\xff" * (bits // 8) + b"\0" * (2 - bits // 8)
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return head + struct.pack("<H", len(tags)) + body + struct.pack("<I", 0)


whites = {bits: Image.open(io.BytesIO(tiff(bits))).getpixel((0, 0)) for bits in (8, 16)}
print(f"Pillow {PIL.__version__}, Python {sys.version.split()[0]}")
for name, alpha in found.items():
    print(f"{name}: alpha of the pixel of the key's colour {alpha[0]}, of the other {alpha[1]}")
print(f"zero is white, largest number: {whites[8]} of 8 bits, {whites[16]} of 16 bits (black is 0)")
right = {"1-bit grey", "8-bit grey"}
assert all(alpha == ([0, 255] if name in right else [255, 255]) for name, alpha in found.items()), found
assert whites == {8: 0, 16: 65535}, whites
PYTHON
echo "as described"
