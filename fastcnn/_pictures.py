"""Pictures as the eye sees them, in 8 bits: what Pillow decodes, made ready within bounded memory.

Pillow does what it can. Done here is what its `convert` leaves out: transparency over white, grey
of more than 8 bits, orientation after all conversions, and a look at the size before decoding.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, TypeAlias

import numpy as np

from fastcnn._types import Array

__all__ = ["MODES", "read_picture"]

_Image: TypeAlias = Any  # of Pillow, which is imported when it is used

MODES: Final = {1: "L", 3: "RGB"}  # Pillow's names by number of channels

_MEMORY: Final = 200_000_000  # bytes that decoding may take
_WHOLE: Final = 1 << 22  # pixels up to which a picture is resized at once, not by way of blocks
_TILE: Final = 1024  # pixels a side that are converted at a time
_STORED: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # else 4
# What a decoder holds beside the decoded picture, in bytes a pixel, as measured; 4 of others.
_HELD: Final = dict.fromkeys(["PNG", "JPEG", "MPO", "GIF", "BMP", "PPM", "PCX", "TGA"], 0) | {
    "WEBP": 12,
    "AVIF": 8,
    "JPEG2000": 16,
}
_ORIENTATION: Final = 0x0112
_PHOTOMETRIC: Final = 0x0106  # 0 in a TIFF: white is zero
_BITS: Final = 0x0102
_ON_ITS_SIDE: Final = range(5, 9)


def read_picture(
    file: BinaryIO, path: str, height: int | None, width: int | None, channels: int
) -> Array:
    """Return the picture in a file as uint8 (height, width, channels); None is its own size.

    The first frame, turned as its EXIF orientation says, what is transparent laid on white, grey
    of 16 bits scaled to 8, floats taken from 0 to 1, resized by averaging. A JPEG may be decoded
    at a half to an eighth of its size where it is much too large. Raises ValueError for what
    Pillow cannot read and what would take more than 200 MB to decode, MemoryError where there is
    not even that, ModuleNotFoundError without Pillow.
    """
    from PIL import Image, UnidentifiedImageError

    size: tuple[int, int] | None = None
    try:
        with _guarded(Image):
            coefficients = _coefficients(file)
            with Image.open(file) as opened:
                size = opened.size
                largest = max(height or max(size), width or max(size))
                extent = _admit(opened, coefficients, 4 * largest)
                _scale_key(opened)
                # no part of a container is larger than what its header told
                Image.MAX_IMAGE_PIXELS = max(opened.width * opened.height, 1 << 20)
                opened.load()
                own = opened.size[:: -1 if _orientation(opened) in _ON_ITS_SIDE else 1]
                upright = (width or own[0], height or own[1])
                image = _scaled(opened, extent or opened.size, upright, MODES[channels])
    except UnidentifiedImageError:
        raise ValueError(
            f"{path}: expected a .npy or an image file, got neither{_kind(file)}"
        ) from None
    except MemoryError:
        of = "an image" if size is None else f"an image of {size[0]} x {size[1]} pixels"
        raise MemoryError(f"{path}, {of}") from None
    except Exception as error:  # Pillow's decoders fail in many ways, SyntaxError among them
        reason = str(error)[:200] or type(error).__name__
        raise ValueError(f"{path}: expected an image that can be read: {reason}") from None
    return np.asarray(image, dtype=np.uint8).reshape(*upright[::-1], channels)


@contextmanager
def _guarded(pillow: Any) -> Iterator[None]:
    """Make errors of Pillow's warnings of large pictures, and silence its others."""
    most = pillow.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        try:
            yield
        finally:
            pillow.MAX_IMAGE_PIXELS = most


def _kind(file: BinaryIO) -> str:
    """Return what a file without an image is, as far as that helps."""
    file.seek(0)
    start = file.read(64)
    if not start:
        return ": it is empty"
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return ": it is HEIC, as phones take it; save it as JPEG or PNG"
    if start.startswith(b"%PDF"):
        return ": it is PDF"
    if start.lstrip().startswith((b"<svg", b"<?xml")):
        return ": it is SVG or other XML"
    return ""


# ---------------------------------------------------------------------- memory
def _admit(image: _Image, coefficients: float, least: int) -> tuple[float, float] | None:
    """Draft a large JPEG; raise ValueError for what is too large to decode.

    A draft is decoded at a half to an eighth, of `least` pixels a side or more. Returned are its
    width and height, which may end within a pixel; None of what is decoded as it is.
    """
    if image.format == "EPS":  # Pillow would run Ghostscript
        raise ValueError("it is EPS, a drawing")
    width, height = image.size
    held = _HELD.get(image.format or "", 4) + coefficients
    # nothing but a JPEG takes notice
    drafted = image.draft(None, (least, least)) if width * height > _WHOLE else None
    taken = image.width * image.height * _STORED.get(image.mode, 4) + width * height * held
    if taken > _MEMORY:
        raise ValueError(
            f"its {width} x {height} pixels would take {taken / 1e6:,.0f} MB to decode, of "
            f"{_MEMORY / 1e6:.0f} MB at most; make it smaller"
        )
    return None if drafted is None else (drafted[1][2], drafted[1][3])


def _coefficients(file: BinaryIO) -> float:
    """Return the bytes a pixel that a JPEG in several scans takes beside the decoded picture.

    Its coefficients, two bytes each, are all held until the last scan; those of a single scan are
    not. No other file has any.
    """
    try:
        sampling, scanned = _jpeg_components(file)
    except IndexError:  # the file ends, or is none
        return 0.0
    finally:
        file.seek(0)
    if not sampling or scanned == len(sampling):
        return 0.0
    largest = max(sampling) or 1
    return 2.0 * sum(sampling) / largest


