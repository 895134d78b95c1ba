"""fastcnn predict: arrays and image files, good and bad."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import fail, run_command, small_run, succeed

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


def ask(*arguments: object) -> tuple[int, str, list[str]]:
    """Return what the command gives: exit code, standard output, sentences."""
    code, out, error = run_command(("predict", *arguments))
    return code, out, error.splitlines()


def test_predict_goes_on_past_a_broken_file(
    run: Path, digits: np.ndarray, expected: list[str]
) -> None:
    np.save("good.npy", digits[0])
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    Path("folder").mkdir()
    files = ["missing.npy", "good.npy", "broken.png", "folder", "good.npy"]
    code, out, sentences = ask(run, *files)
    assert code == 2
    assert out == f"good.npy: {expected[0]}\n" * 2
    assert [sentence.split(":")[:2] for sentence in sentences] == [
        ["fastcnn", f" {name}"] for name in ("missing.npy", "broken.png", "folder")
    ]
    assert "got a folder; name the files in it" in sentences[2]
    code, out, _ = ask(run, "--format", "json", *files)
    assert code == 2
    assert [told["file"] for told in json.loads(out)] == ["good.npy"] * 2
    code, out, _ = ask(run, "--format", "json", "missing.npy")
    assert (code, json.loads(out)) == (2, [])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_predict_an_image_that_has_no_answer(
    run: Path, value: float, digits: np.ndarray, expected: list[str]
) -> None:
    batch = digits / 255
    batch[1, 14, 14] = value
    np.save("bad.npy", batch)
    code, out, sentences = ask(run, "bad.npy")
    assert code == 2
    assert out.splitlines() == [f"bad.npy[{i}]: {expected[i]}" for i in (0, 2)]
    assert len(sentences) == 1
    assert sentences[0].startswith("fastcnn: bad.npy[1]: expected probabilities, got NaN")


def classifier(path: str, notes: dict[str, Any] | None = None, last: Any = None) -> None:
    """Save a model whose three outputs are the first pixel."""
    layers = [fastcnn.nn.Flatten(), fastcnn.nn.Dense(3)]
    model = fastcnn.nn.Sequential(layers if last is None else [*layers, last])
    model.build((2, 2, 3))
    layers[1].weight.data[...] = np.eye(12, 3)
    model.save(path, notes=notes)


def softmax(values: Any) -> np.ndarray:
    shares = np.exp(np.asarray(values, np.float64))
    return shares / shares.sum()


def test_predict_names_and_formats() -> None:
    classifier("model", {"classes": ["cat", "dog, old", "猫"]})
    np.save("x.npy", np.array([[1, 3, 2], [2, 0, 1]], np.float32).repeat(4, 0).reshape(2, 2, 2, 3))
    p = softmax([1, 3, 2]), softmax([2, 0, 1])
    assert succeed("predict", "model", "x.npy") == (
        f"x.npy[0]: class 1, dog, old, probability {p[0][1]:.4f}\n"
        f"x.npy[1]: class 0, cat, probability {p[1][0]:.4f}\n"
    )
    top = succeed("predict", "model", "x.npy", "--top", "2").splitlines()[0]
    assert top.endswith(f"{p[0][1]:.4f}; class 2, 猫, probability {p[0][2]:.4f}")
    rows = list(csv.DictReader(io.StringIO(succeed("predict", "model", "x.npy", "--format=csv"))))
    assert [(row["file"], row["class"], row["name"]) for row in rows] == [
        ("x.npy[0]", "1", "dog, old"),
        ("x.npy[1]", "0", "cat"),
    ]
    assert float(rows[1]["probability"]) == pytest.approx(p[1][0], rel=1e-5)
    told = json.loads(succeed("predict", "model", "x.npy", "--format=json", "--top=9"))
    assert [answer["name"] for answer in told] == ["dog, old", "cat"]
    for answer, shares in zip(told, p, strict=True):
        np.testing.assert_allclose(answer["probabilities"], shares, rtol=1e-5)
        assert answer["class"] == shares.argmax()
        assert answer["probability"] == answer["probabilities"][answer["class"]]
        assert [best["class"] for best in answer["top"]] == np.argsort(-shares).tolist()
    classifier("model")
    told = json.loads(succeed("predict", "model", "x.npy", "--format=json"))
    assert told[0]["name"] is None
    assert "top" not in told[0]


def test_predict_escapes_names_in_text() -> None:
    classifier("model", {"classes": ["a", "red\n\x1b[31m", "c" * 1000]})
    np.save("x.npy", np.array([1, 3, 2], np.float32)[[[0, 1, 2]] * 4].reshape(2, 2, 3))
    said = succeed("predict", "model", "x.npy", "--top", 2)
    assert said.startswith("x.npy: class 1, red\\n\\x1b[31m, probability ")
    assert said.count("\n") == 1
    assert f" {'c' * 100}, probability" in said
    assert json.loads(succeed("predict", "model", "x.npy", "--format=json"))[0]["name"] == (
        "red\n\x1b[31m"
    )


@pytest.mark.parametrize("last", [fastcnn.nn.Softmax(), None])
def test_predict_applies_softmax_once(last: Any) -> None:
    classifier("model", last=last)
    np.save("x.npy", np.array([1, 3, 2], np.float32)[[[0, 1, 2]] * 4].reshape(2, 2, 3))
    told = json.loads(succeed("predict", "model", "x.npy", "--format=json"))
    np.testing.assert_allclose(told[0]["probabilities"], softmax([1, 3, 2]), rtol=1e-5)


def test_predict_preprocessing() -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.full((2, 2, 3), (10, 100, 200), np.uint8)
    image.fromarray(pixels).save("x.png")
    np.save("x.npy", pixels)
    np.save("floats.npy", pixels / 255)
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
    x = pixels[0, 0] / 255

    def given(file: str, *options: str) -> np.ndarray:
        told = json.loads(succeed("predict", "model", file, "--format=json", *options))
        return np.array(told[0]["probabilities"])

    classifier("model", {"preprocessing": {"mean": mean, "std": std, "invert": True}})
    for file, options, seen in (
        ("x.png", [], (1 - x - mean) / std),
        ("x.png", ["--invert"], (1 - x - mean) / std),
        ("x.png", ["--no-invert"], (x - mean) / std),
        ("x.npy", [], (x - mean) / std),
        ("floats.npy", [], x),
    ):
        np.testing.assert_allclose(given(file, *options), softmax(seen), rtol=1e-5)
    classifier("model", {"preprocessing": {"std": 0.5}})
    np.testing.assert_allclose(given("x.png"), softmax(x / 0.5), rtol=1e-5)


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({"classes": ["a", "b"]}, r'"classes" in the model\'s notes: expected a list of 3 names'),
        ({"classes": 3}, r'"classes" in .*: expected a list of 3 names, got 3'),
        ({"preprocessing": []}, r'"preprocessing" in .*: expected a dict'),
        ({"preprocessing": {"invert": 1}}, r'"invert" in .*: expected true or false, got 1'),
        ({"preprocessing": {"mean": [1, 2]}}, r'"mean" in .*: expected a number or 3 of them'),
        ({"preprocessing": {"mean": "x" * 500}}, r'"mean" in .*: expected a number or 3 of'),
        ({"preprocessing": {"std": 0}}, r'"std" in .*, none of them 0, got 0'),
        ({"preprocessing": {"std": None}}, r'"std" in .*, none of them 0, got None'),
    ],
)
def test_predict_notes_of_another_form(notes: dict[str, Any], message: str) -> None:
    classifier("model", notes)
    said = fail("predict", "model", "x.npy")
    assert re.match(f"predict: {message}", said)
    assert len(said) < 250


def test_predict_needs_more_than_one_output(digits: np.ndarray) -> None:
    model = fastcnn.nn.Sequential([fastcnn.nn.Flatten(), fastcnn.nn.Dense(1)])
    model.build((28, 28, 1))
    model.save("one")
    assert "two classes or more" in fail("predict", "one", "x.npy")


def test_train_notes_its_classes(run: Path) -> None:
    assert fastcnn.load(run).notes == {
        "classes": list("0123456789"),
        "preprocessing": {"invert": False},
    }
    assert set(datasets.CLASSES) == set(datasets.NAMES)
    assert all(len(set(names)) == 10 for names in datasets.CLASSES.values())


def test_predict_without_memory(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((28, 28), np.uint8)).save("x.png")

    def load(self: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    assert fail("predict", run, "x.png") == ("not enough memory: x.png, an image of 28 x 28 pixels")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_predict_a_pipe(run: Path) -> None:
    os.mkfifo("pipe")
    assert "got a pipe or a device" in fail("predict", run, "pipe")


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
