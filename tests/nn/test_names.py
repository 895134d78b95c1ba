"""Inputs and outputs of a model by name: arrays, losses and their weights in dicts."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from named import COUNT, IMAGES, LOSS, MODELS, NUMBERS, X, Y, body, by_keys, by_layers, trainer_of

import fastcnn
from fastcnn import callbacks, nn
from fastcnn._architecture import architecture_of, known_layers, layer_from
from fastcnn._prediction import Classifier


@pytest.mark.parametrize("make", MODELS)
def test_dicts_are_lists_in_the_order_of_the_model(make: Any, backend: Any) -> None:
    x, y = [IMAGES, NUMBERS], [Y["digit"], Y["even"]]
    histories, found = [], []
    for given in (
        (X, Y, LOSS, {"even": 0.5, "digit": 2.0}),
        (x, y, ["cross_entropy"] * 2, [2, 0.5]),
    ):
        loss, weights = given[2:]
        trainer = trainer_of(make(), loss=loss, loss_weights=weights, backend=backend, seed=3)
        options: Any = {"validation_data": given[:2], "batch_size": 4, "verbose": False}
        histories.append(trainer.fit(*given[:2], epochs=2, **options))
        found.append((trainer.evaluate(*given[:2]), trainer.predict(given[0], batch_size=4)))
    assert histories[0] == histories[1]
    names = ("loss", "loss_digit", "loss_even")
    assert trainer.measured == (*names, *(f"val_{name}" for name in names))
    assert found[0][0] == found[1][0]
    assert tuple(found[0][0]) == names
    for one, other in zip(*(outputs_of(each) for _, each in found), strict=True):
        np.testing.assert_array_equal(one, other)


def outputs_of(found: Any) -> list[Any]:
    if isinstance(found, dict):
        assert list(found) == ["digit", "even"]
        return list(found.values())
    assert isinstance(found, list)
    return found


def test_outputs_come_in_a_dict_where_they_were_given_in_one(backend: Any) -> None:
    for make in MODELS:
        trainer = trainer_of(make(), backend=backend)
        kind = dict if make is by_keys else list
        for size in (4, 128):
            assert type(trainer.predict(X, batch_size=size)) is kind
        predictor = trainer.predictor()
        results = [
            predictor(IMAGES, NUMBERS),
            predictor(**X),
            predictor(meta=NUMBERS, image=IMAGES),
        ]
        results += [copy.deepcopy(predictor)(**X), pickle.loads(pickle.dumps(predictor))(**X)]
        for result in results:
            assert type(result) is kind
            for one, other in zip(outputs_of(result), outputs_of(results[0]), strict=True):
                np.testing.assert_array_equal(one, other)


def test_one_input_and_one_output_may_have_names(backend: Any) -> None:
    x = nn.Input((4,), name="meta")
    listed, keyed = nn.Model(x, nn.Dense(3, name="digit")(x)), nn.Model({"meta": x}, {"digit": x})
    assert listed.output_names == keyed.output_names == ("digit",)
    trainer = fastcnn.Trainer(listed, loss={"digit": "cross_entropy"}, backend=backend)
    history = trainer.fit({"meta": NUMBERS}, {"digit": Y["digit"]}, verbose=False)
    assert len(history["accuracy"]) == 1
    np.testing.assert_array_equal(trainer.predict({"meta": NUMBERS}), trainer.predict(NUMBERS))
    other = fastcnn.Trainer(keyed, loss={"digit": "mse"}, backend=backend)
    found: Any = other.predict(NUMBERS)
    np.testing.assert_array_equal(found["digit"], NUMBERS)
    np.testing.assert_array_equal(other.predictor()(meta=NUMBERS)["digit"], NUMBERS)
    np.testing.assert_allclose(other.predict_proba(NUMBERS).sum(axis=1), 1, rtol=1e-5)
    with pytest.raises(
        ValueError, match=r'^x: expected one .* inputs "meta", got one for \'image\''
    ):
        trainer.fit({"image": NUMBERS}, Y["digit"], verbose=False)


def test_a_predictor_of_a_chain_takes_x_by_its_name() -> None:
    model = nn.Sequential([nn.Dense(2)])
    model.build((4,))
    predictor = fastcnn.Predictor(model)
    np.testing.assert_array_equal(predictor(x=NUMBERS), predictor(NUMBERS))


def test_a_model_is_called_on_a_dict(backend: Any) -> None:
    inner = by_layers()
    image, meta = nn.Input((8, 8, 1)), nn.Input((4,))
    digit, even = inner({"meta": meta, "image": image})
    model = nn.Model([image, meta], [digit, even])
    model.build()
    x = IMAGES.astype(np.float32) / 255
    expected = inner((x, NUMBERS), backend)
    for one, other in zip(inner({"meta": NUMBERS, "image": x}, backend), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.output_names is None  # a part with several outputs names none of them
    with pytest.raises(
        ValueError, match=r'^Model: x: expected .* inputs "image", "meta", got none'
    ):
        inner({"image": image})


def test_the_command_asks_a_model_with_a_named_output() -> None:
    x = nn.Input((4,))
    y = np.arange(COUNT) % 3
    found = []
    for outputs in (lambda y: y, lambda y: {"digit": y}):
        model = nn.Model(x, outputs(nn.Dense(3, activation="softmax")(x)))
        model.build()
        classifier = Classifier(model, fastcnn.FastBackend())
        found.append(classifier.measure(NUMBERS, y, batch_size=4))
    assert found[0] == found[1]


# ---------------------------------------------------------------------- copies, files, words
@pytest.mark.parametrize("make", MODELS)
def test_names_are_kept(make: Any, tmp_path: Path) -> None:
    model = make()
    model.build(((8, 8, 1), (4,)))
    model.save(tmp_path / "model.safetensors")
    read = fastcnn.load(tmp_path / "model.safetensors")
    expected = trainer_of(model).predict(X)
    for twin in (read, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert architecture_of(twin) == architecture_of(model)
        assert twin.summary() == model.summary()
        found = trainer_of(twin).predict(X)
        assert type(found) is type(expected)
        for one, other in zip(outputs_of(found), outputs_of(expected), strict=True):
            np.testing.assert_array_equal(one, other)


def test_names_are_shown() -> None:
    model = by_layers()
    model.build()
    lines = model.summary().splitlines()
    assert lines[6].split() == ["4", "Dense", '"digit"', "(3,)", "18"]
    assert lines[-3:-1] == [
        'Input "image" (8, 8, 1), "meta" (4,), float32',
        'Output "digit" (3,), "even" (2,)',
    ]
    assert repr(nn.Dense(3, name="digit")) == "Dense(units=3, name='digit')"
    assert "name" not in architecture_of(nn.Dense(3))
    assert "name" not in architecture_of(nn.Model(X0, X0))


X0 = nn.Input((3,))


def test_a_layer_of_ones_own_may_have_a_name() -> None:
    class Own(nn.Module):
        def __init__(self, name: Any) -> None:
            super().__init__()
            self.name = name

        def declare(self, input_shape: Any) -> Any:
            return input_shape

        def forward(self, x: Any, backend: Any, **options: Any) -> Any:
            return x, lambda dy: dy

    class Named(Own):
        name = "own"

        def __init__(self) -> None:
            nn.Module.__init__(self)

    assert nn.Model(X0, Own("digit")(X0)).output_names == ("digit",)
    assert nn.Model(X0, Named()(X0)).output_names == ("own",)
    assert nn.Model(X0, Own("no identifier")(X0)).output_names is None
    assert nn.Model(X0, Own("a" * 101)(X0)).output_names is None
    assert nn.Model(X0, Own(3)(X0)).output_names is None

    class Part(nn.Sequential):
        def __init__(self, name: str) -> None:
            super().__init__([nn.ReLU()])
            self.name = name
            self.name = f"{name}_again"

    assert nn.Model(X0, Part("part")(X0)).output_names == ("part_again",)
    layer = nn.Dense(2, name="a")
    with pytest.raises(AttributeError, match=r"^Dense: name: can't be changed"):
        layer.name = "b"


KINDS = [
    kind
    for kind in vars(nn).values()
    if isinstance(kind, type) and issubclass(kind, nn.Module) and kind is not nn.Module
]
GIVEN: dict[str, tuple[Any, ...]] = {
    "Rescaling": (1 / 255,),
    "AdaptiveAvgPool2D": (2,),
    "Conv1D": (2, 3),
    "Conv2D": (2, 3),
    "Conv2DTranspose": (2, 3),
    "Dense": (2,),
    "DepthToSpace": (2,),
    "DepthwiseConv2D": (3,),
    "Dropout": (0.5,),
    "GroupNorm": (2,),
    "LSTM": (2,),
    "Function": ("exp",),
    "Model": (X0, X0),
    "Permute": ((2, 1),),
    "Reduce": ("mean",),
    "Reshape": ((-1,),),
    "Residual": (nn.ReLU(),),
    "Resize2D": (2,),
    "SeparableConv2D": (2, 3),
    "Sequential": ([nn.ReLU()],),
    "SpatialDropout2D": (0.5,),
    "StochasticDepth": (0.5,),
    "SpaceToDepth": (2,),
    "Split": ((1, 2),),
    "Take": ((0,),),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_layer_takes_a_name(kind: Any) -> None:
    layer = kind(*GIVEN.get(kind.__name__, ()), name="here")
    assert layer.name == "here"
    twin: Any = layer_from(architecture_of(layer), known_layers())
    assert twin.name == "here"
    nameless = kind(*GIVEN.get(kind.__name__, ()))
    assert nameless.name is None
    assert "name" not in architecture_of(nameless)


@pytest.mark.parametrize("make", MODELS)
def test_training_is_taken_up_again(make: Any, tmp_path: Path) -> None:
    whole, first, second = (trainer_of(make(), optimizer="adam") for _ in range(3))
    whole.fit(X, Y, epochs=2, verbose=False)
    first.fit(X, Y, verbose=False)
    first.save_state(tmp_path / "state")
    second.load_state(tmp_path / "state")
    second.fit(X, Y, verbose=False)
    assert second.history == whole.history
    assert len(second.history["loss_digit"]) == 2


# ---------------------------------------------------------------------- callbacks
class Scripted(callbacks.Callback):
    """Replaces the numbers of each epoch by those of a script, before other callbacks look."""

    def __init__(self, name: str, values: list[float]) -> None:
        self.name, self.values = name, values

    def on_epoch_end(self, trainer: Any) -> None:
        history = trainer.history[self.name]
        history[-1] = self.values[len(history) - 1]


def test_a_loss_of_an_output_stops_training() -> None:
    """By the output's name, though it ends as an accuracy does; losses fall."""
    image, meta, h = body()
    outputs = {"accuracy": nn.Dense(2)(h), "digit": nn.Dense(3)(h)}
    model = nn.Model([image, meta], outputs)
    trainer = trainer_of(model, loss=["cross_entropy"] * 2, loss_weights=None)
    script = Scripted("val_loss_accuracy", [3, 2, 2.5, 1, 0])
    stop = callbacks.EarlyStopping("val_loss_accuracy", patience=1)
    y = [Y["even"], Y["digit"]]
    trainer.fit(X, y, epochs=5, validation_data=(X, y), callbacks=[script, stop], verbose=False)
    assert trainer.epoch == 3


