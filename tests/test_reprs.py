"""What a prompt or a notebook shows: a line, of what matters."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
from trainers import plain, striped_images, trainer_of

import fastcnn
from fastcnn import callbacks, losses, nn, optim, schedules
from fastcnn.trainer import History


class Bare(losses.Loss):
    """A loss of one's own that keeps no option."""

    def __init__(self, power: float, *rest: float, **options: float) -> None:
        pass


@pytest.mark.parametrize(
    ("thing", "shown"),
    [
        (optim.SGD(0.1), "SGD(learning_rate=0.1)"),
        (optim.SGD(0.1, momentum=0.9, clip_norm=1), "SGD(learning_rate=0.1, momentum=0.9, "),
        (optim.Adam(), "Adam()"),
        (optim.AdamW(0.1, weight_decay=0.0), "AdamW(learning_rate=0.1, weight_decay=0.0)"),
        (losses.CrossEntropy(), "CrossEntropy()"),
        (losses.CrossEntropy(class_weights=[1, 2]), "CrossEntropy(class_weights=array([1., 2.]))"),
        (losses.CrossEntropy(class_weights=np.ones(999)), "CrossEntropy(class_weights=array([1., "),
        (losses.MeanSquaredError(), "MeanSquaredError()"),
        (Bare(3), "Bare()"),
        (schedules.Constant(), "Constant()"),
        (schedules.Step([0.5], factor=0.5), "Step(milestones=(0.5,), factor=0.5)"),
        (schedules.WarmUp("cosine"), "WarmUp(after=Cosine())"),
        (callbacks.EarlyStopping(patience=5), "EarlyStopping(patience=5)"),
        (callbacks.Checkpoint("best"), "Checkpoint(path='best')"),
        (callbacks.Callback(), "Callback()"),
    ],
)
def test_options_that_are_not_the_default(thing: Any, shown: str) -> None:
    text = repr(thing)
    assert text.startswith(shown)
    assert "\n" not in text
    assert len(text) <= 150


def test_trainers_and_predictors(backend: Any) -> None:
    trainer = trainer_of(backend, optimizer=optim.SGD(0.1))
    text = repr(trainer)
    assert text.startswith("Trainer(model=Sequential of 5 layers, without weights yet, ")
    assert ", optimizer=SGD(learning_rate=0.1), loss=CrossEntropy(), backend=" in text
    assert text.endswith(", epoch 0, step 0)")
    x, y = striped_images(4)
    trainer.fit(x, y, batch_size=2, verbose=False)
    size = f"Sequential of 5 layers, {trainer.model.parameter_count:,} parameters"
    assert f"model={size}, " in repr(trainer)
    assert repr(trainer).endswith(", epoch 1, step 2)")
    shapes = "input_shape=(8, 6, 2), output_shape=(3,), dtype=float32"
    assert repr(trainer.predictor()) == f"Predictor({size}, {shapes})"
    assert "/" not in repr(fastcnn.Trainer(plain(), backend="reference")), "no paths"
    assert "model=Dense, " in repr(fastcnn.Trainer(nn.Dense(3)))


def test_a_history_is_a_dict_in_all_but_its_looks() -> None:
    trainer = trainer_of("fast")
    assert repr(trainer.history) == "History(0 epochs)"
    x, y = striped_images(8)
    history = trainer.fit(x, y, batch_size=2, verbose=False, validation_data=(x, y))
    loss, accuracy = history["loss"][-1], history["accuracy"][-1]
    assert repr(history).startswith(f"History(1 epoch: loss {loss:.4f}, accuracy {accuracy:.4f}, v")
    assert len(repr(history)) < 120
    assert isinstance(history, dict)
    plainly = dict(history)
    assert history == plainly
    assert json.loads(json.dumps(history)) == plainly
    for twin in (pickle.loads(pickle.dumps(history)), copy.deepcopy(history), copy.copy(history)):
        assert twin == plainly
        assert repr(twin) == repr(history)
    assert f"{trainer.history!s}" == repr(history)
    assert repr(History(other=[])) == "History(0 epochs)"
