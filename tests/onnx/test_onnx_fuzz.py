"""Some hundred damaged files; tests/onnx_fuzz.py reads a hundred thousand."""

from __future__ import annotations

from pathlib import Path

import onnx_fuzz
import pytest


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    before = onnx_fuzz.megabytes()
    said = onnx_fuzz.run(600, 1, tmp_path / "damaged.onnx")
    assert sum(said.values()) == 600
    assert said["read"] > 30
    assert len(said) > 10
    assert onnx_fuzz.megabytes() - before < onnx_fuzz.MEGABYTES


@pytest.mark.parametrize("error", [ZeroDivisionError("zero"), ValueError("no sentence")])
def test_it_finds_what_is_no_sentence(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path) -> None:
        raise error

    monkeypatch.setattr("fastcnn.onnx.load", load)
    with pytest.raises(RuntimeError, match=r"zero|no sentence"):
        onnx_fuzz.read(b"", tmp_path / "a")