def test_outputs_without_names_are_counted(tmp_path: Path) -> None:
    image, meta, h = body()
    model = nn.Model([image, meta], [nn.Dense(3)(h), nn.Dense(2)(h)])
    trainer = trainer_of(model, loss=["cross_entropy"] * 2, loss_weights=None)
    y = [Y["digit"], Y["even"]]
    script = Scripted("loss_1", [3, 2, 2.5])
    calls = [
        script,
        callbacks.EarlyStopping("loss_1", patience=1),
        callbacks.Checkpoint(tmp_path / "{epoch}-{loss_1:.1f}", monitor="loss_1"),
    ]
    trainer.fit(X, y, epochs=5, callbacks=calls, verbose=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-3.0", "2-2.0"]
    assert trainer.epoch == 3
    again = callbacks.Checkpoint(tmp_path / "again", monitor="loss_1")
    script.values += [2.2, 1.9]
    trainer.fit(X, y, epochs=1, callbacks=[script, again], verbose=False)
    assert not (tmp_path / "again").exists()  # the best so far is that of an epoch before
    trainer.fit(X, y, epochs=1, callbacks=[script, again], verbose=False)
    assert (tmp_path / "again").exists()


@pytest.mark.parametrize("name", ["val_loss_digit", "loss_0", "accuracy"])
def test_an_unknown_monitor_names_those_there_are(name: str, tmp_path: Path) -> None:
    for call in (
        callbacks.EarlyStopping(name),
        callbacks.Checkpoint(tmp_path / "x", monitor=name),
        callbacks.Checkpoint(tmp_path / f"{{{name}}}"),
    ):
        with pytest.raises(
            ValueError, match=f"expected one of loss, loss_digit, loss_even, which.*got {name}"
        ):
            trainer_of(by_layers()).fit(X, Y, callbacks=[call], verbose=False)
