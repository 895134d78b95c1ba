"""Some hundred damaged files of Keras's; tests/keras_fuzz.py reads a hundred thousand."""

from __future__ import annotations

from pathlib import Path

import keras_fuzz
import pytest

from fastcnn.keras import _file


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    said = keras_fuzz.run(600, 1, tmp_path / "damaged")
    assert said.total() == 600
    assert len(said) > 30


def test_a_reader_that_does_more_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of planted faults: one that imports what the file says, one that is no ValueError."""
    path, model = tmp_path / "damaged", keras_fuzz.twin()
    keras_fuzz.run(0, 0, path)

    def imports(version: object) -> int:
        __import__("this_is_not_there")
        return 3

    monkeypatch.setattr(keras_fuzz, "_watched", [])
    with monkeypatch.context() as planted:
        planted.setattr(_file, "_major", imports)
        with pytest.raises((RuntimeError, ModuleNotFoundError)):
            keras_fuzz.read(keras_fuzz.keras(keras_fuzz.sample()), path, model)
    assert keras_fuzz._watched[0][0] == "import"
    monkeypatch.setattr(keras_fuzz, "_watched", [])
    monkeypatch.setattr(_file, "SIGNATURE", None)
    monkeypatch.setattr(_file, "kind_of", lambda file: {}["nothing"])
    with pytest.raises(KeyError):
        keras_fuzz.read(b"neither", path, model)
