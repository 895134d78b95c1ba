"""What is set on a layer holds for forward, training, inference and a file alike, or is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import nn

SHAPE = (6, 6, 1)
ITS_OWN = "can't be changed, for options hold"
FAST = fastcnn.FastBackend(num_threads=1)


def network() -> Any:
    return nn.Sequential(
        [
            nn.Conv2D(4, 3, padding=1, activation="relu"),
            nn.MaxPool2D(2),
            nn.Sequential(
                [
                    *(nn.BatchNorm(), nn.LeakyReLU(), nn.Dropout(0.5)),
                    *(nn.Clip(-1.5, 2.0), nn.GELU(), nn.HardSigmoid()),
                ]
            ),
            nn.Residual(nn.Conv2D(4, 3, padding=1), nn.Conv2D(4, 1)),
            nn.Tanh(),
            nn.BatchNorm(),
            nn.ELU(),
            nn.Flatten(),
            nn.Dense(3),
        ]
    )


def data(n: int = 24) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.random((n, *SHAPE), dtype=np.float32), rng.integers(0, 3, n)


def at_every_age(model: Any) -> list[Any]:
    """The model before it is built, after, and after it was trained and asked."""
    planned = model()
    built = model()
    built.build(SHAPE)
    used = model()
    trainer = fastcnn.Trainer(used, backend=FAST)
    trainer.fit(*data(), batch_size=8, verbose=False)
    trainer.predict(data()[0])
    return [planned, built, used]


# ---------------------------------------------------------------------- layers of layers
EDITS: dict[str, Callable[[Any], object]] = {
    "pop": lambda m: m.layers.pop(),
    "append": lambda m: m.layers.append(nn.ReLU()),
    "insert": lambda m: m.layers.insert(0, nn.ReLU()),
    "extend": lambda m: m.layers.extend([nn.ReLU()]),
    "clear": lambda m: m.layers.clear(),
    "reverse": lambda m: m.layers.reverse(),
    "an item": lambda m: m.layers.__setitem__(-1, nn.Dense(7)),
    "a slice": lambda m: m.layers.__setitem__(slice(0, 1), []),
    "del": lambda m: m.layers.__delitem__(0),
    "inner append": lambda m: m[2].layers.append(nn.ReLU()),
    "inner pop": lambda m: m[2].layers.pop(),
    "layers": lambda m: setattr(m, "layers", m.layers[:-1]),
    "layers as a list": lambda m: setattr(m, "layers", [nn.Dense(2)]),
    "inner layers": lambda m: setattr(m[2], "layers", ()),
    "no layers": lambda m: delattr(m, "layers"),
    "body": lambda m: setattr(m[3], "body", nn.ReLU()),
    "shortcut": lambda m: setattr(m[3], "shortcut", None),
    "no body": lambda m: delattr(m[3], "body"),
    "model item": lambda m: m.__setitem__(0, nn.ReLU()),
    "model append": lambda m: m.append(nn.ReLU()),
    "model add": lambda m: m.add(nn.ReLU()),
    "another": lambda m: setattr(m, "head", nn.Dense(3)),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_the_layers_of_a_model_stay(edit: Callable[[Any], object]) -> None:
    for model in at_every_age(network):
        text = repr(model)
        with pytest.raises((AttributeError, TypeError)):
            edit(model)
        assert repr(model) == text


def test_a_model_of_a_models_layers_is_the_way() -> None:
    model = network()
    model.build(SHAPE)
    longer = nn.Sequential([*model.layers, nn.ReLU()])
    longer.build(SHAPE, seed=5)
    x, _ = data()
    y = np.maximum(model(x, FAST), 0)
    np.testing.assert_array_equal(longer(x, FAST), y)


# ---------------------------------------------------------------------- trainable
def test_trainable_is_set_on_layers() -> None:
    for model in at_every_age(network):
        with pytest.raises(TypeError, match="trainable: expected"):
            model.trainable = 0
        model[3].trainable = False
        assert not model[3].body.trainable
        assert model.trainable
        assert model[0].trainable
    with pytest.raises(TypeError, match="Frozen: trainable: expected it to be set on layers"):

        class Frozen(nn.Dense):
            trainable = False

    with pytest.raises(AttributeError, match=r"trainable"):
        model[0].weight.trainable = False


# ---------------------------------------------------------------------- options
@pytest.mark.parametrize(
    ("layer", "name", "value"),
    [
        (0, "stride", 2),
        (0, "activation", None),
        (0, "activation", "tanh"),
        (0, "filters", 8),
        (0, "use_bias", False),
        (0, "padding", "valid"),
        (0, "initializer", "he_normal"),
        (1, "pool_size", 3),
        (1, "ceil_mode", True),
        (1, "stride", 1),
        (8, "units", 4),
        (8, "activation", "relu"),
        (8, "in_features", 4),
    ],
)
def test_what_decides_a_network_stays(layer: int, name: str, value: object) -> None:
    for model in at_every_age(network):
        present = getattr(model[layer], name)
        with pytest.raises(AttributeError, match=rf"^\w+: {name}: {ITS_OWN}"):
            setattr(model[layer], name, value)
        with pytest.raises(AttributeError, match=rf"^\w+: {name}: {ITS_OWN}"):
            delattr(model[layer], name)
        setattr(model[layer], name, present)


SETTINGS = [
    (lambda m: m[2][0], "epsilon", 0.5, (0, -1, None, "x", np.nan)),
    (lambda m: m[2][0], "momentum", 0.1, (-1, 2, None)),
    (lambda m: m[2][0], "running_variance", "biased", ("x", None, 1)),
    (lambda m: m[2][1], "negative_slope", 0.7, (-1, "x")),
    (lambda m: m[2][2], "rate", 0.1, (1.0, -0.1, "x", True)),
    (lambda m: m[2][3], "low", None, ("x", True, np.nan)),
    (lambda m: m[2][3], "high", 0.5, ("x", True, np.nan)),
    (lambda m: m[2][4], "approximate", True, (1, None, "tanh")),
    (lambda m: m[2][5], "beta", 0.25, (np.inf, None, "x")),
    (lambda m: m[5], "epsilon", 0.5, (0,)),
    (lambda m: m[6], "alpha", 0.3, (-1, None)),
]


@pytest.mark.parametrize(("of", "name", "value", "wrong"), SETTINGS)
def test_a_setting_that_changes_holds_everywhere(
    of: Any, name: str, value: Any, wrong: Any, tmp_path: Path
) -> None:
    x, y = data()
    trainer = fastcnn.Trainer(network(), backend=FAST)
    trainer.fit(x, y, batch_size=8, verbose=False)
    trainer.predict(x)
    setattr(of(trainer.model), name, value)
    trainer.fit(x, y, batch_size=8, verbose=False)
    file = tmp_path / "model.safetensors"
    trainer.model.save(file)
    loaded = fastcnn.load(file)
    assert getattr(of(loaded), name) == value
    y_forward = trainer.model(x, FAST)
    np.testing.assert_allclose(trainer.predict(x), y_forward, atol=1e-5)
    np.testing.assert_array_equal(loaded(x, FAST), y_forward)
    once = fastcnn.Trainer(copy.deepcopy(loaded), backend=FAST)
    np.testing.assert_array_equal(once.predict(x), trainer.predict(x))
    for bad in wrong:
        with pytest.raises((TypeError, ValueError), match=rf"^\w+: {name}: expected"):
            setattr(of(trainer.model), name, bad)
    assert getattr(of(trainer.model), name) == value
    with pytest.raises(AttributeError):
        delattr(of(trainer.model), name)


# ---------------------------------------------------------------------- other attributes
@pytest.mark.parametrize(
    "name", ["traniable", "requires_grad", "weights", "label", "x" * 250, "built", "forward"]
)
def test_an_attribute_that_means_nothing_is_refused(name: str) -> None:
    for model in at_every_age(network):
        for layer in (model, *model):
            with pytest.raises(AttributeError, match=rf"^\w+: {name:.80}: expected") as caught:
                setattr(layer, name, 1)
            assert len(str(caught.value)) < 300
            assert name in ("built", "forward") or not hasattr(layer, name)


@pytest.mark.parametrize("name", ["dtype", "parameters", "built", "input_shape", "forward"])
def test_names_of_every_layer_are_not_for_attributes_of_ones_own(name: str) -> None:
    class Own(nn.Sequential):
        def __init__(self) -> None:
            super().__init__([nn.ReLU()])
            setattr(self, name, 3)

    with pytest.raises(AttributeError, match=rf"Own: {name}: expected another name"):
        Own()


def test_subclasses_set_what_they_like() -> None:
    class Small(nn.Conv2D):
        def __init__(self, filters: int) -> None:
            self.filters = filters
            super().__init__(filters, 3)
            self.filters = filters
            self.label = ["x"]

    layer = Small(4)
    layer.build(SHAPE)
    layer.label = ["y"]
    layer.other = 1  # type: ignore[attr-defined]
    del layer.other  # type: ignore[attr-defined]
    for change in (lambda: setattr(layer, "filters", 5), lambda: setattr(layer, "stride", 2)):
        with pytest.raises(AttributeError, match=ITS_OWN):
            change()


# ---------------------------------------------------------------------- weights
WRONG_ARRAYS: list[tuple[Any, type[Exception], str]] = [
    (np.zeros((3, 3, 1, 4)), TypeError, "expected float32, got float64"),
    (np.zeros((3, 3, 1, 4), np.float16), TypeError, "expected float32, got float16"),
    (np.zeros((3, 3, 1, 4), int), TypeError, "expected float32, got int64"),
    (np.zeros((3, 3, 1, 5), np.float32), ValueError, r"expected shape \(3, 3, 1, 4\), got"),
    (np.zeros((3, 3, 4), np.float32), ValueError, r"expected shape \(3, 3, 1, 4\), got"),
    ([[1.0]], TypeError, "expected an array, got list"),
    (None, TypeError, "expected an array, got NoneType"),
    (3.0, TypeError, "expected an array, got float"),
]


@pytest.mark.parametrize(
    ("array", "error", "message"), WRONG_ARRAYS, ids=[a[2] for a in WRONG_ARRAYS]
)
def test_weights_are_given_arrays_of_their_kind(
    array: Any, error: type[Exception], message: str
) -> None:
    for model in at_every_age(network)[1:]:
        before = model.state_dict()
        with pytest.raises(error, match=rf"^Parameter: data: {message}"):
            model[0].weight.data = array
        for name, kept in model.state_dict().items():
            np.testing.assert_array_equal(kept, before[name])


def test_weights_that_fit_are_taken() -> None:
    model = network()
    model.build(SHAPE)
    x, _ = data()
    trainer = fastcnn.Trainer(model, backend=FAST)
    before = trainer.predict(x)
    model[8].weight.data = model[8].weight.data * np.float32(2)
    np.testing.assert_allclose(trainer.predict(x), 2 * before, rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError, match="expected float32, got >f4"):
        model[8].weight.data = np.zeros((36, 3), ">f4")
    model[8].weight.data = np.zeros((3, 36), np.float32).T
    assert not trainer.predict(x).any()
    other = nn.Dense(2)
    other.build((3,), dtype=np.float64)
    with pytest.raises(TypeError, match="expected float64, got float32"):
        other.weight.data = np.zeros((3, 2), np.float32)


@pytest.mark.parametrize("value", [np.zeros((3, 3, 1, 4), np.float32), [1.0], 0.0, "parameter"])
def test_an_array_does_not_take_a_parameters_place(value: Any) -> None:
    if isinstance(value, str):
        value = nn.Parameter((3, 3, 1, 4), lambda rng: np.zeros((3, 3, 1, 4)))
    for model in at_every_age(network):
        for name in ("weight", "bias"):
            with pytest.raises(TypeError, match=rf"^Conv2D: {name}: expected the parameter .*data"):
                setattr(model[0], name, value)
    model[0].weight = model[0].weight
    for name in ("weight", "bias"):
        for give in (lambda name=name: setattr(model[0], name, None),
                     lambda name=name: delattr(model[0], name)):  # fmt: skip
            with pytest.raises(TypeError, match=rf"^Conv2D: {name}: expected the parameter"):
                give()
    with pytest.raises(TypeError, match=r"^BatchNorm: _running_mean: expected"):
        model[5]._running_mean = np.zeros(4)


# ---------------------------------------------------------------------- what people type first
TYPED: list[tuple[Callable[[Any, Any], object], type[Exception], str]] = [
    (lambda m, x: m(x), TypeError, r"Sequential: backend: .* got none; fastcnn.Predictor\(model\)"),
    (lambda m, x: m[0](x), TypeError, r"Conv2D: backend: .* got none; fastcnn.Predictor\(model\)"),
    (lambda m, x: m[3](x), TypeError, "Residual: backend: .* got none"),
    (lambda m, x: m(x, "fast"), TypeError, "Sequential: backend: .* got 'fast'"),
    (lambda m, x: m.fit(x, x), AttributeError, r"Sequential has no fit: fastcnn.Trainer"),
    (lambda m, x: m.predict(x), AttributeError, "Sequential has no predict: fastcnn.Trainer"),
    (lambda m, x: m.compile("adam"), AttributeError, "no compile: fastcnn.Trainer"),
    (lambda m, x: m.train(), AttributeError, "no train: fastcnn.Trainer"),
    (lambda m, x: m.eval(), AttributeError, "no eval: a model has no modes"),
    (lambda m, x: m.add(nn.ReLU()), AttributeError, r"no add: nn.Sequential\(\[\*model.layers"),
    (lambda m, x: m[8].weight, AttributeError, r"Dense has no weight yet: build\(input_shape\)"),
    (lambda m, x: m.paramters, AttributeError, "'Sequential' object has no attribute 'paramters'"),
    (lambda m, x: nn.Sequential(m[0], m[1]), TypeError, r"one list, as in nn.Sequential\(\[a, b\]"),
    (lambda m, x: nn.Sequential(m[0]), TypeError, r"got Conv2D; put the layers into one list"),
    (lambda m, x: nn.Conv2D(1, 32, 3), TypeError, r"Conv2D\(filters, kernel_size, \*, stride=1"),
    (lambda m, x: nn.Conv2D(4, 3, bias=False), TypeError, "unexpected keyword argument 'bias'"),
    (lambda m, x: nn.Conv2D(), TypeError, "missing a required argument: 'filters'"),
    (lambda m, x: nn.Dense(10, "relu"), TypeError, r"Dense\(units, .*the activation is given by"),
    (lambda m, x: nn.ReLU(inplace=True), TypeError, r"ReLU: expected ReLU\(.*\), got other arg"),
    (lambda m, x: nn.Linear(3, 4), AttributeError, r"no Linear: did you mean nn.Dense\?"),
    (lambda m, x: nn.Conv2d(3, 4), AttributeError, r"no Conv2d: did you mean nn.Conv2D\?"),
    (lambda m, x: nn.MaxPool2d, AttributeError, r"did you mean nn.MaxPool2D\?"),
    (lambda m, x: nn.MaxPooling2D, AttributeError, r"did you mean nn.MaxPool2D\?"),
    (lambda m, x: nn.BatchNorm2d, AttributeError, r"did you mean nn.BatchNorm\?"),
    (lambda m, x: nn.relu, AttributeError, r"did you mean nn.ReLU\?"),
    (lambda m, x: nn.Transformer, AttributeError, "^fastcnn.nn has no Transformer$"),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "error", "message"), TYPED, ids=[t[2] for t in TYPED])
def test_what_people_type_first_gets_a_sentence(
    typed: Callable[[Any, Any], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        typed(network(), data()[0])
    assert "\n" not in str(caught.value)


def test_errors_of_a_constructor_are_its_own() -> None:
    class Own(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.n = n + ""  # type: ignore[operator]

    with pytest.raises(TypeError, match=r"^unsupported operand"):
        Own(3)
    with pytest.raises(TypeError, match=r"^Own: expected Own\(n\), got other arguments"):
        Own()  # type: ignore[call-arg]
