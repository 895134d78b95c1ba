"""Pictures in files: read as the eye sees them, and in bounded memory."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from pictures import headers, png, read, saved, tiff

from fastcnn import _pictures

Image = pytest.importorskip("PIL.Image")

INK = np.add.outer(np.arange(28) * 5, np.arange(28) * 4).astype(np.uint8)  # 0 to 243
HIDDEN = (INK >= 60) & (INK < 180)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# ---------------------------------------------------------------------- transparency
def with_alpha(mode: str, alpha: np.ndarray) -> Any:
    image = Image.fromarray(INK).convert(mode)
    image.putalpha(Image.fromarray(alpha))
    return image


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        ("TGA", {}),
        ("ICO", {"sizes": [(28, 28)]}),
    ],
)
def test_transparency_is_laid_on_white(mode: str, kind: str, options: dict[str, Any]) -> None:
    alpha = np.where(HIDDEN, 0, 255).astype(np.uint8)
    x = read(saved(with_alpha(mode, alpha), kind, **options))
    np.testing.assert_array_equal(x, np.where(HIDDEN, 255, INK))
    # black ink of every strength, as a canvas of the web saves it
    canvas = with_alpha(mode, INK)
    canvas.paste(0, (0, 0, 28, 28))
    canvas.putalpha(Image.fromarray(INK))
    x = read(saved(canvas, kind, **options), (28, 28, 3))
    np.testing.assert_array_equal(x, np.repeat(255 - INK[..., None], 3, axis=2))


def test_transparency_before_resizing() -> None:
    """Colours that nobody sees do not bleed into the rim of those that all see."""
    pixels = np.zeros((56, 56, 4), np.uint8)
    pixels[:, :27] = 255, 0, 0, 0  # hidden red
    pixels[:, 27:] = 0, 0, 255, 255
    seen = np.where(pixels[..., 3:], pixels[..., :3], 255).astype(np.uint8)
    x = read(saved(Image.fromarray(pixels), "PNG"), (28, 28, 3))
    np.testing.assert_array_equal(x, read(saved(Image.fromarray(seen), "PNG"), (28, 28, 3)))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_transparent_palettes(kind: str) -> None:
    image = Image.fromarray(INK // 4)
    image.putpalette([level for grey in range(64) for level in (4 * grey, 0, 0)])
    reds = np.stack([INK // 4 * 4, 0 * INK, 0 * INK], axis=2)
    x = read(saved(image, kind, transparency=20), (28, 28, 3))
    np.testing.assert_array_equal(x, np.where((INK // 4 == 20)[..., None], 255, reds))
    if kind == "PNG":
        half = bytes([255] * 10 + [0] * 10)
        x = read(saved(image, kind, transparency=half), (28, 28, 3))
        hidden = (INK // 4 >= 10) & (INK // 4 < 20)
        np.testing.assert_array_equal(x, np.where(hidden[..., None], 255, reds))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey(bits: int) -> None:
    top = 2**bits - 1
    levels = np.linspace(0, top, 28).astype(int)
    grey = np.rint(levels * (255 / top)).astype(int)
    for key in (0, int(levels[14]), top):
        x = read(png([levels.tolist()] * 28, bits, key=[key]))
        np.testing.assert_array_equal(x, [np.where(levels == key, 255, grey)] * 28)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour(bits: int) -> None:
    unit = 257 if bits == 16 else 1
    colours = np.arange(3 * 28).reshape(28, 3) * 3
    row = (colours * unit).ravel().tolist()
    x = read(png([row] * 28, bits, colour=True, key=row[30:33]), (28, 28, 3))
    colours[10] = 255
    np.testing.assert_array_equal(x, [colours] * 28)


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_alpha(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No format that Pillow reads has it, but for plugins."""
    straight = with_alpha("L" if mode == "La" else "RGB", np.full_like(INK, 128))
    tile = _pictures._as_seen(straight.convert(mode), {}, "L")
    expected = _pictures._as_seen(straight, {}, "L")
    assert np.abs(np.asarray(tile).astype(int) - np.asarray(expected)).max() <= 2


