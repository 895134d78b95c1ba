"""README.md: its programs run, its commands are commands."""

from __future__ import annotations

import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn import cli, datasets

README = (Path(__file__).parent.parent / "README.md").read_text()


def code(language: str) -> list[str]:
    """Return the blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


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
    programs = code("python")
    assert len(programs) == 3
    for program in programs:
        exec(program, given)
    assert given["history"]["loss"][-1] > 0
    assert given["network"].trained_parameters().keys() < given["network"].parameters().keys()
    assert given["network"].output_shape == (10,)
    assert given["serve"](given["x_test"][:1]).shape == (1, 10)
    assert (tmp_path / "model.safetensors").is_file()
    assert given["y"].shape == (8, 9, 4)


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
