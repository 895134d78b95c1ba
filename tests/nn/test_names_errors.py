"""Names that a model does not have, or cannot have."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from named import IMAGES, LOSS, MODELS, NUMBERS, X, Y, body, by_keys, by_layers, trainer_of

import fastcnn
from fastcnn import callbacks, nn
from fastcnn._architecture import architecture_of, known_layers, layer_from

NAMES = 'the model\'s inputs "image", "meta"'
ENDS = 'the model\'s outputs "digit", "even"'


@pytest.mark.parametrize(
    ("x", "y", "options", "sentence"),
    [
        ({"image": IMAGES}, Y, {}, f'^x: expected one for each of {NAMES}, got none for "meta"$'),
        ({**X, "mata": 1}, Y, {}, f"^x: .* {NAMES}, got one for 'mata'; did you mean \"meta\""),
        (X, {"digit": Y["digit"]}, {}, f'^y: expected one for each of {ENDS}, got none for "even"'),
        (X, {**Y, 3: 1}, {}, f"^y: expected one for each of {ENDS}, got one for 3$"),
        (X, list(Y.values())[:1], {}, "^y: expected a list of 2, one for each of the model's out"),
        ({**X, "meta": NUMBERS[:3]}, Y, {}, r'^x\["meta"\]: expected 9 samples, as x\["image"\]'),
        ({**X, "meta": NUMBERS[:, :1]}, Y, {}, r'^x\["meta"\]: expected a batch of shape \(n, 4\)'),
        (X, {**Y, "digit": np.full(9, 3)}, {}, r'^y\["digit"\]: expected labels from 0 to 2'),
        (X, Y, {"validation_data": (X, {})}, f"^validation_data: y: expected one for .* {ENDS}"),
        (X, Y, {"validation_data": ({}, Y)}, f"^validation_data: x: expected one for .* {NAMES}"),
    ],
)
def test_names_that_do_not_fit(x: Any, y: Any, options: Any, sentence: str) -> None:
    for make in MODELS:
        trainer = trainer_of(make())
        with pytest.raises(ValueError, match=sentence):
            trainer.fit(x, y, verbose=False, **options)
        assert trainer.step == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"loss": {"digit": "mse"}},
            f'^loss: expected one for each of {ENDS}, got none for "even"',
        ),
        ({"loss": {**LOSS, "od": "mse"}}, f"^loss: expected one for .* {ENDS}, got one for 'od'$"),
        ({"loss": {**LOSS, "even": "mee"}}, r'^loss\["even"\]: expected one of "cross_en'),
        (
            {"loss_weights": {"even": 1}},
            f"^loss_weights: expected one for each of {ENDS}, got none",
        ),
        ({"loss_weights": {"even": -1, "digit": 1}}, r'^loss_weights\["even"\]: expected a finite'),
    ],
)
def test_a_loss_for_an_output_that_is_not_there(options: Any, sentence: str) -> None:
    for make in MODELS:
        with pytest.raises(ValueError, match=sentence):
            trainer_of(make(), **options)


def test_names_are_for_models_that_have_some() -> None:
    image, meta, h = body()
    x = nn.Input((4,))
    for model in (
        nn.Model([image, meta], [nn.Dense(3)(h), nn.Dense(2, name="even")(h)]),
        nn.Model(x, [nn.Dense(3)(x), x]),
    ):
        with pytest.raises(
            TypeError, match=r"^loss: expected a list of 2.*got dict; these have no"
        ):
            fastcnn.Trainer(model, loss={"digit": "mse", "even": "mse"})
    model = nn.Model([image, x], nn.add(nn.Dense(4)(nn.Flatten()(image)), x))
    with pytest.raises(TypeError, match=r"^x: expected a list of 2.*got dict; these have no names"):
        fastcnn.Trainer(model, loss="mse").predict(X)
    model.build()
    with pytest.raises(
        TypeError, match=r"^Predictor: expected all inputs by place or all .* no na"
    ):
        fastcnn.Predictor(model)(image=IMAGES, meta=NUMBERS)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda p: p(IMAGES, meta=NUMBERS), "all by name, got 1 by place and meta by name"),
        (
            lambda p: p(image=IMAGES),
            f'^Predictor: expected one for .* {NAMES}, got none for "meta"',
        ),
        (lambda p: p(**X, x=1), f"^Predictor: expected one for each of {NAMES}, got one for 'x'"),
        (lambda p: p(X), r"expected 2 inputs.*got 1; a dict of them goes in as predictor\(\*\*in"),
        (lambda p: p(), "expected 2 inputs, as many as the model takes, got 0"),
        (
            lambda p: p(IMAGES, NUMBERS[:2]),
            r'^inputs\["meta"\]: expected 9 samples, as inputs\["im',
        ),
    ],
)
def test_a_predictor_says_which_names_there_are(call: Any, sentence: str) -> None:
    model = by_layers()
    model.build()
    with pytest.raises((TypeError, ValueError), match=sentence):
        call(fastcnn.Predictor(model))


A, B = nn.Input((3,), name="a"), nn.Input((3,), name="a")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nn.Model([A, B], nn.add(A, B)), '^Model: inputs: expected each under .*"a", "a"'),
        (
            lambda: nn.Model(A, [nn.ReLU(name="b")(A), nn.Tanh(name="b")(A)]),
            '^Model: outputs: expected each under a name of its own, got "b", "b"; a dict gives',
        ),
        (lambda: nn.Model({"a b": A}, A), "^Model: inputs: a name: expected letters.*got 'a b'"),
        (lambda: nn.Model(A, {3: A}), "^Model: outputs: a name: expected letters.*got 3"),
        (lambda: nn.Model({}, A), "^Model: inputs: expected what nn.Input.* a list or dict of th"),
        (lambda: nn.Input((3,), name="a-b"), "^Input: name: expected letters, digits and under"),
        (lambda: nn.Dense(3, name=""), "^Dense: name: expected letters, .*got ''"),
        (lambda: nn.Dense(3, name=5), "^Dense: name: expected letters, .*got 5"),  # type: ignore[arg-type]
        (lambda: nn.Dense(3)({"a": A}), "^Dense: expected a symbol or a list of them, got a dict;"),
        (
            lambda: callbacks.EarlyStopping("val_digit_loss"),
            '^EarlyStopping: monitor: expected .*; the loss of an output is called "val_loss_d',
        ),
        (
            lambda: callbacks.Checkpoint("{val_digit_loss}"),
            '^Checkpoint: path: expected .*; the loss of an output is called "val_loss_digit"$',
        ),
        (lambda: nn.Model(A, nn.add(A, B)), 'got Add, which was called on an Input "a" of shape'),
    ],
)
def test_names_that_no_model_has(make: Any, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        make()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("input_names", value) for value in (["a"], ["a", "a"], ["a", 3], "ab", 5, [["a"], "b"])),
        *(("output_names", value) for value in (["a"], ["a", "a"], ["a", ""], {"a": 1}, [[], []])),
        *(("name", value) for value in (3, "", "a b", [])),
    ],
)
def test_a_damaged_file_is_refused(key: str, value: Any) -> None:
    description = architecture_of(by_keys())
    layer_from(copy.deepcopy(description), known_layers())
    description[key] = value
    with pytest.raises((TypeError, ValueError), match=r"^(Model|Input|architecture): "):
        layer_from(description, known_layers())
