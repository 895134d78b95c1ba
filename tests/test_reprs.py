"""What a prompt or a notebook shows: a line, of what matters."""

from __future__ import annotations

import copy
import json
import pickle
import pydoc
import re
from abc import ABC, abstractmethod
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


# ---------------------------------------------------------------------- layers
def test_a_model_is_shown_a_layer_a_line() -> None:
    assert repr(nn.Sequential([nn.Residual(nn.Sequential([nn.Dense(3), nn.ReLU()]))])) == (
        "Sequential(\n"
        "  (0): Residual(\n"
        "    (body): Sequential(\n"
        "      (0): Dense(units=3)\n"
        "      (1): ReLU()\n"
        "    )\n"
        "  )\n"
        ")"
    )


def test_a_notebook_shows_a_table() -> None:
    model: Any = nn.Sequential(
        [nn.Conv2D(4, 3, padding=1), nn.Residual(nn.Conv2D(4, 3, padding=1)), nn.BatchNorm()]
    )
    assert model._repr_html_().startswith("<pre>Sequential(\n  (0): Conv2D(filters=4")
    model.build((6, 6, 1))
    table = model._repr_html_()
    cells = re.findall("<td>(.*?)</td>", table)
    assert cells[:3] == ["0 Conv2D", "(6, 6, 4)", "40"]
    assert "1.body Conv2D" in cells
    assert "Trained parameters: " in table

    class Odd(nn.Dense):
        def __init__(self, units: int, text: str) -> None:
            super().__init__(units)
            self.text = text

    assert "<b>" not in Odd(2, "<b>")._repr_html_()
    assert "&lt;b&gt;" in Odd(2, "<b>")._repr_html_()


def test_help_of_a_layer_is_about_that_layer() -> None:
    for name in nn.__all__:
        layer = vars(nn)[name]
        if not isinstance(layer, type) or not issubclass(layer, nn.Module):
            continue
        if issubclass(layer, nn.Module) and layer is not nn.Module:
            page = pydoc.plain(pydoc.render_doc(layer))
            assert layer.__doc__.splitlines()[0] in page
            assert "state_dict" not in page
            assert len(page.splitlines()) < 50
    # A long signature is one line, and from Python 3.13 on a line for each option.
    words = pydoc.plain(pydoc.render_doc(nn.Conv2D)).replace("|", "").split()
    assert "Conv2D(filters:'int',kernel_size:'Size2D',*,stride" in "".join(words)
    for method in ("build", "forward", "state_dict", "summary", "save"):
        assert f"\n |  {method}(" in pydoc.plain(pydoc.render_doc(nn.Module))
    assert {"build", "summary", "weight"} <= set(dir(_built_dense()))

    class Abstract(nn.Module, ABC):
        """With another metaclass."""

        @abstractmethod
        def more(self) -> None: ...

    with pytest.raises(TypeError, match="abstract"):
        Abstract()  # type: ignore[abstract]


def _built_dense() -> nn.Dense:
    layer = nn.Dense(2)
    layer.build((3,))
    return layer
