"""Some thousand damaged files; tests/torch_fuzz.py reads a hundred thousand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch_fuzz

from fastcnn.pytorch import _names
from fastcnn.pytorch._opcodes import Function


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    said = torch_fuzz.run(3000, 1, tmp_path / "damaged")
    assert said.total() == 3000
    assert 50 < said["read"] < 2000
    assert len(said) > 12


def test_a_reader_that_runs_something_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a planted name that a file can call, to import."""
    path = tmp_path / "run"
    planted = Function(lambda machine, given: __import__("this_is_not_there"), 0, 0)
    monkeypatch.setitem(_names.NAMES, "os.system", planted)  # type: ignore[call-overload]
    torch_fuzz.run(0, 0, path)
    monkeypatch.setattr(torch_fuzz, "_watched", [])
    value = torch_fuzz.called(torch_fuzz.named("os", "system"))
    with pytest.raises((RuntimeError, ModuleNotFoundError)):
        torch_fuzz.read(torch_fuzz.old_file(torch_fuzz.pickled(value), {}), path)
    assert torch_fuzz._watched[0][0] == "import"