# ---------------------------------------------------------------------- depth and colour
DEEP = (INK.astype(np.uint16) * 257) ^ 0x5A
ROUNDED = np.rint(DEEP / 257).astype(np.uint8)


@pytest.mark.parametrize(
    "content",
    [
        saved(Image.fromarray(DEEP), "PNG"),
        saved(Image.fromarray(DEEP), "TIFF"),
        saved(Image.fromarray(DEEP), "TIFF", compression="tiff_lzw"),
        saved(Image.fromarray(DEEP.astype(np.int32)), "TIFF"),
        b"P5 28 28 65535\n" + DEEP.astype(">u2").tobytes(),
        saved(Image.fromarray(DEEP), "JPEG2000"),
        tiff(DEEP.astype("<u2")),
        tiff(DEEP.astype(">u2")),
        tiff((65535 - DEEP).astype("<u2"), photometric=0),
        tiff(DEEP.astype("<u4")),
        tiff(DEEP.astype("<i4"), sample_format=2),
        tiff(DEEP.astype("<f4") / 65535, sample_format=3),
        tiff(DEEP.astype(">f4") / 65535, sample_format=3),
        tiff(1 - DEEP.astype("<f4") / 65535, photometric=0, sample_format=3),
    ],
    ids=lambda content: repr(content[:9]),
)
def test_16_bits_and_floats_are_scaled(content: bytes) -> None:
    np.testing.assert_array_equal(read(content), ROUNDED)
    colours = read(content, (28, 28, 3))
    np.testing.assert_array_equal(colours, np.repeat(ROUNDED[..., None], 3, axis=2))


def test_12_bits_are_scaled() -> None:
    levels = INK.astype(np.uint16) * 16
    expected = np.rint(levels / 4095 * 255)
    np.testing.assert_array_equal(read(tiff(levels, bits=12)), expected)


@pytest.mark.parametrize(
    ("pixels", "sample_format", "message"),
    [
        (
            np.full((28, 28), 70000, "<u4"),
            1,
            r"integers, are expected from 0 to 65535, got 70000 to",
        ),
        (np.full((28, 28), -1, "<i4"), 2, r"integers, are expected from 0 to 65535, got -1 to -1"),
        (np.full((28, 28), 255, "<f4"), 3, r"floats, are expected from 0 to 1, got 255.0 to 255.0"),
        (np.full((28, 28), np.nan, "<f4"), 3, r"floats, are expected from 0 to 1, got nan to nan"),
    ],
)
def test_levels_out_of_range(pixels: np.ndarray, sample_format: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"picture: expected an image that can be .*{message}"):
        read(tiff(pixels, sample_format=sample_format))


