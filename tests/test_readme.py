"""README.md: its programs run, its commands are commands."""

from __future__ import annotations

import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import cli, datasets

ROOT = Path(__file__).parent.parent
README, ONNX = (ROOT / "README.md").read_text(), (ROOT / "docs" / "onnx.md").read_text()


def code(language: str, page: str = README) -> list[str]:
    """Return the blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def test_the_programs_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """One after the other, on a few images, with what the text says the names are."""
    monkeypatch.chdir(tmp_path)
    few = partial(datasets.load, limit_train=256, limit_test=64)
    monkeypatch.setattr(datasets, "load", few)
    given: dict[str, Any] = {
        "image": rng.standard_normal((8, 9, 3)),
        "filters": rng.standard_normal((3, 3, 3, 4)),
        "gamma": np.ones(4),
        "beta": np.zeros(4),
    }
    *programs, of_onnx = code("python")
    assert len(programs) == 3
    for program in programs:
        exec(program, given)
    assert given["history"]["loss"][-1] > 0
    assert given["network"].trained_parameters().keys() < given["network"].parameters().keys()
    assert given["network"].output_shape == (10,)
    assert given["serve"](given["x_test"][:1]).shape == (1, 10)
    assert (tmp_path / "model.safetensors").is_file()
    assert given["y"].shape == (8, 9, 4)
    pytest.importorskip("onnx.helper", reason="onnx is not installed: no files")
    exec(of_onnx, given)
    assert given["serve"](given["x_test"][:1]).shape == (1, 10)
    assert type(given["found"]) is fastcnn.onnx.OnnxModel


def test_the_page_on_onnx_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It compares with ONNX Runtime where that is installed."""
    pytest.importorskip("onnx.helper", reason="onnx is not installed: no files")
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {}
    for program in code("python", ONNX):
        exec(program, given)
    assert given["y"].shape == (8, 10)
    assert given["history"]["loss"][-1] < given["history"]["loss"][0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "network.onnx",
        "network.safetensors",
        "trained.onnx",
    ]


def test_the_commands_are_commands() -> None:
    lines = [line for block in code("sh") for line in re.split(r"\n|&&", block)]
    commands = [shlex.split(line, comments=True) for line in lines]
    commands = [words[1:] for words in commands if words[:1] == ["fastcnn"]]
    inline = re.findall(r"`fastcnn (\w+ [^`]*)`", README)
    commands += map(shlex.split, inline)
    names = {"train", "evaluate", "predict", "convert", "info", "bench"}
    assert {words[0] for words in commands} == names
    for words in commands:
        cli._parser().parse_args(words)
