"""Notes in a model's file: values of JSON that travel with it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import nn

NOTES = {
    "classes": ["cat", "dog", "Käse"],
    "preprocessing": {"size": (28, 28), "mean": 0.5, "invert": True, "crop": None},
}
AS_READ = {**NOTES, "preprocessing": {**NOTES["preprocessing"], "size": [28, 28]}}  # type: ignore[dict-item]


def built() -> nn.Sequential:
    model = nn.Sequential([nn.Dense(2)])
    model.build((3,))
    return model


def test_notes_travel_with_the_model(tmp_path: Path) -> None:
    model = built()
    model.save(tmp_path / "a", notes=NOTES)
    assert model.notes == {}, "they are the file's"
    loaded = fastcnn.load(tmp_path / "a")
    assert loaded.notes == AS_READ
    loaded.save(tmp_path / "b")
    assert fastcnn.load(tmp_path / "b").notes == AS_READ
    loaded.save(tmp_path / "c", notes={})
    assert fastcnn.load(tmp_path / "c").notes == {}
    loaded.notes["classes"] = ["one", "two"]
    loaded.save(tmp_path / "b")
    assert fastcnn.load(tmp_path / "b").notes["classes"] == ["one", "two"]


def test_without_notes_a_file_is_what_it_was(tmp_path: Path) -> None:
    built().save(tmp_path / "a")
    built().save(tmp_path / "b", notes={})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert b"notes" not in (tmp_path / "a").read_bytes()
    assert fastcnn.load(tmp_path / "a").notes == {}


def test_a_copy_has_notes_of_its_own() -> None:
    model = built()
    model.notes["classes"] = ["a"]
    twin = copy.deepcopy(model)
    twin.notes["classes"].append("b")
    assert model.notes == {"classes": ["a"]}


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("notes", "kind", "message"),
    [
        (3, TypeError, "save: notes: expected a dict, got int"),
        ([("a", 1)], TypeError, "save: notes: expected a dict, got list"),
        ({0: "cat"}, TypeError, "save: notes: expected keys that are strings, got int 0"),
        ({"a": {0: 1}}, TypeError, r"save: notes\['a'\]: expected keys that are strings"),
        ({"a": np.zeros(3)}, TypeError, r"notes\['a'\]: .*got ndarray; .tolist\(\)"),
        ({"a": [1, {"b": np.float32(1)}]}, TypeError, r"notes\['a'\]\[1\]\['b'\]: .*float32"),
        ({"a": {1, 2}}, TypeError, r"notes\['a'\]: expected a value of JSON, got set"),
        ({"a": float("nan")}, ValueError, r"notes\['a'\]: expected a number that JSON can hold"),
        ({"a": 10**5000}, ValueError, r"notes\['a'\]: expected an integer of at most 1024 bits"),
        ({"a": ENDLESS}, ValueError, "notes: expected values of JSON, got some nested too deep"),
    ],
)
def test_what_json_cannot_hold_is_refused(
    notes: Any, kind: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        built().save(tmp_path / "m", notes=notes)
    model = built()
    model.notes = notes
    with pytest.raises(kind, match=message):
        model.save(tmp_path / "m")
    trainer = fastcnn.Trainer(built(), backend="reference")
    with pytest.raises(kind, match=message.removeprefix("save: ")):
        trainer.save_state(tmp_path / "m", notes=notes)
    assert list(tmp_path.iterdir()) == []


def test_notes_are_not_for_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected names and notes of less than 100 MB"):
        built().save(tmp_path / "m", notes={"a": "x" * 100_000_000})
    assert list(tmp_path.iterdir()) == []
