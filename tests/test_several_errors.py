"""Data and losses that do not fit a model with several inputs and outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from several import branched, data, squares, trained

import fastcnn
from fastcnn import nn

X, Y = data(6)


@pytest.mark.parametrize(
    ("x", "y", "options", "kind", "sentence"),
    [
        (X[0], Y, {}, TypeError, "^x: expected a list of 2, one for each of the model's inputs"),
        ({"a": X[0]}, Y, {}, TypeError, "^x: expected a list of 2.*order, got dict"),
        (X[:1], Y, {}, ValueError, "^x: expected a list of 2.*inputs, got 1"),
        ([X[0], X[1][:3]], Y, {}, ValueError, r"^x\[1\]: expected 6 samples, as x\[0\] has, got"),
        (X[::-1], Y, {}, ValueError, r"^x\[0\]: expected a batch of shape \(n, 8, 8, 1\)"),
        ([X[0], None], Y, {}, TypeError, r"^x\[1\]: expected an array, got NoneType"),
        (X, Y[0], {}, TypeError, "^y: expected a list of 2, one for each of the model's outputs"),
        (X, [*Y, Y[0]], {}, ValueError, "^y: expected a list of 2.*outputs, got 3"),
        (X, [Y[0], Y[1][:3]], {}, ValueError, r"^y\[1\]: expected 6 labels"),
        (X, [Y[0] + 3, Y[1]], {}, ValueError, r"^y\[0\]: expected labels from 0 to 2"),
        (X, [Y[0], Y[1][:, :1]], {}, ValueError, r"^y\[1\]: expected targets of shape \(6, 2\)"),
        (X, Y, {"sample_weight": np.ones(5)}, ValueError, r"^sample_weight: expected shape \(6,"),
        (X, Y, {"sample_weight": np.zeros(6)}, ValueError, "^sample_weight: expected a number"),
        (X, Y, {"validation_data": (X[0], Y)}, TypeError, "^validation_data: x: expected a list"),
        (X, Y, {"validation_data": (X, Y[:1])}, ValueError, "^validation_data: y: expected a list"),
        (X, Y, {"validation_data": (X, [Y[0], Y[0]])}, ValueError, r"^validation_data: y\[1\]: ex"),
    ],
)
def test_what_does_not_fit_is_named(x: Any, y: Any, options: Any, kind: Any, sentence: str) -> None:
    trainer = trained("fast")
    with pytest.raises(kind, match=sentence):
        trainer.fit(x, y, verbose=False, **options)
    assert trainer.step == 0
    if not options:
        with pytest.raises(kind, match=sentence):
            trainer.evaluate(x, y)


def one_output() -> nn.Sequential:
    return nn.Sequential([nn.Dense(3)])


@pytest.mark.parametrize(
    ("model", "options", "kind", "sentence"),
    [
        (branched, {"loss": "mse"}, ValueError, "^loss: expected a list of 2.*one, MeanSquaredEr"),
        (branched, {}, ValueError, "^loss: expected a list of 2, one for each of the model's out"),
        (branched, {"loss": ["mse"]}, ValueError, "^loss: expected a list of 2.*got a list of 1"),
        (branched, {"loss": ["mse", "mee"]}, ValueError, r"^loss\[1\]: expected .*mse"),
        (branched, {"loss": ["mse", 3]}, TypeError, r"^loss\[1\]: expected"),
        (branched, {"loss_weights": [1.0]}, ValueError, "^loss_weights: expected a list of 2 num"),
        (branched, {"loss_weights": 2}, ValueError, "^loss_weights: expected a list of 2 numbers"),
        (branched, {"loss_weights": [1, -1]}, ValueError, r"^loss_weights\[1\]: expected"),
        (branched, {"loss_weights": [1, "a"]}, TypeError, r"^loss_weights\[1\]: expected"),
        (one_output, {"loss_weights": [1]}, ValueError, "^loss_weights: expected None with one"),
    ],
)
def test_losses_that_do_not_fit(model: Any, options: Any, kind: Any, sentence: str) -> None:
    if "loss_weights" in options and model is branched:
        options = {"loss": ["mse", "mse"], **options}
    with pytest.raises(kind, match=sentence):
        fastcnn.Trainer(model(), **options)


def test_a_list_of_losses_is_for_several_outputs() -> None:
    model = one_output()
    model.build((4,))
    with pytest.raises(ValueError, match=r"^loss: expected one loss for a model that gives one"):
        fastcnn.Trainer(model, loss=["mse"])
    with pytest.raises(TypeError, match=r"^loss: expected one loss for a model .* got a dict"):
        fastcnn.Trainer(model, loss={"y": "mse"})
    trainer = trained("fast")
    with pytest.raises(ValueError, match=r"^loss: expected a list of 2"):
        trainer.loss = "mse"
    trainer.loss = trainer.loss
    assert repr(trainer.loss) == "[CrossEntropy(), MeanSquaredError()]"
    assert trainer.loss_weights == (0.5, 2.0)


def test_weights_of_losses_of_another_model() -> None:
    """Losses stay when a model with other outputs comes; they are counted when data does."""
    trainer = trained("fast")
    x = nn.Input((4,))
    trainer.model = nn.Model(x, [x, x, x])
    trainer.loss_weights = [1.0, 2.0]
    with pytest.raises(ValueError, match=r"^loss_weights\[1\]: expected a finite number"):
        trainer.loss_weights = [1.0, -2.0]
    with pytest.raises(ValueError, match=r"^loss: expected a list of 3.*got a list of 2"):
        trainer.fit(X[1], Y, verbose=False)


def test_weights_are_for_losses_that_take_them() -> None:
    trainer = trained("fast", loss=["cross_entropy", squares])
    with pytest.raises(ValueError, match=r"^sample_weight: expected a loss.*got FunctionLoss"):
        trainer.fit(X, Y, sample_weight=np.ones(6), verbose=False)


@pytest.mark.parametrize("losses", [["cross_entropy", "mse"], ["mse", "cross_entropy"]])
def test_cross_entropy_takes_logits_of_its_own_output(losses: Any) -> None:
    x = nn.Input((4,))
    model = nn.Model(x, [nn.Dense(3, activation="softmax")(x), nn.Dense(3)(x)])
    if losses[0] == "mse":
        fastcnn.Trainer(model, loss=losses)
    else:
        with pytest.raises(ValueError, match=r"^model: expected one that gives logits"):
            fastcnn.Trainer(model, loss=losses)


def test_cross_entropy_takes_logits_of_a_model_inside_too() -> None:
    x, outer = nn.Input((4,)), nn.Input((4,))
    inner = nn.Model(x, [nn.Dense(3)(x), nn.Dense(3, activation="softmax")(x)])
    logits, shares = inner(outer)
    fastcnn.Trainer(nn.Model(outer, [shares, logits]), loss=["mse", "cross_entropy"])
    with pytest.raises(ValueError, match=r"^model: expected one that gives logits"):
        fastcnn.Trainer(nn.Model(outer, [logits, shares]), loss=["mse", "cross_entropy"])


def test_a_softmax_on_the_way_is_no_end() -> None:
    """The layer behind the output is the one that counts, wherever it was called first."""
    x, layer = nn.Input((4,)), nn.Dense(4)
    fastcnn.Trainer(nn.Model(x, layer(nn.Softmax()(layer(x)))))
    y = nn.Flatten()(nn.Softmax()(layer(x)))
    with pytest.raises(ValueError, match=r"^model: expected one that gives logits"):
        fastcnn.Trainer(nn.Model(x, y))
