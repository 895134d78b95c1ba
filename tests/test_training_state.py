"""State files: what does not fit is refused, and harms nothing."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_serialization import error_of, small_model

import fastcnn
from fastcnn import nn, optim, serialization


# ---------------------------------------------------------------------- training state
def trained(reference: Any, **options: Any) -> fastcnn.Trainer:
    trainer = fastcnn.Trainer(small_model(), backend=reference, **options)
    x, y = np.random.default_rng(0).random((4, 4, 4, 1)), np.array([0, 1, 2, 0])
    trainer.fit(x, y, verbose=False)
    return trainer


def test_states_of_other_trainings_change_nothing(reference: Any, tmp_path: Path) -> None:
    path = tmp_path / "s"
    trained(reference).save_state(path)
    other_model = nn.Sequential([nn.Flatten(), nn.Dense(3)])
    other_shape = nn.Sequential(
        [
            nn.Conv2D(2, (3, 2), padding=((1, 0), (0, 1)), activation="relu"),
            nn.Residual(nn.Sequential([nn.BatchNorm(), nn.Conv2D(2, 1)])),
            nn.GlobalAvgPool2D(),
            nn.Dense(3),
        ]
    )
    other_shape.build((6, 6, 1))
    for trainer, message in [
        (fastcnn.Trainer(other_model, backend=reference), "another architecture"),
        (fastcnn.Trainer(other_shape, backend=reference), r"inputs \(6, 6, 1\), got \(4, 4, 1\)"),
        (trained(reference, optimizer=optim.Adam()), "expected optimizer Adam, got 'SGD'"),
        (trained(reference, optimizer=optim.SGD(0.1)), "unexpected: velocity"),
    ]:
        built = trainer.model.built
        before = trainer.model.state_dict() if built else {}
        epoch, history = trainer.epoch, {k: list(v) for k, v in trainer.history.items()}
        with pytest.raises(ValueError, match=message) as caught:
            trainer.load_state(path)
        assert str(path) in str(caught.value)
        assert trainer.model.built == built
        assert (trainer.epoch, trainer.history) == (epoch, history)
        for name, array in before.items():
            np.testing.assert_array_equal(trainer.model.state_dict()[name], array)


def test_dtype_of_a_state(reference: Any, tmp_path: Path) -> None:
    path = tmp_path / "s"
    model = nn.Sequential([nn.Dense(2)])
    model.build((3,), dtype=np.float64)
    fastcnn.Trainer(model, backend=reference).save_state(path)
    fresh = nn.Sequential([nn.Dense(2)])
    with pytest.raises(ValueError, match="expected dtype float32, got 'float64'"):
        fastcnn.Trainer(fresh, backend=reference).load_state(path)
    fastcnn.Trainer(fresh, backend=reference, dtype=np.float64).load_state(path)
    assert fresh.dtype == np.float64


def test_damaged_states(reference: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "s"
    trainer = trained(reference)
    trainer.save_state(path)
    before = trainer.model.state_dict()
    whole = path.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for attempt in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(header)] = rng.integers(256)
        path.write_bytes(damaged if attempt % 3 else whole[: rng.integers(len(whole))])
        said = error_of(lambda: trainer.load_state(path))
        assert said.startswith((f"{path}: expected a", "none")), said
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    trainer.model.save(path)
    with pytest.raises(ValueError, match="says 'fastcnn-model'"):
        trainer.load_state(path)


def test_numbers_of_a_state_are_checked(reference: Any, tmp_path: Path) -> None:
    path = tmp_path / "s"
    trainer = trained(reference)
    trainer.save_state(path)
    tensors, description = serialization.read_tensors(path, "fastcnn-state")
    for change in [
        {"epoch": -1},
        {"epoch": "1"},
        {"step": 1.5},
        {"seed": None},
        {"model": 3},
        {"model": {**description["model"], "input_shape": [0]}},
        {"optimizer": ["SGD"]},
    ]:
        serialization.write_tensors(path, tensors, {**description, **change})
        with pytest.raises(ValueError, match="expected a state of this training"):
            trainer.load_state(path)
    for name, values in {
        "history.loss": np.zeros((1, 1)),
        "history.val_loss": np.zeros(1, np.float32),
        "history.other": np.zeros(1),
        "optimizer.velocity.9.weight": np.zeros(1, np.float32),
        "optimizer.velocity.3.weight": np.zeros(1, np.float32),
    }.items():
        serialization.write_tensors(path, {**tensors, name: values}, description)
        with pytest.raises(ValueError, match=r"of this training: (history|state)"):
            trainer.load_state(path)
    without = {name: array for name, array in tensors.items() if "velocity" not in name}
    serialization.write_tensors(path, without, description)
    with pytest.raises(ValueError, match=r"missing: velocity\.0\.weight"):
        trainer.load_state(path)