def _jpeg_components(file: BinaryIO) -> tuple[list[int], int]:
    """Return samples of each component a block, and how many are in the first scan.

    None of either for what is no JPEG, no component in the scan of a progressive one.
    """
    if file.read(2) != b"\xff\xd8":
        return [], 0
    sampling: list[int] = []
    progressive = False
    while True:
        marker = file.read(1)[0]
        if marker != 0xFF:
            continue
        while marker == 0xFF:
            marker = file.read(1)[0]
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # these stand alone
            continue
        length = int.from_bytes(file.read(2), "big")
        content = file.read(length - 2)
        if marker == 0xDA or marker == 0xD9:
            return sampling, 0 if progressive else content[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            progressive = marker not in (0xC0, 0xC1, 0xC9)
            sampling = [(both >> 4) * (both & 15) for both in content[7::3]]


# ---------------------------------------------------------------------- pixels
def _scaled(image: _Image, extent: tuple[float, float], size: tuple[int, int], mode: str) -> _Image:
    """Return the picture in 8 bits, `mode` L or RGB, upright and of a size (width, height).

    `extent` (width, height): of the picture in the image's pixels, of which it may fill the last
    in part.
    A large one is averaged over blocks of pixels before it is resized, at least four to a pixel
    of the result each way, and tile by tile: another whole picture would double the memory.
    """
    from PIL import Image, ImageOps

    orientation = _orientation(image)
    wanted = size[::-1] if orientation in _ON_ITS_SIDE else size
    large = image.width * image.height > _WHOLE
    across, down = (
        max(1, pixels // (4 * least)) if large else 1
        for pixels, least in zip(image.size, wanted, strict=True)
    )
    tags = getattr(image, "tag_v2", {})
    scaled = Image.new(mode, (-(-image.width // across), -(-image.height // down)))
    columns, rows = max(1, _TILE // across), max(1, _TILE // down)
    for y in range(0, scaled.height, rows):
        for x in range(0, scaled.width, columns):
            right = min((x + columns) * across, image.width)
            lower = min((y + rows) * down, image.height)
            tile = _as_seen(image.crop((x * across, y * down, right, lower)), tags, mode)
            scaled.paste(tile.reduce((across, down)), (x, y))
    if large:  # at once: the last blocks may be cut off, and are the last before it is turned
        box = (0, 0, extent[0] / across, extent[1] / down)
        scaled = scaled.resize(wanted, Image.Resampling.BILINEAR, box)
    scaled.getexif()[_ORIENTATION] = orientation
    upright = ImageOps.exif_transpose(scaled)
    return upright if upright.size == size else upright.resize(size, Image.Resampling.BILINEAR)


def _orientation(image: _Image) -> int:
    """Return how a loaded picture is to be turned."""
    # loading has turned a TIFF, and older Pillows leave the tag there
    told: int = 1 if image.format == "TIFF" else image.getexif().get(_ORIENTATION, 1)
    return told


def _as_seen(tile: _Image, tags: Mapping[int, Any], mode: str) -> _Image:
    """Return a part of an image in 8 bits, `mode` L or RGB, what is transparent laid on white.

    `tags`: of the TIFF that it comes from.
    """
    from PIL import Image

    if tile.mode.startswith(("I", "F")):
        return Image.fromarray(_grey(tile, tags)).convert(mode)
    if tile.mode == "LAB":
        tile = _from_lab(tile)
    elif tile.mode in ("La", "RGBa"):
        tile = tile.convert(tile.mode.upper())
    clear_palette = tile.palette is not None and tile.palette.mode == "RGBA"
    if tile.mode in ("LA", "PA", "RGBA") or "transparency" in tile.info or clear_palette:
        paper = Image.new("RGBA", tile.size, "white")
        tile = Image.alpha_composite(paper, tile.convert("RGBA"))
    return tile.convert(mode)


def _grey(tile: _Image, tags: Mapping[int, Any]) -> Array:
    """Return grey of more than 8 bits in 8: integers as parts of 65535, floats as parts of 1."""
    levels = np.asarray(tile)
    top = 1 if tile.mode == "F" else 4095 if tags.get(_BITS) == (12,) else 65535
    low, high = levels.min(), levels.max()
    if not (low >= 0 and high <= top):  # NaN is neither
        kind = "floats" if tile.mode == "F" else "integers"
        raise ValueError(
            f"its grey levels, {kind}, are expected from 0 to {top}, got {low} to {high}"
        )
    grey = np.rint(levels.astype(np.float64) * 255 / top).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == 0:
        grey = 255 - grey
    if "transparency" in tile.info:
        grey[levels == tile.info["transparency"]] = 255
    return grey


def _from_lab(tile: _Image) -> _Image:
    from PIL import ImageCms

    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(tile, *profiles, outputMode="RGB")


def _scale_key(image: _Image) -> None:
    """Bring the colour that a PNG calls transparent to 8 bits, as Pillow does with the pixels."""
    key = image.info.get("transparency")
    rawmode = image.tile[0][3] if image.tile else None
    if rawmode in ("L;2", "L;4") and isinstance(key, int):
        image.info["transparency"] = key * (85 if rawmode == "L;2" else 17)
    elif rawmode == "RGB;16B" and isinstance(key, tuple):
        image.info["transparency"] = tuple(part >> 8 for part in key)