@pytest.mark.parametrize(
    ("mode", "kind", "tolerance"),
    [
        ("CMYK", "TIFF", 1),
        ("CMYK", "JPEG", 8),
        ("YCbCr", "TIFF", 3),
        ("YCbCr", "JPEG", 8),
        ("LAB", "TIFF", 8),
        ("P", "PNG", 0),
        ("P", "GIF", 0),
        ("P", "TIFF", 0),
        ("RGBX", "TIFF", 0),
    ],
)
def test_colours(mode: str, kind: str, tolerance: int) -> None:
    if (mode, kind) == ("YCbCr", "TIFF") and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("Pillow 12 does not read the YCbCr that it writes; 13 needs Python 3.11")
    colours = [(255, 255, 255), (0, 0, 0), (200, 30, 40), (20, 160, 60), (40, 60, 180)]
    image = Image.new("RGB", (40, 40))
    for i, colour in enumerate(colours):
        image.paste(colour, (8 * i, 0, 8 * i + 8, 40))
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    else:
        converted = image.quantize(5) if mode == "P" else image.convert(mode)
    options = {"quality": 100} if kind == "JPEG" else {}
    content = saved(converted, kind, **options)
    x = read(content, (40, 40, 3))[20, 4::8].astype(int)
    assert np.abs(x - colours).max() <= tolerance
    grey = read(content, (40, 40, 1))[20, 4::8].astype(int)
    assert np.abs(grey - np.asarray(image.convert("L"))[20, 4::8]).max() <= max(tolerance, 1)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_several(kind: str) -> None:
    frames = [Image.fromarray(np.full((28, 28), level, np.uint8)) for level in (255, 0, 0)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (read(content) == 255).all()


# ---------------------------------------------------------------------- orientation
def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels as a file stores them that a viewer turns back."""
    return {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: pixels.T[::-1],
        7: pixels[::-1, ::-1].T,
        8: pixels.T[:, ::-1],
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        ("JPEG", {"quality": 100, "subsampling": 0}),
    ],
)
@pytest.mark.parametrize("size", [(28, 28), (60, 90)])
def test_orientation(
    kind: str,
    options: dict[str, Any],
    orientation: int,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    pixels = rng.integers(0, 256, size, dtype=np.uint8)
    if kind == "JPEG":  # smooth, in blocks that all orientations share
        pixels = np.kron(pixels[::8, ::8], np.ones((8, 8), np.uint8))
    image = Image.fromarray(np.ascontiguousarray(turned(pixels, orientation)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    x = read(saved(image, kind, exif=exif, **options), (20, 28, 1))
    upright = read(saved(Image.fromarray(pixels), "PNG"), (20, 28, 1))
    np.testing.assert_allclose(x.astype(int), upright, atol=2 if kind == "JPEG" else 0)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_orientation_of_a_large_picture(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = np.mgrid[:301, :467]
    pixels = (127 + 60 * np.sin(y / 40) + 60 * np.cos(x / 25 + y / 90)).astype(np.uint8)
    upright = read(saved(Image.fromarray(pixels), "PNG"), (20, 28, 1)).astype(int)
    image = Image.fromarray(np.ascontiguousarray(turned(pixels, orientation)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    monkeypatch.setattr(_pictures, "_WHOLE", 1000)
    monkeypatch.setattr(_pictures, "_TILE", 50)
    for kind, options in (("PNG", {}), ("TIFF", {}), ("JPEG", {"quality": 95})):
        x = read(saved(image, kind, exif=exif, **options), (20, 28, 1))
        assert np.abs(x - upright).max() <= 3


# ---------------------------------------------------------------------- what is no picture
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got neither: it is empty"),
        (b"some text", "got neither$"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "it is HEIC"),
        (b"%PDF-1.7\n", "it is PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "it is EPS"),
    ],
)
def test_what_is_no_picture(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^picture: expected .*{message}"):
        read(content)


@pytest.mark.parametrize(
    "error",
    [
        struct.error("unpack"),
        KeyError("x"),
        EOFError(),
        SyntaxError("broken"),
        OverflowError("big"),
        RuntimeError("y" * 5000),
    ],
)
def test_decoders_fail_in_many_ways(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(Image.fromarray(INK), "PNG")

    def load(self: Any) -> None:
        raise error

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(ValueError, match=r"^picture: expected an image that can be read: .") as e:
        read(content)
    assert len(str(e.value)) < 300


def test_a_decoder_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(Image.fromarray(INK), "PNG")

    def load(self: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(MemoryError, match=r"^picture, an image of 28 x 28 pixels$"):
        read(content)


def test_pillows_settings_stay() -> None:
    before = Image.MAX_IMAGE_PIXELS
    read(saved(Image.fromarray(INK), "PNG"))
    with pytest.raises(ValueError, match="can be read"):
        read(headers(9400, 9400)["png"])
    assert before == Image.MAX_IMAGE_PIXELS
