"""Large pictures are read in bounded memory, and what that takes is known from their headers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import headers, jpeg_header, png, read, saved

from fastcnn import _pictures

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_large_pictures_are_averaged_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every kind: the average is that of the pixels as they are seen."""
    noise = np.random.default_rng(0).integers(0, 256, (640, 560), dtype=np.uint8)
    alpha = np.where(noise < 128, 0, 255).astype(np.uint8)
    deep = noise.astype(np.uint16) * 257
    clear = Image.fromarray(noise)
    clear.putalpha(Image.fromarray(alpha))
    contents = [
        saved(Image.fromarray(noise), "PNG"),
        saved(Image.fromarray(noise).convert("RGB"), "BMP"),
        saved(Image.fromarray(deep), "PNG"),
        saved(clear, "PNG"),
        saved(Image.fromarray(noise).convert("P"), "GIF"),
        png(noise[:560].tolist(), 8, key=[7]),
    ]
    whole = [read(content) for content in contents]
    monkeypatch.setattr(_pictures, "_WHOLE", 1000)
    monkeypatch.setattr(_pictures, "_TILE", 50)
    for content, expected in zip(contents, whole, strict=True):
        assert np.abs(read(content).astype(int) - expected).max() <= 12  # noise of +-74 a pixel


@pytest.mark.parametrize("kind", headers(1, 1))
def test_a_header_of_a_large_picture(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before too much is allocated; the grey ones are cut short."""
    made = []
    new = Image.core.new

    def noted(mode: str, size: tuple[int, int]) -> Any:
        made.append(size[0] * size[1] * _pictures._STORED.get(mode, 4))
        return new(mode, size)

    monkeypatch.setattr(Image.core, "new", noted)
    for size in ((9400, 9400), (60000, 60000)):
        with pytest.raises(
            ValueError, match=r"^picture: expected an image that can be read: "
        ) as e:
            read(headers(*size)[kind])
        assert "\n" not in str(e.value)
        assert len(str(e.value)) < 300
    assert sum(made) <= 200e6


@pytest.mark.parametrize(
    ("kind", "options", "fits"),
    [
        ("PNG", {}, 40),
        ("TIFF", {"compression": "tiff_lzw"}, 80),
        ("WEBP", {}, 160),
        ("BMP", {}, 40),
        ("JPEG", {}, 40),
        ("JPEG", {"progressive": True}, 70),
        ("JPEG2000", {}, 200),
        ("JPEG", {"progressive": True, "subsampling": 0}, 100),
    ],
)
def test_what_decoding_takes(
    kind: str, options: dict[str, Any], fits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In thousands of bytes for ten thousand pixels."""
    content = saved(Image.new("RGB", (100, 100)), kind, **options)
    monkeypatch.setattr(_pictures, "_MEMORY", 1000 * fits)
    read(content)
    monkeypatch.setattr(_pictures, "_MEMORY", 1000 * fits - 1)
    with pytest.raises(ValueError, match=r"its 100 x 100 pixels would take 0 MB to decode"):
        read(content)


def test_a_large_jpeg_is_drafted(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(Image.new("RGB", (4000, 400), (10, 200, 40)), "JPEG")
    monkeypatch.setattr(_pictures, "_WHOLE", 1000)
    monkeypatch.setattr(_pictures, "_MEMORY", 1000 * 100 * 4)
    assert np.abs(read(content, (25, 25, 3)).astype(int) - (10, 200, 40)).max() <= 3
    with pytest.raises(ValueError, match="would take"):
        read(content)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (jpeg_header([0x22, 0x11, 0x11], 3), 0),
        (jpeg_header([0x22, 0x11, 0x11], 1), 3),
        (jpeg_header([0x11, 0x11, 0x11], 2), 6),
        (jpeg_header([0x11], 1), 0),
        (jpeg_header([0x11], 1, 0xC2), 2),
        (jpeg_header([0x22, 0x11, 0x11], 3, 0xC2), 3),
        (jpeg_header([0x11, 0x11, 0x11, 0x11], 3), 8),
        (b"", 0),
        (b"\xff\xd8", 0),
        (b"\xff\xd8\xff\xda\x00\x00", 0),
        (png([[0]], 8), 0),
    ],
)
def test_a_jpeg_in_several_scans_holds_its_coefficients(header: bytes, expected: float) -> None:
    file = io.BytesIO(header)
    assert _pictures._coefficients(file) == expected
    assert file.tell() == 0
