"""fastcnn predict: arrays and image files, good and bad."""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from command import fail, small_run, succeed

import fastcnn
from fastcnn import datasets


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTCNN_DATA", raising=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run of two epochs, not to be changed."""
    return small_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    x, _ = datasets.strokes.draw(3, split="test")
    return x


@pytest.fixture(scope="module")
def expected(run: Path, digits: np.ndarray) -> list[str]:
    trainer = fastcnn.Trainer(fastcnn.load(run / "model.safetensors"))
    return [f"class {p.argmax()}, probability {p.max():.4f}" for p in trainer.predict_proba(digits)]


def test_predict_arrays(run: Path, digits: np.ndarray, expected: list[str]) -> None:
    for name, array in {
        "grey.npy": digits[0, :, :, 0],
        "channel.npy": digits[0],
        "one.npy": digits[:1],
        "float32.npy": digits[0] / np.float32(255),
        "float64.npy": digits[0] / 255,
        "fortran.npy": np.asfortranarray(digits[0, :, :, 0]),
        "big-endian.npy": (digits[0] / 255).astype(">f4"),
        "no-suffix": digits[0],
    }.items():
        with open(name, "wb") as file:
            np.save(file, array)
        assert succeed("predict", run, name) == f"{name}: {expected[0]}\n"
    for name, array in {"batch.npy": digits, "three.npy": digits[..., 0]}.items():
        np.save(name, array)
        lines = [f"{name}[{i}]: {expected[i]}" for i in range(3)]
        assert succeed("predict", run / "model.safetensors", name).splitlines() == lines
    assert len(succeed("predict", run, "grey.npy", "batch.npy", "grey.npy").splitlines()) == 5


def test_predict_images(run: Path, digits: np.ndarray, expected: list[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    grey = image.fromarray(digits[0, :, :, 0])
    for name, saved in {
        "grey.png": grey,
        "rgb.bmp": grey.convert("RGB"),
        "alpha.png": grey.convert("RGBA"),
    }.items():
        saved.save(name)
        assert succeed("predict", run, name) == f"{name}: {expected[0]}\n"
    image.fromarray(255 - digits[0, :, :, 0]).save("dark.png")
    assert succeed("predict", run, "--invert", "dark.png") == f"dark.png: {expected[0]}\n"
    np.save("even.npy", np.full((28, 28), 200, np.uint8))
    answer = succeed("predict", run, "even.npy").removeprefix("even.npy")
    image.new("L", (90, 40), 200).save("even.png")  # resized to the model's input
    assert succeed("predict", run, "even.png") == f"even.png{answer}"
    grey.save("lossy.jpg")
    assert succeed("predict", run, "lossy.jpg").startswith("lossy.jpg: class ")


def npy_header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"expected a \.npy or an image file, got neither"),
        (b"hello", r"expected a \.npy or an image file, got neither"),
        (b"\x93NUMPY", r"expected a \.npy file of an array"),
        (b"\x93NUMPY\x01\x00\xff\xff{", r"expected a \.npy file of an array"),
        (npy_header((28, 28)) + bytes(783), r"expected the 784 bytes of .* \(28, 28\), got 783"),
        (npy_header((28, 28)) + bytes(785), r"expected the 784 bytes of .* \(28, 28\), got 785"),
        (npy_header((-28, -28)) + bytes(784), r"expected a \.npy file of an array"),
        (npy_header((2**62, 28, 28, 1)) + bytes(784), r"expected the \d+ bytes of an array"),
        (npy_header((2**40, 28, 28, 1)) + bytes(784), r"expected the \d+ bytes of an array"),
        (
            npy_header((28, 28), "|O") + bytes(784 * 8),
            r"expected uint8 or float numbers, got object",
        ),
        (
            npy_header((28, 28), "<i8") + bytes(784 * 8),
            r"expected uint8 or float numbers, got int64",
        ),
        (
            npy_header((28, 28), "<c8") + bytes(784 * 8),
            r"expected uint8 or float numbers, got complex64",
        ),
        (npy_header((28, 27)) + bytes(756), r"expected an array of shape \(28, 28, 1\) or \(28, "),
        (npy_header((28, 28, 3)) + bytes(784 * 3), r"expected an array of shape"),
        (npy_header(()) + bytes(1), r"expected an array of shape"),
        (npy_header((0, 28, 28, 1)), r"expected an array of shape"),
        (b"\x93NUMPY\x03\x00\x01\x00\x00\x00\n", r"expected a .*not 3.0"),
        (b"\x93NUMPY\x01\x00\x08\x00{[]: 1}\n", r"expected a \.npy file of an array"),
        (b"\x93NUMPY\x01\x00\x00\x20" + b"(" * 0x2000, r"expected a \.npy file of an array"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), r"expected a"),
    ],
)
def test_predict_bad_files(run: Path, content: bytes, message: str) -> None:
    pytest.importorskip("PIL")
    Path("bad").write_bytes(content)
    assert re.match(f"bad: {message}", fail("predict", run, "bad"))


def test_predict_reads_all_before_it_prints_any(
    run: Path, capsys: pytest.CaptureFixture[str], digits: np.ndarray
) -> None:
    np.save("good.npy", digits[0])
    assert fail("predict", run, "good.npy", "missing.npy").startswith("missing.npy: No such")
    assert capsys.readouterr().out == ""
    Path("folder").mkdir()
    assert fail("predict", run, "folder").startswith("folder: expected a .npy or an image file, ")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_predict_an_image_that_has_no_answer(
    run: Path, value: float, digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = digits / 255
    np.save("good.npy", batch)
    batch[1, 14, 14] = value
    np.save("bad.npy", batch)
    with np.errstate(over="ignore"):
        message = fail("predict", run, "good.npy", "bad.npy")
    assert message.startswith("bad.npy[1]: expected probabilities, got NaN")
    assert capsys.readouterr().out == ""


def test_predict_bad_images(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((280, 280), np.uint8)).save("cut.png")
    whole = Path("cut.png").read_bytes()
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    assert "cut.png: expected an image that can be read" in fail("predict", run, "cut.png")
    monkeypatch.setattr(image, "MAX_IMAGE_PIXELS", 100)
    for side in (12, 28):  # Pillow warns of the first and refuses the second
        image.fromarray(np.zeros((side, side), np.uint8)).save("bomb.png")
        assert "bomb.png: expected an image that can be" in fail("predict", run, "bomb.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert "image files need Pillow" in fail("predict", run, "bomb.png")


def test_predict_needs_a_classifier(digits: np.ndarray) -> None:
    model = fastcnn.nn.Sequential([fastcnn.nn.Conv2D(2, 3)])
    model.build((28, 28, 1))
    model.save("other.safetensors")
    np.save("digit.npy", digits[0])
    message = fail("predict", "other.safetensors", "digit.npy")
    assert message == "predict: expected a model that gives classes, got one that gives (26, 26, 2)"
